"""Rows that are added, multiplied, copied or gathered, each kernel beside the NumPy line it equals.

NumPy does these well enough one by one; a pass that is recorded, `tape.py`, needs kernels for all.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

from llvmlite import ir

from minigpt.fast.kernels.job import STORED, job, rounded, widened
from minigpt.fast.kernels.llvm import Builder, Target
from minigpt.fast.kernels.pointwise import tanh
from minigpt.fast.kernels.types import constant, f16, f32, i32, i64, pointer, vector, whole

AXES = 4  # of rows that a kernel walks, each with a stride of its own

Formula = Callable[..., Any]  # of the builder and parts of the operands


def _float16(b: Builder, x: Any) -> Any:
    return b.fptrunc(x, vector(f16, x.type.count) if isinstance(x.type, ir.VectorType) else f16)


def _tanh(b: Builder, x: Any) -> Any:
    if isinstance(x.type, ir.VectorType):
        return tanh(b, x)
    found = tanh(b, b.spread(x, 2))  # one number of a row's end
    return b.extract_element(found, constant(0, i32))


# By name, as NumPy calls it or `copy_` and the dtype: how many operands, the dtype of the result.
FORMULAS: dict[str, tuple[Formula, int, str]] = {
    "add": (Builder.fadd, 2, "float32"),
    "subtract": (Builder.fsub, 2, "float32"),
    "multiply": (Builder.fmul, 2, "float32"),
    "divide": (Builder.fdiv, 2, "float32"),
    "tanh": (_tanh, 1, "float32"),
    "cos": (lambda b, x: b.elementwise("cos", x), 1, "float32"),  # the C library's, as is sin
    "sin": (lambda b, x: b.elementwise("sin", x), 1, "float32"),
    "copy_float32": (lambda b, x: x, 1, "float32"),
    "copy_bfloat16": (rounded, 1, "bfloat16"),
    "copy_float16": (_float16, 1, "float16"),
}


def by_rows(module: ir.Module, target: Target, name: str) -> None:
    """`to[rows] = FORMULAS[name](*operands[rows])`, rows [begin, end) of some axes, C order

    Words: the arrays, where they are; d, the numbers of a row, and how many rows the axes but the
    first have; then the strides of each array along the axes and within a row, in its elements.
    """
    formula, operands, dtype = FORMULAS[name]
    elements = [STORED[dtype], *[f32] * operands]
    types = (*[pointer] * len(elements), *[i64] * (AXES + (AXES + 1) * len(elements)))
    with job(module, name, *types) as (b, words, begin, end):
        places, sizes = words[: len(elements)], words[len(elements) :]
        d, *lengths = sizes[:AXES]
        strides = [sizes[k : k + AXES + 1] for k in range(AXES, len(sizes), AXES + 1)]
        dense = reduce(b.and_, (b.icmp_signed("==", own[-1], whole(1)) for own in strides))
        with b.loop(begin, end, 1) as (row, _, _):
            at = [row]  # along each axis
            for length in lengths[::-1]:
                at[:1] = b.sdiv(at[0], length), b.srem(at[0], length)
            to, *given = (
                b.at(place, reduce(b.add, map(b.mul, at, own)), element)
                for place, own, element in zip(places, strides, elements, strict=False)
            )
            done: Any = whole(0)
            for lanes, stop in ((target.lanes, b.and_(d, whole(-target.lanes))), (0, d)):
                stop = b.select(dense, stop, done) if lanes else stop  # what is not, one by one
                with b.loop(done, stop, lanes or 1) as (i, _, _):
                    parts = (
                        b.read(x, b.mul(i, own[-1]), f32, lanes)
                        for x, own in zip(given, strides[1:], strict=True)
                    )
                    b.write(formula(b, *parts), to, b.mul(i, strides[0][-1]), elements[0])
                done = stop


def position(module: ir.Module) -> None:
    """`to[0] = float(n)`"""
    with job(module, "position", pointer, i64) as (b, (to, n), _, _):
        b.write(b.sitofp(n, f32), to, 0, f32)


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
