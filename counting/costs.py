"""What a floating-point operation is: one table, NumPy function -> rule, and nowhere else.

Kinds are kept apart to the end; conventions (2mnp, mp(2n-1), MACs) are ways of summing them:
`views.py`.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from counting import inside, published, rules
from counting.cost import Cost
from counting.primitives import choose, correlate, count_nonzero, einsum, getitem, interp, setitem
from counting.rules import Rule, each, matmul, moves, reduction, running, views

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

# Counted in real numbers by their own rule, whatever the numbers are.
IN_REAL_NUMBERS = tuple(f for f in vars(inside.FOURIER).values() if isinstance(f, np.ufunc))

REAL = (np.mean, np.var, np.std)  # of complex numbers they do something else


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

_REDUCTIONS: tuple[tuple[Rule, str], ...] = (
    (reduction("add"), "sum"),
    (reduction("mul"), "prod"),
    (reduction("cmp"), "max min argmax argmin"),
    (reduction("logic"), "any all"),
    (rules.spread, "ptp"),
    (rules.mean, "mean"),
    (rules.variance, "var"),
    (rules.deviation, "std"),
    (running("add"), "cumsum"),
    (running("mul"), "cumprod"),
)

_MOVES = (
    "concatenate stack vstack hstack dstack column_stack where take take_along_axis copy copyto"
)
_MOVES += " ones_like empty_like tril"
_VIEWS = "reshape swapaxes transpose squeeze expand_dims moveaxis ravel flip broadcast_to"

# Methods of arrays that no function of NumPy's does by itself.
_METHODS_OF_ARRAYS: tuple[tuple[Rule, str], ...] = (
    (moves, "astype repeat"),
    (views, "diagonal view"),
    (rules.rounding, "round"),
    (rules.truths, "nonzero"),
    (rules.sorting, "sort argsort partition argpartition"),
    (rules.searching, "searchsorted"),
)

# Inside numpy.linalg and numpy.fft; versions of NumPy call some of them differently.
_LINALG: tuple[tuple[Rule, str], ...] = (
    (published.determinant, "det"),
    (published.log_determinant, "slogdet"),
    (published.solution, "solve"),
    (published.solution_of_vectors, "solve1"),
    (published.inverse, "inv"),
    (published.cholesky, "cholesky_lo cholesky_up"),
    (published.householder, "qr_r_raw qr_r_raw_m qr_r_raw_n"),
    (published.orthogonal, "qr_reduced qr_complete"),
    (published.symmetric_values, "eigvalsh_lo eigvalsh_up"),
    (published.symmetric_vectors, "eigh_lo eigh_up"),
    (published.values, "eigvals"),
    (published.vectors, "eig"),
    (published.singular_values, "svd svd_m svd_n"),
    (published.singular_thin, "svd_s svd_m_s svd_n_s"),
    (published.singular_full, "svd_f svd_m_f svd_n_f"),
    (published.least_squares, "lstsq lstsq_m lstsq_n"),
)
_FOURIER: tuple[tuple[Rule, str], ...] = (
    (published.fourier, "fft ifft"),
    (published.to_real, "irfft"),
    (published.of_real_even, "rfft_n_even"),
    (published.of_real_odd, "rfft_n_odd"),
)


def _rows(module: Any, table: tuple[tuple[Rule, str], ...]) -> dict[Callable[..., Any], Rule]:
    named = ((name, rule) for rule, names in table for name in names.split())
    return {getattr(module, name): rule for name, rule in named if hasattr(module, name)}


COSTS: dict[Callable[..., Any], Rule] = {
    **_rows(np, (*_UFUNCS, *_REDUCTIONS, (moves, _MOVES), (views, _VIEWS))),
    **_rows(np.ndarray, _METHODS_OF_ARRAYS),
    **_rows(inside.LINALG, _LINALG),
    **_rows(inside.FOURIER, _FOURIER),
    inside.clip: rules.clip,
    np.dot: rules.dot,
    np.inner: rules.dot,
    np.vdot: rules.vdot,
    np.bincount: rules.bins,
    np.lexsort: rules.sorting_keys,
    np.ravel_multi_index: rules.places,
    np.unravel_index: rules.places,
    np.lib.stride_tricks.as_strided: views,
    operator.getitem: views,
    getitem: moves,
    setitem: moves,
    choose: moves,
    einsum: rules.einsum,
    correlate: rules.correlate,
    interp: rules.interpolation,
    count_nonzero: rules.truths_counted,
}

# What NumPy keeps to itself, each called by its public name with something behind: `rfft_n_even`.
INSIDE = frozenset((*_rows(inside.LINALG, _LINALG), *_rows(inside.FOURIER, _FOURIER)))

# Functions with a row of a person's own, see `register`: what has its rule and its row's name.
REGISTERED: dict[Any, Any] = {}

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
    if rule is None:
        rule = getattr(REGISTERED.get(function, function), "rule", None)
    if rule is None and isinstance(ufunc, np.ufunc) and ufunc.nin == 2 and ufunc in COSTS:
        one, method = COSTS[ufunc]((), (1,), (1,)), METHODS.get(function.__name__)
        if method is not None and len(one) == 1 and one.operations == 1:
            return method(*one)
    return rule


_BOUNDS = (rules.sorting, rules.sorting_keys, rules.searching, rules.interpolation)


def how_known(function: Callable[..., Any]) -> str:
    """How we know what a function costs: "executed", "published", "bound" or "registered".

    What is executed is run on numbers that count, by the textbook, and its operations counted; a
    bound is the most that the textbook's algorithm takes, whatever the numbers are. What a person
    registered is as that person says.
    """
    rule = rule_of(function)
    if hasattr(REGISTERED.get(function, function), "rule"):
        return "registered"
    if rule in _BOUNDS:
        return "bound"
    return "published" if getattr(rule, "__module__", "") == published.__name__ else "executed"
