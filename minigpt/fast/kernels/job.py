"""What all kernels have: jobs, and numbers of fewer bits made into float32.

A job is `job(words, begin, end)`; `words` are 64 bits each, addresses and sizes in the order that
the job unpacks them. Vectors are as wide as the target's registers; LLVM makes of them what the
processor has: AVX-512, AVX2, NEON.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from minigpt.fast.kernels.llvm import Builder, function
from minigpt.fast.kernels.types import constant, f16, f32, i8, i16, i32, i64, pointer, vector

STORED = {"float32": f32, "bfloat16": i16, "float16": f16, "int8": i8}


@contextmanager
def job(module: ir.Module, name: str, *types: Any) -> Iterator[tuple[Builder, list[Any], Any, Any]]:
    """A job under construction: yields its builder, its words, begin and end."""
    with function(module, name, pointer, i64, i64) as (b, (words, begin, end)):
        given = [b.load(b.at(words, k, i64), typ=typ, align=8) for k, typ in enumerate(types)]
        yield b, given, begin, end


def widened(b: Builder, base: Any, index: Any, dtype: str, lanes: int) -> Any:
    """`base[index : index + lanes].astype(float32)`"""
    stored = b.read(base, index, STORED[dtype], lanes)
    floats, ints = vector(f32, lanes), vector(i32, lanes)
    if dtype == "float32":
        return stored
    if dtype == "bfloat16":  # the upper half of a float32
        return b.bitcast(b.shl(b.zext(stored, ints), constant(16, ints)), floats)
    if dtype == "float16":
        return b.fpext(stored, floats)
    return b.sitofp(b.sext(stored, ints), floats)


def rounded(b: Builder, x: Any) -> Any:
    """`x.astype(bfloat16)` of a float32 or a vector: to the nearest, ties to even; NaN stays."""
    lanes = x.type.count if isinstance(x.type, ir.VectorType) else 0
    ints, halves = (vector(i32, lanes), vector(i16, lanes)) if lanes else (i32, i16)
    bits = b.bitcast(x, ints)
    odd = b.and_(b.lshr(bits, constant(16, ints)), constant(1, ints))
    nearest = b.add(bits, b.add(odd, constant(0x7FFF, ints)))
    quiet = b.or_(bits, constant(0x7FFFFFFF, ints))  # the sign, and NaN
    quiet = b.and_(quiet, constant(0xFFC00000, ints))
    kept = b.select(b.fcmp_unordered("uno", x, x), quiet, nearest)
    return b.trunc(b.lshr(kept, constant(16, ints)), halves)
