"""What an index means in NumPy: a view, or a value, which does not follow what is written later."""

from itertools import compress
from typing import Any

import numpy as np

from counting.cost import Shape
from counting.shape_rules import broadcast, indexed


def is_value(part: Any, index: Any) -> bool:
    """Whether NumPy gives a value, no view, where `index` gives `part`, of no dimensions."""
    if isinstance(part, np.ndarray):
        return False
    if isinstance(part, np.generic) or not hasattr(part, "shape"):
        return True
    return index is not Ellipsis and not (
        isinstance(index, tuple) and any(i is Ellipsis for i in index)
    )


def at(data: Any, index: Any) -> Any:
    """The part of an array that an index means; an array even where that is one element."""
    part = data[index]
    if isinstance(part, type(data)):
        return part
    return data[(*(index if isinstance(index, tuple) else (index,)), ...)]


def shares(part: np.ndarray, whole: np.ndarray) -> bool:
    """Whether one array is made of the memory of another."""
    base = part.base
    if base is not None and (base is whole or base is whole.base):  # so it nearly always is
        return True
    return part.size == 0 or np.may_share_memory(part, whole)


def chosen(index: Any) -> tuple[Any, ...] | None:
    """The parts of an index that chooses elements by arrays, whole numbers or masks; else None."""
    parts = index if type(index) is tuple else (index,)
    return tuple(map(_part, parts)) if any(map(_chooses, parts)) else None


def _chooses(part: Any) -> bool:
    if type(part) in (list, bool, np.bool_):
        return True
    shape = getattr(part, "shape", None)
    return type(shape) is tuple and (shape != () or part.dtype == bool)


def _part(part: Any) -> Any:
    if type(part) is not list:
        return part
    return np.asarray(part) if part else np.asarray(part, np.intp)


def selected(x: Any, index: tuple[Any, ...]) -> Shape:
    """The shape of what an index chooses of an array.

    Raises:
        TypeError: it is a mask without data: how many it chooses is not known.
    """
    bare = [part for part in index if _without_data(part)]
    for part in bare:
        if part.dtype.kind not in "iu":
            raise TypeError(f"how many elements {part} chooses is not known without data")
    if not all(type(n) is int for of in (x, *bare) for n in of.shape):
        return _of_symbols(x.shape, index)
    zero, known = np.intp(0), [not _without_data(part) for part in index]
    parts = [
        p if of else np.broadcast_to(zero, p.shape) for p, of in zip(index, known, strict=True)
    ]
    return np.broadcast_to(np.False_, x.shape)[tuple(parts)].shape


def _without_data(part: Any) -> bool:
    return hasattr(part, "shape") and not isinstance(part, np.ndarray | np.generic)


def _of_symbols(shape: Shape, index: tuple[Any, ...]) -> Shape:
    """What is chosen where sizes are symbols, by NumPy's rule; whether it lies inside is open."""
    parts: list[Any] = []
    for part in index:  # a mask stands for the places of what it chooses, along each of its axes
        parts += np.nonzero(part) if getattr(part, "dtype", int) == np.bool_ else [part]
    by_places = [not (p is None or p is ... or isinstance(p, slice)) for p in parts]
    first, last = by_places.index(True), len(parts) - by_places[::-1].index(True)
    views = tuple(0 if of else p for p, of in zip(parts, by_places, strict=True))
    rest = [n for n, _, _ in indexed(shape, views)]
    if not all(by_places[first:last]):  # NumPy has them in front if a view stands between
        at = 0
    else:
        at = len(rest) - len(parts[last:]) if any(p is ... for p in parts[:first]) else first
    made = broadcast(*(getattr(p, "shape", ()) for p in compress(parts, by_places)))
    return (*rest[:at], *made, *rest[at:])


def converted(value: Any, to: Any) -> tuple[Any, dict[str, Any]]:
    """A value as it is written into an array by an index, and how: whatever its dtype.

    Raises:
        OverflowError, ValueError, TypeError: a number of Python's has no place there.
    """
    if not isinstance(to, np.ndarray) or to.dtype.kind == "O":
        return value, {}
    if type(value) in (bool, int, float, complex):
        if np.can_cast(np.dtype(type(value)), to.dtype, "same_kind") and to.dtype.kind not in "iu":
            return value, {}
        return np.asarray(value, to.dtype).item(), {"casting": "unsafe"}
    if not hasattr(value, "dtype") or np.can_cast(value.dtype, to.dtype, "same_kind"):
        return value, {}
    return value, {"casting": "unsafe"}
