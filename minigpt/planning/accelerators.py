"""A table of accelerators: dense peak rates, bandwidth, memory, cache, each with its source.

Rates are those of data sheets at boost clock, never with sparsity. NVIDIA's data sheets for data
centres print the sparse rate, twice the dense one that stands here. A data sheet's GB of memory is
2**30 bytes; its GB/s are 10**9 bytes a second.

Memory is what CUDA tells a program that a GPU has (`cudaMemGetInfo`, PyTorch's "total capacity"),
from the output of a tool run on one, on Linux, with the newest driver that was found. That is less
than nominal: error correction takes a sixteenth of GDDR6, the driver keeps some hundred MB, newer
ones more. Drivers differ by about one percent.
"""

import re
from typing import NamedTuple

from minigpt.checks import SWITCH, checked, number, of, shown, whole
from minigpt.errors import InputError

BITS = {"float64": 64, "float32": 32, "tfloat32": 32, "float16": 16, "bfloat16": 16}
BITS |= {"float8": 8, "int8": 8, "float4": 4, "int4": 4}
"""Bits of a number by its type. A tensor core takes a stored float32 as a tfloat32."""


ACCUMULATED = {*BITS, "int32"}  # types in which products are added up
MOST = 1 << 60  # bytes of memory that hardware may be said to have
LONGEST_NAME = 100  # characters
RATE = number(least=1)


def _rate_of_a_link(value: object) -> str | None:
    """As `RATE`; 0 where there is no link."""
    return None if type(value) in (int, float) and value == 0 else RATE(value)


def _name(value: object) -> str | None:
    fits = isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_NAME
    return None if fits else f"a name of 1 to {LONGEST_NAME} characters that print"


def _rates(value: object) -> str | None:
    fits = isinstance(value, dict) and value
    return None if fits else 'rates by type, {"float16/float32": 25.5e12}'


CHECKS = {
    "name": _name,
    **dict.fromkeys(("source", "link", "memory_source"), of("text", str)),
    "flops": _rates,
    "bandwidth": RATE,
    "link_bandwidth": _rate_of_a_link,
    **dict.fromkeys(("memory", "nominal_memory", "cache"), whole(0, MOST)),
    "measured": SWITCH,
}


class Accelerator(NamedTuple):
    """What a data sheet promises, and the memory that a program finds.

    Attributes:
        name: in full.
        flops: dense peak FLOP a second, a fused multiply-add as two, by "type/accumulate type".
        bandwidth: of memory, bytes a second.
        memory: bytes that a program can have; 0 where this system does not tell.
        source: of the figures.
        link: what joins several, by name.
        link_bandwidth: bytes a second that one sends over it, half of what "bidirectional" says.
        nominal_memory: bytes by its name or data sheet; 0 if unknown.
        memory_source: of `memory`.
        cache: bytes of the last cache before memory, which may stay filled from pass to pass.
        measured: whether the figures were measured rather than promised: then nothing that
            follows from them is a bound.
    """

    name: str
    flops: dict[str, float]
    bandwidth: float
    memory: int
    source: str
    link: str = ""
    link_bandwidth: float = 0.0
    nominal_memory: int = 0
    memory_source: str = ""
    cache: int = 0
    measured: bool = False

    def check(self, where: str = "") -> None:
        """Raises InputError, which begins with `where`, unless there can be such hardware."""
        for name, check in CHECKS.items():
            checked(f"{where}{name}", getattr(self, name), check)
        for kind, rate in self.flops.items():
            of_type, _, into = str(kind).partition("/")
            if of_type not in BITS or into not in ACCUMULATED:
                known = f'"type/accumulate type" of {", ".join(BITS)}, int32, as "float16/float32"'
                raise InputError(f"{where}there is no rate of {shown(kind)}; it must be {known}")
            checked(f"{where}the rate of {shown(kind)}", rate, RATE)

    def rate(self, dtype: str) -> float:
        """Peak FLOP a second of matrix products in `dtype`, accumulated in float32.

        Raises:
            InputError: it has none.
        """
        if rate := self.flops.get(f"{dtype}/float32"):
            return rate
        known = ", ".join(self.flops)
        raise InputError(f"{self.name} has no peak rate for {dtype}/float32; it has {known}")

    def fastest(self, bits: int) -> str:
        """The "type/accumulate type" of the fastest rate for operands of at least so many bits.

        Raises:
            InputError: it has none.
        """
        wide = [kind for kind in self.flops if BITS[kind.split("/")[0]] >= bits]
        if not wide:
            known = ", ".join(self.flops)
            raise InputError(f"{self.name} has no peak rate for {bits} bits; it has {known}")
        return max(wide, key=lambda kind: self.flops[kind])


def _tera(**rates: float) -> dict[str, float]:
    """FLOP a second by "type/accumulate type", from TFLOP/s by a short `type_accumulate`.

    Without the second, floats are accumulated in fp32 and integers in int32.
    """
    flops = {}
    for key, rate in rates.items():
        kind, _, accumulate = key.partition("_")
        into = accumulate or ("int32" if kind.startswith("int") else "fp32")
        flops[re.sub("fp?", "float", f"{kind}/{into}")] = rate * 1e12  # fp16, bf16, tf32
    return flops


def _nvidia(
    name: str,
    memory: tuple[int, int, str],
    cache_mib: int,
    bandwidth: float,
    link: tuple[str, float],
    source: str,
    flops: dict[str, float],
) -> Accelerator:
    """An NVIDIA GPU.

    Args:
        memory: nominal GiB, bytes found, and where they were found.
    """
    gib, found, where = memory
    return Accelerator(
        name,
        flops,
        bandwidth,
        found,
        f"NVIDIA, {source}",
        *link,
        nominal_memory=gib * 2**30,
        memory_source=where,
        cache=cache_mib * 2**20,
    )


def _query(gib: int, nbytes: int, cuda: str, smi: int) -> tuple[int, int, str]:
    """Memory as deviceQuery shows it, a driver for that CUDA; beside what nvidia-smi shows."""
    return gib, nbytes, f"deviceQuery, driver for CUDA {cuda}; nvidia-smi shows {smi:,} MiB"


def _torch(gib: int, nbytes: int, said: str, smi: int) -> tuple[int, int, str]:
    """Memory as PyTorch shows it, rounded as there; beside what nvidia-smi shows."""
    return gib, nbytes, f"PyTorch shows {said}; nvidia-smi shows {smi:,} MiB"


PCIE_3, PCIE_4, PCIE_5 = (
    (f"PCIe {generation}.0 x16", bandwidth)
    for generation, bandwidth in ((3, 15.75e9), (4, 31.5e9), (5, 63e9))
)
_HOPPER = _tera(fp32=67, tf32=494.5, fp16=989.5, bf16=989.5, fp8=1979, int8=1979)
_AMPERE = _tera(fp64_fp64=19.5, fp32=19.5, tf32=156, fp16=312, fp16_fp16=312, bf16=312)
_AMPERE |= _tera(int8=624, int4=1248)
_GA102 = "Ampere GA102 GPU Architecture whitepaper"
_ADA = "Ada GPU Architecture whitepaper"

GPUS: dict[str, Accelerator] = {
    "rtx-3060-12gb": _nvidia(
        "RTX 3060 12 GB",
        *(_query(12, 11_901 * 2**20, "13.0", 12_288), 3, 360e9, PCIE_4),
        f"{_GA102} and GeForce RTX 3060 specifications",
        _tera(fp32=12.74, tf32=12.74, fp16=25.5, fp16_fp16=51.0, bf16=25.5, int8=102, int4=204),
    ),
    "rtx-3090": _nvidia(
        "RTX 3090",
        *(_torch(24, int(23.56 * 2**30), "23.56 GiB", 24_576), 6, 936e9, PCIE_4),
        _GA102,
        _tera(fp32=35.6, tf32=35.6, fp16=71, fp16_fp16=142, bf16=71, int8=284, int4=568),
    ),
    "rtx-4060": _nvidia(
        "RTX 4060",
        *(_torch(8, int(7.62 * 2**30), "7.62 GiB", 8_188), 24, 272e9),
        ("PCIe 4.0 x8", 15.75e9),
        f"GeForce RTX 4060 specifications; rates a core and clock from the {_ADA}",
        _tera(fp32=15.11, tf32=15.11, fp16=30.2, fp16_fp16=60.5, bf16=30.2)
        | _tera(fp8=60.5, fp8_fp16=121, int8=121, int4=242),
    ),
    "rtx-4090": _nvidia(
        "RTX 4090",
        *(_query(24, 25_250_627_584, "13.0", 24_564), 72, 1008e9, PCIE_4),
        _ADA,
        _tera(fp32=82.6, tf32=82.6, fp16=165.2, fp16_fp16=330.3, bf16=165.2)
        | _tera(fp8=330.3, fp8_fp16=660.6, int8=660.6, int4=1321.2),
    ),
    "rtx-5090": _nvidia(
        "RTX 5090",
        *(_query(32, 33_660_534_784, "13.0", 32_607), 96, 1792e9, PCIE_5),
        "RTX Blackwell GPU Architecture whitepaper",
        _tera(fp32=104.8, tf32=104.8, fp16=209.5, fp16_fp16=419, bf16=209.5)
        | _tera(fp8=419, fp8_fp16=838, int8=838, fp4=1676),
    ),
    "t4": _nvidia(
        "T4",
        *(_query(16, 15_642_329_088, "12.5", 15_360), 4, 320e9, PCIE_3),
        "T4 product brief",
        _tera(fp32=8.1, fp16=65, fp16_fp16=65, int8=130, int4=260),
    ),
    "l4": _nvidia(
        "L4",
        *(_query(24, 23_612_293_120, "12.0", 23_034), 48, 300e9, PCIE_4),
        f"L4 data sheet, its rates with sparsity halved; int4 at twice int8, as in the {_ADA}",
        _tera(fp32=30.3, tf32=60, fp16=121, bf16=121, fp8=242.5, int8=242.5, int4=485),
    ),
    "l40s": _nvidia(
        "L40S",
        *(_query(48, 47_576_711_168, "12.4", 46_068), 96, 864e9, PCIE_4),
        f"L40S data sheet; int4 at twice int8, as in the {_ADA}, where the sheet says as int8",
        _tera(fp32=91.6, tf32=183, fp16=362, bf16=362, fp8=733, int8=733, int4=1466),
    ),
    "a100-40gb": _nvidia(
        "A100 SXM 40 GB",
        *(_torch(40, int(39.5 * 2**30), "39.50 GiB", 40_960), 40, 1555e9, ("NVLink 3", 300e9)),
        "A100 data sheet",
        _AMPERE,
    ),
    "a100-80gb": _nvidia(
        "A100 SXM 80 GB",
        *(_query(80, 84_987_740_160, "12.2", 81_920), 40, 2039e9, ("NVLink 3", 300e9)),
        "A100 80 GB data sheet",
        _AMPERE,
    ),
    "h100": _nvidia(
        "H100 SXM",
        *(_query(80, 85_017_755_648, "13.0", 81_559), 50, 3.35e12, ("NVLink 4", 450e9)),
        "H100 data sheet, its rates with sparsity halved",
        _HOPPER,
    ),
    "h200": _nvidia(
        "H200 SXM",
        *(_torch(141, 143_156 * 2**20, "143156 MB", 143_771), 60, 4.8e12, ("NVLink 4", 450e9)),
        "H200 data sheet, its rates with sparsity halved",
        _HOPPER,
    ),
    "b200": _nvidia(
        "B200 SXM",
        *(_torch(180, 182_631 * 2**20, "182631 MB", 183_359), 126, 8e12, ("NVLink 5", 900e9)),
        "DGX and HGX B200 data sheets, an eighth each, rates with sparsity halved",
        _tera(fp32=75, tf32=1125, fp16=2250, bf16=2250, fp8=4500, int8=4500, fp4=9000),
    ),
}
