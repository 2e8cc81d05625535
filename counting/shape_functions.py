"""What NumPy's functions make of arrays without data: shapes and dtypes, nothing else."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from counting.cost import Shape, size
from counting.indexing import selected
from counting.primitives import choose, correlate, count_nonzero, einsum, getitem, interp, setitem
from counting.shape_rules import JOINED, broadcast, expanded, moved, places, squeezed, taken_along
from counting.shapes import REDUCTIONS, SHAPES, ShapeArray, dtype_of, reduction, shape_of, written


def _where(condition: Any, x: Any, y: Any) -> ShapeArray:
    shape = broadcast(*map(shape_of, (condition, x, y)))
    return ShapeArray(shape, np.result_type(*(getattr(v, "dtype", v) for v in (x, y))))


def _whole(indices: Any) -> None:
    if np.dtype(indices.dtype).kind not in "iu":
        raise TypeError(f"elements are taken by whole numbers, not by {indices.dtype}")


def _take(a: ShapeArray, indices: Any, axis: int | None = None) -> ShapeArray:
    _whole(indices)
    if axis is None:
        return ShapeArray(indices.shape, a.dtype)
    axis = range(a.ndim)[axis]
    return ShapeArray((*a.shape[:axis], *indices.shape, *a.shape[axis + 1 :]), a.dtype)


def _copyto(dst: ShapeArray, src: Any) -> None:
    shape = shape_of(src)
    while len(shape) > dst.ndim and shape[0] == 1:
        shape = shape[1:]
    if broadcast(dst.shape, shape) != dst.shape:
        raise ValueError(f"cannot write shape {shape_of(src)} into {dst.shape}")
    dtype = (
        np.result_type(dtype_of(src)) if hasattr(src, "dtype") else np.result_type(dst.dtype, src)
    )
    if not np.can_cast(dtype, dst.dtype, "same_kind"):
        raise TypeError(f"cannot write {dtype} into {dst.dtype}")


def _setitem(x: ShapeArray, value: Any, *index: Any) -> None:
    shape = selected(x, index)
    if broadcast(shape, shape_of(value)) != shape:
        raise ValueError(f"cannot write shape {shape_of(value)} into {shape}")


def _like(
    prototype: ShapeArray, dtype: Any = None, shape: Shape | None = None, order: str = "K"
) -> ShapeArray:
    return ShapeArray(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def _tril(m: ShapeArray, k: Any = 0) -> ShapeArray:
    return ShapeArray(m.shape if m.ndim > 1 else (*m.shape, *m.shape), m.dtype)


def _flip(a: ShapeArray, axis: Any = None) -> ShapeArray:
    for i in () if axis is None else axis if isinstance(axis, tuple) else (axis,):
        range(a.ndim)[i]
    return ShapeArray(a.shape, a.dtype)


def _accumulation(function: Callable[..., Any]) -> Callable[..., ShapeArray]:
    def rule(
        a: ShapeArray, axis: int | None = None, dtype: Any = None, out: ShapeArray | None = None
    ) -> ShapeArray:
        if axis is not None:
            range(a.ndim)[axis]
        shape = (a.size,) if axis is None else a.shape
        return written(ShapeArray(shape, function(np.ones(1, a.dtype), dtype=dtype).dtype), out)

    return rule


def _joining(rule: Callable[..., Shape]) -> Callable[..., ShapeArray]:
    def join(*arrays: ShapeArray, **options: Any) -> ShapeArray:
        dtype = np.result_type(*(x.dtype for x in arrays))
        return ShapeArray(rule(*(x.shape for x in arrays), **options), dtype)

    return join


def _take_along_axis(arr: ShapeArray, indices: Any, axis: int) -> ShapeArray:
    _whole(indices)
    return ShapeArray(taken_along(arr.shape, indices.shape, axis), arr.dtype)


def _repeat(a: ShapeArray, repeats: Any, axis: Any = None) -> ShapeArray:
    a = a if axis is not None else a.reshape(-1)
    at = range(a.ndim)[-1 if axis is None else axis]
    n = (
        sum(repeats)
        if isinstance(repeats, tuple) and len(repeats) > 1
        else a.shape[at] * size(repeats if isinstance(repeats, tuple) else (repeats,))
    )
    return ShapeArray((*a.shape[:at], n, *a.shape[at + 1 :]), a.dtype)


def _diagonal(a: ShapeArray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ShapeArray:
    i, j = places((axis1, axis2), a.ndim)
    rest = tuple(n for at, n in enumerate(a.shape) if at not in (i, j))
    rows, columns = a.shape[i] + min(offset, 0), a.shape[j] - max(offset, 0)
    length = rows if rows == columns else max(0, min(rows, columns))
    return ShapeArray((*rest, length), a.dtype)


def _view(a: ShapeArray, dtype: Any = None) -> ShapeArray:
    wide, wanted = a.dtype.itemsize, np.dtype(dtype or a.dtype)
    if wide == wanted.itemsize:
        return ShapeArray(a.shape, wanted)
    return ShapeArray((*a.shape[:-1], a.shape[-1] * wide // wanted.itemsize), wanted)


def _in_place(a: ShapeArray, *args: Any, axis: int = -1, **options: Any) -> None:
    range(a.ndim)[axis]


def _order(a: ShapeArray, *args: Any, axis: Any = -1, **options: Any) -> ShapeArray:
    return ShapeArray((a.size,) if axis is None else a.shape, np.intp)


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
    return ShapeArray((*s[:-1], *t[:-1]), dtype)


def _fit(s: Shape, t: Shape, fits: bool) -> None:
    if not fits:
        raise ValueError(f"shapes do not fit: {s} and {t}")


def _broadcast_to(array: ShapeArray, shape: Shape) -> ShapeArray:
    if broadcast(array.shape, shape) != shape:
        raise ValueError(f"{array.shape} does not broadcast to {shape}")
    return ShapeArray(shape, array.dtype)


def _choose(which: ShapeArray, *choices: Any, mode: str = "raise") -> ShapeArray:
    dtype = np.result_type(*(getattr(x, "dtype", x) for x in choices))
    return ShapeArray(broadcast(which.shape, *map(shape_of, choices)), dtype)


def _einsum(*operands: ShapeArray, subscripts: str) -> ShapeArray:
    terms, _, result = subscripts.partition("->")
    sizes: dict[str, Any] = {}
    for letters, x in zip(terms.split(","), operands, strict=True):
        for letter, n in zip(letters, x.shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = n
            _fit(x.shape, tuple(sizes.values()), n in (1, sizes[letter]))
    return ShapeArray(
        tuple(sizes[letter] for letter in result), np.result_type(*(x.dtype for x in operands))
    )


def _correlate(a: ShapeArray, v: ShapeArray, mode: int) -> ShapeArray:
    (n,), (m,) = a.shape, v.shape
    return ShapeArray(((n - m + 1, n, n + m - 1)[mode],), np.result_type(a.dtype, v.dtype))


_SHAPES: dict[Any, Any] = {
    **{function: reduction(function) for function in REDUCTIONS},
    np.cumsum: _accumulation(np.cumsum),
    np.cumprod: _accumulation(np.cumprod),
    **{function: _joining(rule) for function, rule in JOINED.items()},
    np.where: _where,
    np.take: _take,
    np.take_along_axis: _take_along_axis,
    np.copy: ShapeArray.copy,
    np.ndarray.astype: lambda a, dtype, **options: ShapeArray(a.shape, dtype),
    np.ndarray.repeat: _repeat,
    np.ndarray.diagonal: _diagonal,
    np.ndarray.view: _view,
    np.ndarray.round: lambda a, decimals=0: ShapeArray(
        a.shape, np.ones(1, a.dtype).round(decimals).dtype
    ),
    np.ndarray.sort: _in_place,
    np.ndarray.partition: _in_place,
    np.ndarray.argsort: _order,
    np.ndarray.argpartition: _order,
    np.ndarray.searchsorted: lambda a, v, side="left": ShapeArray(shape_of(v), np.intp),
    np.lexsort: lambda *keys, axis=-1: ShapeArray(keys[-1].shape, np.intp),
    np.dot: _dot,
    np.inner: _inner,
    np.vdot: lambda a, b: ShapeArray((), np.result_type(a.dtype, b.dtype)),
    np.broadcast_to: _broadcast_to,
    np.lib.stride_tricks.as_strided: lambda x, shape=None, **options: ShapeArray(shape, x.dtype),
    np.ravel_multi_index: lambda *places, dims: ShapeArray(places[0].shape, np.intp),
    np.unravel_index: lambda places, shape: (ShapeArray(places.shape, np.intp),) * len(shape),
    choose: _choose,
    einsum: _einsum,
    correlate: _correlate,
    interp: lambda x, at, values, **outside: ShapeArray(shape_of(x), np.float64),
    count_nonzero: lambda a: ShapeArray((), np.intp),
    np.copyto: _copyto,
    np.ones_like: _like,
    np.empty_like: _like,
    np.tril: _tril,
    np.reshape: lambda a, shape, order="C": a.reshape(shape),
    np.swapaxes: ShapeArray.swapaxes,
    np.transpose: lambda a, axes=None: a.transpose(axes),
    np.squeeze: lambda a, axis=None: ShapeArray(squeezed(a.shape, axis), a.dtype),
    np.expand_dims: lambda a, axis: ShapeArray(expanded(a.shape, axis), a.dtype),
    np.moveaxis: lambda a, *axes, **named: a.transpose(*moved(a.ndim, *axes, **named)),
    np.ravel: lambda a, order="C": a.reshape(-1),
    np.flip: _flip,
    operator.getitem: operator.getitem,
    getitem: lambda x, *index: ShapeArray(selected(x, index), x.dtype),
    setitem: _setitem,
}
SHAPES |= _SHAPES
