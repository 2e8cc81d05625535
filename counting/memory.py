"""Bytes that are alive, and how many were at most."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from operator import add
from typing import Any

import numpy as np

Terms = dict[Any, Any]  # a product of symbols -> its number


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

    def entering(self, events: Sequence[Event]) -> list[tuple[Any, str, Any]]:
        """What adds the bytes by which each event grows; the peak knows what each was over that.

        Attributes to set: of what, which, to what.
        """
        over = [event.over for event in events]
        live = list(accumulate([event.grows for event in events], initial=self.live))[1:]
        try:
            peak = max(self.peak, max(map(add, live, over)))
        except TypeError:  # symbols: which one is larger is not known, or not known to `>`
            candidates = map(_candidates, live, over)
            peak = _largest(self.peak, chain.from_iterable(candidates))
        return [(self, "live", live[-1]), (self, "peak", peak)]


def levels(events: Iterable[Event]) -> Iterator[Any]:
    """Live bytes after each event, relative to the start, temporaries inside it included."""
    live = 0
    for event in events:
        yield from (live + level for level in event.levels)
        live += event.grows
        yield live


def _candidates(live: Any, over: Any) -> Iterator[Terms]:
    """What the peak may be: `live`, or `live` and what `over` is, each term of its `Max` apart."""
    import sympy

    now = _terms(live)
    yield now
    if over == 0:
        return
    parts = sympy.Add.make_args(sympy.sympify(over))
    highest = next((part for part in parts if isinstance(part, sympy.Max)), None)
    rest = _sum(now, *(_terms(part) for part in parts if part is not highest))
    for each in highest.args if highest else (sympy.Integer(0),):
        yield _sum(rest, _terms(each))


def larger(a: Any, b: Any) -> Any:
    """The larger of two sizes, or `Max(a, b)` where that depends on values of symbols."""
    if type(a) is type(b) is int:
        return max(a, b)
    return _largest(a, [_terms(b)])


def _largest(peak: Any, candidates: Iterable[Terms]) -> Any:
    """`peak`, or the `Max` of it and those candidates that may exceed it.

    Terms are compared one by one; SymPy's own comparison of polynomials takes seconds.
    """
    import sympy

    kept = [_terms(one) for one in (peak.args if isinstance(peak, sympy.Max) else (peak,))]
    before = [*kept]
    for candidate in candidates:
        if not any(_at_most(candidate, one) for one in kept):
            kept = [one for one in kept if not _at_most(one, candidate)] + [candidate]
    if kept == before:
        return peak
    sums = [sympy.Add(*(number * term for term, number in terms.items())) for terms in kept]
    return sympy.Max(*sums, evaluate=False) if len(sums) > 1 else sums[0]


def _at_most(a: Terms, b: Terms) -> bool:
    """Whether no value of the symbols, which are positive, makes `a` more than `b`."""
    return all(number <= b.get(term, 0) for term, number in a.items()) and all(
        number >= 0 for term, number in b.items() if term not in a
    )


@lru_cache(maxsize=4096)
def _terms(size: Any) -> Terms:
    """The terms of a sum of products, each with its number."""
    import sympy

    return dict(sympy.expand(size).as_coefficients_dict())


def _sum(*several: Terms) -> Terms:
    total: Terms = {}
    for terms in several:
        for term, number in terms.items():
            total[term] = total.get(term, 0) + number
    return {term: number for term, number in total.items() if number != 0}


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
