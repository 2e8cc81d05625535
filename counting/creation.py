"""Functions that make arrays, as programs call them that are run by `counted`.

What they write is written once, `np.empty` nothing; `np.arange` multiplies and adds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from counting.array import Counted, apply, entered, holds, together
from counting.charge import Charge
from counting.cost import Cost, Uncounted, executed
from counting.dtypes import admitted, arithmetic, require
from counting.form import describe
from counting.names import SUBSTITUTES, making, without_data
from counting.scope import place
from counting.shapes import ShapeArray

NOTHING = Cost()


def ledger_here() -> Any:
    """The ledger of arrays that are made here.

    Raises:
        Uncounted: there is none.
    """
    ledger = making.get()
    if ledger is None:
        raise Uncounted(
            "a function that `counted` ran goes on after it, or in a thread: what it makes is "
            "counted nowhere"
        )
    return ledger


def made(
    data: Any, name: str, each: Cost = NOTHING, written: bool = True, of: Sequence[Any] = ()
) -> Any:
    """Counts an array that a function called `name` has just made.

    Args:
        each: what it computes for each element.
        written: whether it writes them.
        of: arrays that it read.
    """
    ledger = ledger_here()
    if data.dtype.kind == "O":
        admitted(data)
    path, category = place.get()
    spec = describe(ledger, data, category)
    key = (name, spec, written, *(x.spec for x in of))
    charge = ledger.charges.get(key)
    if charge is None:
        amounts: dict[Any, Any] = {
            "calls": 1,
            **executed(each * data.size, arithmetic([data.dtype])),
        }
        if written:
            amounts["written", category] = spec.nbytes
        for x in of:
            read = "read", x.spec.category
            amounts[read] = amounts.get(read, 0) + x.spec.nbytes
        columns = tuple((ledger.columns[column], n) for column, n in amounts.items() if n != 0)
        charge = Charge(name, (("", name, columns),), columns, spec, _again)
        ledger.charges[key] = charge
    result = entered(ledger, path, charge, data)
    if ledger.observers and (observer := ledger.observer):
        observer(path, charge, (), result)
    return result


def _again(*bare: Any) -> Any:
    raise RuntimeError("an array is made anew each time")


def _making(function: Callable[..., Any], each: Cost = NOTHING, written: bool = True) -> Any:
    """What stands for a function of sizes."""

    def make(*args: Any, **options: Any) -> Any:
        options.pop("like", None)
        bare = _of_shapes.get(function, function) if without_data.get() else function
        data = bare(*map(number, args), **{name: number(x) for name, x in options.items()})
        return made(data, function.__name__, each, written)

    make.__name__ = function.__name__
    return make


def _room(function: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for `np.zeros` or `np.empty` where there are shapes alone."""

    def make(shape: Any, dtype: Any = float, order: str = "C", **idle: Any) -> Any:
        sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
        symbols = any(hasattr(n, "free_symbols") for n in sizes)
        if np.dtype(dtype).kind in "biu" and not symbols:  # masks and places, to be looked at
            return function(sizes, dtype, order)
        return ShapeArray(sizes[::-1], dtype).T if order == "F" else ShapeArray(sizes, dtype)

    return make


def _arange(
    start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, **idle: Any
) -> np.ndarray | ShapeArray:
    """As NumPy's, without data where a size is a symbol."""
    start, stop = (0, start) if stop is None else (start, stop)
    if not any(hasattr(x, "free_symbols") for x in (start, stop, step)):
        return np.arange(start, stop, step, dtype)  # type: ignore[call-overload]
    whole = all(getattr(x, "is_integer", type(x) is int) for x in (start, stop, step))
    return ShapeArray((-((start - stop) // step),), dtype or (int if whole else float))


# What makes arrays where there are shapes alone. Room for numbers is there to have some written
# into it, which are not known; other numbers are, so that masks and places made of them are.
_of_shapes: dict[Any, Any] = {
    np.zeros: _room(np.zeros),
    np.empty: _room(np.empty),
    np.arange: _arange,
}


def number(x: Any) -> Any:
    """A counted number, or each in a tuple, as Python's: a copy of it leaves the count."""
    if type(x) in (tuple, list):
        return type(x)(map(number, x))
    return x.tolist() if type(x) is Counted else x


def asarray(x: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, **more: Any) -> Any:
    """As NumPy's: an array that counts passes, a list is written into one."""
    if type(x) in (list, tuple) and any(map(holds, x)):
        x, copy = together(x), None
    elif not isinstance(x, np.ndarray | np.generic | type | Counted) and hasattr(x, "__array__"):
        x = x.__array__()
    if type(x) is Counted and isinstance(x.data, np.generic):
        x, copy = apply(np.copy, x), None
    if type(x) is not Counted:
        if hasattr(x, "__array_function__") and not isinstance(x, np.ndarray):
            return x
        data = np.array(x, dtype, order=order)
        return Counted(data, ledger_here()) if isinstance(x, np.ndarray) else made(data, "array")
    if dtype is not None and np.dtype(dtype) != x.dtype and np.dtype(dtype) != object:
        return x.astype(dtype, order=order or "K")
    if copy or (order in ("C", "F") and not _lies(x.data, order)):
        return x.copy(order or "K")
    return x


def _lies(data: Any, order: str) -> bool:
    """Whether the elements lie in memory in an order."""
    flags = getattr(data, "flags", None)
    return flags is None or bool(flags.c_contiguous if order == "C" else flags.f_contiguous)


def _contiguous(order: str) -> Any:
    def contiguous(a: Any, dtype: Any = None, **more: Any) -> Any:
        found = asarray(a, dtype, order)
        return found if found.ndim else found.reshape(1)

    return contiguous


def array(
    x: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", ndmin: int = 0, **more: Any
) -> Any:
    """As NumPy's: an array, a copy of one, or one of a list."""
    made = (_asanyarray if more.get("subok") else asarray)(
        x, dtype, None if order == "K" else order, copy=copy if type(x) is Counted else None
    )
    return made if made.ndim >= ndmin else made.reshape((1,) * (ndmin - made.ndim) + made.shape)


def _asanyarray(x: Any, *args: Any, **options: Any) -> Any:
    """As NumPy's; what is no plain array is refused, for its operators would be lost."""
    if isinstance(x, np.ndarray):
        require(x)
    return asarray(x, *args, **options)


_MAKE: dict[Any, Any] = {
    np.asarray: asarray,
    np.asanyarray: _asanyarray,
    np.ascontiguousarray: _contiguous("C"),
    np.asfortranarray: _contiguous("F"),
    np.array: array,
    np.zeros: _making(np.zeros),
    np.empty: _making(np.empty, written=False),
    np.arange: _making(np.arange, Cost(mul=1, add=1)),
    np.fromiter: _making(np.fromiter),
    np.frombuffer: _making(np.frombuffer, written=False),
    np.fromstring: _making(np.fromstring),
    np.fromfile: _making(np.fromfile),
}
SUBSTITUTES |= _MAKE
