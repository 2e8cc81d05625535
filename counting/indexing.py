"""What an index means in NumPy: a view, or a value, which does not follow what is written later."""

from typing import Any

import numpy as np


def is_value(part: Any, index: Any) -> bool:
    """Whether NumPy gives a value, no view, where `index` gives `part`, of no dimensions."""
    if isinstance(part, np.ndarray):
        return False
    if isinstance(part, np.generic) or not hasattr(part, "shape"):
        return True
    return index is not Ellipsis and not (
        isinstance(index, tuple) and any(i is Ellipsis for i in index)
    )


def at(data: Any, index: Any) -> Any:
    """The part of an array that an index means; an array even where that is one element."""
    part = data[index]
    if isinstance(part, type(data)):
        return part
    return data[(*(index if isinstance(index, tuple) else (index,)), ...)]


def shares(part: np.ndarray, whole: np.ndarray) -> bool:
    """Whether one array is made of the memory of another."""
    base = part.base
    if base is not None and (base is whole or base is whole.base):  # so it nearly always is
        return True
    empty = part.size == 0 and not isinstance(part, np.ndarray)
    return empty or np.may_share_memory(part, whole)
