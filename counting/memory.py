"""Bytes that are alive, and how many were at most."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add
from typing import Any

import numpy as np


class Event:
    """What changes memory.

    Attributes:
        usage: the memory that it changes, if any.
        grows: bytes that are alive for good, or none any more if it is negative.
        over: bytes beyond those that are alive for a moment.
        levels: bytes alive in it, one moment after another, beyond those before it.
    """

    __slots__ = ("grows", "usage")
    over: Any = 0
    levels: tuple[Any, ...] = ()

    def __init__(self, usage: "Usage | None", grows: Any) -> None:
        self.usage, self.grows = usage, grows


class Usage:
    """Live bytes and their high-water mark since the start.

    Sizes are ints, or SymPy expressions in positive symbols; a peak that depends on the symbols'
    values is a `sympy.Max`.
    """

    __slots__ = ("live", "peak")

    def __init__(self) -> None:
        self.live: Any = 0
        self.peak: Any = 0

    def enter(self, events: Sequence[Event]) -> None:
        """Adds the bytes by which each event grows; the peak knows what each was over that."""
        over = [event.over for event in events]
        live = list(accumulate([event.grows for event in events], initial=self.live))[1:]
        self.live = live[-1]
        try:
            self.peak = max(self.peak, max(map(add, live, over)))
        except TypeError:  # symbols: which one is larger is not known, or not known to `>`
            for now, more in zip(live, over, strict=True):
                for candidate in _candidates(now, more):
                    self.peak = larger(self.peak, candidate)


def levels(events: Iterable[Event]) -> Iterator[Any]:
    """Live bytes after each event, relative to the start, temporaries inside it included."""
    live = 0
    for event in events:
        yield from (live + level for level in event.levels)
        live += event.grows
        yield live


def _candidates(live: Any, over: Any) -> list[Any]:
    """What the peak may be: `live`, or `live` and what `over` is, each term of its `Max` apart."""
    import sympy

    for term in sympy.Add.make_args(sympy.sympify(over)):
        if isinstance(term, sympy.Max):
            return [live, *(live + (over - term) + each for each in term.args)]
    return [live, live + over] if over != 0 else [live]


def larger(a: Any, b: Any) -> Any:
    """The larger of two sizes, or `Max(a, b)` where that depends on values of symbols."""
    if type(a) is type(b) is int:
        return max(a, b)
    import sympy

    kept = []  # what of `a` may exceed `b`; SymPy's own comparison of polynomials takes seconds
    for one in a.args if isinstance(a, sympy.Max) else (a,):
        coefficients = sympy.expand(b - one).as_coefficients_dict().values()
        if all(c <= 0 for c in coefficients):
            return a
        if not all(c >= 0 for c in coefficients):
            kept.append(one)
    return sympy.Max(*kept, b, evaluate=False) if kept else b


def occupied(array: np.ndarray) -> int:
    """Bytes of memory that the elements of an array lie in, each once.

    Fewer than `array.nbytes` where elements share them, as those of `np.broadcast_to` and
    `sliding_window_view` do.
    """
    if array.flags.forc or not array.size:
        return array.nbytes
    steps = [(abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if s and n > 1]
    reach = array.itemsize  # bytes from the first of an element to the last of the last
    apart = True
    for step, n in sorted(steps):
        apart = apart and step >= reach
        reach += step * (n - 1)
    if apart:
        return array.itemsize * math.prod(n for _, n in steps)
    unit = math.gcd(array.itemsize, *(step for step, _ in steps))
    touched = np.zeros(reach // unit, bool)
    touched[: array.itemsize // unit] = True
    for step, n in steps:
        done = 1
        while done < n:  # what `done` steps touch, moved on by as many
            more = min(done, n - done)
            by = more * step // unit
            touched[by:] |= touched[: len(touched) - by].copy()
            done += more
    return int(touched.sum()) * unit
