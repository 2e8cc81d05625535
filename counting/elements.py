"""Elements of an array: what an index reads, a value or a view, and what it writes."""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from counting.charge import Spec
from counting.cost import Uncounted
from counting.flat import Flat
from counting.indexing import at, chosen, converted, is_value
from counting.leaving import leave, leaving
from counting.operators import recorded, written
from counting.primitives import getitem, setitem
from counting.scope import place
from counting.shape_rules import length_of


class Elements:
    """Those of a counted array, by an index, one after another, and all in a row."""

    __slots__ = ()
    data: Any
    spec: Spec

    flat: Flat = property(Flat, lambda self, value: Flat(self).__setitem__(..., value))  # type: ignore[assignment]

    def __len__(self) -> int:
        return length_of(self.spec.shape)

    def __iter__(self: Any) -> Iterator[Any]:
        if self.ndim > 1:
            return (self._view(row) for row in self.data)
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self: Any, index: Any) -> Any:
        """A view where NumPy gives a view; a copy, and priced as one, where it gives a value."""
        if type(index) is not int and type(index) is not slice:
            shape = getattr(index, "shape", ())
            if type(shape) is tuple and shape and index.dtype.kind in "iu":
                return self._apply(np.take, self, index, axis=0)
            if (parts := chosen(index)) is not None:
                return self._apply(getitem, self, *parts)
            if type(index) is type(self):  # a number: a copy of it leaves the count, as an index
                index = index.tolist()
        try:
            part = self.data[index]
            if getattr(part, "shape", ()) == () and is_value(part, index):
                return self._element(part, index)
            return self._view(part)
        except Uncounted:
            if leaving.get():
                return leave(operator.getitem, self, index)
            raise

    def _element(self: Any, part: Any, index: Any) -> Any:
        if self.spec.dtype.names is not None and part.dtype.names is not None:
            raise Uncounted("an element with fields is a window: take the field first, x['a']")
        whole = self._view(at(self.data, index)) if self.spec.shape else self
        path, category = place.get()
        ledger = self.spec.ledger
        charge = ledger.hot.get((np.copy, category, whole.spec))
        if charge is not None and isinstance(part, np.generic):
            return recorded(type(self), ledger, path, charge, part)
        made = self._apply(np.copy, whole)
        if isinstance(part, np.generic):  # `i = x[0]; i += 1` makes another number
            made.data = part
        return made

    def __setitem__(self: Any, index: Any, value: Any) -> None:
        try:
            if type(value) in (list, tuple):
                value = self._together(value)
            if (parts := chosen(index)) is not None:
                self._apply(setitem, self, value, *parts)
                return
            value, how = converted(value, self.data)
            part = self._view(at(self.data, index))
            if how or not written(part, value):
                self._apply(np.copyto, part, value, **how)
        except Uncounted:
            if not leaving.get():
                raise
            leave(operator.setitem, self, index, value)
