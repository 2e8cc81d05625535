"""Numbers that count their own operations: the oracle that the table of costs is held against.

NumPy runs on object arrays of them; every `+ * / exp` is then really executed, one by one.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np


class Scalar:
    """A float that enters each operation it takes part in into `tally`, under its kind."""

    __slots__ = ("tally", "value")

    def __init__(self, value: float, tally: Counter[str]) -> None:
        self.value = float(value)
        self.tally = tally

    def __repr__(self) -> str:
        return f"Scalar({self.value})"

    def __float__(self) -> float:
        return self.value

    def _result(self, kind: str, value: float) -> "Scalar":
        self.tally[kind] += 1
        return Scalar(value, self.tally)

    def _compare(self, truth: bool) -> bool:
        self.tally["cmp"] += 1
        return truth

    def __add__(self, other: Any) -> "Scalar":
        return self._result("add", self.value + float(other))

    def __sub__(self, other: Any) -> "Scalar":
        return self._result("add", self.value - float(other))

    def __rsub__(self, other: Any) -> "Scalar":
        return self._result("add", float(other) - self.value)

    def __mul__(self, other: Any) -> "Scalar":
        return self._result("mul", self.value * float(other))

    def __truediv__(self, other: Any) -> "Scalar":
        return self._result("div", self.value / float(other))

    def __rtruediv__(self, other: Any) -> "Scalar":
        return self._result("div", float(other) / self.value)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Scalar":
        return self._result("add", -self.value)

    def __eq__(self, other: object) -> bool:  # and `!=`, which asks it
        return self._compare(self.value == float(other))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> bool:
        return self._compare(self.value < float(other))

    def __le__(self, other: Any) -> bool:
        return self._compare(self.value <= float(other))

    def __gt__(self, other: Any) -> bool:
        return self._compare(self.value > float(other))

    def __ge__(self, other: Any) -> bool:
        return self._compare(self.value >= float(other))

    def exp(self) -> "Scalar":
        return self._result("exp", math.exp(self.value))

    def tanh(self) -> "Scalar":
        return self._result("tanh", math.tanh(self.value))

    def sqrt(self) -> "Scalar":
        return self._result("sqrt", math.sqrt(self.value))

    def sin(self) -> "Scalar":
        return self._result("sin", math.sin(self.value))

    def cos(self) -> "Scalar":
        return self._result("cos", math.cos(self.value))

    def fma(self, factor: "Scalar", addend: "Scalar") -> "Scalar":
        """self * factor + addend, one fused operation."""
        return self._result("fma", self.value * factor.value + addend.value)


def scalars(values: Any, tally: Counter[str]) -> np.ndarray:
    """An object array of `Scalar`s with the shape and the values of `values`."""
    array = np.empty(values.shape, object)
    for index in np.ndindex(values.shape):
        array[index] = Scalar(values[index], tally)
    return array


_fma = np.frompyfunc(Scalar.fma, 3, 1)


def _matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What a BLAS does for each element: an accumulator at zero, a multiply-add for each term."""
    out: Any = Scalar(0.0, a.flat[0].tally)
    for k in range(a.shape[-1]):
        out = _fma(a[..., :, k, None], b[..., None, k, :], out)
    return out


def _where(condition: Any, x: Any, y: Any) -> Any:
    filler: Any = Scalar(y, x.flat[0].tally)
    return np.where(condition, x, filler)


def _ones_like(prototype: Any, dtype: Any = None, shape: Any = None) -> np.ndarray:
    ones = np.ones_like(prototype, dtype, shape=shape)
    return scalars(ones, prototype.flat[0].tally) if ones.dtype == object else ones


def _empty_like(prototype: Any, dtype: Any = None, shape: Any = None) -> np.ndarray:
    wide = dtype is None or np.dtype(dtype).kind == "f"  # a Scalar holds a float of any width
    return np.empty_like(prototype, object if wide else dtype, shape=shape)


# What runs in place of a NumPy function when the elements are Scalars: NumPy's own object loops
# would multiply and add apart, and mix floats that count nothing among the Scalars.
ON_SCALARS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.matmul: _matmul,
    np.where: _where,
    np.ones_like: _ones_like,
    np.empty_like: _empty_like,
}


def runner(function: Callable[..., Any]) -> Callable[..., Any]:
    """What runs in place of `function` on arrays of Scalars, its result always an array."""
    run = ON_SCALARS.get(function, function)

    def call(*operands: Any, **options: Any) -> Any:
        result = run(*operands, **options)
        if isinstance(result, Scalar):
            array = np.empty((), object)
            array[()] = result
            return array
        return result

    return call
