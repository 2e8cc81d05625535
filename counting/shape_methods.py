"""What methods of ufuncs make of arrays without data: `np.add.reduce`, `np.multiply.outer`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from counting.layout import UNKNOWN
from counting.shapes import (
    ShapeArray,
    layout_of,
    ordered,
    reduction,
    resolved,
    shape_of,
    written,
)


def _reduce(ufunc: np.ufunc, a: ShapeArray, **options: Any) -> ShapeArray:
    return reduction(ufunc.reduce)(a, **{"axis": 0, **options})


def _accumulate(
    ufunc: np.ufunc, a: ShapeArray, axis: int = 0, dtype: Any = None, out: Any = None
) -> ShapeArray:
    range(a.ndim)[axis]
    made = ufunc.accumulate(np.ones(1, a.dtype), **({} if dtype is None else {"dtype": dtype}))
    return written(ShapeArray(a.shape, made.dtype, ordered(a, "K")), out)


def _outer(ufunc: np.ufunc, a: Any, b: Any) -> ShapeArray:
    layout = None if layout_of(a) is layout_of(b) is None else UNKNOWN
    return ShapeArray((*shape_of(a), *shape_of(b)), resolved(ufunc, (a, b))[0], layout)


def _at(ufunc: np.ufunc, a: ShapeArray, index: Any, b: Any) -> None:
    written(ufunc(a[index], b), a[index])


UFUNC_METHODS: dict[str, Callable[..., Any]] = {
    "reduce": _reduce,
    "accumulate": _accumulate,
    "outer": _outer,
    "at": _at,
}
