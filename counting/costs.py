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

from counting.indexing import getitem, setitem

USUAL = ("mul", "add", "fma", "div", "exp", "tanh", "sqrt", "sin", "cos", "cmp")  # in transformers
KINDS = (*USUAL, "log", "pow", "trig", "round")  # of FLOP
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

# What functions take of one number in other arithmetic, where it is not what its kinds do there.
OTHERWISE: dict[tuple[Callable[..., Any], str], Cost] = {
    (np.absolute, "complex"): Cost(mul=2, add=1, sqrt=1),
    (np.conjugate, "complex"): Cost(add=1),
    (np.equal, "complex"): Cost(cmp=2),
    (np.not_equal, "complex"): Cost(cmp=2),
    (np.isfinite, "complex"): Cost(cmp=2),
    (np.isinf, "complex"): Cost(cmp=2),
    (np.isnan, "complex"): Cost(cmp=2),
    (np.floor_divide, "int"): Cost(int=1),
    (np.remainder, "int"): Cost(int=1),
    (np.fmod, "int"): Cost(int=1),
    (np.divmod, "int"): Cost(int=2),
}

REAL = (np.mean, np.var, np.std)  # of complex numbers they do something else


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


def each(kind: str = "", **kinds: int) -> Rule:
    """One operation for each element of the result, or several."""
    one = Cost({kind: 1} if kind else kinds)
    return lambda out, *operands, **options: one * size(out)


def reduction(kind: str) -> Rule:
    """n - 1 operations to bring n elements down to one; none where there are none."""
    return lambda out, a, **options: Cost({kind: size(a) - size(out) if size(a) != 0 else 0})


def mean(out: Shape, a: Shape, **options: Any) -> Cost:
    """A sum and one division for each element of the result."""
    return reduction("add")(out, a) + Cost(div=size(out))


def spread(out: Shape, a: Shape, **options: Any) -> Cost:
    """The largest less the smallest."""
    return reduction("cmp")(out, a) * 2 + Cost(add=size(out))


def variance(out: Shape, a: Shape, **options: Any) -> Cost:
    """A mean, and the mean of squares of what each element is from it."""
    return mean(out, a) * 2 + Cost(add=size(a), mul=size(a))


def deviation(out: Shape, a: Shape, **options: Any) -> Cost:
    """The root of a variance."""
    return variance(out, a) + Cost(sqrt=size(out))


def running(kind: str) -> Rule:
    """n - 1 operations along an axis of n, for each result but the first."""

    def rule(out: Shape, a: Shape, axis: int | None = None, **options: Any) -> Cost:
        at = None if axis is None else range(len(a))[axis]
        rows = 1 if at is None else size((*a[:at], *a[at + 1 :]))
        return Cost({kind: size(a) - rows if size(a) != 0 else 0})

    return rule


def matmul(out: Shape, a: Shape, b: Shape, **options: Any) -> Cost:
    """n multiply-adds for each element of the result, onto an accumulator that starts at zero."""
    return Cost(fma=size(out) * a[-1])


def moves(out: Shape, *operands: Any, **options: Any) -> Cost:
    """Bytes are read and written, nothing is computed."""
    return Cost()


def views(out: Shape, *operands: Any, **options: Any) -> Cost:
    """The same bytes seen in another shape: nothing is read, written or computed."""
    return Cost()


_UFUNCS: tuple[tuple[Rule, str], ...] = (
    (each("add"), "add subtract negative"),  # 0 - x
    (each("mul"), "multiply square deg2rad degrees rad2deg radians"),
    (each("div"), "divide reciprocal"),
    (each("pow"), "power float_power cbrt"),
    (each("sqrt"), "sqrt"),
    (each("exp"), "exp exp2 expm1"),
    (each("log"), "log log2 log10 log1p"),
    (each("sin"), "sin"),
    (each("cos"), "cos"),
    (each("tanh"), "tanh"),
    (each("trig"), "tan arcsin arccos arctan arctan2 sinh cosh arcsinh arccosh arctanh"),
    (
        each("cmp"),
        "equal not_equal less less_equal greater greater_equal maximum minimum fmax fmin",
    ),
    (each("cmp"), "absolute fabs sign signbit copysign heaviside isfinite isinf isnan"),  # with 0
    (each("round"), "floor ceil trunc rint"),
    (each("logic"), "logical_and logical_or logical_xor logical_not"),
    (each("int"), "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift bitwise_count"),
    (each("int"), "nextafter spacing ldexp frexp"),  # on the bits of a number
    (each(mul=2, add=1, sqrt=1), "hypot"),
    (each(cmp=1, add=2, exp=1, log=1), "logaddexp logaddexp2"),  # larger + log(1 + exp(less))
    (each(div=1, round=1), "floor_divide"),
    (each(div=1, round=1, mul=1, add=1), "remainder fmod divmod"),  # a - b floor(a / b)
    (each(round=1, add=1), "modf"),
    (moves, "positive conjugate"),
    (matmul, "matmul matvec vecdot vecmat"),
)

COSTS: dict[Callable[..., Any], Rule] = {
    **{getattr(np, n): rule for rule, names in _UFUNCS for n in names.split() if hasattr(np, n)},
    np.sum: reduction("add"),
    np.prod: reduction("mul"),
    np.max: reduction("cmp"),
    np.min: reduction("cmp"),
    np.argmax: reduction("cmp"),
    np.argmin: reduction("cmp"),
    np.any: reduction("logic"),
    np.all: reduction("logic"),
    np.ptp: spread,
    np.mean: mean,
    np.var: variance,
    np.std: deviation,
    np.cumsum: running("add"),
    np.cumprod: running("mul"),
    np.concatenate: moves,
    np.stack: moves,
    np.vstack: moves,
    np.hstack: moves,
    np.dstack: moves,
    np.column_stack: moves,
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
    np.squeeze: views,
    np.expand_dims: views,
    np.moveaxis: views,
    np.ravel: views,
    np.flip: views,
    operator.getitem: views,
    getitem: moves,
    setitem: moves,
}

# What a method of a ufunc costs, of its two operands' kind of operation: `np.add.reduce`.
METHODS: dict[str, Callable[[str], Rule]] = {
    "reduce": reduction,
    "accumulate": running,
    "outer": each,
    "at": each,
}


def rule_of(function: Callable[..., Any]) -> Rule | None:
    """The row of a function, or that of the ufunc of which it is a method; None if there is none.

    A method repeats one operation on two numbers: of ufuncs that take several there is none.
    """
    rule, ufunc = COSTS.get(function), getattr(function, "__self__", None)
    if rule is None and isinstance(ufunc, np.ufunc) and ufunc.nin == 2 and ufunc in COSTS:
        one, method = COSTS[ufunc]((), (1,), (1,)), METHODS.get(function.__name__)
        if method is not None and len(one) == 1 and one.operations == 1:
            return method(*one)
    return rule
