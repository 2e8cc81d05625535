"""The record of a run: rows by path and operation, their totals, and differences of two moments.

A ledger only records. Conventions are in `views.py`, tables in `table.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property, partial
from threading import RLock, get_ident
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from counting.costs import KINDS, OUTSIDE, Cost, Shape
from counting.memory import Usage

CATEGORIES = ("weights", "kv_cache", "activations")

UNSETTLED = 100_000  # events that wait in a log, and events and rows that wait to become rows

Key = tuple[str, str]  # path and operation, for example ("h.3.attn.qk", "matmul")


class Spec:
    """What pricing needs to know of an array; a ledger keeps one for all that are alike.

    In a ledger's log it stands for the end of one: `grows` is what memory grows by then.
    """

    __slots__ = (
        "__weakref__",
        "category",
        "dtype",
        "grows",
        "ledger",
        "nbytes",
        "shape",
        "usage",
        "views",
    )
    over, levels = 0, ()

    def __init__(
        self, ledger: "Ledger", shape: Shape, dtype: np.dtype, category: str, nbytes: Any
    ) -> None:
        self.ledger, self.shape, self.dtype, self.category = ledger, shape, dtype, category
        self.nbytes, self.grows = nbytes, -nbytes
        self.usage = ledger.memory[category]
        self.views: dict[Shape, Spec] = {}  # what its views look like, by shape
        if ledger.described is not None:
            ledger.described.add(self)


Amounts = tuple[tuple[int, Any], ...]  # what a call adds to the columns of a row: (column, amount)


class Charge:
    """The price of a call.

    Attributes:
        operation: its name.
        amounts: what it adds to the totals.
        kinds: operations by kind, among what else a column may name.
        rows: the same by row, as (scope below the path of the call, operation, amounts).
        result: what comes out, or None for a write in place.
        transient: the most bytes that its own temporaries and result hold while it runs.
        levels: what they hold one after another, if that is known; see `memory.levels`.
        run: what runs.
    """

    __slots__ = (
        "amounts",
        "grows",
        "kinds",
        "levels",
        "operation",
        "over",
        "result",
        "rows",
        "run",
        "transient",
        "usage",
    )

    def __init__(
        self,
        operation: str,
        rows: "tuple[tuple[str, str, Amounts], ...] | Along",
        amounts: Amounts,
        kinds: Mapping[str, Any],
        result: Spec | None,
        run: Callable[..., Any],
        transient: Any = 0,
        levels: tuple[Any, ...] = (),
    ) -> None:
        self.operation, self.rows, self.amounts, self.kinds = operation, rows, amounts, kinds
        self.result, self.run, self.transient, self.levels = result, run, transient, levels
        # Memory: what grows for good, and for a moment beyond that.
        self.usage = result.usage if result else None
        self.grows = result.nbytes if result else 0
        over = transient - self.grows if transient else 0
        self.over = over if type(over) is not int or over > 0 else 0

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        return Cost({kind: self.kinds[kind] for kind in (*KINDS, *OUTSIDE) if kind in self.kinds})


class Along:
    """The rows of a price that grows, at n: `price.rows(times, total)` adds up many of them."""

    __slots__ = ("n", "price")

    def __init__(self, price: Any, n: int) -> None:
        self.price, self.n = price, n

    def __len__(self) -> int:
        return len(self.price)


class Counts(Mapping[Key, tuple[Any, ...]]):
    """What was counted up to a moment, or between two: `after - before`.

    A mapping from (path, operation) to a row of numbers in the order of `columns`: calls,
    dot products (elements of matrix products), operations by kind, bytes read and written by
    category.
    """

    def __init__(
        self,
        columns: Mapping[Any, int],
        rows: Mapping[Key, tuple[Any, ...]] | Callable[[], Mapping[Key, tuple[Any, ...]]],
        totals: list[Any] | None = None,
        moment: "_Moment | None" = None,
    ) -> None:
        self.columns = columns
        self._found, self._moment = rows, moment
        if totals is None:
            none = [0] * len(columns)
            totals = [sum(column) for column in zip(none, *self._rows.values(), strict=True)]
        self._totals = totals

    @cached_property
    def _rows(self) -> Mapping[Key, tuple[Any, ...]]:
        # Worked out when asked for: the record of a token needs totals alone.
        return self._found() if callable(self._found) else self._found

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        return self._rows[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __sub__(self, earlier: "Counts") -> "Counts":
        if self._moment is None or earlier._moment is None:  # `self` is a choice of rows
            return Counts(self.columns, _difference(self._rows, earlier._rows))
        totals = [a - b for a, b in zip(self._totals, earlier._totals, strict=True)]
        if self._moment.log is earlier._moment.log:
            start, stop = earlier._moment.stop, self._moment.stop
            found = partial(_fold, self.columns, self._moment.log, start, stop)
            return Counts(self.columns, found, totals)
        return Counts(self.columns, lambda: _difference(self._rows, earlier._rows), totals)

    def total(self, column: Any) -> Any:
        """The sum of a column: "calls", "dots", a kind, ("read", category), ("written", …)."""
        return self._totals[self.columns[column]]

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        return Cost({kind: self.total(kind) for kind in (*KINDS, *OUTSIDE)})

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
        return f"Counts({_told(self)}; {grouped(read)} B read, {grouped(written)} B written)"

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


def grouped(n: Any) -> str:
    """A number with its thousands apart; symbols have none."""
    return f"{n:,}" if isinstance(n, int) else str(n)


def _told(counts: Counts) -> str:
    """What a `repr` leads with: FLOP, a multiply-add as two, the calls they are of, and kinds."""
    cost = counts.cost
    said = f"{grouped(sum(cost.values()) + cost.get('fma', 0))} FLOP"
    said += f" in {grouped(counts.total('calls'))} calls"
    return said + (f": {', '.join(f'{k}={grouped(n)}' for k, n in cost.items())}" if cost else "")


class _Moment(NamedTuple):
    """How far a snapshot reaches into the log of its ledger."""

    log: list["_Segment"]
    stop: int


class _Segment(NamedTuple):
    """Operations in order: the path of each, and the log, where charges stand for them."""

    paths: list[str]
    entries: list[Spec | Charge]


class Checkpoint(NamedTuple):
    """What a ledger held at a moment, see `Ledger.restore`."""

    totals: list[Any]
    entered: list[_Segment]
    waiting: int
    base: Mapping[Key, tuple[Any, ...]]
    memory: dict[str, tuple[Any, Any]]  # live and peak bytes by category


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


def _fold(
    columns: Mapping[Any, int],
    log: list[_Segment],
    start: int,
    stop: int,
    base: Mapping[Key, tuple[Any, ...]] | None = None,
) -> Mapping[Key, tuple[Any, ...]]:
    """The rows that some segments of a log add up to, on top of those of `base`."""
    calls: Counter[tuple[str, Charge]] = Counter()
    for paths, entries in log[start:stop]:
        charges = (entry for entry in entries if type(entry) is Charge)
        calls.update(zip(paths, charges, strict=True))
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


class Ledger:
    """Where counted arrays record what they do. Arrays carry their ledger; it is never global.

    One thread at a time may compute with the arrays of a ledger: threads that share one do it in
    turn, each in an `interval`. Figures may be asked for at any time.

    Args:
        categories: what memory may be for, see `scope.category`.
    """

    def __init__(self, categories: Iterable[str] = CATEGORIES) -> None:
        self.memory = {name: Usage() for name in categories}
        names: list[Any] = ["calls", "dots", *KINDS, *OUTSIDE]
        names += [(way, name) for way in ("read", "written") for name in self.memory]
        self.columns: dict[Any, int] = {name: i for i, name in enumerate(names)}
        self._totals: list[Any] = [0] * len(names)
        # What happened, and nothing else: a run appends and goes on. In `log` a charge stands for
        # an operation, its path in `paths`, and a spec for bytes given back. Totals and memory are
        # entered when somebody asks, all at once; rows only when somebody asks for rows.
        self.log: list[Spec | Charge] = []
        self.paths: list[str] = []
        self._entered: list[_Segment] = []
        self._waiting = 0  # events in `_entered`, and rows that they are to become
        self._base: Mapping[Key, tuple[Any, ...]] = {}  # rows of what came before `_entered`
        # Prices already found and arrays already described (see `array.py`): caches, no record.
        self.charges: dict[Any, Charge] = {}
        self.hot = self.charges  # where operators look; nowhere, while each is to be observed
        self.specs: dict[Any, Spec] = {}
        self.described: WeakSet[Spec] | None = None  # since a checkpoint, if there was one
        # Those of each thread, the last of which hears; see `array.observing`.
        self.observers: dict[int, list[Callable[..., None]]] = {}
        # The interval under way, see `interval.py`: its thread, and what those inside it counted.
        self.turn, self.thread = RLock(), 0
        self.inside: list[Counts] | None = None
        self.moment = RLock()  # held for one only: while events are entered, observers change

    @property
    def observer(self) -> Callable[..., None] | None:
        """What hears of the operations of this thread, if anything does."""
        hearing = self.observers.get(get_ident())
        return hearing[-1] if hearing else None

    def settle(self) -> None:
        """Enters what happened since the last time into totals and memory."""
        with self.moment:
            entries = self.log[:]
            if not entries:
                return
            # Whose turn it is may go on meanwhile: there may be more of both by now.
            del self.log[: len(entries)]
            times, charges = Counter(entries), 0
            self._waiting += len(entries)
            for entry, n in times.items():
                if type(entry) is Charge:
                    charges += n
                    self._waiting += n * len(entry.rows)
                    for column, amount in entry.amounts:
                        self._totals[column] += n * amount
            paths = self.paths[:charges]
            del self.paths[:charges]
            for usage in {entry.usage for entry in times} - {None}:
                usage.enter([entry for entry in entries if entry.usage is usage])  # type: ignore[union-attr]
            self._entered.append(_Segment(paths, entries))
            if self._waiting > UNSETTLED:
                done = self._entered
                self._base = _fold(self.columns, done, 0, len(done), self._base)
                self._entered, self._waiting = [], 0

    @property
    def live_bytes(self) -> dict[str, Any]:
        """Bytes alive now, by category."""
        with self.moment:
            self.settle()
            return {name: usage.live for name, usage in self.memory.items()}

    @property
    def peak_bytes(self) -> dict[str, Any]:
        """The most bytes that were alive at once, category by category, since the start."""
        with self.moment:
            self.settle()
            return {name: usage.peak for name, usage in self.memory.items()}

    def __repr__(self) -> str:
        live = ", ".join(f"{name} {grouped(n)}" for name, n in self.live_bytes.items())
        return f"Ledger({_told(self.snapshot())}; B live: {live})"

    def checkpoint(self) -> Checkpoint:
        """What it holds now, to which `restore` can take it back."""
        with self.moment:
            self.settle()
            self._describe_anew()
            memory = {name: (usage.live, usage.peak) for name, usage in self.memory.items()}
            return Checkpoint([*self._totals], [*self._entered], self._waiting, self._base, memory)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes it back to its last checkpoint: nothing that was done since is counted.

        Arrays made since are not alive for it, however long somebody holds them, and their ends
        are none. Arrays made before are taken to be alive still.
        """
        with self.moment:
            self.settle()
            for spec in self.described or ():
                spec.grows = 0
            self._describe_anew()
            totals, entered, self._waiting, self._base, memory = checkpoint
            self._totals, self._entered = [*totals], [*entered]
            for name, (live, peak) in memory.items():
                self.memory[name].live, self.memory[name].peak = live, peak

    def _describe_anew(self) -> None:
        """Lets no array to come share a spec with those that there are."""
        self.described = WeakSet()
        self.specs.clear()
        self.charges.clear()

    def snapshot(self) -> Counts:
        """What was counted so far; the difference of two snapshots is what ran between them."""
        with self.moment:
            self.settle()
            log, stop, base = self._entered, len(self._entered), self._base
            found = partial(_fold, self.columns, log, 0, stop, base)
            return Counts(self.columns, found, list(self._totals), _Moment(log, stop))
