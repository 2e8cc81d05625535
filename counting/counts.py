"""Rows by path and operation, their totals, and differences of two moments."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from fnmatch import fnmatchcase
from functools import partial
from operator import add
from typing import Any, ClassVar, NamedTuple

from counting.charge import Along, Charge
from counting.checks import function, label, must_be, shown
from counting.cost import KINDS, OUTSIDE, Cost
from counting.memory import Event

UNSETTLED = 100_000  # events and rows that wait to become rows

Key = tuple[str, str]  # path and operation, for example ("h.3.attn.qk", "matmul")


class Reported:
    """What can be had as a table: all that a ledger holds, or a part of it."""

    shown: ClassVar[Callable[[Any], Any]]  # `report.py` says by what

    def report(self) -> Any:
        """What was counted by path and operation, a `Report`: `print` shows it as a table."""
        return Reported.shown(self)

    def _repr_html_(self) -> Any:
        return self.report()._repr_html_()

    def to_csv(self, file: Any) -> None:
        """As `Report.to_csv`: writes rows with named columns to a path or into an open file."""
        self.report().to_csv(file)

    def to_pandas(self) -> Any:
        """As `Report.to_pandas`: rows with named columns, in a DataFrame."""
        return self.report().to_pandas()


class Counts(Mapping[Key, tuple[Any, ...]], Reported):
    """What was counted up to a moment, or between two: `after - before`.

    A mapping from (path, operation) to a row of numbers in the order of `columns`: calls,
    dot products (elements of matrix products), operations by kind, bytes read and written by
    category.
    """

    __array_ufunc__ = None  # what NumPy would make of it element by element are no counts

    def __init__(
        self,
        columns: Mapping[Any, int],
        rows: Mapping[Key, tuple[Any, ...]] | Callable[[], Mapping[Key, tuple[Any, ...]]],
        totals: list[Any] | None = None,
        moment: "Moment | None" = None,
    ) -> None:
        fits = hasattr(columns, "keys") and "calls" in columns
        must_be("the columns of a ledger", fits, "columns", columns)
        fits = callable(rows) or hasattr(rows, "keys")
        must_be("a mapping, or a function that gives one", fits, "rows", rows)
        self.columns = columns
        self._found, self._moment = rows, moment
        if totals is None:
            none = [0] * len(columns)
            try:
                totals = [sum(column) for column in zip(none, *self._rows.values(), strict=True)]
            except (TypeError, ValueError) as error:
                what = f"tuples of {len(columns)} numbers by path and operation"
                raise TypeError(f"rows is {shown(rows)}; it must be {what}") from error
        self._totals = totals

    @property
    def _rows(self) -> Mapping[Key, tuple[Any, ...]]:
        # Worked out when asked for: the record of a token needs totals alone. No cached_property,
        # whose lock, until Python 3.12, may be held for ever in the child of a process.
        found = self._found  # another thread may ask too
        if callable(found):
            found = self._found = found()
        return found

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        return self._rows[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __sub__(self, earlier: "Counts") -> "Counts":
        if not isinstance(earlier, Counts):
            return NotImplemented
        if self._moment is None or earlier._moment is None:  # `self` is a choice of rows
            return Counts(self.columns, _difference(self._rows, earlier._rows))
        totals = [a - b for a, b in zip(self._totals, earlier._totals, strict=True)]
        if self._moment.log is earlier._moment.log:
            start, stop = earlier._moment.stop, self._moment.stop
            found = partial(fold, self.columns, self._moment.log, start, stop)
            return Counts(self.columns, found, totals)
        return Counts(self.columns, lambda: _difference(self._rows, earlier._rows), totals)

    def total(self, column: Any) -> Any:
        """The sum of a column: "calls", "dots", a kind, ("read", category), ("written", …).

        Raises:
            ValueError: there is no such column.
        """
        try:
            return self._totals[self.columns[column]]
        except (KeyError, TypeError):  # a list is no key
            known = ", ".join(map(str, self.columns))
            raise ValueError(f"column is {shown(column)}; it must be one of {known}") from None

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        return Cost.of({kind: self.total(kind) for kind in (*KINDS, *OUTSIDE)})

    @property
    def bytes_read(self) -> dict[str, Any]:
        """Bytes read by category."""
        return {c[1]: self.total(c) for c in self.columns if c[0] == "read"}

    @property
    def bytes_written(self) -> dict[str, Any]:
        """Bytes written by category."""
        return {c[1]: self.total(c) for c in self.columns if c[0] == "written"}

    def __repr__(self) -> str:
        read, written = sum(self.bytes_read.values()), sum(self.bytes_written.values())
        return f"Counts({told(self)}; {grouped(read)} B read, {grouped(written)} B written)"

    def where(self, path: str = "*", operation: str = "*") -> "Counts":
        """The rows whose path and operation match two globs."""
        label("path", path)
        label("operation", operation)
        kept = (k for k in self if fnmatchcase(k[0], path) and fnmatchcase(k[1], operation))
        return Counts(self.columns, {key: self[key] for key in kept})

    def by(self, group: Callable[[str], str]) -> dict[str, "Counts"]:
        """The rows in groups, by `group(path)`, in the order of their first appearance."""
        function("group", group)
        groups: dict[str, dict[Key, Any]] = {}
        for key, row in self.items():
            groups.setdefault(group(key[0]), {})[key] = row
        return {name: Counts(self.columns, rows) for name, rows in groups.items()}


def grouped(n: Any) -> str:
    """A number with its thousands apart; symbols have none."""
    return f"{n:,}" if isinstance(n, int) else str(n)


def told(counts: Counts) -> str:
    """What a `repr` leads with: FLOP, a multiply-add as two, then calls, then kinds."""
    cost = counts.cost
    said = f"{grouped(cost.flops)} FLOP in {grouped(counts.total('calls'))} calls"
    return said + (f": {', '.join(f'{k}={grouped(n)}' for k, n in cost.items())}" if cost else "")


class Moment(NamedTuple):
    """How far a snapshot reaches into the log of its ledger."""

    log: list["Segment"]
    stop: int
    base: Mapping[Key, tuple[Any, ...]]  # rows of what came before the log


class Segment(NamedTuple):
    """A part of a log: events, and the path of each."""

    paths: Sequence[str]
    events: Sequence[Event]


def _difference(
    rows: Mapping[Key, tuple[Any, ...]], earlier: Mapping[Key, tuple[Any, ...]]
) -> Mapping[Key, tuple[Any, ...]]:
    """What `rows` have more than those of their keys in `earlier`."""
    changed = ((key, row, earlier.get(key)) for key, row in rows.items())
    return {
        key: row if old is None else tuple(a - b for a, b in zip(row, old, strict=True))
        for key, row, old in changed
        if row != old
    }


def fold(
    columns: Mapping[Any, int],
    log: list[Segment],
    start: int,
    stop: int,
    base: Mapping[Key, tuple[Any, ...]] | None = None,
) -> Mapping[Key, tuple[Any, ...]]:
    """The rows of `base`, and what the segments from `start` to `stop` of a log add to them."""
    calls: Counter[tuple[str, Charge]] = Counter()
    for paths, events in log[start:stop]:
        pairs = zip(paths, events, strict=True)
        calls.update((path, event) for path, event in pairs if type(event) is Charge)
    rows: dict[Key, Any] = {key: list(row) for key, row in (base or {}).items()}
    added: list[tuple[str, Any, int]] = []
    grown: dict[tuple[str, Any], list[int]] = {}
    for (path, charge), times in calls.items():
        if type(charge.rows) is Along:
            sums = grown.setdefault((path, charge.rows.price), [0, 0])
            sums[0] += times
            sums[1] += times * charge.rows.n
        else:
            added.append((path, charge.rows, times))
    added += [(path, price.rows(*sums), 1) for (path, price), sums in grown.items()]
    for path, found, times in added:
        for below, operation, amounts in found:
            key = (f"{path}.{below}" if path and below else path or below), operation
            row = rows.get(key)
            if row is None:
                row = rows[key] = [0] * len(columns)
            for column, amount in amounts:
                row[column] += times * amount
    return {key: tuple(row) for key, row in rows.items()}


class Tally:
    """What is counted of the events of a log: totals at once, rows once somebody asks for them."""

    def __init__(self, columns: Mapping[Any, int]) -> None:
        self._columns, self._totals = columns, [0] * len(columns)
        self._base: Mapping[Key, tuple[Any, ...]] = {}  # rows of what came before the segments
        self._segments: list[Segment] = []
        self._stop = 0  # of these are entered
        self._waiting = 0  # events in segments, and rows that they are to become

    def entering(self, paths: Sequence[str], events: Sequence[Event]) -> list[tuple[Any, str, Any]]:
        """What adds events, each with its path: attributes to set, of what, which, to what."""
        totals, waiting = [*self._totals], self._waiting + len(events)
        for event, n in Counter(events).items():
            if type(event) is Charge:
                waiting += n * len(event.rows)
                for column, amount in event.amounts:
                    totals[column] += n * amount
        self._segments[self._stop :] = [Segment(paths, events)]
        changed = {"_totals": totals, "_waiting": waiting, "_stop": self._stop + 1}
        if waiting > UNSETTLED:
            base = fold(self._columns, self._segments, 0, self._stop + 1, self._base)
            changed |= {"_base": base, "_segments": [], "_waiting": 0, "_stop": 0}
        return [(self, name, value) for name, value in changed.items()]

    def add(self, counts: Counts) -> None:
        """Adds what another one counted; as long as that is events, no rows are made of it."""
        moment, none = counts._moment, (0,) * len(self._columns)
        if moment and not moment.base:
            for segment in moment.log[: moment.stop]:
                for of, name, value in self.entering(*segment):
                    setattr(of, name, value)
            return
        self._totals = [*map(add, self._totals, counts._totals)]
        rows = self._base
        more = {key: tuple(map(add, rows.get(key, none), row)) for key, row in counts.items()}
        self._base = {**rows, **more}

    def counts(self) -> Counts:
        """What was counted so far."""
        log, stop, base = self._segments, self._stop, self._base
        found = partial(fold, self._columns, log, 0, stop, base)
        return Counts(self._columns, found, list(self._totals), Moment(log, stop, base))

    def copy(self) -> "Tally":
        """One of its own that goes on from here."""
        other = copy(self)
        other._totals, other._segments = [*self._totals], self._segments[: self._stop]
        return other
