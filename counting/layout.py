"""Where the elements of an array lie in memory, known of arrays without data as well.

A layout is a tuple of strides in elements, None where they lie in a row in C's order, or UNKNOWN.
Whether a reshape is a view or a copy depends on it. Dimensions and strides are ints or SymPy
expressions.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle
from typing import Any

from counting.cost import Shape, size

UNKNOWN = "unknown"
Layout = Any  # tuple[Any, ...] | None | UNKNOWN


class _Incomparable(Exception):
    """Which of two strides is larger depends on what the symbols are."""


def strides(shape: Shape, layout: Layout) -> tuple[Any, ...]:
    """The steps from one element to the next along each axis, of a layout that is known."""
    if layout is not None:
        return layout
    found: list[Any] = []
    step: Any = 1
    for n in reversed(shape):
        found.insert(0, step)
        step = step * n
    return tuple(found)


def laid_out(shape: Shape, steps: Sequence[Any]) -> Layout:
    """The layout of these strides; None if they are those of C's order, whatever they are of 1."""
    if size(shape) == 0:
        return None
    straight = strides(shape, None)
    same = all(n == 1 or _equal(a, b) for n, a, b in zip(shape, steps, straight, strict=True))
    return None if same else tuple(1 if n == 1 else s for n, s in zip(shape, steps, strict=True))


def alike(shape: Shape, operands: Sequence[tuple[Shape, Layout]]) -> Layout:
    """The layout of a result of `shape`, as NumPy chooses it by those of the operands ("K").

    Axes go from the longest strides to the shortest; the first operand whose strides along two
    axes are not 0 decides, and where several are of another opinion C's order stays.
    """
    if all(layout is None for _, layout in operands):
        return None
    if any(layout is UNKNOWN for _, layout in operands):
        return UNKNOWN
    steps = [_broadcast(shape, of, strides(of, layout)) for of, layout in operands]
    order: list[int] = []
    try:
        for axis in reversed(range(len(shape))):  # an insertion sort, the shortest strides first
            at = len(order)
            for i in reversed(range(len(order))):
                vote = _vote(axis, order[i], steps)
                if vote < 0:
                    at = i
                elif vote > 0:
                    break
            order.insert(at, axis)
    except _Incomparable:
        return UNKNOWN
    found: list[Any] = [0] * len(shape)
    step: Any = 1
    for axis in order:
        found[axis] = step
        step = step * shape[axis]
    return laid_out(shape, found)


def of_stacks(over: Shape, core: Shape, operands: Sequence[tuple[Shape, Layout]]) -> Layout:
    """The layout of a stack of results, each of shape `core`, by those of the operands' stacks."""
    if any(layout is UNKNOWN for _, layout in operands):
        return UNKNOWN
    each, within = size(core), strides(core, None)
    outer = alike(over, [(of, strides(of, layout) if of else None) for of, layout in operands])
    if outer is UNKNOWN:
        return UNKNOWN
    return laid_out((*over, *core), [*(each * s for s in strides(over, outer)), *within])


def _broadcast(shape: Shape, of: Shape, steps: Sequence[Any]) -> list[Any]:
    """Strides of an operand seen in another shape: 0 where it is repeated, or is of size 1."""
    missing = len(shape) - len(of)
    own = [0 if n == 1 else abs(s) for n, s in zip(of, steps, strict=True)]
    return [0] * missing + own


def _vote(a: int, b: int, steps: Sequence[Sequence[Any]]) -> int:
    """Whether an axis goes before another, shorter strides first: -1, 1, or 0 for no opinion."""
    found = 0
    for of in steps:
        if of[a] != 0 and of[b] != 0:
            if _compared(of[b], of[a]) <= 0:
                return 1
            found = -1
    return found


def _compared(a: Any, b: Any) -> int:
    """The sign of a - b; of symbols, that of sizes from 2 on, if it is one at all tried."""
    if isinstance(a, int) and isinstance(b, int):
        return (a > b) - (a < b)
    if _equal(a, b):
        return 0
    signs = _signs(a, b)
    if len(signs) != 1:
        raise _Incomparable
    return next(iter(signs))


_TRIED = ((2,), (2, 4, 6, 10, 14, 22), (26, 14, 10, 6, 4, 2), (64, 2, 128, 4), (2, 2, 2, 2, 512))


@lru_cache(maxsize=4096)
def _signs(a: Any, b: Any) -> frozenset[int]:
    names = sorted((a - b).free_symbols, key=str)
    found = set()
    for sizes in _TRIED:
        n = (a - b).subs(dict(zip(names, cycle(sizes), strict=False)))
        found.add(bool(n > 0) - bool(n < 0))
    return frozenset(found - {0})


def _equal(a: Any, b: Any) -> bool:
    more = a - b
    return bool(more == 0) or (hasattr(more, "expand") and bool(more.expand() == 0))


def of_axes(shape: Shape, layout: Layout, axes: Sequence[int]) -> Layout:
    """The layout of a view with some axes of an array, in this order."""
    if layout is UNKNOWN:
        return UNKNOWN
    steps = strides(shape, layout)
    return laid_out(tuple(shape[i] for i in axes), [steps[i] for i in axes])


def reshaped(shape: Shape, layout: Layout, new: Shape) -> tuple[bool, Layout]:
    """Whether an array in a new shape is a view, and its layout.

    Raises:
        TypeError: it is not known.
    """
    if layout is None or size(shape) == 0:
        return True, None
    known = layout is not UNKNOWN
    steps = strides(shape, layout) if known else (UNKNOWN,) * len(shape)
    old = [(n, s) for n, s in zip(shape, steps, strict=True) if n != 1]
    found: list[Any] = []
    wanted = [n for n in new if n != 1]
    i = 0
    try:
        while wanted[len(found) :] and i < len(old):
            # The fewest axes on either side that hold as many elements.
            n, m, first, begin = old[i][0], wanted[len(found)], i, len(found)
            end = begin + 1
            while not _equal(n, m):
                if _compared(n, m) < 0:
                    i += 1
                    n = n * old[i][0]
                else:
                    m, end = m * wanted[end], end + 1
            for (_, outer), (length, inner) in zip(
                old[first:i], old[first + 1 : i + 1], strict=True
            ):
                if not known:
                    raise _Incomparable
                if not _equal(outer, length * inner):
                    return False, None
            part = strides(tuple(wanted[begin:end]), None)
            found += [s * old[i][1] if known else UNKNOWN for s in part]
            i += 1
    except (_Incomparable, IndexError):
        raise TypeError(
            f"whether NumPy copies to reshape {shape} into {new} is not known without data: "
            "write .copy() first"
        ) from None
    if not known:
        return True, UNKNOWN
    rest = iter(found)
    return True, laid_out(new, [1 if n == 1 else next(rest) for n in new])
