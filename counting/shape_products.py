"""What products that are added up make of arrays without data: shapes, dtypes and layouts."""

from typing import Any

import numpy as np

from counting.cost import Shape
from counting.layout import UNKNOWN
from counting.primitives import correlate, einsum
from counting.shapes import ShapeArray, shape_of, straight_or_unknown, written


def _dot(a: Any, b: Any, out: Any = None) -> ShapeArray:
    s, t = shape_of(a), shape_of(b)
    dtype = np.result_type(*(getattr(x, "dtype", x) for x in (a, b)))
    if not s or not t:
        return written(ShapeArray((*s, *t), dtype), out)
    _fit(s, t, s[-1] == t[-2 if len(t) > 1 else -1])
    return written(ShapeArray((*s[:-1], *t[:-2], *t[-1:]) if len(t) > 1 else s[:-1], dtype), out)


def _inner(a: ShapeArray, b: ShapeArray) -> ShapeArray:
    s, t = a.shape, b.shape
    dtype = np.result_type(a.dtype, b.dtype)
    if not s or not t:
        return ShapeArray((*s, *t), dtype)
    _fit(s, t, s[-1] == t[-1])
    return ShapeArray((*s[:-1], *t[:-1]), dtype, straight_or_unknown(a, b))


def _fit(s: Shape, t: Shape, fits: bool) -> None:
    if not fits:
        raise ValueError(f"shapes do not fit: {s} and {t}")


def _einsum(*operands: ShapeArray, subscripts: str) -> ShapeArray:
    terms, _, result = subscripts.partition("->")
    sizes: dict[str, Any] = {}
    for letters, x in zip(terms.split(","), operands, strict=True):
        for letter, n in zip(letters, x.shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = n
            _fit(x.shape, tuple(sizes.values()), n in (1, sizes[letter]))
    dtype = np.result_type(*(x.dtype for x in operands))
    shape = tuple(sizes[letter] for letter in result)
    first = [letter for letter in sizes if letter in result]  # in the order of their appearance
    layout = straight_or_unknown(*operands) if first == [*result] else UNKNOWN
    return ShapeArray(shape, dtype, layout)


def _correlate(a: ShapeArray, v: ShapeArray, mode: int) -> ShapeArray:
    (n,), (m,) = a.shape, v.shape
    if n == 0 or m == 0:
        raise ValueError("a line of nothing has no products with another")
    n, m = (m, n) if isinstance(n, int) and isinstance(m, int) and n < m else (n, m)
    return ShapeArray(((n - m + 1, n, n + m - 1)[mode],), np.result_type(a.dtype, v.dtype))


PRODUCTS: dict[Any, Any] = {
    np.dot: _dot,
    np.inner: _inner,
    np.vdot: lambda a, b: ShapeArray((), np.result_type(a.dtype, b.dtype)),
    einsum: _einsum,
    correlate: _correlate,
}
