"""Which arrays can be counted, and what arithmetic their elements stand for."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from counting.cost import Uncounted
from counting.scalar import Scalar

# An operation executes the last of these that is among its operands and its result.
ARITHMETIC = ("logic", "int", "float", "complex")
_KINDS = {"b": "logic", "i": "int", "u": "int", "f": "float", "c": "complex", "O": "float"}


def arithmetic(dtypes: Iterable[np.dtype]) -> str:
    """What an operation on numbers of these dtypes executes: see `ARITHMETIC`.

    Raises:
        Uncounted: one of them has fields, and no arithmetic.
    """
    return max(map(_arithmetic, dtypes), key=ARITHMETIC.index)


def _arithmetic(dtype: np.dtype) -> str:
    if dtype.kind in _KINDS:
        return _KINDS[dtype.kind]
    if dtype.names is not None:
        raise Uncounted(f"an array of fields {dtype.names} has no arithmetic: take one, x['name']")
    return "int" if np.can_cast(dtype, np.int64) else "float"  # of ml_dtypes


def known(dtype: Any) -> bool:
    """Whether elements of a dtype are numbers or truth values, or have fields that are."""
    if not isinstance(dtype, np.dtype):
        return False
    if dtype.subdtype is not None:
        return known(dtype.subdtype[0])
    if dtype.names is not None:
        return all(known(dtype[name]) for name in dtype.names)
    return dtype.kind in _KINDS or (dtype.kind == "V" and dtype.type is not np.void)


def require(data: Any) -> None:
    """Lets an array pass whose elements can be counted.

    Raises:
        Uncounted: its operators mean something else, as those of `np.matrix` and masked arrays do,
            or there is no kind of operation for its elements: text, dates.
    """
    name = type(data).__name__
    if isinstance(data, np.ndarray):
        if type(data) not in (np.ndarray, np.memmap):
            raise Uncounted(
                f"operators of a {name} are not those of a plain array: count np.array(x), "
                "and the mask of a masked array apart"
            )
    elif not isinstance(data, np.generic) and not hasattr(data, "__array_function__"):
        raise Uncounted(f"a {name} does not answer NumPy's functions: count np.asarray(x)")
    if not known(data.dtype):
        raise Uncounted(
            f"elements of dtype {data.dtype} are no numbers that are counted: convert them, "
            "x.astype(float), or leave them out of the count"
        )


def admitted(data: Any) -> Any:
    """An array that comes into the count from outside, as a plain one.

    Raises:
        Uncounted: see `require`; or it holds objects that count nothing.
    """
    require(data)
    objects = np.asarray(data).flat if data.dtype.kind == "O" else ()
    if not all(type(x) is Scalar and type(x.value) is float for x in objects):
        raise Uncounted("objects count nothing, but for floats as counting.scalars makes them")
    if isinstance(data, np.generic):
        return np.asarray(data)
    return data.view(np.ndarray) if type(data) is np.memmap else data
