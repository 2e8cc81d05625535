"""LLVM's types and constants."""

from typing import Any

from llvmlite import ir

i1, i8, i16, i32, i64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))


class _BFloatType(ir.Type):  # type: ignore[misc]
    """bfloat16, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"


bf16, f16, f32 = _BFloatType(), ir.HalfType(), ir.FloatType()
pointer, void = ir.PointerType(), ir.VoidType()


def vector(element: Any, lanes: int) -> Any:
    return ir.VectorType(element, lanes)


def constant(value: float, like: Any) -> Any:
    """A constant of type `like`; in every lane if that is a vector."""
    return ir.Constant(like, [value] * like.count if isinstance(like, ir.VectorType) else value)


def whole(number: Any) -> Any:
    """A Python int as a constant of 64 bits."""
    return constant(number, i64) if isinstance(number, int) else number
