"""Arrays without data: what a program would cost, for arrays of any size, found by running it.

A `ShapeArray` answers NumPy's functions with the shape and dtype that NumPy would give.
Dimensions are ints or SymPy expressions; two symbolic dimensions fit if they are equal as written.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.calls import dims, full_name, spelled
from counting.costs import Shape, size


def _reduction(function: Callable[..., Any]) -> Callable[..., "ShapeArray"]:
    def rule(a: "ShapeArray", axis: int | None = None, keepdims: bool = False) -> "ShapeArray":
        reduced = range(a.ndim) if axis is None else [range(a.ndim)[axis]]
        kept = [1 if i in reduced else dim for i, dim in enumerate(a.shape)]
        if not keepdims:
            kept = [dim for i, dim in enumerate(kept) if i not in reduced]
        return ShapeArray(tuple(kept), function(np.ones(1, a.dtype)).dtype)

    return rule


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

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs or any(isinstance(x, list | tuple) for x in inputs):
            return NotImplemented
        shapes = [_shape(x) for x in inputs]
        types = ufunc.resolve_dtypes((*map(_dtype, inputs), *[None] * ufunc.nout))
        shape = _matmul(*shapes) if ufunc is np.matmul else broadcast(*shapes)
        return ShapeArray(shape, types[-1])

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in SHAPES:
            raise TypeError(f"{full_name(function)} has no shape rule in counting/shapes.py")
        operands, options = spelled(function, args, kwargs)
        return SHAPES[function](*operands, **options)

    def __getitem__(self, index: Any) -> "ShapeArray":
        if getattr(index, "shape", ()) != ():
            return _take(self, index, axis=0)
        parts = list(index) if isinstance(index, tuple) else [index]
        given = sum(part is not None and part is not Ellipsis for part in parts)
        if given > self.ndim:
            raise IndexError(f"{given} indices for {self.shape}")
        at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
        parts[at : at + 1] = [slice(None)] * (self.ndim - given)
        shape, dims = [], iter(self.shape)
        for part in parts:
            if part is None:
                shape.append(1)
                continue
            dim = next(dims)
            if isinstance(part, slice):
                shape.append(_length(part, dim))
            elif isinstance(part, bool | list) or not _one(part):
                raise IndexError(f"{part!r} is no index of an array without data")
            elif isinstance(dim, int) and not -dim <= part < dim:
                raise IndexError(f"index {part} is out of bounds for size {dim}")
        return ShapeArray(tuple(shape), self.dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        _copyto(self[index], value)

    def reshape(self, *shape: Any) -> "ShapeArray":
        given = dims(shape[0] if len(shape) == 1 else shape)
        unknown = [dim for dim in given if isinstance(dim, int) and dim < 0]
        known = math.prod(dim for dim in given if dim != -1)
        if unknown not in ([], [-1]) or (unknown and known == 0):
            raise ValueError(f"cannot reshape {self.shape} into {given}")
        given = tuple(self.size // known if dim == -1 else dim for dim in given)
        more = size(given) - self.size
        if more != 0 and not (hasattr(more, "expand") and more.expand() == 0):
            raise ValueError(f"cannot reshape {self.shape} into {given}")
        return ShapeArray(given, self.dtype)

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


def broadcast(*shapes: Shape) -> Shape:
    """The shape that arrays of `shapes` have together, by NumPy's rule."""
    out: list[Any] = []
    for i in range(-max(map(len, shapes), default=0), 0):
        dims = {shape[i] for shape in shapes if len(shape) >= -i} - {1}
        if len(dims) > 1:
            raise ValueError(f"shapes do not broadcast: {', '.join(map(str, shapes))}")
        out.append(dims.pop() if dims else 1)
    return tuple(out)


def _matmul(a: Shape, b: Shape) -> Shape:
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"counted matrix products take two dimensions or more, not {a} @ {b}")
    if a[-1] != b[-2]:
        raise ValueError(f"shapes do not fit: {a} @ {b}")
    return (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


def _one(index: Any) -> bool:
    """Whether it takes one of an axis: a whole number, or a symbol that stands for one."""
    return hasattr(index, "__index__") or getattr(index, "is_integer", None) is True


def _length(part: slice, dim: Any) -> Any:
    if all(x is None or hasattr(x, "__index__") for x in (part.start, part.stop, part.step, dim)):
        return len(range(*part.indices(dim)))
    if part.step not in (None, 1):
        raise ValueError("a slice of a symbolic dimension takes no step")
    start, stop = (
        dim + x if isinstance(x, int) and x < 0 else x
        for x in (part.start or 0, dim if part.stop is None else part.stop)
    )
    return stop - start


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


def _like(
    prototype: ShapeArray, dtype: Any = None, shape: Shape | None = None, order: str = "K"
) -> ShapeArray:
    return ShapeArray(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def _tril(m: ShapeArray, k: Any = 0) -> ShapeArray:
    return ShapeArray(m.shape if m.ndim > 1 else (*m.shape, *m.shape), m.dtype)


def _cumsum(a: ShapeArray, axis: int | None = None) -> ShapeArray:
    shape = (a.size,) if axis is None else a.shape
    return ShapeArray(shape, np.cumsum(np.ones(1, a.dtype)).dtype)


def _take_along_axis(arr: ShapeArray, indices: Any, axis: int) -> ShapeArray:
    _whole(indices)
    axis = range(arr.ndim)[axis]
    rest = broadcast(
        (*arr.shape[:axis], 1, *arr.shape[axis + 1 :]),
        (*indices.shape[:axis], 1, *indices.shape[axis + 1 :]),
    )
    return ShapeArray((*rest[:axis], indices.shape[axis], *rest[axis + 1 :]), arr.dtype)


SHAPES: dict[Callable[..., Any], Callable[..., Any]] = {
    np.sum: ShapeArray.sum,
    np.cumsum: _cumsum,
    np.max: ShapeArray.max,
    np.argmax: _reduction(np.argmax),
    np.mean: ShapeArray.mean,
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
    operator.getitem: operator.getitem,
}
