"""Arrays without data: what a program would cost, for arrays of any size, found by running it.

A `ShapeArray` answers NumPy's functions with the shape and dtype that NumPy would give.
Dimensions are ints or SymPy expressions; two symbolic dimensions fit if they are equal as written.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.calls import dims, full_name, spelled
from counting.cost import Shape, size
from counting.indexing import chosen, selected
from counting.primitives import getitem, setitem
from counting.shape_rules import (
    JOINED,
    broadcast,
    expanded,
    indexed,
    moved,
    of_signature,
    reduced,
    reshaped,
    squeezed,
    taken_along,
)


def _reduction(function: Callable[..., Any]) -> Callable[..., "ShapeArray"]:
    def rule(
        a: "ShapeArray",
        axis: int | tuple[int, ...] | None = None,
        dtype: Any = None,
        out: "ShapeArray | None" = None,
        keepdims: bool = False,
        ddof: Any = 0,
    ) -> "ShapeArray":
        options = {} if dtype is None else {"dtype": dtype}
        return _written(
            ShapeArray(
                reduced(a.shape, axis, keepdims), function(np.ones(1, a.dtype), **options).dtype
            ),
            out,
        )

    return rule


def _written(result: "ShapeArray", out: "ShapeArray | None", casting: Any = "same_kind") -> Any:
    """What a call gives: its result, or the array `out` that this is written into."""
    if out is None:
        return result
    if broadcast(result.shape, out.shape) != out.shape:
        raise ValueError(f"cannot write shape {result.shape} into {out.shape}")
    if not np.can_cast(result.dtype, out.dtype, casting):
        raise TypeError(f"cannot write {result.dtype} into {out.dtype}")
    return out


REDUCTIONS: tuple[Callable[..., Any], ...] = (
    *(np.sum, np.prod, np.max, np.min, np.argmax, np.argmin, np.any, np.all, np.ptp),
    *(np.mean, np.var, np.std),
)


class ShapeArray(NDArrayOperatorsMixin):
    """A shape and a dtype that stand for an array: `ShapeArray((3, 4), np.float32)`.

    Raises:
        TypeError: a dimension is no whole number and no symbol.
        ValueError: a dimension is negative.
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Shape, dtype: Any = np.float32) -> None:
        self.shape = dims(shape)
        for n in self.shape:
            if (n < 0) if type(n) is int else n.is_negative:
                raise ValueError(f"a dimension is negative: {self.shape}")
        self.dtype = np.dtype(dtype)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: size(self.shape))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    T = property(lambda self: np.transpose(self))

    def __repr__(self) -> str:
        return f"ShapeArray({self.shape}, {self.dtype})"

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self} has no data")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(x, list | tuple) for x in inputs):
            return NotImplemented
        if method != "__call__":
            rule = _METHODS.get(method)
            return NotImplemented if rule is None else rule(ufunc, *inputs, **options)
        out, dtype = options.pop("out", (None,)), options.pop("dtype", None)
        casting = options.pop("casting", "same_kind")
        if options.keys() - {"order"} or len(out) != 1:
            return NotImplemented
        shapes = [_shape(x) for x in inputs]
        shape = of_signature(ufunc, *shapes) if ufunc.signature else broadcast(*shapes)
        made = [ShapeArray(shape, kind) for kind in _resolved(ufunc, inputs, dtype, casting)]
        return tuple(made) if ufunc.nout > 1 else _written(made[0], out[0], casting)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in SHAPES:
            raise TypeError(f"{full_name(function)} has no shape rule in counting/shapes.py")
        operands, options = spelled(function, args, kwargs)
        return SHAPES[function](*operands, **options)

    def __getitem__(self, index: Any) -> "ShapeArray":
        if (chosen_by := chosen(index)) is not None:
            return SHAPES[getitem](self, *chosen_by)
        return ShapeArray(indexed(self.shape, index), self.dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        if (chosen_by := chosen(index)) is not None:
            return SHAPES[setitem](self, value, *chosen_by)
        _copyto(self[index], value)

    def reshape(self, *shape: Any) -> "ShapeArray":
        given = dims(shape[0] if len(shape) == 1 else shape)
        return ShapeArray(reshaped(self.shape, given), self.dtype)

    def swapaxes(self, axis1: int, axis2: int) -> "ShapeArray":
        dims = list(self.shape)
        dims[axis1], dims[axis2] = dims[axis2], dims[axis1]
        return ShapeArray(tuple(dims), self.dtype)

    def transpose(self, *axes: int) -> "ShapeArray":
        given = axes[0] if len(axes) == 1 else axes
        chosen = given if isinstance(given, tuple | list | None) else axes
        order = [range(self.ndim)[i] for i in chosen] if chosen else range(self.ndim)[::-1]
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"axes {chosen} are not those of {self.shape}")
        return ShapeArray(tuple(self.shape[i] for i in order), self.dtype)

    def tolist(self) -> Any:
        raise TypeError(f"{self} has no data")

    def copy(self, order: str = "C") -> "ShapeArray":
        return ShapeArray(self.shape, self.dtype)

    sum = _reduction(np.sum)
    max = _reduction(np.max)
    mean = _reduction(np.mean)


def _shape(x: Any) -> Shape:
    return getattr(x, "shape", ())


def _dtype(x: Any) -> Any:
    if hasattr(x, "dtype"):
        return x.dtype
    if isinstance(x, bool):
        return np.dtype(bool)
    if isinstance(x, int | float | complex):
        return type(x)
    return int if x.is_integer else float  # SymPy


def _resolved(ufunc: np.ufunc, inputs: Any, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """The dtypes of its results."""
    given = (*map(_dtype, inputs), *[None] * ufunc.nout)
    asked: dict[str, Any] = {}
    if dtype is not None:
        asked["signature"] = (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout
    return ufunc.resolve_dtypes(given, casting=casting, **asked)[ufunc.nin :]


def _reduce(ufunc: np.ufunc, a: ShapeArray, **options: Any) -> ShapeArray:
    return _reduction(ufunc.reduce)(a, **{"axis": 0, **options})


def _accumulate(
    ufunc: np.ufunc, a: ShapeArray, axis: int = 0, dtype: Any = None, out: Any = None
) -> ShapeArray:
    range(a.ndim)[axis]
    made = ufunc.accumulate(np.ones(1, a.dtype), **({} if dtype is None else {"dtype": dtype}))
    return _written(ShapeArray(a.shape, made.dtype), out)


def _outer(ufunc: np.ufunc, a: Any, b: Any) -> ShapeArray:
    return ShapeArray((*_shape(a), *_shape(b)), _resolved(ufunc, (a, b))[0])


def _at(ufunc: np.ufunc, a: ShapeArray, index: Any, b: Any) -> None:
    _written(ufunc(a[index], b), a[index])


_METHODS: dict[str, Callable[..., Any]] = {
    "reduce": _reduce,
    "accumulate": _accumulate,
    "outer": _outer,
    "at": _at,
}


def _where(condition: Any, x: Any, y: Any) -> ShapeArray:
    shape = broadcast(*map(_shape, (condition, x, y)))
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
    shape = _shape(src)
    while len(shape) > dst.ndim and shape[0] == 1:
        shape = shape[1:]
    if broadcast(dst.shape, shape) != dst.shape:
        raise ValueError(f"cannot write shape {_shape(src)} into {dst.shape}")
    dtype = np.result_type(_dtype(src)) if hasattr(src, "dtype") else np.result_type(dst.dtype, src)
    if not np.can_cast(dtype, dst.dtype, "same_kind"):
        raise TypeError(f"cannot write {dtype} into {dst.dtype}")


def _setitem(x: ShapeArray, value: Any, *index: Any) -> None:
    shape = selected(x, index)
    if broadcast(shape, _shape(value)) != shape:
        raise ValueError(f"cannot write shape {_shape(value)} into {shape}")


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
        return _written(ShapeArray(shape, function(np.ones(1, a.dtype), dtype=dtype).dtype), out)

    return rule


def _joining(rule: Callable[..., Shape]) -> Callable[..., ShapeArray]:
    def join(*arrays: ShapeArray, **options: Any) -> ShapeArray:
        dtype = np.result_type(*(x.dtype for x in arrays))
        return ShapeArray(rule(*(x.shape for x in arrays), **options), dtype)

    return join


def _take_along_axis(arr: ShapeArray, indices: Any, axis: int) -> ShapeArray:
    _whole(indices)
    return ShapeArray(taken_along(arr.shape, indices.shape, axis), arr.dtype)


SHAPES: dict[Callable[..., Any], Callable[..., Any]] = {
    **{function: _reduction(function) for function in REDUCTIONS},
    np.cumsum: _accumulation(np.cumsum),
    np.cumprod: _accumulation(np.cumprod),
    **{function: _joining(rule) for function, rule in JOINED.items()},
    np.where: _where,
    np.take: _take,
    np.take_along_axis: _take_along_axis,
    np.copy: ShapeArray.copy,
    np.copyto: _copyto,
    np.ones_like: _like,
    np.empty_like: _like,
    np.tril: _tril,
    np.reshape: lambda a, shape: a.reshape(shape),
    np.swapaxes: ShapeArray.swapaxes,
    np.transpose: lambda a, axes=None: a.transpose(axes),
    np.squeeze: lambda a, axis=None: ShapeArray(squeezed(a.shape, axis), a.dtype),
    np.expand_dims: lambda a, axis: ShapeArray(expanded(a.shape, axis), a.dtype),
    np.moveaxis: lambda a, *axes, **named: a.transpose(*moved(a.ndim, *axes, **named)),
    np.ravel: lambda a: a.reshape(-1),
    np.flip: _flip,
    operator.getitem: operator.getitem,
    getitem: lambda x, *index: ShapeArray(selected(x, index), x.dtype),
    setitem: _setitem,
}
