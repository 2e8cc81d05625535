"""The record of a run: rows by path and operation, their totals, and differences of two moments.

A ledger only records. Conventions are in `views.py`, tables in `table.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from counting.costs import KINDS, Cost
from counting.memory import Usage

CATEGORIES = ("weights", "kv_cache", "activations")

Key = tuple[str, str]  # path and operation, for example ("h.3.attn.qk", "matmul")


class Counts(Mapping[Key, tuple[Any, ...]]):
    """What was counted up to a moment, or between two: `after - before`.

    A mapping from (path, operation) to a row of numbers in the order of `columns`: calls,
    elements of the results, operations by kind, bytes read and written by category.
    """

    def __init__(self, columns: Mapping[Any, int], rows: Mapping[Key, Iterable[Any]]) -> None:
        self.columns = columns
        self._rows = {key: tuple(row) for key, row in rows.items()}
        self._total = [sum(column) for column in zip(*self._rows.values(), strict=True)]

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        return self._rows[key]

    def __iter__(self) -> Any:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __sub__(self, earlier: "Counts") -> "Counts":
        rows = {}
        for key, row in self._rows.items():
            before = earlier._rows.get(key)
            if before is None:
                rows[key] = row
            elif row[0] != before[0]:
                rows[key] = tuple(a - b for a, b in zip(row, before, strict=True))
        return Counts(self.columns, rows)

    def total(self, column: Any) -> Any:
        """The sum of a column: "calls", "elements", a kind, ("read", category), …"""
        return self._total[self.columns[column]] if self._rows else 0

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

    Args:
        categories: what memory may be for, see `scope.category`.
    """

    def __init__(self, categories: Iterable[str] = CATEGORIES) -> None:
        self.memory = {name: Usage() for name in categories}
        names: list[Any] = ["calls", "elements", *KINDS]
        names += [(way, name) for way in ("read", "written") for name in self.memory]
        self.columns: dict[Any, int] = {name: i for i, name in enumerate(names)}
        self.rows: dict[Key, list[Any]] = {}
        # Prices already found and arrays already described (see `array.py`): a cache, no record.
        self.charges: dict[Any, Any] = {}
        self.specs: dict[Any, Any] = {}

    def row(self, key: Key) -> list[Any]:
        """A new row of zeros at `key`."""
        row = self.rows[key] = [0] * len(self.columns)
        return row

    @property
    def live_bytes(self) -> dict[str, Any]:
        """Bytes alive now, by category."""
        return {name: usage.live for name, usage in self.memory.items()}

    @property
    def peak_bytes(self) -> dict[str, Any]:
        """The most bytes that were alive at once, category by category, since the start."""
        return {name: usage.peak for name, usage in self.memory.items()}

    def snapshot(self) -> Counts:
        """What was counted so far; the difference of two snapshots is what ran between them."""
        return Counts(self.columns, self.rows)
