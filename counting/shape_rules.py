"""The shapes that come of shapes, by NumPy's rules; a dimension is an int or a SymPy expression."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from counting.cost import Shape, size


def broadcast(*shapes: Shape) -> Shape:
    """The shape that arrays of `shapes` have together, by NumPy's rule."""
    out: list[Any] = []
    for i in range(-max(map(len, shapes), default=0), 0):
        dims = {shape[i] for shape in shapes if len(shape) >= -i} - {1}
        if len(dims) > 1:
            raise ValueError(f"shapes do not broadcast: {', '.join(map(str, shapes))}")
        out.append(dims.pop() if dims else 1)
    return tuple(out)


def of_signature(ufunc: np.ufunc, *shapes: Shape) -> list[Shape]:
    """What a ufunc of vectors or matrices makes, by its signature: `(m,n),(n)->(m)`.

    What the signature calls `p` is the smaller of `m` and `n`: how many singular values there are.
    """
    wanted, made = (
        re.findall(r"\(([^)]*)\)", part.replace(" ", ""))
        for part in str(ufunc.signature).split("->")
    )
    known: dict[str, Any] = {}
    loops = []
    for names, shape in zip(wanted, shapes, strict=True):
        dims = names.split(",") if names else []
        if len(shape) < len(dims):  # of `n?` there may be none
            dims = [name for name in dims if not name.endswith("?")]
        if len(shape) < len(dims):
            raise ValueError(f"{ufunc.__name__} takes no {' and '.join(map(str, shapes))}")
        cut = len(shape) - len(dims)
        loops.append(shape[:cut])
        for name, dim in zip(dims, shape[cut:], strict=True):
            if known.setdefault(name, dim) != dim:
                raise ValueError(f"shapes do not fit: {', '.join(map(str, shapes))}")
    if {"m", "n"} <= known.keys() and "p" not in known:
        known["p"] = min(known["m"], known["n"])
    over = broadcast(*loops)
    return [(*over, *(known[name] for name in names.split(",") if name in known)) for names in made]


def length_of(shape: Shape) -> int:
    """How many an array has along its first axis, as `len` says it.

    Raises:
        TypeError: it has no axis, or a symbol stands for the number.
    """
    if not shape:
        raise TypeError("an array of no dimensions has no length")
    if type(shape[0]) is not int:
        raise TypeError(f"how many there are is not known: {shape[0]} is no number")
    return shape[0]


def length(part: slice, dim: Any) -> Any:
    if all(x is None or hasattr(x, "__index__") for x in (part.start, part.stop, part.step, dim)):
        start, stop, step = part.indices(dim)  # `len` of their range ends at 2 ** 63
        return max(0, (stop - start + step - (1 if step > 0 else -1)) // step)
    step = 1 if part.step is None else part.step
    if step == -1 and part.start is part.stop is None:
        return dim
    if (step <= 0) == True:  # noqa: E712 - of a symbol it may be neither
        raise ValueError("a slice of a symbolic dimension takes no step back, but of all of it")
    start, stop = (
        dim + x if isinstance(x, int) and x < 0 else x
        for x in (part.start or 0, dim if part.stop is None else part.stop)
    )
    return stop - start if step == 1 else -((start - stop) // step)


def _one(index: Any) -> bool:
    """Whether it takes one of an axis: a whole number, or a symbol that stands for one."""
    return hasattr(index, "__index__") or getattr(index, "is_integer", None) is True


def indexed(shape: Shape, index: Any) -> list[tuple[Any, int | None, int]]:
    """The axes of a view, where an index means one: length, axis that it is of, and step.

    Raises:
        IndexError: it means none, or lies outside.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    given = sum(part is not None and part is not Ellipsis for part in parts)
    if given > len(shape):
        raise IndexError(f"{given} indices for {shape}")
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - given)
    found: list[tuple[Any, int | None, int]] = []
    dims = iter(enumerate(shape))
    for part in parts:
        if part is None:
            found.append((1, None, 1))
            continue
        axis, dim = next(dims)
        if isinstance(part, slice):
            found.append((length(part, dim), axis, 1 if part.step is None else part.step))
        elif isinstance(part, bool | list) or not _one(part):
            raise IndexError(f"{part!r} is no index of an array without data")
        elif isinstance(dim, int) and not -dim <= part < dim:
            raise IndexError(f"index {part} is out of bounds for size {dim}")
    return found


def filled(shape: Shape, given: Shape) -> Shape:
    """As `given`, in which one dimension may be -1: what is left.

    Raises:
        ValueError: it holds another number of elements.
    """
    unknown = [dim for dim in given if isinstance(dim, int) and dim < 0]
    known = size(tuple(dim for dim in given if dim != -1))
    if unknown not in ([], [-1]) or (unknown and known == 0):
        raise ValueError(f"cannot reshape {shape} into {given}")
    found = tuple(size(shape) // known if dim == -1 else dim for dim in given)
    more = size(found) - size(shape)
    if more != 0 and not (hasattr(more, "expand") and more.expand() == 0):
        raise ValueError(f"cannot reshape {shape} into {found}")
    return found


def several(axis: Any) -> tuple[Any, ...]:
    """Axes, of which one may be given alone."""
    return axis if isinstance(axis, tuple) else (axis,)


def places(axes: tuple[Any, ...], ndim: int) -> list[int]:
    """Axes counted from the front.

    Raises:
        IndexError: there is no such axis.
        ValueError: one is given twice.
    """
    found = [range(ndim)[axis] for axis in axes]
    if len({*found}) != len(found):
        raise ValueError(f"an axis is given twice: {axes}")
    return found


def reduced(shape: Shape, axis: Any, keepdims: bool) -> Shape:
    """Without some axes, or with 1 in their place; of all if `axis` is None."""
    gone = places(tuple(range(len(shape))) if axis is None else several(axis), len(shape))
    kept = [(i, 1 if i in gone else n) for i, n in enumerate(shape)]
    return tuple(n for i, n in kept if keepdims or i not in gone)


def squeezed(shape: Shape, axis: Any = None) -> Shape:
    """Without axes of size 1, or without those given."""
    ones = tuple(i for i, n in enumerate(shape) if n == 1)
    gone = places(ones if axis is None else several(axis), len(shape))
    if any(shape[i] != 1 for i in gone):
        raise ValueError(f"axes {axis} of {shape} are not of size 1")
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def expanded(shape: Shape, axis: Any) -> Shape:
    """With new axes of size 1."""
    ndim, rest = len(shape) + len(several(axis)), iter(shape)
    new = places(several(axis), ndim)
    return tuple(1 if i in new else next(rest) for i in range(ndim))


def moved(ndim: int, source: Any, destination: Any) -> list[int]:
    """The order of axes in which some stand elsewhere."""
    start, end = (places(several(axes), ndim) for axes in (source, destination))
    order = [i for i in range(ndim) if i not in start]
    for to, axis in sorted(zip(end, start, strict=True)):
        order.insert(to, axis)
    return order


def concatenated(*shapes: Shape, axis: int | None = 0) -> Shape:
    """One after another along an axis that they have; flat if `axis` is None."""
    if axis is None:
        shapes, axis = tuple((size(shape),) for shape in shapes), 0
    axis = range(len(shapes[0]))[axis]
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) != 1 or len({*map(len, shapes)}) != 1:
        raise ValueError(f"shapes do not join: {', '.join(map(str, shapes))}")
    (kept,) = rest
    return (*kept[:axis], sum(shape[axis] for shape in shapes), *kept[axis:])


def stacked(*shapes: Shape, axis: int = 0) -> Shape:
    """One after another along an axis of their own."""
    at = range(len(shapes[0]) + 1)[axis]
    return concatenated(*((*shape[:at], 1, *shape[at:]) for shape in shapes), axis=at)


def _line(shape: Shape) -> Shape:
    return shape or (1,)


def _side_by_side(*shapes: Shape) -> Shape:
    lines = [*map(_line, shapes)]
    return concatenated(*lines, axis=0 if len(lines[0]) == 1 else 1)


def _in_planes(*shapes: Shape) -> Shape:
    planes = [(1, *_line(shape)) if len(shape) < 2 else shape for shape in shapes]
    return concatenated(*((*p, 1) if len(p) == 2 else p for p in planes), axis=2)


def _as_columns(*shapes: Shape) -> Shape:
    return concatenated(*((*_line(s), 1) if len(s) < 2 else s for s in shapes), axis=1)


def _as_rows(*shapes: Shape) -> Shape:
    return concatenated(*((1, *_line(s)) if len(s) < 2 else s for s in shapes))


JOINED: dict[Callable[..., Any], Callable[..., Shape]] = {
    np.concatenate: concatenated,
    np.stack: stacked,
    np.vstack: _as_rows,
    np.hstack: _side_by_side,
    np.dstack: _in_planes,
    np.column_stack: _as_columns,
}
"""What joins of a list of arrays make of their shapes."""


def taken_along(shape: Shape, indices: Shape, axis: int) -> Shape:
    """Of elements taken along one axis, alike in the others."""
    axis = range(len(shape))[axis]
    rest = broadcast(
        (*shape[:axis], 1, *shape[axis + 1 :]),
        (*indices[:axis], 1, *indices[axis + 1 :]),
    )
    return (*rest[:axis], indices[axis], *rest[axis + 1 :])
