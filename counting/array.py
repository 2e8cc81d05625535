"""Arrays that count: a `Counted` holds any array and lets every operation pass `apply`."""

import operator as operators
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting import show
from counting.composite import composite
from counting.costs import COSTS, Shape, views
from counting.ledger import UNSETTLED, Charge, Counts, Ledger
from counting.pricing import OPTIONS, Uncounted, describe, no_row, price
from counting.scope import leaving, place
from counting.shapes import ShapeArray

_new = object.__new__


def operator(function: np.ufunc) -> Callable[[Any, Any], Any]:
    """`apply(function, self, other)`, unrolled: the operators are most of a run."""

    def method(self: "Counted", other: Any) -> "Counted":
        path, category = place.get()
        spec = self.spec
        ledger = spec.ledger
        if type(other) is Counted:
            charge = ledger.hot.get((function, category, spec, other.spec))
            bare = other.data
        else:
            charge = ledger.hot.get((function, category, spec, _fingerprint(function, other)))
            bare = other
        if charge is None:
            return apply(function, self, other)
        data = charge.run(self.data, bare)
        ledger.paths.append(path)
        ledger.log.append(charge)
        result = _new(Counted)
        result.data, result.spec, result.base = data, charge.result, None  # type: ignore[assignment]
        result.path, result.charge = path, charge
        return result

    return method


class Counted(NDArrayOperatorsMixin):
    """An array whose every operation is priced by `COSTS` and recorded in its ledger.

    Args:
        data: a NumPy array, a `ShapeArray`, or an object array of `Scalar`s; any array that
            answers NumPy's functions.
        ledger: where operations and bytes are recorded; results carry it on.

    Its bytes count as live, in the category it was made in, until the last view of it is gone.

    Attributes:
        data: the array itself, out of the count.
        spec: shape, dtype, bytes and category.
        path: where it was made.
        charge: the price of the operation that made it, or None.
        base: the array whose bytes this one is a view of, or None if they are its own.
    """

    __slots__ = ("__weakref__", "base", "charge", "data", "path", "spec")

    def __init__(self, data: Any, ledger: Ledger) -> None:
        self.base: Counted | None = self  # nothing to give back if the next lines raise
        if isinstance(data, Counted) or not hasattr(data, "shape"):
            raise TypeError(f"an array is needed, not a {type(data).__name__}")
        self.path, category = place.get()
        self.spec = describe(ledger, data, category)
        self.data = data
        self.charge: Charge | None = None
        self.base = None
        ledger.paths.append(self.path)
        ledger.log.append(Charge("", (), (), {}, self.spec, describe))  # born at no cost

    def __del__(self) -> None:
        if self.base is None:
            self.spec.ledger.log.append(self.spec)

    ledger: Ledger = property(lambda self: self.spec.ledger)  # type: ignore[assignment]
    shape: Shape = property(lambda self: self.spec.shape)  # type: ignore[assignment]
    dtype: np.dtype = property(lambda self: self.spec.dtype)  # type: ignore[assignment]
    nbytes: Any = property(lambda self: self.spec.nbytes)
    ndim: int = property(lambda self: len(self.spec.shape))  # type: ignore[assignment]
    size: Any = property(lambda self: prod(self.spec.shape))
    T: "Counted" = property(lambda self: view(self, self.data.T))  # type: ignore[assignment]

    def __repr__(self) -> str:
        return show.text(self)

    def _repr_html_(self) -> str:
        return show.html(self)

    def __getattr__(self, name: str) -> Any:
        if name in Counted.__slots__:  # not set yet
            raise AttributeError(name)
        if leaving.get():
            return leave(getattr, self, name)
        raise AttributeError(f"a counted array has no {name!r}: use x.data.{name}")

    def __bool__(self) -> bool:
        return bool(self._as_number(bool))

    def __float__(self) -> float:
        return float(self._as_number(float))

    def __int__(self) -> int:
        return int(self._as_number(int))

    def __index__(self) -> int:
        return int(self._as_number(operators.index))

    def __complex__(self) -> complex:
        return complex(self._as_number(complex))

    def __contains__(self, value: Any) -> bool:
        return bool(self._as_number(operators.contains, value))

    def __format__(self, form: str) -> str:
        return str(self._as_number(format, form)) if form else str(self)

    def _as_number(self, function: Callable[..., Any], *options: Any) -> Any:
        if leaving.get():
            return leave(function, self, *options)
        if function is bool:
            raise Uncounted("the truth of a counted array is not counted: use x.data")
        raise Uncounted(
            "a number of a counted array would leave the count: use x.tolist() or x.data"
        )

    def __len__(self) -> int:
        return self.spec.shape[0]

    def __iter__(self) -> Iterator["Counted"]:
        return (
            (view(self, row) for row in self.data)
            if self.ndim > 1
            else map(self.__getitem__, range(len(self)))
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        if leaving.get():
            return leave(np.asarray, self, *args, **kwargs)
        raise Uncounted("np.asarray would take a counted array out of the count: write x.data")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            if leaving.get():
                return leave(getattr(ufunc, method), *inputs, **options)
            given = ", ".join(f"{name}=" for name in options)
            raise Uncounted(
                f"numpy.{ufunc.__name__} is not counted as {method} with {given or '-'}"
            )
        return apply(ufunc, *inputs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if leaving.get():
            return leave(self.data.__reduce_ex__, protocol)
        raise Uncounted("a copy by Python would not be counted: write x.copy()")

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        try:
            if function not in COSTS:
                raise no_row(function)
            if COSTS.get(function) is views:
                return getattr(args[0], function.__name__)(*args[1:], **options)
            return apply(function, *args, **options)
        except Exception:
            if leaving.get():
                return leave(function, *args, **options)
            raise

    def __composite__(self, function: composite, *operands: Any) -> Any:
        if self.spec.ledger.observer:
            return function.function(*operands)
        return apply(function, *operands)

    # The operators are hot: straight to `apply` or its twin, not through NumPy's protocol and back.
    __add__ = operator(np.add)
    __sub__ = operator(np.subtract)
    __mul__ = operator(np.multiply)
    __truediv__ = operator(np.divide)
    __matmul__ = operator(np.matmul)

    def __radd__(self, other: Any) -> "Counted":
        return apply(np.add, other, self)

    def __rsub__(self, other: Any) -> "Counted":
        return apply(np.subtract, other, self)

    def __rmul__(self, other: Any) -> "Counted":
        return apply(np.multiply, other, self)

    def __rtruediv__(self, other: Any) -> "Counted":
        return apply(np.divide, other, self)

    def __rmatmul__(self, other: Any) -> "Counted":
        return apply(np.matmul, other, self)

    def __getitem__(self, index: Any) -> "Counted":
        if getattr(index, "shape", ()) != ():
            if index.dtype.kind not in "iu":
                if leaving.get():
                    return leave(operators.getitem, self, index)
                raise Uncounted("rows are gathered by whole numbers; a mask has no row of its own")
            return apply(np.take, self, index, axis=0)
        try:
            return view(self, _at(self.data, index))
        except Uncounted:
            if leaving.get():
                return leave(operators.getitem, self, index)
            raise

    def __setitem__(self, index: Any, value: Any) -> None:
        try:
            apply(np.copyto, view(self, _at(self.data, index)), value)
        except Uncounted:
            if not leaving.get():
                raise
            leave(operators.setitem, self, index, value)

    def sum(self, axis: Any = None, keepdims: bool = False, **options: Any) -> "Counted":
        return apply(np.sum, self, axis=axis, keepdims=keepdims, **options)

    def max(self, axis: Any = None, keepdims: bool = False, **options: Any) -> "Counted":
        return apply(np.max, self, axis=axis, keepdims=keepdims, **options)

    def mean(self, axis: Any = None, keepdims: bool = False, **options: Any) -> "Counted":
        return apply(np.mean, self, axis=axis, keepdims=keepdims, **options)

    def copy(self) -> "Counted":
        return apply(np.copy, self, order="C")

    def tolist(self) -> Any:
        """The values as Python numbers, for control flow: a copy of them leaves the count."""
        return self.copy().data.tolist()

    def reshape(self, *shape: Any) -> "Counted":
        """A view in another shape; where NumPy would have to copy, it asks for `.copy()` first."""
        try:
            return view(self, self.data.reshape(*shape))
        except Uncounted:
            if leaving.get():
                return leave(np.reshape, self, shape)
            raise

    def swapaxes(self, axis1: int, axis2: int) -> "Counted":
        return view(self, self.data.swapaxes(axis1, axis2))

    def transpose(self, *axes: int) -> "Counted":
        return view(self, self.data.transpose(*axes))


def apply(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """The one chokepoint: runs `function`, prices it, records it, wraps what comes out.

    Raises:
        Uncounted: `function` has no row in `COSTS`.
        ValueError: operands belong to two ledgers.
    """
    path, category = place.get()
    ledger: Any = None
    bare: list[Any] = []
    parts: list[Any] = [function, category]
    for x in operands:
        if type(x) is Counted:
            ledger = x.spec.ledger
            bare.append(x.data)
            parts.append(x.spec)
        else:
            bare.append(x)
            parts.append(_fingerprint(function, x))
    if ledger is None:
        if leaving.get():
            return leave(function, *operands, **options)
        raise Uncounted(f"{function.__name__} is counted of arrays given by position")
    if options:
        if not options.keys() <= OPTIONS:
            if leaving.get():
                return leave(function, *operands, **options)
            raise Uncounted(
                f"{function.__name__} is counted with {OPTIONS}, not with {set(options)}"
            )
        parts.extend(options.items())
    key = tuple(parts)
    charge = ledger.charges.get(key)
    if charge is None:
        for x in operands:
            if type(x) is Counted and x.spec.ledger is not ledger:
                raise ValueError("arrays of two ledgers meet: make both with one")
        specs = [getattr(x, "spec", None) for x in operands]
        try:
            charge, data = price(ledger, category, function, specs, bare, options, Counted)
        except Exception:
            if leaving.get():
                return leave(function, *operands, **options)
            raise
        ledger.charges[key] = charge
    else:
        data = charge.run(*bare, **options)

    result = entered(ledger, path, charge, data)
    if ledger.observer:
        ledger.observer(path, charge, operands, result)
    return result


def leave(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """What `function` gives of the bare arrays, where they may leave the count: see `uncounted`."""
    result = function(*_bare(operands), **_bare(options))
    out = options.get("out")
    if out is None:
        return result
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out  # counted still: `x += 1`


def _bare(x: Any) -> Any:
    """`x`, each counted array in it as it is out of the count."""
    if isinstance(x, Counted):
        return x.data
    if type(x) in (tuple, list):
        return type(x)(map(_bare, x))
    if isinstance(x, slice):
        return slice(_bare(x.start), _bare(x.stop), _bare(x.step))
    return {name: _bare(part) for name, part in x.items()} if type(x) is dict else x


def entered(ledger: Ledger, path: str, charge: Charge, data: Any) -> Counted | None:
    """Records a call that gave `data`, which comes back counted; None if it wrote in place."""
    if len(ledger.log) > UNSETTLED:
        ledger.settle()
    ledger.paths.append(path)
    ledger.log.append(charge)
    if charge.result is None:
        return None
    result = _new(Counted)
    result.data, result.spec, result.base = data, charge.result, None
    result.path, result.charge = path, charge
    return result


Observer = Callable[[str, Charge, tuple[Any, ...], Counted | None], None]


@contextmanager
def observing(ledger: Ledger, observer: Observer) -> Iterator[None]:
    """A `with` block in which `observer(path, charge, operands, result)` hears of each operation.

    It hears once the operation has run and is recorded. Composites run open, operation by
    operation, and the ledger's totals are the same as they would be closed.
    """
    before = ledger.observer, ledger.hot
    ledger.observer, ledger.hot = observer, {}
    try:
        yield
    finally:
        ledger.observer, ledger.hot = before


def view(x: Counted, data: Any) -> Counted:
    """`data`, made of the bytes of `x`, as a counted array: moves nothing, records nothing.

    Raises:
        Uncounted: it is a copy.
    """
    if hasattr(data, "base") and not _shares(data, x.data):  # NumPy, CuPy
        raise Uncounted(f"a view of {x} would copy in silence: write .copy() first, or np.take")
    spec = x.spec.views.get(data.shape)
    if spec is None:
        spec = x.spec.views[data.shape] = describe(x.spec.ledger, data, x.spec.category)
    part = _new(Counted)
    part.base = x if x.base is None else x.base
    part.data, part.spec, part.path, part.charge = data, spec, x.path, x.charge
    return part


def _at(data: Any, index: Any) -> Any:
    part = data[index]
    if isinstance(part, type(data)):
        return part
    return data[(*(index if isinstance(index, tuple) else (index,)), ...)]  # an array, no number


def _shares(part: np.ndarray, whole: np.ndarray) -> bool:
    base = part.base
    if base is not None and (base is whole or base is whole.base):  # so it nearly always is
        return True
    return np.may_share_memory(part, whole) or part.size == 0


def _fingerprint(function: Callable[..., Any], x: Any) -> Any:
    """What a price depends on of an operand that is not counted."""
    if hasattr(x, "shape"):
        return type(x), x.shape, x.dtype
    return type(x) if isinstance(function, np.ufunc) else (type(x), x)


def trace(function: Callable[..., Any], *shapes: Shape, dtype: Any = np.float32) -> Counts:
    """What `function` would cost on arrays of `shapes`, found by running it without data.

    >>> trace(np.matmul, (2, 3), (3, 4)).cost
    Cost(fma=24)
    """
    ledger = Ledger()
    function(*(Counted(ShapeArray(shape, dtype), ledger) for shape in shapes))
    return ledger.snapshot()
