"""Arrays in another shape: views where NumPy gives views, and the copies that it makes, counted."""

from collections.abc import Callable
from types import MethodDescriptorType
from typing import Any

import numpy as np

from counting.calls import dims
from counting.indexing import shares
from counting.shapes import SHAPES, ShapeArray


class Reshaping:
    """What a counted array is seen as."""

    __slots__ = ()
    data: Any

    mT: Any = property(lambda self: self.swapaxes(-1, -2))
    T: Any = property(lambda self: self._view(self.data.T))

    @property
    def real(self: Any) -> Any:
        return self._view(self.data.real)

    @real.setter
    def real(self: Any, value: Any) -> None:
        self.real[...] = value

    @property
    def imag(self: Any) -> Any:
        """A view; of real numbers zeros, which NumPy makes."""
        if self.dtype.kind == "c":
            return self._view(self.data.imag)
        return np.zeros_like(self)

    @imag.setter
    def imag(self: Any, value: Any) -> None:
        if self.dtype.kind != "c":
            raise TypeError("a real array has no imaginary part to be written")
        self.imag[...] = value

    def swapaxes(self: Any, axis1: int, axis2: int) -> Any:
        return self._view(self.data.swapaxes(axis1, axis2))

    def transpose(self: Any, *axes: Any) -> Any:
        return self._view(self.data.transpose(*axes))

    def reshape(self: Any, *shape: Any, order: str = "C") -> Any:
        """A view in another shape, or a copy where NumPy makes one, counted."""
        new, order = shape[0] if len(shape) == 1 else shape, order.upper()
        if type(new) is not int:
            new = dims(new)
        if order == "K" and type(self.data) is not ShapeArray:  # as the elements lie in memory
            axes = sorted(range(self.ndim), key=lambda i: -abs(self.data.strides[i]))
            return self.transpose(*axes).reshape(new)
        if order == "F" or (order != "C" and _in_columns(self.data)):
            return self.T.reshape(dims(new)[::-1]).T
        part = self.data.reshape(new)
        if type(part) is ShapeArray:
            copied = self.data.layout is not None and not self.data.reshapes_to_a_view(new)
        else:
            copied = hasattr(part, "base") and not shares(part, self.data)
        return self.copy().reshape(new) if copied else self._view(part)

    def _seen(self: Any, function: Callable[..., Any], **options: Any) -> Any:
        """What a function of the table gives of which the rule is `rules.views`."""
        if function is np.reshape:
            return self.reshape(options["shape"], order=options.get("order", "C"))
        if function is np.ravel:
            line = self.reshape(-1, order=options.get("order", "C"))
            return line if _in_a_row(line.data) else line.copy()
        if type(self.data) is ShapeArray:
            return self._view(SHAPES[function](self.data, **options))
        if isinstance(function, MethodDescriptorType):
            return self._view(getattr(self.data, function.__name__)(**options))
        return self._view(function(self.data, **options))


def _in_columns(data: Any) -> bool:
    if type(data) is ShapeArray:
        return data.layout is not None and data.T.layout is None
    return bool(data.flags.fnc)


def _in_a_row(data: Any) -> bool:
    if type(data) is ShapeArray:
        return data.layout is None
    return type(data) is not np.ndarray or bool(data.flags.c_contiguous)
