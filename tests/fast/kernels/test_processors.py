"""Processors other than this one, and those that have no kernels."""

import platform

import pytest
from conftest import AVX2

pytest.importorskip("llvmlite")

import llvmlite.binding as llvm

from minigpt.fast.kernels.llvm import Target
from minigpt.fast.kernels.machine import here, kernels


@pytest.mark.parametrize(
    ("triple", "features", "sign"),
    [
        ("aarch64-unknown-linux-gnu", ["neon"], b"\x7fELF"),
        ("arm64-apple-darwin", ["neon"], b"\xcf\xfa\xed\xfe"),
        ("x86_64-unknown-linux-gnu", [*AVX2, "avx512f", "avx512bw", "avx512vl"], b"\x7fELF"),
    ],
)
def test_other_processors_get_code(triple, features, sign):
    compiled = Target(features, triple).compile(kernels)
    assert compiled.startswith(sign)
    for name in ("run", "serve", "product_int8", "attention_bfloat16", "layer_norm"):
        assert name.encode() in compiled
    assert b"product_pairs" not in compiled  # nothing that the features do not name


@pytest.mark.parametrize("lacking", [[], ["fma"], ["f16c"], AVX2])
def test_a_processor_without_fused_products_or_float16_has_no_kernels(monkeypatch, lacking):
    """They would call functions that nobody brings along; NumPy does the work there."""
    if platform.machine() != "x86_64":
        pytest.skip("features of x86-64")
    found = {feature: feature not in lacking for feature in AVX2}
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: found)
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "x86-64")
    target = Target()
    assert target.fits == (not lacking)
    assert target.lanes == 8
    assert not lacking or here.__wrapped__() is None
