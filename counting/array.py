"""Arrays that count: a `Counted` holds any array and lets every operation pass `apply`.

Bytes follow one law: each operand's elements are read once (a broadcast operand at its own size),
the result is written once, a view moves nothing, a gather reads what it gathers.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.costs import COSTS, Cost, Shape, views
from counting.ledger import Counts, Ledger
from counting.scalar import ON_SCALARS
from counting.scope import place
from counting.shapes import ShapeArray

_new = object.__new__

CACHED = 50_000  # prices that a ledger keeps; shapes that grow with every token would pile up


class Uncounted(TypeError):
    """An operation that the table of costs does not know, or one that would leave the count."""


class Spec:
    """What pricing needs to know of an array; one object a ledger for all that are alike."""

    __slots__ = ("category", "dtype", "ledger", "nbytes", "shape", "usage")

    def __init__(self, ledger: Ledger, shape: Shape, dtype: np.dtype, category: str) -> None:
        self.ledger, self.shape, self.dtype, self.category = ledger, shape, dtype, category
        self.usage = ledger.memory[category]
        self.nbytes = dtype.itemsize
        for dim in shape:
            self.nbytes *= dim


class Charge(NamedTuple):
    """The price of a call: what runs, the row's name, its amounts by column, the result."""

    run: Callable[..., Any]
    operation: str
    amounts: tuple[tuple[int, Any], ...]
    cost: Cost
    result: Spec | None


def describe(ledger: Ledger, data: Any, category: str) -> Spec:
    key = (data.shape, data.dtype, category)
    spec = ledger.specs.get(key)
    if spec is None:
        if category not in ledger.memory:
            known = ", ".join(ledger.memory)
            raise ValueError(f"unknown category {category!r}; this ledger knows {known}")
        spec = ledger.specs[key] = Spec(ledger, data.shape, data.dtype, category)
    return spec


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
        base: the array whose bytes this one is a view of, or None if they are its own.
        path: where it was made.
        charge: the price of the operation that made it, or None.
    """

    __slots__ = ("__weakref__", "base", "charge", "data", "path", "spec")

    def __init__(self, data: Any, ledger: Ledger) -> None:
        self.base: Counted | None = self  # nothing to free if the next lines raise
        self.path, category = place.get()
        self.spec = describe(ledger, data, category)
        self.data = data
        self.charge: Charge | None = None
        self.base = None
        self.spec.usage.grow(self.spec.nbytes)

    def __del__(self) -> None:
        if self.base is None:
            try:  # noqa: SIM105 (twice as fast as suppress, and hot)
                self.spec.usage.live -= self.spec.nbytes
            except ImportError:  # symbolic bytes, and the interpreter has unloaded SymPy: the end
                pass

    ledger: Ledger = property(lambda self: self.spec.ledger)  # type: ignore[assignment]
    shape: Shape = property(lambda self: self.spec.shape)  # type: ignore[assignment]
    dtype: np.dtype = property(lambda self: self.spec.dtype)  # type: ignore[assignment]
    nbytes: Any = property(lambda self: self.spec.nbytes)
    ndim: int = property(lambda self: len(self.spec.shape))  # type: ignore[assignment]
    size: Any = property(lambda self: self.spec.nbytes // self.spec.dtype.itemsize)
    T: "Counted" = property(lambda self: view(np.transpose, self))  # type: ignore[assignment]

    def __repr__(self) -> str:
        made = f" by {self.charge.operation}: {dict(self.charge.cost)}" if self.charge else ""
        where = f" at {self.path}" if self.path else ""
        spec = self.spec
        return (
            f"Counted({spec.shape} {spec.dtype}, {spec.nbytes} B of {spec.category}{where}{made})"
        )

    def __bool__(self) -> bool:
        raise Uncounted("the truth of a counted array is not counted: use x.data")

    def __len__(self) -> int:
        return self.spec.shape[0]

    def __iter__(self) -> Iterator["Counted"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise Uncounted("np.asarray would take a counted array out of the count: write x.data")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            given = ", ".join(f"{name}=" for name in options)
            raise Uncounted(
                f"numpy.{ufunc.__name__} is not counted as {method} with {given or '-'}"
            )
        return apply(ufunc, *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if COSTS.get(function) is views:
            return view(function, *args, **options)
        return apply(function, *args, **options)

    # The operators are hot: straight to `apply`, not through NumPy's protocol and back.
    def __add__(self, other: Any) -> "Counted":
        return apply(np.add, self, other)

    def __radd__(self, other: Any) -> "Counted":
        return apply(np.add, other, self)

    def __sub__(self, other: Any) -> "Counted":
        return apply(np.subtract, self, other)

    def __rsub__(self, other: Any) -> "Counted":
        return apply(np.subtract, other, self)

    def __mul__(self, other: Any) -> "Counted":
        return apply(np.multiply, self, other)

    def __rmul__(self, other: Any) -> "Counted":
        return apply(np.multiply, other, self)

    def __truediv__(self, other: Any) -> "Counted":
        return apply(np.divide, self, other)

    def __rtruediv__(self, other: Any) -> "Counted":
        return apply(np.divide, other, self)

    def __matmul__(self, other: Any) -> "Counted":
        return apply(np.matmul, self, other)

    def __rmatmul__(self, other: Any) -> "Counted":
        return apply(np.matmul, other, self)

    def __getitem__(self, index: Any) -> "Counted":
        if hasattr(index, "shape"):
            return apply(np.take, self, index, axis=0)
        return view(operator.getitem, self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        apply(np.copyto, self[index], value)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> "Counted":
        return apply(np.sum, self, axis=axis, keepdims=keepdims)

    def max(self, axis: int | None = None, keepdims: bool = False) -> "Counted":
        return apply(np.max, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: int | None = None, keepdims: bool = False) -> "Counted":
        return apply(np.mean, self, axis=axis, keepdims=keepdims)

    def copy(self) -> "Counted":
        return apply(np.copy, self, order="C")

    def reshape(self, *shape: Any) -> "Counted":
        """A view in another shape; where NumPy would have to copy, it asks for `.copy()` first."""
        return view(np.reshape, self, shape[0] if isinstance(shape[0], tuple) else shape)

    def swapaxes(self, axis1: int, axis2: int) -> "Counted":
        return view(np.swapaxes, self, axis1, axis2)

    def transpose(self, *axes: int) -> "Counted":
        return view(np.transpose, self, axes or None)


def apply(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """The one chokepoint: runs `function`, prices it, records it, wraps what comes out.

    Raises:
        Uncounted: `function` has no row in `COSTS`.
        ValueError: operands belong to two ledgers.
    """
    path, category = place.get()
    if len(operands) == 2 and not options:  # the operators: unrolled, for they are most of a run
        a, b = operands
        bare: Any
        key: Any
        if type(a) is Counted:
            ledger, a, first = a.spec.ledger, a.data, a.spec
        else:
            first = _fingerprint(function, a)
        if type(b) is Counted:
            ledger, b, second = b.spec.ledger, b.data, b.spec
        else:
            second = _fingerprint(function, b)
        bare, key = (a, b), (function, category, first, second)
    else:
        counted = [x for x in operands if type(x) is Counted]
        ledger = counted[0].spec.ledger
        bare = [x.data if type(x) is Counted else x for x in operands]
        keys = [x.spec if type(x) is Counted else _fingerprint(function, x) for x in operands]
        key = (function, category, *keys, *options.items())
    charge = ledger.charges.get(key)
    if charge is None:
        charge, data = _price(ledger, category, function, operands, bare, options)
        ledger.charges[key] = charge
    else:
        data = charge.run(*bare, **options)

    row = ledger.rows.get((path, charge.operation)) or ledger.row((path, charge.operation))
    for column, amount in charge.amounts:
        row[column] += amount
    spec = charge.result
    if spec is None:
        return None
    spec.usage.grow(spec.nbytes)
    result = _new(Counted)
    result.data, result.spec, result.base, result.path, result.charge = (
        data,
        spec,
        None,
        path,
        charge,
    )
    return result


def view(function: Callable[..., Any], x: Counted, *args: Any, **options: Any) -> Any:
    """The bytes of `x` in another shape, or a list of them: moves nothing, records nothing.

    Raises:
        Uncounted: NumPy could only do it by a copy.
    """
    data = function(x.data, *args, **options)
    if isinstance(data, list):
        return [_share(x, part) for part in data]
    if isinstance(data, np.ndarray) and not np.may_share_memory(data, x.data):
        raise Uncounted(f"{function.__name__} of {x} would copy in silence: write .copy() first")
    return _share(x, data)


def _share(x: Counted, data: Any) -> Counted:
    part = Counted.__new__(Counted)
    part.base = x if x.base is None else x.base
    part.data, part.path, part.charge = data, x.path, x.charge
    part.spec = describe(x.spec.ledger, data, x.spec.category)
    return part


def _fingerprint(function: Callable[..., Any], x: Any) -> Any:
    if hasattr(x, "shape"):
        return (x.shape, x.dtype)
    return type(x) if isinstance(function, np.ufunc) else x


def _price(
    ledger: Ledger, category: str, function: Any, operands: Any, bare: Any, options: Any
) -> tuple[Charge, Any]:
    rule = COSTS.get(function)
    if rule is None or rule is views:
        name = f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}"
        raise Uncounted(f"{name} has no row in counting/costs.py: add one, or use x.data")
    specs = []
    for x in operands:
        if type(x) is Counted:
            specs.append(x.spec)
            if x.spec.ledger is not ledger:
                raise ValueError("arrays of two ledgers meet: make both with one")
        elif hasattr(x, "shape"):
            specs.append(describe(ledger, x, "activations"))
    on_scalars = any(spec.dtype == object for spec in specs)
    run = ON_SCALARS.get(function, function) if on_scalars else function
    data = run(*bare, **options)

    reads = [(spec.category, spec.nbytes) for spec in specs]
    if function is np.copyto:
        result, spec = None, specs[0]
        del reads[0]
    else:
        result = spec = describe(ledger, data, category)
    if function is np.take:
        reads[0] = (specs[0].category, spec.nbytes)
    elif function in (np.ones_like, np.empty_like):
        reads.clear()
    writes = [] if function is np.empty_like else [(spec.category, spec.nbytes)]

    elements = spec.nbytes // spec.dtype.itemsize
    cost = rule(spec.shape, *[s.shape for s in specs])
    amounts: dict[Any, Any] = {"calls": 1, "elements": elements, **cost}
    for way, moved in (("read", reads), ("written", writes)):
        for name, nbytes in moved:
            amounts[way, name] = amounts.get((way, name), 0) + nbytes
    if len(ledger.charges) > CACHED:
        ledger.charges.clear()
        ledger.specs.clear()
    by_column = tuple((ledger.columns[name], n) for name, n in amounts.items() if n != 0)
    return Charge(run, function.__name__, by_column, cost, result), data


def trace(function: Callable[..., Any], *shapes: Shape, dtype: Any = np.float32) -> Counts:
    """What `function` would cost on arrays of `shapes`, found by running it without data.

    >>> trace(np.matmul, (2, 3), (3, 4)).cost
    Cost(fma=24)
    """
    ledger = Ledger()
    function(*(Counted(ShapeArray(shape, dtype), ledger) for shape in shapes))
    return ledger.snapshot()
