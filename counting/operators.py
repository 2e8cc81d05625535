"""Python's operators and the methods of NumPy's arrays: how arrays are mostly written about."""

from collections.abc import Callable
from threading import get_ident
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.charge import Charge, Spec
from counting.cost import Uncounted
from counting.costs import COSTS
from counting.form import by_data, fingerprint
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
            if getattr(type(other), "__array_ufunc__", self) is None:
                return NotImplemented  # as NumPy has it
            return self.__array_ufunc__(function, "__call__", self, other)
        data = charge.run(self.data, bare)
        log = ledger.log
        log += (ledger.running.get(get_ident()), path, charge)
        if len(log) > ledger.longest:
            ledger.settle()
        result = _new(kind)
        result.data, result.spec, result.base = data, charge.result, None
        result.path, result.charge = path, charge
        return result

    return method


def reflected(function: np.ufunc) -> Callable[[Any, Any], Any]:
    """`function(other, self)`, which is rare."""
    return lambda self, other: self.__array_ufunc__(function, "__call__", other, self)


def recorded(kind: type, ledger: Any, path: str, charge: Charge, data: Any) -> Any:
    """Records a call that was priced before and gave `data`, as `array.entered` does."""
    log = ledger.log
    log += (ledger.running.get(get_ident()), path, charge)
    if len(log) > ledger.longest:
        ledger.settle()
    result: Any = _new(kind)
    result.data, result.spec, result.base = data, charge.result, None
    result.path, result.charge = path, charge
    return result


def of_one(x: Any, ufunc: np.ufunc) -> Any:
    """`ufunc(x)` that is priced already, as `operator` has it; None if it is not."""
    path, category = place.get()
    ledger = x.spec.ledger
    charge = ledger.hot.get((ufunc, category, x.spec))
    if charge is None or charge.others:
        return None
    return recorded(type(x), ledger, path, charge, charge.run(x.data))


def unary(function: np.ufunc) -> Callable[[Any], Any]:
    """`function(self)`."""

    def method(self: Any) -> Any:
        done = of_one(self, function)
        return self.__array_ufunc__(function, "__call__", self) if done is None else done

    return method


def of_some(x: Any, function: Callable[..., Any], operands: Any) -> Any:
    """`function` of operands, of which `x` is one, in the same way."""
    path, category = place.get()
    kind, ledger = type(x), x.spec.ledger
    parts: list[Any] = [function, category]
    bare = []
    try:
        for one in operands:
            if type(one) is kind:
                parts.append(one.spec)
                bare.append(one.data)
            else:
                parts.append(fingerprint(function, one))
                bare.append(one)
    except Uncounted:  # the way through `apply` refuses it, or lets it leave
        return None
    charge = ledger.hot.get(tuple(parts))
    if charge is None or charge.others or charge.result is None:
        return None
    return recorded(kind, ledger, path, charge, charge.run(*bare))


def written(part: Any, value: Any) -> bool:
    """Whether a value was written into an array, a write that is priced already."""
    kind, ledger = type(part), part.spec.ledger
    try:
        second = value.spec if type(value) is kind else fingerprint(np.copyto, value)
    except Uncounted:
        return False
    path, category = place.get()
    charge = ledger.hot.get((np.copyto, category, part.spec, second))
    if charge is None:
        return False
    charge.run(part.data, value.data if type(value) is kind else value)
    log = ledger.log
    log += (ledger.running.get(get_ident()), path, charge)
    if len(log) > ledger.longest:
        ledger.settle()
    return True


_PLAIN = frozenset((int, bool, type(None)))


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(self, …)`, as nearly all methods of NumPy's arrays are called.

    A call with whole numbers and truth values that was priced is not spelled out again.
    """
    if isinstance(function, np.ufunc):
        return lambda self, *args, **options: function(self, *args, **options)
    name = function.__name__
    remembered = not by_data(function)

    def method(self: Any, *args: Any, **options: Any) -> Any:
        if type(self.data) is not np.ndarray:
            return self.__array_function__(function, (), (self, *args), options)
        for x in args:
            if type(x) not in _PLAIN:
                return self.__array_function__(function, (), (self, *args), options)
        for x in options.values():
            if type(x) not in _PLAIN:
                return self.__array_function__(function, (), (self, *args), options)
        path, category = place.get()
        spec = self.spec
        ledger = spec.ledger
        key = (
            (name, category, spec, args, *options.items())
            if options
            else (name, category, spec, args)
        )
        charge = ledger.hot.get(key)
        if charge is None:
            result = self.__array_function__(function, (), (self, *args), options)
            made = type(result) is type(self) and result.base is None
            if made and result.charge.run is function and spec.dtype.kind != "O" and remembered:
                ledger.charges[key] = result.charge
            return result
        data = getattr(self.data, name)(*args, **options)
        return recorded(type(self), ledger, path, charge, data)

    return method


def _in_place(function: np.ufunc) -> Callable[[Any, Any], Any]:
    """`function(self, other)` into `self`; a number is replaced, as one of NumPy's is."""

    def method(self: Any, other: Any) -> Any:
        if isinstance(self.data, np.generic):
            return function(self, other)
        path, category = place.get()
        kind, spec, bare = type(self), self.spec, other
        try:
            if type(other) is kind:
                second, bare = other.spec, other.data
            else:
                second = fingerprint(function, other)
        except Uncounted:
            return function(self, other, out=(self,))
        ledger = spec.ledger
        charge = ledger.hot.get((function, category, spec, second, spec))
        if charge is None:
            return function(self, other, out=(self,))
        charge.run(self.data, bare, out=self.data)
        log = ledger.log
        log += (ledger.running.get(get_ident()), path, charge)
        if len(log) > ledger.longest:
            ledger.settle()
        return self

    return method


_OF_POWERS = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}
_POWERS = {exponent: unary(function) for exponent, function in _OF_POWERS.items()}


def power(x: Any, exponent: Any, **out: Any) -> Any:
    """`x ** exponent`, of some numbers of Python's by a quicker function, as NumPy has it."""
    if type(exponent) in (int, float):
        quick = x.dtype.kind in "fc" or (type(exponent) is int and exponent == 2)
        if quick and exponent in _POWERS:
            return _POWERS[exponent](x) if not out else _OF_POWERS[exponent](x, **out)
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
    __neg__ = unary(np.negative)
    __abs__ = unary(np.absolute)
    __lt__ = operator(np.less)
    __le__ = operator(np.less_equal)
    __gt__ = operator(np.greater)
    __ge__ = operator(np.greater_equal)

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
