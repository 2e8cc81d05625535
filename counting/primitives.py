"""Functions of arrays that rows are of: what an index does, and what NumPy's code calls in C."""

from typing import Any

import numpy as np

from counting import inside


def getitem(x: Any, *index: Any) -> Any:
    """A copy of chosen elements."""
    return x[index]


def setitem(x: Any, value: Any, *index: Any) -> None:
    """Writes chosen elements."""
    x[index] = value


def choose(which: Any, *choices: Any, mode: Any = "raise") -> Any:
    """Of each place the element of the array that `which` names there."""
    return np.choose(which, [*choices], mode=mode)


def einsum(*operands: Any, subscripts: str) -> Any:
    """A sum of products, in one loop over all letters."""
    return np.einsum(subscripts, *operands)


def correlate(a: Any, v: Any, mode: int) -> Any:
    """Products of one line with another that moves along it, added up."""
    return inside.correlate(a, v, mode)


def interp(x: Any, at: Any, values: Any, **outside: Any) -> Any:
    """Straight lines between points."""
    return np.interp(x, at, values, **outside)


def count_nonzero(x: Any) -> Any:
    """How many elements are not 0."""
    return np.intp(np.count_nonzero(x))
