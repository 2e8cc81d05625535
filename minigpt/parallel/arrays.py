"""Arrays of which a device has a part, under the models' own code: multiplying sums or gathers."""

from typing import Any

import numpy as np

from minigpt.models.ops import Array
from minigpt.models.shard import Shard, Vocabulary
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.communicators import Communicator


def sharded(part: Array, shape: tuple[Any, ...], use: str | None, of: Communicator) -> Array:
    """A device's part of a tensor as its model is to hold it.

    Args:
        shape: that was asked for; of what is divided, a Shard.
        use: "rows", "columns" or None, see `description.Tensors`.
    """
    if of.size == 1:
        return part
    if use and isinstance(shape[0], Vocabulary):
        return Table(part, shape, of)
    inner = {"rows": 1, "columns": 0}.get(use or "")
    divided = inner is not None and isinstance(shape[inner], Shard)
    return RowSplit(part, of) if divided else part


class RowSplit:
    """Rows of a matrix that others have the rest of; x has the columns that go with them.

    `x @ w` is the sum of what all devices find.
    """

    __array_ufunc__ = None  # NumPy's arrays, and those that are counted, leave `x @ w` to it

    def __init__(self, part: Array, communicator: Communicator) -> None:
        self.part, self.communicator = part, communicator

    @property
    def T(self) -> "RowSplit":
        return RowSplit(self.part.T, self.communicator)

    def __rmatmul__(self, x: Array) -> Array:  # (..., its rows) -> (..., out)
        return all_reduce(x @ self.part, self.communicator)


class Table:
    """Rows of a table that others have the rest of: an embedding, a head.

    `table[rows]` is the sum of what all devices find, 0 where the row is another's; `x @ table.T`
    is what all find, side by side.
    """

    __array_ufunc__ = None

    def __init__(self, part: Array, shape: tuple[Any, ...], communicator: Communicator) -> None:
        self.part, self.shape, self.communicator = part, shape, communicator
        self.dtype = part.dtype

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """As of its part: to make an array that is like it, no more is asked."""
        return function(*(x.part if x is self else x for x in args), **options)

    def __getitem__(self, rows: Array) -> Array:  # (...) -> (..., C)
        start, stop = self.shape[0].pieces[0]
        here = (rows >= start) & (rows < stop)
        found = self.part[np.where(here, rows - start, 0)] * here[..., None]
        return all_reduce(found, self.communicator)

    @property
    def T(self) -> "ColumnSplit":
        return ColumnSplit(self.part.T, self.shape[0].total, self.communicator)


class ColumnSplit:
    """Columns of a matrix that others have the rest of; all of x is here, and of `x @ w` too."""

    __array_ufunc__ = None

    def __init__(self, part: Array, out: int, communicator: Communicator) -> None:
        self.part, self.communicator = part, communicator
        self.widths = [int(Shard.of(out, i, communicator.size)) for i in range(communicator.size)]

    def __rmatmul__(self, x: Array) -> Array:  # (..., in) -> (..., out)
        return all_gather(x @ self.part, self.widths, self.communicator)
