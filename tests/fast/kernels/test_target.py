"""Code for this processor and for others, and where it is kept."""

import ctypes
import platform
from unittest import mock

import pytest
from conftest import AVX2

pytest.importorskip("llvmlite")

import llvmlite.binding as llvm

from minigpt.fast.kernels.llvm import Target, function, i64, whole
from minigpt.fast.kernels.machine import here, kernels

# Other processors.


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


# Code that is kept.


def answer(module, target):
    """Puts a function into a module that gives 42."""
    with function(module, "answer", i64) as (b, _):
        b.ret(whole(42))


def run_answer(code):
    return ctypes.CFUNCTYPE(ctypes.c_int64)(code["answer"])()


def test_compiled_code_is_kept_and_what_is_damaged_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build = mock.Mock(side_effect=answer)
    assert run_answer(Target().load(build, [])) == 42
    assert run_answer(Target().load(build, [])) == 42
    assert build.call_count == 1
    [file] = tmp_path.rglob("*.o")
    whole_file = file.read_bytes()
    half, last = whole_file[: len(whole_file) // 2], bytes([whole_file[-1] ^ 1])
    for damaged in (b"", half, whole_file[:-1] + last):
        file.write_bytes(damaged)
        assert run_answer(Target().load(build, [])) == 42
        assert file.read_bytes() == whole_file
    assert build.call_count == 4


def test_compiled_code_is_for_its_sources_and_its_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, build = tmp_path / "source.py", mock.Mock(side_effect=answer)
    for text in ("one", "two"):
        source.write_text(text)
        Target().load(build, [source])
    Target(["sse2"]).load(build, [source])
    assert (build.call_count, len(list(tmp_path.rglob("*.o")))) == (3, 3)
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".py", ".o"}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run_answer(Target().load(answer, [])) == 42
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Processors that lack what kernels need.


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
