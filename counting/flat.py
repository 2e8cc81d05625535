"""`x.flat`: the elements of an array one after another, as NumPy's arrays give them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from counting.shape_rules import length_of


class Flat:
    """The elements of a counted array, to be read and written by one index.

    What is read is a copy, as it is of NumPy's; what is written is written into the array.
    """

    __slots__ = ("base", "index")

    def __init__(self, base: Any) -> None:
        self.base, self.index = base, 0

    def __len__(self) -> int:
        return length_of((self.base.size,))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.index >= len(self):
            raise StopIteration
        self.index += 1
        return self[self.index - 1]

    @property
    def coords(self) -> tuple[int, ...]:
        """Where in the array the next element is."""
        shape = self.base.shape
        places = shape if self.index >= len(self) else np.unravel_index(self.index, shape)
        return tuple(map(int, places))

    def copy(self) -> Any:
        return self.base.flatten()

    def __array__(self, *args: Any, **options: Any) -> Any:
        """A view, as NumPy's are; or a copy, into which nothing is written."""
        line = self._line()
        if line is None:
            line = self.copy()
            line.data.flags.writeable = False
        return line

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return function(*map(_copied, args), **{name: _copied(x) for name, x in options.items()})

    def __array_ufunc__(self, function: Any, method: str, *args: Any, **options: Any) -> Any:
        return getattr(function, method)(*map(_copied, args), **options)

    def __eq__(self, other: Any) -> Any:
        return self.copy() == _copied(other)

    def __ne__(self, other: Any) -> Any:
        return self.copy() != _copied(other)

    __hash__ = None  # type: ignore[assignment]

    def _line(self) -> Any:
        """The elements as a view, or None where there is none."""
        flags = getattr(self.base.data, "flags", None)
        return self.base.reshape(-1) if flags is None or flags.c_contiguous else None

    def __getitem__(self, index: Any) -> Any:
        index = _one(index)
        line = self._line()
        if line is None:
            return self.base[self._places(index)]
        found = line[index]
        return found.copy() if isinstance(index, slice) or index is Ellipsis else found

    def __setitem__(self, index: Any, value: Any) -> None:
        index = _one(index)
        line, given = self._line(), np.size(value)
        # How many there are of an array of symbols is not known, nor is it asked for one value.
        n = 1 if given == 1 else np.size(np.empty(len(self), bool)[_plain(index)])
        if given != n:  # over and over
            value = np.resize(value, n)
        elif np.ndim(value) > 1:
            value = np.ravel(value)
        if line is None:
            self.base[self._places(index)] = value
        else:
            line[index] = value

    def _places(self, index: Any) -> Any:
        return np.unravel_index(np.arange(len(self))[_plain(index)], self.base.shape)


def _copied(x: Any) -> Any:
    return x.copy() if type(x) is Flat else x


def _one(index: Any) -> Any:
    """The one index that is given.

    Raises:
        IndexError: it is none of an array in one dimension.
    """
    if type(index) is tuple and len(index) == 1:
        (index,) = index
    if type(index) is tuple and not index:
        return ...
    if index is None or type(index) in (tuple, float):
        raise IndexError(f"the elements one after another have no index {index!r}")
    return index


def _plain(index: Any) -> Any:
    return index.data if hasattr(index, "spec") else index
