"""Python's operators and the methods of NumPy's arrays: how arrays are mostly written about."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.charge import Spec
from counting.cost import Uncounted
from counting.costs import COSTS
from counting.form import fingerprint
from counting.scope import place

_new = object.__new__


def operator(function: np.ufunc) -> Callable[[Any, Any], Any]:
    """`function(self, other)`: the way through `array.apply` unrolled, for they are most of a run.

    What has no price yet, or is refused, goes that way.
    """

    def method(self: Any, other: Any) -> Any:
        path, category = place.get()
        spec, kind = self.spec, type(self)
        ledger = spec.ledger
        if type(other) is kind:
            charge = ledger.hot.get((function, category, spec, other.spec))
            bare = other.data
        else:
            try:
                charge = ledger.hot.get((function, category, spec, fingerprint(function, other)))
            except Uncounted:  # the way through `apply` refuses it, or lets it leave
                charge = None
            bare = other
        if charge is None:
            return self.__array_ufunc__(function, "__call__", self, other)
        data = charge.run(self.data, bare)
        ledger.paths.append(path)
        ledger.log.append(charge)
        result = _new(kind)
        result.data, result.spec, result.base = data, charge.result, None
        result.path, result.charge = path, charge
        return result

    return method


def reflected(function: np.ufunc) -> Callable[[Any, Any], Any]:
    """`function(other, self)`, which is rare."""
    return lambda self, other: self.__array_ufunc__(function, "__call__", other, self)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(self, …)`, as nearly all methods of NumPy's arrays are called."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        if isinstance(function, np.ufunc):
            return function(self, *args, **options)
        return self.__array_function__(function, (), (self, *args), options)

    return method


def _in_place(function: np.ufunc) -> Callable[[Any, Any], Any]:
    """`function(self, other)` into `self`; a number is replaced, as one of NumPy's is."""

    def method(self: Any, other: Any) -> Any:
        if isinstance(self.data, np.generic):
            return function(self, other)
        return function(self, other, out=(self,))

    return method


_POWERS = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}


def power(x: Any, exponent: Any, **out: Any) -> Any:
    """`x ** exponent`, of some numbers of Python's by a quicker function, as NumPy has it."""
    if type(exponent) in (int, float):
        quick = x.dtype.kind in "fc" or (type(exponent) is int and exponent == 2)
        if quick and exponent in _POWERS:
            return _POWERS[exponent](x, **out)
    return np.power(x, exponent, **out)


class Operators(NDArrayOperatorsMixin):
    """Those of a counted array; the hot ones are not sent through NumPy's protocol and back."""

    __slots__ = ()
    data: Any
    spec: Spec

    __add__ = operator(np.add)
    __sub__ = operator(np.subtract)
    __mul__ = operator(np.multiply)
    __truediv__ = operator(np.divide)
    __matmul__ = operator(np.matmul)

    def __eq__(self: Any, other: Any) -> Any:
        return np.full(self.shape, False) if other is None else np.equal(self, other)

    def __ne__(self: Any, other: Any) -> Any:
        return np.full(self.shape, True) if other is None else np.not_equal(self, other)

    __pow__ = power

    def __ipow__(self, exponent: Any) -> Any:  # type: ignore[misc]
        if isinstance(self.data, np.generic):
            return power(self, exponent)
        return power(self, exponent, out=(self,))

    __radd__ = reflected(np.add)
    __rsub__ = reflected(np.subtract)
    __rmul__ = reflected(np.multiply)
    __rtruediv__ = reflected(np.divide)
    __rmatmul__ = reflected(np.matmul)


for name, function in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "matmul": np.matmul,
    "truediv": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}.items():
    setattr(Operators, f"__i{name}__", _in_place(function))


def give_methods(kind: type) -> None:
    """Gives `kind` the methods of NumPy's arrays whose functions have a row in `COSTS`."""
    for name in {*dir(np.ndarray)} - {*dir(kind)}:
        for module in (np.ndarray, np):
            if getattr(module, name, None) in COSTS:
                setattr(kind, name, _method(getattr(module, name)))
                break
