"""What a floating-point operation is: one table, NumPy function -> rule, and nowhere else.

A rule gives the `Cost` of one call from the shapes of its result and of its operands, and from the
axis of a running sum, in real floating-point numbers; `executed` says what that is in other
numbers. Kinds are kept apart to the end; conventions (2mnp, mp(2n-1), MACs) are ways of summing
them: `views.py`.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

KINDS = ("mul", "add", "fma", "div", "exp", "log", "tanh", "sqrt", "sin", "cos", "cmp")  # of FLOP
OUTSIDE = ("int", "logic")  # operations on integers and on truth values, which are no FLOP

_KNOWN = frozenset((*KINDS, *OUTSIDE))

Shape = tuple[Any, ...]  # each dimension an int or a SymPy expression
Rule = Callable[..., "Cost"]


class Uncounted(TypeError):
    """An operation that the table of costs does not know, or one that would leave the count."""


class Cost(Mapping[str, Any]):
    """Counts of operations by kind, a kind that does not occur left out: `Cost(mul=3, add=2)`.

    It is a value: `a + b` adds kind by kind, `cost * n` repeats, nothing changes it. Counts are
    ints, or SymPy expressions where shapes are symbolic.

    Raises:
        ValueError: there is no such kind of operation.
    """

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[str, Any] = {}, /, **more: Any) -> None:
        self._counts = {kind: n for kind, n in {**counts, **more}.items() if n != 0}
        if not self._counts.keys() <= _KNOWN:
            unknown = min(self._counts.keys() - _KNOWN)
            raise ValueError(f"unknown kind of operation {unknown!r}; known: {(*KINDS, *OUTSIDE)}")

    def __getitem__(self, kind: str) -> Any:
        return self._counts[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            {k: self._counts.get(k, 0) + other._counts.get(k, 0) for k in (*KINDS, *OUTSIDE)}
        )

    def __mul__(self, times: Any) -> "Cost":
        return Cost({k: n * times for k, n in self.items()})

    def by_kind(self) -> dict[str, Any]:
        """Every kind of FLOP, those that do not occur at 0, and the kinds outside that occur."""
        return {kind: self._counts.get(kind, 0) for kind in KINDS} | {
            kind: self[kind] for kind in OUTSIDE if kind in self
        }

    @property
    def flops(self) -> Any:
        """Every floating-point operation once, a fused multiply-add as two."""
        return sum(self._counts.get(kind, 0) for kind in KINDS) + self._counts.get("fma", 0)

    def __repr__(self) -> str:
        return f"Cost({', '.join(f'{k}={n}' for k, n in self.items())})"


# What one operation on complex numbers takes in real ones, by the textbook: (a + bi)(c + di) is
# ac - bd + (ad + bc)i. A quotient, a comparison, a function have no one textbook: they are refused.
COMPLEX = {"add": Cost(add=2), "mul": Cost(mul=4, add=2), "fma": Cost(fma=4)}


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
    if arithmetic != "complex":
        return Cost({arithmetic: cost.flops})
    return sum((COMPLEX[kind] * n for kind, n in cost.items()), Cost())


def size(shape: Shape) -> Any:
    """The number of elements of an array of `shape`."""
    return math.prod(shape)


def each(kind: str) -> Rule:
    """One operation for each element of the result."""
    return lambda out, *operands: Cost({kind: size(out)})


def reduction(kind: str) -> Rule:
    """n - 1 operations to bring n elements down to one; none where there are none."""
    return lambda out, a: Cost({kind: size(a) - size(out) if size(a) != 0 else 0})


def mean(out: Shape, a: Shape) -> Cost:
    """A sum and one division for each element of the result."""
    return reduction("add")(out, a) + Cost(div=size(out))


def running_sum(out: Shape, a: Shape, axis: int | None = None) -> Cost:
    """n - 1 additions along each line of n elements; all are one line without an axis."""
    first = 1 if axis is None else size(tuple(n for i, n in enumerate(a) if i != axis % len(a)))
    return Cost(add=size(a) - first if size(a) != 0 else 0)


def matmul(out: Shape, a: Shape, b: Shape) -> Cost:
    """n multiply-adds for each element of the result, onto an accumulator that starts at zero."""
    return Cost(fma=size(out) * a[-1])


def moves(out: Shape, *operands: Shape) -> Cost:
    """Bytes are read and written, nothing is computed."""
    return Cost()


def views(out: Shape, *operands: Shape) -> Cost:
    """The same bytes seen in another shape: nothing is read, written or computed."""
    return Cost()


COSTS: dict[Callable[..., Any], Rule] = {
    np.matmul: matmul,
    np.add: each("add"),
    np.subtract: each("add"),
    np.negative: each("add"),  # 0 - x
    np.multiply: each("mul"),
    np.divide: each("div"),
    np.exp: each("exp"),
    np.log: each("log"),
    np.tanh: each("tanh"),
    np.sqrt: each("sqrt"),
    np.sin: each("sin"),
    np.cos: each("cos"),
    np.maximum: each("cmp"),
    np.minimum: each("cmp"),
    np.equal: each("cmp"),
    np.not_equal: each("cmp"),
    np.sum: reduction("add"),
    np.cumsum: running_sum,
    np.max: reduction("cmp"),
    np.argmax: reduction("cmp"),
    np.mean: mean,
    np.where: moves,
    np.take: moves,
    np.take_along_axis: moves,
    np.copy: moves,
    np.copyto: moves,
    np.ones_like: moves,
    np.empty_like: moves,
    np.tril: moves,
    np.reshape: views,
    np.swapaxes: views,
    np.transpose: views,
    operator.getitem: views,
}
