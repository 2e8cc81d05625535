"""Numbers that count their own operations: the oracle that the table of costs is held against.

NumPy runs on object arrays of them; every `+ * / exp` is then really executed, one by one.
"""

import operator
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from counting.checks import must_be

_NUMBERS = (int, float, np.number, np.bool_)


def bare(x: Any) -> Any:
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
        values = [*map(bare, operands)]
        value = operation(*values)
        self._count(kind, *values, value)
        return Scalar(value, self.tally, exact=True)

    return method


def _comparison(operation: Callable[..., bool]) -> Any:
    """A method of `Scalar` that compares."""

    def method(self: "Scalar", other: Any) -> bool:
        values = self.value, bare(other)
        self._count("cmp", *values)
        return operation(*values)

    return method


class Scalar:
    """A number that enters each operation it takes part in into `tally`, under its kind.

    It is a float, unless `exact` keeps a whole number or a truth value what it is: operations on
    whole numbers alone are of kind `int`, on truth values alone of kind `logic`.
    """

    __slots__ = ("tally", "value")
    if TYPE_CHECKING:  # methods by NumPy's names, see below

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, value: Any, tally: Counter[str], exact: bool = False) -> None:
        if not isinstance(value, _NUMBERS) or type(tally) is not Counter:  # faster than two calls
            must_be("a number", isinstance(value, _NUMBERS), "value", value)
            must_be("a Counter", isinstance(tally, Counter), "tally", tally)
        self.value: Any = value if exact else float(value)
        self.tally = tally

    def __repr__(self) -> str:
        return f"Scalar({self.value})"

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

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
    __abs__ = absolute = fabs = _operator("cmp", abs)
    __floordiv__ = _operator("int", operator.floordiv)
    __mod__ = _operator("int", operator.mod)
    __invert__ = _operator("int", lambda a: not a if type(a) is bool else ~a)
    __and__ = _operator("int", operator.and_)
    __or__ = _operator("int", operator.or_)
    __xor__ = _operator("int", operator.xor)
    __lshift__ = _operator("int", operator.lshift)
    __rshift__ = _operator("int", operator.rshift)

    __eq__ = _comparison(operator.eq)  # and `!=`, which asks it
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)

    def conjugate(self) -> "Scalar":
        return self

    def fma(self, factor: "Scalar", addend: "Scalar") -> "Scalar":
        """self * factor + addend: one fused operation, but two of whole numbers."""
        values = self.value, factor.value, addend.value
        self._count("fma", *values, times=2)
        return Scalar(_plus(_times(*values[:2]), values[2]), self.tally, exact=True)


def _numpy(function: np.ufunc) -> Callable[..., Any]:
    """A ufunc of one result, on Python's numbers."""
    return lambda *values: function(*values).item()


# Methods of `Scalar` that are one operation, by NumPy's name: its object loops call them so.
for kind, names in {
    "exp": "exp exp2 expm1",
    "log": "log log2 log10 log1p",
    "pow": "cbrt power float_power",
    "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos",
    "tanh": "tanh",
    "trig": "tan arcsin arccos arctan arctan2 sinh cosh arcsinh arccosh arctanh",
    "round": "floor ceil trunc rint",
    "cmp": "sign signbit copysign heaviside fmax fmin isfinite isinf isnan",
}.items():
    for name in names.split():
        setattr(Scalar, name, _operator(kind, _numpy(getattr(np, name))))


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
        z = complex(bare(x))
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

    def __truediv__(self, other: Any) -> "Complex":
        (a, b), divisor = (self.re, self.im), self._complex(other)
        c, d = divisor.re, divisor.im
        size = c * c + d * d
        return Complex((a * c + b * d) / size, (b * c - a * d) / size)

    def __neg__(self) -> "Complex":
        return Complex(-self.re, -self.im)

    def __abs__(self) -> Any:
        return (self.re * self.re + self.im * self.im).sqrt()

    def __eq__(self, other: object) -> bool:
        z = self._complex(other)
        same = [self.re == z.re, self.im == z.im]
        return all(same)

    __hash__ = None  # type: ignore[assignment]

    def conjugate(self) -> "Complex":
        return Complex(self.re, -self.im)

    def exp(self) -> "Complex":
        size = self.re.exp()
        return Complex(size * self.im.cos(), size * self.im.sin())

    def fma(self, factor: "Complex", addend: "Complex") -> "Complex":
        """self * factor + addend, by four fused operations, one of which subtracts."""
        (a, b), (c, d) = (self.re, self.im), (factor.re, factor.im)
        less = Scalar(-d.value, d.tally)
        return Complex(b.fma(less, a.fma(c, addend.re)), b.fma(c, a.fma(d, addend.im)))


def scalar(value: Any, tally: Counter[str]) -> Any:
    if isinstance(value, complex):
        return Complex(Scalar(value.real, tally), Scalar(value.imag, tally))
    return Scalar(value, tally, exact=True)


def scalars(values: Any, tally: Counter[str]) -> np.ndarray:
    """An object array of `Scalar`s with the shape and the values of `values`; or of `Complex`."""
    must_be("an array", isinstance(values, np.ndarray | np.number | np.bool_), "values", values)
    must_be("a Counter", isinstance(tally, Counter), "tally", tally)
    array = np.empty(values.shape, object)
    for index in np.ndindex(values.shape):
        array[index] = scalar(values[index].item(), tally)
    return array
