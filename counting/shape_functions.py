"""What NumPy's functions make of arrays without data: shapes and dtypes, nothing else."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from counting.calls import dims
from counting.cost import Shape, size
from counting.indexing import selected
from counting.layout import UNKNOWN, alike, laid_out, strides
from counting.primitives import choose, count_nonzero, getitem, interp, setitem
from counting.shape_methods import UFUNC_METHODS
from counting.shape_products import PRODUCTS
from counting.shape_rules import (
    JOINED,
    broadcast,
    concatenated,
    expanded,
    moved,
    places,
    several,
    squeezed,
    taken_along,
)
from counting.shapes import (
    METHODS,
    REDUCTIONS,
    SHAPES,
    ShapeArray,
    dtype_of,
    layout_of,
    ordered,
    reduction,
    refuse_data,
    shape_of,
    straight_or_unknown,
    written,
)


def _where(condition: Any, x: Any, y: Any) -> ShapeArray:
    shape = broadcast(*map(shape_of, (condition, x, y)))
    given = [(shape_of(v), layout_of(v)) for v in (condition, x, y) if shape_of(v)]
    dtype = np.result_type(*(getattr(v, "dtype", v) for v in (x, y)))
    return ShapeArray(shape, dtype, alike(shape, given))


def _whole(indices: Any) -> None:
    if np.dtype(dtype_of(indices)).kind not in "iu":
        raise TypeError(f"elements are taken by whole numbers, not by {dtype_of(indices)}")


def _take(a: ShapeArray, indices: Any, axis: int | None = None, mode: str = "raise") -> ShapeArray:
    _whole(indices)
    if axis is None:
        return ShapeArray(shape_of(indices), a.dtype)
    axis = range(a.ndim)[axis]
    return ShapeArray((*a.shape[:axis], *shape_of(indices), *a.shape[axis + 1 :]), a.dtype)


def _copyto(dst: ShapeArray, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    if where is not True:
        raise TypeError(f"how many elements {where} chooses is not known without data")
    shape = shape_of(src)
    while len(shape) > dst.ndim and shape[0] == 1:
        shape = shape[1:]
    if broadcast(dst.shape, shape) != dst.shape:
        raise ValueError(f"cannot write shape {shape_of(src)} into {dst.shape}")
    dtype = (
        np.result_type(dtype_of(src)) if hasattr(src, "dtype") else np.result_type(dst.dtype, src)
    )
    if not np.can_cast(dtype, dst.dtype, casting):
        raise TypeError(f"cannot write {dtype} into {dst.dtype}")
    refuse_data(dst)


def _indices(like: Any) -> ShapeArray:
    return ShapeArray(shape_of(like), np.intp, straight_or_unknown(like))


def _unravel_index(indices: Any, shape: Shape) -> tuple[ShapeArray, ...]:
    made, n = shape_of(indices), len(shape)  # NumPy makes one array of n columns
    layout = straight_or_unknown(indices)
    if layout is None:
        layout = laid_out(made, [n * step for step in strides(made, None)])
    return (ShapeArray(made, np.intp, layout),) * n


def _getitem(x: ShapeArray, *index: Any) -> ShapeArray:
    layout = straight_or_unknown(x, *index) if shape_of(index[0]) else UNKNOWN
    return ShapeArray(selected(x, index), x.dtype, layout)


def _setitem(x: ShapeArray, value: Any, *index: Any) -> None:
    shape = selected(x, index)
    if broadcast(shape, shape_of(value)) != shape:
        raise ValueError(f"cannot write shape {shape_of(value)} into {shape}")
    refuse_data(x)


def _like(
    prototype: ShapeArray, dtype: Any = None, shape: Shape | None = None, order: str = "K"
) -> ShapeArray:
    dtype = dtype or prototype.dtype
    if shape is None:
        return ShapeArray(prototype.shape, dtype, ordered(prototype, order))
    shape = dims(shape)
    if prototype.layout is None or len(shape) != prototype.ndim:
        return ShapeArray(shape, dtype)
    # Along an axis of size 1 strides may be any, and decide where a longer one comes to lie.
    longer = any(n == 1 != m for n, m in zip(prototype.shape, shape, strict=True))
    layout = UNKNOWN if longer else alike(shape, [(prototype.shape, prototype.layout)])
    return ShapeArray(shape, dtype, layout)


def _tril(m: ShapeArray, k: Any = 0) -> ShapeArray:
    shape = m.shape if m.ndim > 1 else (*m.shape, *m.shape)
    return ShapeArray(shape, m.dtype, alike(shape, [(shape[-2:], None), (m.shape, layout_of(m))]))


def _flip(a: ShapeArray, axis: Any = None) -> ShapeArray:
    axes = places(tuple(range(a.ndim)) if axis is None else several(axis), a.ndim)
    return a[tuple(slice(None, None, -1 if i in axes else None) for i in range(a.ndim))]


def _accumulation(function: Callable[..., Any]) -> Callable[..., ShapeArray]:
    def rule(
        a: ShapeArray, axis: int | None = None, dtype: Any = None, out: ShapeArray | None = None
    ) -> ShapeArray:
        if axis is not None:
            range(a.ndim)[axis]
        kept = a if axis is not None else ShapeArray((a.size,))
        made = function(np.ones(1, a.dtype), dtype=dtype).dtype
        return written(ShapeArray(kept.shape, made, ordered(kept, "K")), out)

    return rule


def _joining(rule: Callable[..., Shape]) -> Callable[..., ShapeArray]:
    def join(*arrays: ShapeArray, **options: Any) -> ShapeArray:
        dtype = np.result_type(*(x.dtype for x in arrays))
        shape = rule(*(x.shape for x in arrays), **options)
        layout = straight_or_unknown(*arrays)
        if rule is concatenated and len({layout_of(x) for x in arrays}) == 1:
            layout = alike(shape, [(x.shape, layout_of(x)) for x in arrays])
        return ShapeArray(shape, dtype, layout)

    return join


def _take_along_axis(arr: ShapeArray, indices: Any, axis: int) -> ShapeArray:
    _whole(indices)
    layout = straight_or_unknown(arr, indices)
    return ShapeArray(taken_along(arr.shape, indices.shape, axis), arr.dtype, layout)


def _repeat(a: ShapeArray, repeats: Any, axis: Any = None) -> ShapeArray:
    a = a if axis is not None else ShapeArray((a.size,), a.dtype)
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
    if a.layout is UNKNOWN:
        return ShapeArray((*rest, length), a.dtype, UNKNOWN)
    steps = strides(a.shape, a.layout)
    found = [step for at, step in enumerate(steps) if at not in (i, j)]
    layout = laid_out((*rest, length), [*found, steps[i] + steps[j]])
    return ShapeArray((*rest, length), a.dtype, layout)


def _view(a: ShapeArray, dtype: Any = None) -> ShapeArray:
    wide, wanted = a.dtype.itemsize, np.dtype(dtype or a.dtype)
    if wide == wanted.itemsize:
        return ShapeArray(a.shape, wanted, a.layout)
    return ShapeArray((*a.shape[:-1], a.shape[-1] * wide // wanted.itemsize), wanted)


def _interp(x: Any, at: ShapeArray, values: Any, **outside: Any) -> ShapeArray:
    if at.size == 0:
        raise ValueError("there are no points to draw lines between")
    return ShapeArray(shape_of(x), np.result_type(values.dtype, np.float64))


def _by_data(a: ShapeArray, *args: Any, **options: Any) -> None:
    raise TypeError(f"how much comes out depends on what is in {a}, which has no data")


def _astype(a: ShapeArray, dtype: Any, order: str = "K", **idle: Any) -> ShapeArray:
    return ShapeArray(a.shape, dtype, ordered(a, order))


def _round(a: ShapeArray, decimals: int = 0) -> ShapeArray:
    dtype = np.ones(1, a.dtype).round(decimals).dtype
    return ShapeArray(a.shape, dtype, straight_or_unknown(a))


def _in_place(a: ShapeArray, *args: Any, axis: int = -1, **options: Any) -> None:
    range(a.ndim)[axis]


def _order(a: ShapeArray, *args: Any, axis: Any = -1, **options: Any) -> ShapeArray:
    return ShapeArray((a.size,) if axis is None else a.shape, np.intp)


def _broadcast_to(array: ShapeArray, shape: Shape) -> ShapeArray:
    if broadcast(array.shape, shape) != shape:
        raise ValueError(f"{array.shape} does not broadcast to {shape}")
    if array.layout is UNKNOWN:
        return ShapeArray(shape, array.dtype, UNKNOWN)
    steps = [
        0 if n == 1 else step
        for n, step in zip(array.shape, strides(array.shape, array.layout), strict=True)
    ]
    found = [0] * (len(shape) - array.ndim) + steps
    return ShapeArray(shape, array.dtype, laid_out(shape, found))


def _as_strided(x: ShapeArray, shape: Any = None, strides: Any = None, **idle: Any) -> ShapeArray:
    shape = x.shape if shape is None else dims(shape)
    if strides is None:
        return ShapeArray(shape, x.dtype)
    return ShapeArray(shape, x.dtype, laid_out(shape, [n // x.dtype.itemsize for n in strides]))


def _choose(which: ShapeArray, *choices: Any, mode: str = "raise") -> ShapeArray:
    dtype = np.result_type(*(getattr(x, "dtype", x) for x in choices))
    return ShapeArray(broadcast(which.shape, *map(shape_of, choices)), dtype)


_SHAPES: dict[Any, Any] = {
    **{function: reduction(function) for function in REDUCTIONS},
    np.cumsum: _accumulation(np.cumsum),
    np.cumprod: _accumulation(np.cumprod),
    **{function: _joining(rule) for function, rule in JOINED.items()},
    np.where: _where,
    np.take: _take,
    np.take_along_axis: _take_along_axis,
    np.copy: lambda a, order="K": a.copy(order),
    np.ndarray.astype: _astype,
    np.ndarray.repeat: _repeat,
    np.ndarray.diagonal: _diagonal,
    np.ndarray.view: _view,
    np.ndarray.round: _round,
    np.ndarray.sort: _in_place,
    np.ndarray.partition: _in_place,
    np.ndarray.argsort: _order,
    np.ndarray.argpartition: _order,
    np.ndarray.nonzero: _by_data,
    np.bincount: _by_data,
    np.ndarray.searchsorted: lambda a, v, side="left": ShapeArray(shape_of(v), np.intp),
    np.lexsort: lambda *keys, axis=-1: ShapeArray(keys[-1].shape, np.intp),
    np.broadcast_to: _broadcast_to,
    np.lib.stride_tricks.as_strided: _as_strided,
    np.ravel_multi_index: lambda *places, dims: _indices(places[0]),
    np.unravel_index: _unravel_index,
    choose: _choose,
    interp: _interp,
    count_nonzero: lambda a: ShapeArray((), np.intp),
    np.copyto: _copyto,
    np.ones_like: _like,
    np.empty_like: _like,
    np.tril: _tril,
    np.reshape: lambda a, shape, order="C": a.reshape(shape),
    np.swapaxes: ShapeArray.swapaxes,
    np.transpose: lambda a, axes=None: a.transpose(axes),
    np.squeeze: lambda a, axis=None: a.reshape(squeezed(a.shape, axis)),
    np.expand_dims: lambda a, axis: a.reshape(expanded(a.shape, axis)),
    np.moveaxis: lambda a, *axes, **named: a.transpose(*moved(a.ndim, *axes, **named)),
    np.ravel: lambda a, order="C": a.reshape(-1),
    np.flip: _flip,
    operator.getitem: operator.getitem,
    getitem: _getitem,
    setitem: _setitem,
}
SHAPES |= _SHAPES | PRODUCTS
METHODS |= UFUNC_METHODS
