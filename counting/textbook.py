"""What runs in place of NumPy's functions on numbers that count: the textbook's algorithms.

NumPy's own object loops would multiply and add apart, and mix floats that count nothing among them.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from counting import inside
from counting.algorithms import ALGORITHMS
from counting.scalar import Scalar, bare, scalar, scalars

_fma = np.frompyfunc(lambda a, factor, addend: a.fma(factor, addend), 3, 1)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What a BLAS does for each element: an accumulator at zero, a multiply-add for each term."""
    first = a.flat[0]
    out: Any = scalar(type(first.value)(0), first.tally)
    for k in range(a.shape[-1]):
        out = _fma(a[..., :, k, None], b[..., None, k, :], out)
    return out


def _of_vectors(function: np.ufunc) -> Callable[..., Any]:
    """`vecdot`, `matvec` or `vecmat`: the product of a row and a column of one, or of matrices."""
    row = function.__name__ in ("vecdot", "vecmat")
    column = function.__name__ in ("vecdot", "matvec")

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = _matmul(a[..., None, :] if row else a, b[..., None] if column else b)
        out = out[..., 0] if column else out
        return out[..., 0] if row and column else out[..., 0, :] if row else out

    return run


def _truths(function: np.ufunc) -> Callable[..., Any]:
    """Whether any is true, or all are: one after another along the axes."""
    loop = np.frompyfunc(_bits(function), 2, 1)

    def run(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        for by in range(a.ndim) if axis is None else axis if type(axis) is tuple else (axis,):
            a = loop.reduce(a, axis=by, keepdims=True)
        truths = np.asarray(_values(a)).astype(bool)
        return truths if keepdims else np.squeeze(truths, axis)

    return run


def _variance(a: Any, axis: Any = None, ddof: Any = 0, keepdims: bool = False) -> Any:
    a = _floats(a)
    total = a.sum(axis=axis, keepdims=True)
    n = a.size // np.size(total)
    from_mean = a - total / n
    return (from_mean * from_mean).sum(axis=axis, keepdims=keepdims) / (n - ddof)


def _where(condition: Any, *choice: Any) -> Any:
    tally = next(x for x in choice if isinstance(x, np.ndarray)).flat[0].tally
    either: list[Any] = [Scalar(x, tally) if type(x) is float else x for x in choice]
    return np.where(condition, *either)


def _counting(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, a number of Python's among its operands made a Scalar."""

    def run(*operands: Any) -> Any:
        counting = [isinstance(x, Scalar | np.ndarray) for x in operands]
        one = operands[counting.index(True)]
        tally = (one.flat[0] if isinstance(one, np.ndarray) else one).tally
        made = zip(operands, counting, strict=True)
        return function(*(x if counts else scalar(x, tally) for x, counts in made))

    return run


# What ufuncs do of which NumPy's object loops do something else, or nothing: the textbook's.
_clip = np.frompyfunc(lambda a, low, high: min(max(a, low), high), 3, 1)


def _logaddexp(a: Any, b: Any) -> Any:
    more, less = (a, b) if a >= b else (b, a)
    return more + (less - more).exp().log1p()


def _logaddexp2(a: Any, b: Any) -> Any:
    more, less = (a, b) if a >= b else (b, a)
    return more + (less - more).exp2().log2()


def _divmod(a: Any, b: Any) -> Any:
    if {type(a.value), type(b.value)} <= {int, bool}:  # one operation each
        return a // b, a % b
    whole = (a / b).floor()
    return whole, a - whole * b


def _floor_divide(a: Any, b: Any) -> Any:
    return (a / b).floor() if float in (type(a.value), type(b.value)) else a // b


def _remainder(a: Any, b: Any) -> Any:
    return _divmod(a, b)[1] if float in (type(a.value), type(b.value)) else a % b


def _fmod(a: Any, b: Any) -> Any:
    return a - (a / b).trunc() * b if float in (type(a.value), type(b.value)) else a % b


def _modf(a: Any) -> Any:
    whole = a.trunc()
    return a - whole, whole


def _method(name: str) -> Callable[..., Any]:
    return lambda a, *others: getattr(a, name)(*others)


def _bits(function: np.ufunc) -> Callable[..., Any]:
    """On the bits of a number, or of a truth value: one operation, and no FLOP."""
    kind = "logic" if function.__name__.startswith("logical") else "int"

    def run(*operands: Any) -> Any:
        tally = next(x for x in operands if isinstance(x, Scalar)).tally
        tally[kind] += 1
        results = function(*map(bare, operands))
        if function.nout == 1:
            return Scalar(results.item(), tally, exact=True)
        return tuple(Scalar(x.item(), tally, exact=True) for x in results)

    return run


_TEXTBOOK: dict[np.ufunc, Callable[..., Any]] = {
    np.hypot: lambda a, b: (a * a + b * b).sqrt(),
    np.logaddexp: _logaddexp,
    np.logaddexp2: _logaddexp2,
    np.floor_divide: _floor_divide,
    np.remainder: _remainder,
    np.fmod: _fmod,
    np.divmod: _divmod,
    np.modf: _modf,
    **dict.fromkeys((np.deg2rad, np.radians), lambda a: a * (math.pi / 180)),
    **dict.fromkeys((np.rad2deg, np.degrees), lambda a: a * (180 / math.pi)),
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.bitwise_xor: operator.xor,
    np.left_shift: operator.lshift,
    np.right_shift: operator.rshift,
    np.conjugate: lambda a: a.conjugate(),
    np.positive: lambda a: a,
    **{f: _bits(f) for f in (np.frexp, np.ldexp, np.nextafter, np.spacing, np.bitwise_count)},
    **{f: _bits(f) for f in (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)},
}
_NO_LOOP = "cbrt power float_power copysign heaviside fmax fmin sign signbit isfinite isinf isnan"
_NO_LOOP += " floor ceil trunc arctan2"
_TEXTBOOK |= {getattr(np, name): _method(name) for name in _NO_LOOP.split()}
_TESTS: tuple[np.ufunc, ...] = (np.isfinite, np.isinf, np.isnan, np.signbit)
_TESTS += (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)


_values = np.frompyfunc(bare, 1, 1)
_floats = np.frompyfunc(lambda x: Scalar(x.value, x.tally), 1, 1)  # as NumPy makes them first


def _each(function: np.ufunc, textbook: Callable[..., Any]) -> Callable[..., Any]:
    """A ufunc of Scalars."""
    loop = np.frompyfunc(textbook, function.nin, function.nout)
    floats = {*function.types[0].partition("->")[0]} == {"e"}  # it takes no whole numbers

    def run(*operands: Any) -> Any:
        result = loop(*map(_floats, operands) if floats else operands)
        return np.asarray(_values(result)).astype(bool) if function in _TESTS else result

    return _counting(run)


def _ones_like(prototype: Any, dtype: Any = None, shape: Any = None) -> np.ndarray:
    ones = np.ones_like(prototype, dtype, shape=shape)
    return scalars(ones.astype(float), prototype.flat[0].tally) if ones.dtype == object else ones


def _empty_like(prototype: Any, dtype: Any = None, shape: Any = None) -> np.ndarray:
    wide = dtype is None or np.dtype(dtype).kind in "fO"  # a Scalar holds a float of any width
    empty = np.empty_like(prototype, object if wide else dtype, shape=shape)
    if wide and prototype.size:
        first = prototype.flat[0]
        empty.fill(scalar(type(first.value)(math.nan), first.tally))
    return empty


def _copyto(to: np.ndarray, values: Any) -> None:
    number = isinstance(values, int | float) and to.dtype == object and to.size
    np.copyto(to, scalar(float(values), to.flat[0].tally) if number else values)


VECTORS = [getattr(np, name) for name in ("matvec", "vecmat") if hasattr(np, name)]  # since 2.2

# What runs in place of a NumPy function when the elements are Scalars: NumPy's own object loops
# would multiply and add apart, and mix floats that count nothing among the Scalars.
ON_SCALARS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.matmul: _matmul,
    **{f: _of_vectors(f) for f in (np.vecdot, *VECTORS)},
    np.where: _where,
    np.any: _truths(np.logical_or),
    np.all: _truths(np.logical_and),
    np.var: _variance,
    np.std: lambda a, **options: np.sqrt(_variance(a, **options)),
    np.maximum: _counting(np.maximum),
    np.minimum: _counting(np.minimum),
    **{f: _each(f, textbook) for f, textbook in _TEXTBOOK.items()},
    np.ones_like: _ones_like,
    np.empty_like: _empty_like,
    np.copyto: _copyto,
    **ALGORITHMS,
    inside.clip: _counting(_clip),
}


def runner(function: Callable[..., Any]) -> Callable[..., Any]:
    """What runs in place of `function` on arrays of Scalars, its result always an array."""
    run = ON_SCALARS.get(function, function)

    def call(*operands: Any, out: Any = None, **options: Any) -> Any:
        result = run(*operands, **options)
        if out is not None:
            out[...] = result
            return out
        return np.asarray(result, object) if isinstance(result, Scalar) else result

    return call
