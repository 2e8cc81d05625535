"""The record of a run: rows by path and operation, their totals, and differences of two moments.

A ledger only records. Conventions are in `views.py`, tables in `table.py`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from counting.costs import KINDS, Cost, Shape
from counting.memory import Usage

CATEGORIES = ("weights", "kv_cache", "activations")

Key = tuple[str, str]  # path and operation, for example ("h.3.attn.qk", "matmul")


class Spec:
    """What pricing needs to know of an array; a ledger keeps one for all that are alike."""

    __slots__ = ("category", "dtype", "ledger", "nbytes", "shape", "usage", "views")

    def __init__(self, ledger: "Ledger", shape: Shape, dtype: np.dtype, category: str) -> None:
        self.ledger, self.shape, self.dtype, self.category = ledger, shape, dtype, category
        self.nbytes = math.prod(shape) * dtype.itemsize
        self.usage = ledger.memory[category]
        self.views: dict[Shape, Spec] = {}  # what its views look like, by shape


class Charge:
    """The price of a call.

    Attributes:
        operation: the name of its row.
        cost: operations by kind.
        amounts: what it adds to the columns of its row, as (column, amount).
        result: what comes out, or None for a write in place.
        transient: the most bytes that its own temporaries and result hold while it runs.
        run: what runs.
    """

    __slots__ = ("amounts", "cost", "operation", "result", "run", "transient")

    def __init__(
        self,
        operation: str,
        cost: Cost,
        amounts: tuple[tuple[int, Any], ...],
        result: Spec | None,
        run: Callable[..., Any],
        transient: Any = 0,
    ) -> None:
        self.operation, self.cost, self.amounts = operation, cost, amounts
        self.result, self.run, self.transient = result, run, transient


class Counts(Mapping[Key, tuple[Any, ...]]):
    """What was counted up to a moment, or between two: `after - before`.

    A mapping from (path, operation) to a row of numbers in the order of `columns`: calls,
    dot products (elements of matrix products), operations by kind, bytes read and written by
    category.
    """

    def __init__(
        self,
        columns: Mapping[Any, int],
        rows: Mapping[Key, tuple[Any, ...]],
        totals: list[Any] | None = None,
        earlier: "Counts | None" = None,
    ) -> None:
        self.columns = columns
        self._until, self._earlier = rows, earlier
        if totals is None:
            none = [0] * len(columns)
            totals = [sum(column) for column in zip(none, *rows.values(), strict=True)]
        self._totals = totals

    @cached_property
    def _rows(self) -> Mapping[Key, tuple[Any, ...]]:
        # Worked out when asked for: the record of a token needs totals alone.
        if self._earlier is None:
            return self._until
        before, none = self._earlier._rows, (0,) * len(self.columns)
        rows = {}
        for key, row in self._until.items():
            if (old := before.get(key, none)) != row:
                rows[key] = tuple(a - b for a, b in zip(row, old, strict=True))
        return rows

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        return self._rows[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __sub__(self, earlier: "Counts") -> "Counts":
        totals = [a - b for a, b in zip(self._totals, earlier._totals, strict=True)]
        difference = Counts(self.columns, self._rows, totals, earlier)
        if earlier._rows.keys() <= self._rows.keys():
            return difference
        return Counts(self.columns, difference._rows)  # `self` is a choice of rows

    def total(self, column: Any) -> Any:
        """The sum of a column: "calls", "dots", a kind, ("read", category), ("written", …)."""
        return self._totals[self.columns[column]]

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        return Cost({kind: self.total(kind) for kind in KINDS})

    @property
    def bytes_read(self) -> dict[str, Any]:
        """Bytes read by category."""
        return {c[1]: self.total(c) for c in self.columns if c[0] == "read"}

    @property
    def bytes_written(self) -> dict[str, Any]:
        """Bytes written by category."""
        return {c[1]: self.total(c) for c in self.columns if c[0] == "written"}

    def where(self, path: str = "*", operation: str = "*") -> "Counts":
        """The rows whose path and operation match two globs."""
        kept = (k for k in self if fnmatchcase(k[0], path) and fnmatchcase(k[1], operation))
        return Counts(self.columns, {key: self[key] for key in kept})

    def by(self, group: Callable[[str], str]) -> dict[str, "Counts"]:
        """The rows apart by `group(path)`, in the order of their first appearance."""
        groups: dict[str, dict[Key, Any]] = {}
        for key, row in self.items():
            groups.setdefault(group(key[0]), {})[key] = row
        return {name: Counts(self.columns, rows) for name, rows in groups.items()}


class Ledger:
    """Where counted arrays record what they do. Arrays carry their ledger; it is never global.

    A ledger belongs to one thread.

    Args:
        categories: what memory may be for, see `scope.category`.
    """

    def __init__(self, categories: Iterable[str] = CATEGORIES) -> None:
        self.memory = {name: Usage() for name in categories}
        names: list[Any] = ["calls", "dots", *KINDS]
        names += [(way, name) for way in ("read", "written") for name in self.memory]
        self.columns: dict[Any, int] = {name: i for i, name in enumerate(names)}
        self._rows: dict[Key, list[Any]] = {}
        self._totals: list[Any] = [0] * len(names)
        self._hits: dict[Charge, int] = {}  # since the last snapshot, not in the totals yet
        # What happened and is not entered yet: a path and a charge for each operation, a spec for
        # bytes given back. A run appends and goes on; entering many at once costs far less.
        self.log: list[Any] = []
        # Prices already found and arrays already described (see `array.py`): caches, no record.
        self.charges: dict[Any, Charge] = {}
        self.specs: dict[Any, Spec] = {}

    def settle(self) -> None:
        """Enters what happened since the last time into rows and memory, in order."""
        log, rows, hits = self.log, self._rows, self._hits
        path, n = "", len(log)
        for entry in log[:n]:
            if type(entry) is Spec:
                entry.usage.live -= entry.nbytes
            elif type(entry) is Charge:
                key = path, entry.operation
                row = rows.get(key)
                if row is None:
                    row = rows[key] = [0] * len(self.columns)
                for column, amount in entry.amounts:
                    row[column] += amount
                hits[entry] = hits.get(entry, 0) + 1
                if (made := entry.result) is not None:
                    if entry.transient:
                        made.usage.touch(entry.transient)
                    made.usage.grow(made.nbytes)
            else:
                path = entry
        del log[:n]

    @property
    def live_bytes(self) -> dict[str, Any]:
        """Bytes alive now, by category."""
        self.settle()
        return {name: usage.live for name, usage in self.memory.items()}

    @property
    def peak_bytes(self) -> dict[str, Any]:
        """The most bytes that were alive at once, category by category, since the start."""
        self.settle()
        return {name: usage.peak for name, usage in self.memory.items()}

    def snapshot(self) -> Counts:
        """What was counted so far; the difference of two snapshots is what ran between them."""
        self.settle()
        rows = {key: tuple(row) for key, row in self._rows.items()}
        for charge, times in self._hits.items():
            for column, amount in charge.amounts:
                self._totals[column] += times * amount
        self._hits.clear()
        return Counts(self.columns, rows, list(self._totals))
