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
from counting.indexing import chosen, getitem, selected, setitem


def _reduction(function: Callable[..., Any]) -> Callable[..., "ShapeArray"]:
    def rule(
        a: "ShapeArray",
        axis: int | tuple[int, ...] | None = None,
        dtype: Any = None,
        out: "ShapeArray | None" = None,
        keepdims: bool = False,
        ddof: Any = 0,
    ) -> "ShapeArray":
        given = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        reduced = [range(a.ndim)[i] for i in given]
        if len({*reduced}) != len(reduced):
            raise ValueError(f"an axis is given twice: {axis}")
        kept = [1 if i in reduced else dim for i, dim in enumerate(a.shape)]
        if not keepdims:
            kept = [dim for i, dim in enumerate(kept) if i not in reduced]
        options = {} if dtype is None else {"dtype": dtype}
        return _written(
            ShapeArray(tuple(kept), function(np.ones(1, a.dtype), **options).dtype), out
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
        shape = _core(ufunc, *shapes) if ufunc.signature else broadcast(*shapes)
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
        if (chosen_by := chosen(index)) is not None:
            return SHAPES[setitem](self, value, *chosen_by)
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


def _resolved(ufunc: np.ufunc, inputs: Any, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """The dtypes of its results."""
    given = (*map(_dtype, inputs), *[None] * ufunc.nout)
    asked: dict[str, Any] = {}
    if dtype is not None:
        asked["signature"] = (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout
    return ufunc.resolve_dtypes(given, casting=casting, **asked)[ufunc.nin :]


def _core(ufunc: np.ufunc, *shapes: Shape) -> Shape:
    """The shape of a ufunc of whole vectors or matrices, by its signature: `(m,n),(n)->(m)`."""
    wanted, _, made = str(ufunc.signature).partition("->")
    known: dict[str, Any] = {}
    loops = []
    for names, shape in zip(wanted.strip("()").split("),("), shapes, strict=True):
        dims = names.split(",")
        if len(shape) < len(dims):  # of `n?` there may be none
            dims = [name for name in dims if not name.endswith("?")]
        if len(shape) < len(dims):
            raise ValueError(f"{ufunc.__name__} takes no {' and '.join(map(str, shapes))}")
        cut = len(shape) - len(dims)
        loops.append(shape[:cut])
        for name, dim in zip(dims, shape[cut:], strict=True):
            if known.setdefault(name, dim) != dim:
                raise ValueError(f"shapes do not fit: {', '.join(map(str, shapes))}")
    rest = [known[name] for name in made.strip("()").split(",") if name in known]
    return (*broadcast(*loops), *rest)


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


def _one(index: Any) -> bool:
    """Whether it takes one of an axis: a whole number, or a symbol that stands for one."""
    return hasattr(index, "__index__") or getattr(index, "is_integer", None) is True


def _length(part: slice, dim: Any) -> Any:
    if all(x is None or hasattr(x, "__index__") for x in (part.start, part.stop, part.step, dim)):
        start, stop, step = part.indices(dim)  # `len` of their range ends at 2 ** 63
        return max(0, (stop - start + step - (1 if step > 0 else -1)) // step)
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


def _squeeze(a: ShapeArray, axis: Any = None) -> ShapeArray:
    given = axis if isinstance(axis, tuple) else (axis,)
    gone = [range(a.ndim)[i] for i in given] if axis is not None else None
    if any(a.shape[i] != 1 for i in gone or ()):
        raise ValueError(f"axes {axis} of {a.shape} are not of size 1")
    at = [i for i, n in enumerate(a.shape) if n == 1] if gone is None else gone
    return ShapeArray(tuple(n for i, n in enumerate(a.shape) if i not in at), a.dtype)


def _expand_dims(a: ShapeArray, axis: Any) -> ShapeArray:
    given = axis if isinstance(axis, tuple) else (axis,)
    ndim = a.ndim + len(given)
    new, rest = {range(ndim)[i] for i in given}, iter(a.shape)
    if len(new) != len(given):
        raise ValueError(f"an axis is given twice: {axis}")
    return ShapeArray(tuple(1 if i in new else next(rest) for i in range(ndim)), a.dtype)


def _moveaxis(a: ShapeArray, source: Any, destination: Any) -> ShapeArray:
    start, end = ((x,) if isinstance(x, int) else x for x in (source, destination))
    start, end = ([range(a.ndim)[i] for i in x] for x in (start, end))
    order = [i for i in range(a.ndim) if i not in start]
    for to, axis in sorted(zip(end, start, strict=True)):
        order.insert(to, axis)
    return a.transpose(*order)


def _flip(a: ShapeArray, axis: Any = None) -> ShapeArray:
    for i in () if axis is None else axis if isinstance(axis, tuple) else (axis,):
        range(a.ndim)[i]
    return ShapeArray(a.shape, a.dtype)


def _concatenate(*arrays: ShapeArray, axis: int | None = 0) -> ShapeArray:
    if axis is None:
        arrays, axis = tuple(x.reshape(-1) for x in arrays), 0
    axis = range(arrays[0].ndim)[axis]
    rest = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in arrays}
    if len(rest) != 1 or len({x.ndim for x in arrays}) != 1:
        raise ValueError(f"shapes do not join: {', '.join(str(x.shape) for x in arrays)}")
    (kept,) = rest
    total = sum(x.shape[axis] for x in arrays)
    shape = (*kept[:axis], total, *kept[axis:])
    return ShapeArray(shape, np.result_type(*(x.dtype for x in arrays)))


def _stack(*arrays: ShapeArray, axis: int = 0) -> ShapeArray:
    at = range(arrays[0].ndim + 1)[axis]
    return _concatenate(*(x[(*[slice(None)] * at, None)] for x in arrays), axis=at)


def _hstack(*arrays: ShapeArray) -> ShapeArray:
    rows = [x[None] if x.ndim == 0 else x for x in arrays]
    return _concatenate(*rows, axis=0 if rows[0].ndim == 1 else 1)


def _dstack(*arrays: ShapeArray) -> ShapeArray:
    rows = [x[None] if x.ndim == 0 else x for x in arrays]
    planes = [x[None] if x.ndim == 1 else x for x in rows]
    return _concatenate(*(x[..., None] if x.ndim == 2 else x for x in planes), axis=2)


def _column_stack(*arrays: ShapeArray) -> ShapeArray:
    rows = [x[None] if x.ndim == 0 else x for x in arrays]
    return _concatenate(*(x[:, None] if x.ndim == 1 else x for x in rows), axis=1)


def _vstack(*arrays: ShapeArray) -> ShapeArray:
    rows = [x[None] if x.ndim == 0 else x for x in arrays]
    return _concatenate(*(x[None] if x.ndim == 1 else x for x in rows))


def _accumulation(function: Callable[..., Any]) -> Callable[..., ShapeArray]:
    def rule(
        a: ShapeArray, axis: int | None = None, dtype: Any = None, out: ShapeArray | None = None
    ) -> ShapeArray:
        if axis is not None:
            range(a.ndim)[axis]
        shape = (a.size,) if axis is None else a.shape
        return _written(ShapeArray(shape, function(np.ones(1, a.dtype), dtype=dtype).dtype), out)

    return rule


def _take_along_axis(arr: ShapeArray, indices: Any, axis: int) -> ShapeArray:
    _whole(indices)
    axis = range(arr.ndim)[axis]
    rest = broadcast(
        (*arr.shape[:axis], 1, *arr.shape[axis + 1 :]),
        (*indices.shape[:axis], 1, *indices.shape[axis + 1 :]),
    )
    return ShapeArray((*rest[:axis], indices.shape[axis], *rest[axis + 1 :]), arr.dtype)


SHAPES: dict[Callable[..., Any], Callable[..., Any]] = {
    **{function: _reduction(function) for function in REDUCTIONS},
    np.cumsum: _accumulation(np.cumsum),
    np.cumprod: _accumulation(np.cumprod),
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.vstack: _vstack,
    np.hstack: _hstack,
    np.dstack: _dstack,
    np.column_stack: _column_stack,
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
    np.squeeze: _squeeze,
    np.expand_dims: _expand_dims,
    np.moveaxis: _moveaxis,
    np.ravel: lambda a: a.reshape(-1),
    np.flip: _flip,
    operator.getitem: operator.getitem,
    getitem: lambda x, *index: ShapeArray(selected(x, index), x.dtype),
    setitem: _setitem,
}
