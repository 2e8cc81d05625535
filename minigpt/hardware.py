"""Accelerators: dense peak rates by type and accumulate type, bandwidth, memory, each with source.

Rates are those of data sheets at boost clock, never with sparsity. NVIDIA's data sheets for data
centres print the sparse rate, twice the dense one that stands here. A data sheet's GB of memory is
2**30 bytes; its GB/s are 10**9 bytes a second.
"""

import json
import math
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.checked import numbers
from minigpt.errors import InputError


class Accelerator(NamedTuple):
    """What a data sheet promises.

    Attributes:
        name: in full.
        flops: dense peak FLOP a second, a fused multiply-add as two, by "type/accumulate type".
        bandwidth: of memory, bytes a second.
        memory: bytes.
        source: of the figures.
        link: what joins several, by name.
        link_bandwidth: bytes a second that one sends over it, half of what "bidirectional" says.
    """

    name: str
    flops: dict[str, float]
    bandwidth: float
    memory: int
    source: str
    link: str = ""
    link_bandwidth: float = 0.0

    def rate(self, dtype: str) -> float:
        """Peak FLOP a second of matrix products in `dtype`, accumulated in float32.

        Raises:
            InputError: it has none.
        """
        if rate := self.flops.get(f"{dtype}/float32"):
            return rate
        known = ", ".join(self.flops)
        raise InputError(f"{self.name} has no peak rate for {dtype}/float32; it has {known}")


def _nvidia(
    name: str, gib: int, bandwidth: float, link: tuple[str, float], source: str, /, **tera: float
) -> Accelerator:
    """An NVIDIA GPU; rates in TFLOP/s by type_accumulate type."""
    types = {"fp64": "float64", "fp32": "float32", "tf32": "tfloat32", "fp16": "float16"}
    types |= {"bf16": "bfloat16", "fp8": "float8"}
    flops = {}
    for key, rate in tera.items():
        kind, accumulate = key.split("_")
        flops[f"{types[kind]}/{types[accumulate]}"] = rate * 1e12
    return Accelerator(name, flops, bandwidth, gib * 2**30, f"NVIDIA, {source}", *link)


PCIE_3, PCIE_4, PCIE_5 = (
    (f"PCIe {generation}.0 x16", bandwidth)
    for generation, bandwidth in ((3, 15.75e9), (4, 31.5e9), (5, 63e9))
)
_HOPPER = {
    "fp32_fp32": 67,
    "tf32_fp32": 494.5,
    "fp16_fp32": 989.5,
    "bf16_fp32": 989.5,
    "fp8_fp32": 1979,
}
_AMPERE = {"fp64_fp64": 19.5, "fp32_fp32": 19.5, "tf32_fp32": 156, "fp16_fp32": 312}
_AMPERE |= {"fp16_fp16": 312, "bf16_fp32": 312}
_ADA = "Ada GPU Architecture whitepaper"

GPUS: dict[str, Accelerator] = {
    "rtx-3060-12gb": _nvidia(
        "RTX 3060 12 GB",
        *(12, 360e9, PCIE_4),
        "Ampere GA102 GPU Architecture whitepaper and GeForce RTX 3060 specifications",
        fp32_fp32=12.74,
        tf32_fp32=12.74,
        fp16_fp32=25.5,
        fp16_fp16=51.0,
        bf16_fp32=25.5,
    ),
    "rtx-3090": _nvidia(
        "RTX 3090",
        *(24, 936e9, PCIE_4),
        "Ampere GA102 GPU Architecture whitepaper",
        fp32_fp32=35.6,
        tf32_fp32=35.6,
        fp16_fp32=71,
        fp16_fp16=142,
        bf16_fp32=71,
    ),
    "rtx-4060": _nvidia(
        "RTX 4060",
        *(8, 272e9, ("PCIe 4.0 x8", 15.75e9)),
        f"GeForce RTX 4060 specifications; rates a core and clock from the {_ADA}",
        fp32_fp32=15.11,
        tf32_fp32=15.11,
        fp16_fp32=30.2,
        fp16_fp16=60.5,
        bf16_fp32=30.2,
        fp8_fp32=60.5,
    ),
    "rtx-4090": _nvidia(
        "RTX 4090",
        *(24, 1008e9, PCIE_4),
        _ADA,
        fp32_fp32=82.6,
        tf32_fp32=82.6,
        fp16_fp32=165.2,
        fp16_fp16=330.3,
        bf16_fp32=165.2,
        fp8_fp32=330.3,
    ),
    "rtx-5090": _nvidia(
        "RTX 5090",
        *(32, 1792e9, PCIE_5),
        "RTX Blackwell GPU Architecture whitepaper",
        fp32_fp32=104.8,
        tf32_fp32=104.8,
        fp16_fp32=209.5,
        fp16_fp16=419,
        bf16_fp32=209.5,
        fp8_fp32=419,
    ),
    "t4": _nvidia(
        "T4", 16, 320e9, PCIE_3, "T4 product brief", fp32_fp32=8.1, fp16_fp32=65, fp16_fp16=65
    ),
    "l4": _nvidia(
        "L4",
        *(24, 300e9, PCIE_4),
        "L4 data sheet, its rates with sparsity halved",
        fp32_fp32=30.3,
        tf32_fp32=60,
        fp16_fp32=121,
        bf16_fp32=121,
        fp8_fp32=242.5,
    ),
    "l40s": _nvidia(
        "L40S",
        *(48, 864e9, PCIE_4),
        "L40S data sheet",
        fp32_fp32=91.6,
        tf32_fp32=183,
        fp16_fp32=362,
        bf16_fp32=362,
        fp8_fp32=733,
    ),
    "a100-40gb": _nvidia(
        "A100 SXM 40 GB", 40, 1555e9, ("NVLink 3", 300e9), "A100 data sheet", **_AMPERE
    ),
    "a100-80gb": _nvidia(
        "A100 SXM 80 GB", 80, 2039e9, ("NVLink 3", 300e9), "A100 80 GB data sheet", **_AMPERE
    ),
    "h100": _nvidia(
        "H100 SXM",
        *(80, 3.35e12, ("NVLink 4", 450e9)),
        "H100 data sheet, its rates with sparsity halved",
        **_HOPPER,
    ),
    "h200": _nvidia(
        "H200 SXM",
        *(141, 4.8e12, ("NVLink 4", 450e9)),
        "H200 data sheet, its rates with sparsity halved",
        **_HOPPER,
    ),
    "b200": _nvidia(
        "B200 SXM",
        *(180, 8e12, ("NVLink 5", 900e9)),
        "DGX and HGX B200 data sheets, an eighth each, rates with sparsity halved",
        fp32_fp32=75,
        tf32_fp32=1125,
        fp16_fp32=2250,
        bf16_fp32=2250,
        fp8_fp32=4500,
    ),
}

_3060 = GPUS["rtx-3060-12gb"]
RTX_3060 = _3060._replace(  # its rates by the names that the article's corrections tell them by
    flops={
        "fp32": _3060.flops["float32/float32"],
        "fp16 tensor, fp32 accumulate": _3060.flops["float16/float32"],
        "fp16 tensor, fp16 accumulate, sparse": 101e12,  # the article's figure, and no other's
    }
)


def catalogue(file: Path | None = None) -> dict[str, Accelerator]:
    """`GPUS`, and what a JSON or TOML file describes, by its own name."""
    return {**GPUS, made.name: made} if file and (made := read(file)) else GPUS


def find(name: str, file: Path | None = None) -> Accelerator:
    """The hardware of a name: one of `GPUS`, "cpu", or a JSON or TOML file that describes it.

    Args:
        file: describes one more, known by its own name.

    Raises:
        InputError: there is none, or the file does not describe one.
    """
    known = catalogue(file)
    if name in known:
        return known[name]
    if name == "cpu":
        return this_cpu()
    if Path(name).suffix in (".json", ".toml"):
        return read(Path(name))
    raise InputError(
        f"unknown GPU {name!r}: {', '.join(known)}, cpu, or a .json or .toml file that describes it"
    )


def read(path: Path) -> Accelerator:
    """The hardware that a JSON or TOML file describes: the fields of `Accelerator`.

    Raises:
        InputError: the file is unreadable, or says what cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as TOML or JSON: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("flops"), dict):
        raise InputError(f'{path}: flops must be rates by type, {{"float16/float32": 25.5e12}}')
    if unknown := values.keys() - set(Accelerator._fields):
        known = ", ".join(Accelerator._fields)
        raise InputError(f"{path}: {min(unknown)} is no field of hardware; they are {known}")
    texts = {"name": path.stem, "source": str(path), "link": ""}
    texts |= {name: values[name] for name in texts.keys() & values.keys()}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise InputError(f"{path}: {wrong[0]} is {texts[wrong[0]]!r}; it must be text")
    given = numbers({"bandwidth": None, **values}, ["bandwidth", "link_bandwidth"], path, 1)
    memory = values.get("memory")
    if type(memory) is not int or memory < 1:
        raise InputError(f"{path}: memory is {memory!r}; it must be a number of bytes")
    flops = numbers(values["flops"], values["flops"], path, 1)
    return Accelerator(flops=flops, memory=memory, **texts, **given)  # type: ignore[arg-type]


def this_cpu() -> Accelerator:
    """This machine, measured now: a float32 matrix product, and the copy of an array by NumPy."""
    import numpy as np

    n = 1024
    a = np.ones((n, n), np.float32)
    product = np.empty_like(a)
    source = np.ones(2**24, np.float32)  # 64 MiB, more than caches hold
    target = np.empty_like(source)
    rate = 2 * n**3 / _best(lambda: np.matmul(a, a, out=product))
    bandwidth = 2 * source.nbytes / _best(lambda: np.copyto(target, source))
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not every system tells
        memory = 0
    said = f"measured here and now: float32 matmul of {n} x {n}, copy of 64 MiB by one thread"
    return Accelerator("CPU", {"float32/float32": rate}, bandwidth, memory, said)


def _best(run: Callable[[], Any], times: int = 4) -> float:
    """The seconds that the fastest of several runs took."""
    best = math.inf
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
