"""What is counted: operations by kind, and what those on other numbers are in real ones."""

import math
from collections.abc import Iterator, Mapping
from operator import index
from typing import Any

from counting.checks import must_be

USUAL = ("mul", "add", "fma", "div", "exp", "tanh", "sqrt", "sin", "cos", "cmp")  # in transformers
KINDS = (*USUAL, "log", "pow", "trig", "round")  # of FLOP
OUTSIDE = ("int", "logic")  # operations on integers and on truth values, which are no FLOP

_KNOWN = frozenset((*KINDS, *OUTSIDE))

Shape = tuple[Any, ...]  # each dimension an int or a SymPy expression


# The end of an error: a way out that works in a program as by hand.
OUT = "run it in `with counting.uncounted():`"


class Uncounted(TypeError):
    """An operation that the table of costs does not know, or one that would leave the count."""


class Cost(Mapping[str, Any]):
    """Counts of operations by kind, a kind that does not occur left out: `Cost(mul=3, add=2)`.

    It is a value: `a + b` adds kind by kind, `cost * n` repeats, nothing changes it. Counts are
    ints, or SymPy expressions where shapes are symbolic.

    Raises:
        ValueError: there is no such kind of operation.
        TypeError: a count is no whole number from 0 and no expression.
    """

    __slots__ = ("_counts",)
    __array_ufunc__ = None  # what NumPy would make of it element by element is no cost
    _counts: dict[str, Any]

    def __init__(self, counts: Mapping[str, Any] = {}, /, **more: Any) -> None:
        must_be("a mapping of counts by kind", isinstance(counts, Mapping), "counts", counts)
        given = {**counts, **more}
        if not given.keys() <= _KNOWN:
            unknown = min(map(str, given.keys() - _KNOWN))
            raise ValueError(f"unknown kind of operation {unknown!r}; known: {(*KINDS, *OUTSIDE)}")
        found = {kind: _whole(kind, n) for kind, n in given.items()}
        self._counts = {kind: n for kind, n in found.items() if n != 0}

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> "Cost":
        """What was counted, as it is: of a later moment from an earlier one it is negative."""
        made = cls.__new__(cls)
        made._counts = {kind: n for kind, n in counts.items() if n != 0}
        return made

    def __getitem__(self, kind: str) -> Any:
        return self._counts[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __add__(self, other: "Cost") -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        both = {k: self._counts.get(k, 0) + other._counts.get(k, 0) for k in (*KINDS, *OUTSIDE)}
        return Cost.of(both)

    def __mul__(self, times: Any) -> "Cost":
        times = _whole("times", times)
        return Cost.of({k: n * times for k, n in self.items()})

    def by_kind(self) -> dict[str, Any]:
        """The usual kinds of FLOP, those that do not occur at 0, and the others that occur."""
        return {k: self._counts.get(k, 0) for k in (*KINDS, *OUTSIDE) if k in USUAL or k in self}

    @property
    def flops(self) -> Any:
        """Every floating-point operation once, a fused multiply-add as two."""
        return sum(self._counts.get(kind, 0) for kind in (*KINDS, "fma"))

    @property
    def operations(self) -> Any:
        """As `flops`, of any kind."""
        return sum(self.values()) + self._counts.get("fma", 0)

    def __repr__(self) -> str:
        return f"Cost({', '.join(f'{k}={n}' for k, n in self.items())})"


def _whole(name: str, n: Any) -> Any:
    """A count as one of Python's whole numbers, or an expression of SymPy as it is.

    Raises:
        TypeError: it is neither, or negative.
    """
    if getattr(n, "free_symbols", None):
        return n
    try:
        whole = index(n)
    except TypeError:
        whole = -1
    must_be("a whole number from 0, or an expression of symbols", whole >= 0, name, n)
    return whole


# What one operation on complex numbers takes in real ones, by the textbook: (a + bi)(c + di) is
# ac - bd + (ad + bc)i, and a quotient that times the conjugate over the square of the divisor's
# size. A root, a logarithm, a power have no one textbook: they are refused.
COMPLEX = {
    "add": Cost(add=2),
    "mul": Cost(mul=4, add=2),
    "fma": Cost(fma=4),
    "div": Cost(mul=6, add=3, div=2),
    "exp": Cost(exp=1, cos=1, sin=1, mul=2),
    "logic": Cost(logic=1),
}


def executed(cost: Cost, arithmetic: str) -> Cost:
    """What a cost in real floating-point numbers is in other numbers.

    Args:
        arithmetic: "float", "complex", "int" or "logic", see `dtypes.arithmetic`. A multiply-add of
            integers is two operations, as it is two FLOP.

    Raises:
        KeyError: it has a kind without an algorithm for complex numbers.
    """
    if arithmetic == "float":
        return cost
    if arithmetic == "logic":
        return Cost(logic=cost.operations)
    if arithmetic == "int":
        return Cost(int=cost.flops + cost.get("int", 0), logic=cost.get("logic", 0))
    return sum((COMPLEX[kind] * n for kind, n in cost.items()), Cost())


def size(shape: Shape) -> Any:
    """The number of elements of an array of `shape`."""
    return math.prod(shape)
