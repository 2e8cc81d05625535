"""Numbers that count their own operations: the oracle that the table of costs is held against.

NumPy runs on object arrays of them; every `+ * / exp` is then really executed, one by one.
"""

import math
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np


def _bare(x: Any) -> Any:
    """A number of Python's."""
    if isinstance(x, Scalar):
        return x.value
    return x.item() if isinstance(x, np.generic) else x


def _plus(a: Any, b: Any) -> Any:
    return (a or b) if type(a) is type(b) is bool else a + b  # as NumPy adds truth values


def _times(a: Any, b: Any) -> Any:
    return (a and b) if type(a) is type(b) is bool else a * b


def _operator(kind: str, operation: Callable[..., Any], swapped: bool = False) -> Any:
    """A method of `Scalar`: executes `operation`, which counts as one of `kind`."""

    def method(self: "Scalar", *others: Any) -> Any:
        operands = (*others, self) if swapped else (self, *others)
        if any(isinstance(x, Complex | np.ndarray) for x in operands):
            return NotImplemented  # they know how
        values = [*map(_bare, operands)]
        value = operation(*values)
        self._count(kind, *values, value)
        return Scalar(value, self.tally, exact=True)

    return method


def _comparison(operation: Callable[..., bool]) -> Any:
    """A method of `Scalar` that compares."""

    def method(self: "Scalar", other: Any) -> bool:
        values = self.value, _bare(other)
        self._count("cmp", *values)
        return operation(*values)

    return method


class Scalar:
    """A number that enters each operation it takes part in into `tally`, under its kind.

    It is a float, unless `exact` keeps a whole number or a truth value what it is: operations on
    whole numbers alone are of kind `int`, on truth values alone of kind `logic`.
    """

    __slots__ = ("tally", "value")

    def __init__(self, value: Any, tally: Counter[str], exact: bool = False) -> None:
        self.value: Any = value if exact else float(value)
        self.tally = tally

    def __repr__(self) -> str:
        return f"Scalar({self.value})"

    def __float__(self) -> float:
        return float(self.value)

    def _count(self, kind: str, *values: Any, times: int = 1) -> None:
        types = {*map(type, values)}
        if float not in types:
            self.tally["int" if int in types else "logic"] += times
        else:
            self.tally[kind] += 1

    __add__ = __radd__ = _operator("add", _plus)
    __sub__ = _operator("add", operator.sub)
    __rsub__ = _operator("add", operator.sub, swapped=True)
    __mul__ = __rmul__ = _operator("mul", _times)
    __truediv__ = _operator("div", operator.truediv)
    __rtruediv__ = _operator("div", operator.truediv, swapped=True)
    __neg__ = _operator("add", operator.neg)
    exp = _operator("exp", math.exp)
    log = _operator("log", math.log)
    tanh = _operator("tanh", math.tanh)
    sqrt = _operator("sqrt", math.sqrt)
    sin = _operator("sin", math.sin)
    cos = _operator("cos", math.cos)

    __eq__ = _comparison(operator.eq)  # and `!=`, which asks it
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)

    def fma(self, factor: "Scalar", addend: "Scalar") -> "Scalar":
        """self * factor + addend: one fused operation, but two of whole numbers."""
        values = self.value, factor.value, addend.value
        self._count("fma", *values, times=2)
        return Scalar(_plus(_times(*values[:2]), values[2]), self.tally, exact=True)


class Complex:
    """A complex number as two Scalars, each operation done on them as the textbook does it."""

    __slots__ = ("im", "re")

    def __init__(self, re: Scalar, im: Scalar) -> None:
        self.re, self.im = re, im

    @property
    def value(self) -> complex:
        return complex(self.re.value, self.im.value)

    tally = property(lambda self: self.re.tally)

    def _complex(self, x: Any) -> "Complex":
        if isinstance(x, Complex):
            return x
        z = complex(_bare(x))
        return Complex(Scalar(z.real, self.tally), Scalar(z.imag, self.tally))

    def __add__(self, other: Any) -> "Complex":
        other = self._complex(other)
        return Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other: Any) -> "Complex":
        other = self._complex(other)
        return Complex(self.re - other.re, self.im - other.im)

    def __rsub__(self, other: Any) -> "Complex":
        return self._complex(other) - self

    def __mul__(self, other: Any) -> "Complex":
        (a, b), c = (self.re, self.im), self._complex(other)
        return Complex(a * c.re - b * c.im, a * c.im + b * c.re)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Complex":
        return Complex(-self.re, -self.im)

    def fma(self, factor: "Complex", addend: "Complex") -> "Complex":
        """self * factor + addend, by four fused operations, one of which subtracts."""
        (a, b), (c, d) = (self.re, self.im), (factor.re, factor.im)
        less = Scalar(-d.value, d.tally)
        return Complex(b.fma(less, a.fma(c, addend.re)), b.fma(c, a.fma(d, addend.im)))


def _scalar(value: Any, tally: Counter[str]) -> Any:
    if isinstance(value, complex):
        return Complex(Scalar(value.real, tally), Scalar(value.imag, tally))
    return Scalar(value, tally, exact=True)


def scalars(values: Any, tally: Counter[str]) -> np.ndarray:
    """An object array of `Scalar`s with the shape and the values of `values`; or of `Complex`."""
    array = np.empty(values.shape, object)
    for index in np.ndindex(values.shape):
        array[index] = _scalar(values[index].item(), tally)
    return array


_fma = np.frompyfunc(lambda a, factor, addend: a.fma(factor, addend), 3, 1)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What a BLAS does for each element: an accumulator at zero, a multiply-add for each term."""
    first = a.flat[0]
    out: Any = _scalar(type(first.value)(0), first.tally)
    for k in range(a.shape[-1]):
        out = _fma(a[..., :, k, None], b[..., None, k, :], out)
    return out


def _where(condition: Any, *choice: Any) -> Any:
    tally = next(x for x in choice if isinstance(x, np.ndarray)).flat[0].tally
    either: list[Any] = [Scalar(x, tally) if type(x) is float else x for x in choice]
    return np.where(condition, *either)


def _extreme(choice: Callable[..., Any]) -> Callable[..., Any]:
    """A maximum or a minimum, a number of Python's among its operands made a Scalar."""

    def run(*operands: Any) -> Any:
        counting = [isinstance(x, Scalar | np.ndarray) for x in operands]
        one = operands[counting.index(True)]
        tally = (one.flat[0] if isinstance(one, np.ndarray) else one).tally
        made = zip(operands, counting, strict=True)
        return choice(*(x if counts else _scalar(x, tally) for x, counts in made))

    return run


def _ones_like(prototype: Any, dtype: Any = None, shape: Any = None) -> np.ndarray:
    ones = np.ones_like(prototype, dtype, shape=shape)
    return scalars(ones.astype(float), prototype.flat[0].tally) if ones.dtype == object else ones


def _empty_like(prototype: Any, dtype: Any = None, shape: Any = None) -> np.ndarray:
    wide = dtype is None or np.dtype(dtype).kind in "fO"  # a Scalar holds a float of any width
    empty = np.empty_like(prototype, object if wide else dtype, shape=shape)
    if wide and prototype.size:
        first = prototype.flat[0]
        empty.fill(_scalar(type(first.value)(math.nan), first.tally))
    return empty


def _copyto(to: np.ndarray, values: Any) -> None:
    number = isinstance(values, int | float) and to.dtype == object and to.size
    np.copyto(to, _scalar(float(values), to.flat[0].tally) if number else values)


# What runs in place of a NumPy function when the elements are Scalars: NumPy's own object loops
# would multiply and add apart, and mix floats that count nothing among the Scalars.
ON_SCALARS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.matmul: _matmul,
    np.where: _where,
    np.maximum: _extreme(np.maximum),
    np.minimum: _extreme(np.minimum),
    np.ones_like: _ones_like,
    np.empty_like: _empty_like,
    np.copyto: _copyto,
}


def runner(function: Callable[..., Any]) -> Callable[..., Any]:
    """What runs in place of `function` on arrays of Scalars, its result always an array."""
    run = ON_SCALARS.get(function, function)

    def call(*operands: Any, **options: Any) -> Any:
        result = run(*operands, **options)
        return np.asarray(result, object) if isinstance(result, Scalar) else result

    return call
