"""Rows that are added, multiplied, copied or gathered, each kernel beside the NumPy line it equals.

What NumPy does well enough one by one has kernels for the passes that are recorded, `tape.py`.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from minigpt.fast.jobs import STORED, job, rounded, widened
from minigpt.fast.llvm import Builder, Target, f16, f32, i64, pointer, vector, whole

AXES = 3  # of rows that a kernel walks, each with a stride of its own

Formula = Callable[..., Any]  # of the builder and parts of the operands


def add(b: Builder, x: Any, y: Any) -> Any:
    """`x + y`"""
    return b.fadd(x, y)


def multiply(b: Builder, x: Any, y: Any) -> Any:
    """`x * y`"""
    return b.fmul(x, y)


def copy_float32(b: Builder, x: Any) -> Any:
    """`x`"""
    return x


def copy_bfloat16(b: Builder, x: Any) -> Any:
    """`x.astype(bfloat16)`"""
    return rounded(b, x)


def copy_float16(b: Builder, x: Any) -> Any:
    """`x.astype(float16)`"""
    return b.fptrunc(x, vector(f16, x.type.count) if isinstance(x.type, ir.VectorType) else f16)


FORMULAS: dict[Formula, tuple[int, str]] = {  # how many operands, and the dtype of what they give
    add: (2, "float32"),
    multiply: (2, "float32"),
    copy_float32: (1, "float32"),
    copy_bfloat16: (1, "bfloat16"),
    copy_float16: (1, "float16"),
}


def by_rows(module: ir.Module, target: Target, formula: Formula) -> None:
    """`to[rows] = formula(*operands[rows])`, rows [begin, end) of three axes, C order

    Each row is d numbers one after another. Words: the arrays, where they are; d and the last two
    axes; then the strides of each array along the three, in its elements.
    """
    operands, dtype = FORMULAS[formula]
    elements = [STORED[dtype], *[f32] * operands]
    types = (*[pointer] * len(elements), *[i64] * (AXES + AXES * len(elements)))
    with job(module, formula.__name__, *types) as (b, words, begin, end):
        places, (d, middle, last), strides = (
            words[: len(elements)],
            words[len(elements) :][:AXES],
            words[len(elements) + AXES :],
        )
        with b.loop(begin, end, 1) as (r, _, _):
            rest = b.sdiv(r, last)
            at = b.sdiv(rest, middle), b.srem(rest, middle), b.srem(r, last)
            to, *given = (
                b.at(place, _dot(b, at, strides[AXES * k :][:AXES]), element)
                for k, (place, element) in enumerate(zip(places, elements, strict=True))
            )
            done: Any = whole(0)
            for lanes in (target.lanes, 0):
                stop = b.and_(d, whole(-lanes)) if lanes else d
                with b.loop(done, stop, lanes or 1) as (i, _, _):
                    parts = (b.read(x, i, f32, lanes) for x in given)
                    b.write(formula(b, *parts), to, i, elements[0])
                done = stop


def _dot(b: Builder, indices: Any, strides: Any) -> Any:
    first, *others = (b.mul(i, s) for i, s in zip(indices, strides, strict=True))
    for other in others:
        first = b.add(first, other)
    return first


def gathered(module: ir.Module, target: Target, dtype: str) -> None:
    """`to[begin:end] = rows[index[begin:end]].astype(float32) * scale[index[begin:end], None]`

    rows (…, d) of `dtype`, d a multiple of a vector; scale only for int8.
    """
    types = (pointer, pointer, pointer, pointer, i64)
    lanes = target.lanes
    with (
        job(module, f"gathered_{dtype}", *types) as (b, (rows, scale, index, to, d), begin, end),
        b.loop(begin, end, 1) as (r, _, _),
    ):
        row = b.read(index, r, i64)
        source, target_row = b.at(rows, b.mul(row, d), STORED[dtype]), b.at(to, b.mul(r, d), f32)
        factor = b.spread(b.read(scale, row, f32), lanes) if dtype == "int8" else None
        with b.loop(0, d, lanes) as (i, _, _):
            part = widened(b, source, i, dtype, lanes)
            b.write(b.fmul(part, factor) if factor else part, target_row, i, f32)
