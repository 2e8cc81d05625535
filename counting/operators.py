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
        return self.__array_function__(function, (), (self, *args), options)

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

    __pow__ = power

    def __ipow__(self, exponent: Any) -> Any:  # type: ignore[misc]
        return power(self, exponent, out=(self,))

    __radd__ = reflected(np.add)
    __rsub__ = reflected(np.subtract)
    __rmul__ = reflected(np.multiply)
    __rtruediv__ = reflected(np.divide)
    __rmatmul__ = reflected(np.matmul)


def give_methods(kind: type) -> None:
    """Gives `kind` the methods of NumPy's arrays whose functions have a row in `COSTS`."""
    for name in {*dir(np.ndarray)} - {*dir(kind)}:
        if getattr(np, name, None) in COSTS:
            setattr(kind, name, _method(getattr(np, name)))
