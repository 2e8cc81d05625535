"""What a price depends on of the operands of a call: all that look alike share it."""

from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.lib.stride_tricks import as_strided

from counting.charge import Spec
from counting.composite import composite
from counting.cost import Shape, Uncounted, size
from counting.costs import COSTS
from counting.dtypes import admitted, require
from counting.layout import UNKNOWN as NOT_KNOWN
from counting.ledger import Ledger
from counting.memory import occupied
from counting.primitives import getitem, setitem
from counting.shapes import ShapeArray

IN_PLACE = (np.copyto, setitem, np.ndarray.sort, np.ndarray.partition)  # into their first operand


class Packed(Protocol):
    """An array of numbers that are kept otherwise, as integers with scales beside them.

    It answers some of NumPy's functions itself, and says by which code they are to be priced.
    """

    shape: Shape
    dtype: np.dtype
    nbytes: int

    @property
    def parts(self) -> tuple[Any, ...]:
        """The plain arrays that it consists of."""

    def reference(self, function: Any) -> Callable[..., Any] | None:
        """Code that does what `function` does of it, its `parts` in its place, and costs as much.

        None where the row of `function` in `COSTS` is right.
        """


def is_packed(x: Any) -> TypeGuard[Packed]:
    """Whether an array is one; looking for one name is quicker than `isinstance` of a Protocol."""
    return hasattr(x, "reference")


def form(data: Any) -> tuple[Any, ...]:
    """All that bytes and prices of an array may depend on: those of one form share them."""
    if isinstance(data, np.ndarray):
        return type(data), data.shape, data.dtype, occupied(data)
    if type(data) is ShapeArray:
        return ShapeArray, data.shape, data.dtype, _occupied(data), data.layout
    looks = type(data), data.shape, data.dtype, data.nbytes
    if not is_packed(data):
        return looks
    parts = tuple((type(part), part.shape, part.dtype) for part in data.parts)
    return *looks, parts, tuple(map(data.reference, COSTS))


_BY_DATA = frozenset((getitem, setitem, np.ndarray.nonzero, np.bincount))


def _occupied(data: ShapeArray) -> Any:
    """As `memory.occupied`; of symbols, what is repeated by strides of 0 lies there once."""
    layout = data.layout
    if layout is None or layout is NOT_KNOWN:
        return data.nbytes
    once = [(abs(step), n) for n, step in zip(data.shape, layout, strict=True) if step != 0]
    nbytes = size(tuple(n for _, n in once)) * data.dtype.itemsize
    if any(type(x) is not int for pair in once for x in pair):
        return nbytes
    reach, apart = 1, True  # elements from the first to the last
    for step, n in sorted(once):
        apart, reach = apart and step >= reach, reach + step * (n - 1)
    if apart or reach > SEARCHED:
        return nbytes
    steps = [step * data.dtype.itemsize for step in layout]
    return occupied(as_strided(np.empty(1, data.dtype), data.shape, steps))


SEARCHED = 2**26  # elements, of arrays whose elements share memory: of larger ones all are taken


UNKNOWN = object()  # stands for an operand without a fingerprint: the price is not remembered


def fingerprint(function: Callable[..., Any], x: Any) -> Any:
    """What a price depends on of an operand that is not counted.

    Raises:
        Uncounted: it is no number, and no array that can be counted.
    """
    kind = type(x)
    if kind is np.ndarray and x.dtype.kind != "O":
        return x.shape, x.dtype, x.strides
    if kind is float or kind is int or kind is bool or kind is complex:
        if type(function) is not composite:
            return kind
        return kind, x or str(x)  # 0.0 is not -0.0
    if hasattr(x, "shape"):
        admitted(x)
        return form(x)
    if type(function) is composite and not isinstance(x, list | tuple | dict | set):
        return (kind, x) if x is None or kind is str else UNKNOWN
    if hasattr(x, "free_symbols") or by_data(function):  # SymPy; a slice, an ellipsis
        return UNKNOWN
    raise Uncounted(f"{function.__name__} is counted of arrays and numbers, not of {x!r}")


def describe(ledger: Ledger, data: Any, category: str) -> Spec:
    """The spec of an array, which the ledger keeps for all of its form and category.

    Raises:
        ValueError: the ledger knows no such category.
        Uncounted: there is no kind of operation for its elements.
    """
    looks = form(data)
    key = (*looks, category)
    spec = ledger.specs.get(key)
    if spec is None:
        require(data)
        if category not in ledger.memory:
            known = ", ".join(ledger.memory)
            raise ValueError(f"unknown category {category!r}; this ledger knows {known}")
        spec = Spec(ledger, data.shape, data.dtype, category, looks[3])
        ledger.specs[key] = spec
        ledger.described.add(spec)
    return spec


def by_data(function: Any) -> bool:
    """Whether what a call moves depends on the data of its operands, not on their form alone."""
    return function in _BY_DATA or is_at(function) or hasattr(function, "by_data")


def is_at(function: Any) -> bool:
    """Whether a function is `at` of a ufunc, which changes chosen elements of an array."""
    return isinstance(getattr(function, "__self__", None), np.ufunc) and function.__name__ == "at"
