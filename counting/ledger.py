"""The record of a run, and of parts of it: conventions are in `views.py`, tables in `table.py`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import RLock, get_ident
from typing import Any, NamedTuple
from weakref import WeakSet

from counting.charge import OPERATIONS, Charge, Spec
from counting.checks import label, must_be
from counting.counts import Counts, Key, Moment, Reported, Segment, fold, grouped, told
from counting.memory import Event, Usage, larger
from counting.observers import Observer, deaf, heard, observing

CATEGORIES = ("weights", "kv_cache", "state", "activations")

UNSETTLED = 100_000  # events that wait in a log, and events and rows that wait to become rows


class Checkpoint(NamedTuple):
    """What a ledger held at a moment, see `Ledger.restore`."""

    totals: list[Any]
    entered: list[Segment]
    waiting: int
    base: Mapping[Key, tuple[Any, ...]]
    memory: dict[str, tuple[Any, Any]]  # live and peak bytes by category


class Ledger(Reported):
    """Where counted arrays record what they do. Arrays carry their ledger; it is never global.

    One thread at a time may compute with the arrays of a ledger: threads that share one do it in
    turn, each in an `interval`. Figures may be asked for at any time.

    Args:
        categories: what memory may be for, see `scope.category`.
    """

    def __init__(self, categories: Iterable[str] = CATEGORIES) -> None:
        must_be("several names", not isinstance(categories, str), "categories", categories)
        try:
            known = [*categories]
        except TypeError:
            must_be("several names", False, "categories", categories)
        for name in known:
            label("a category", name)
        self.memory = {name: Usage() for name in known}
        names: list[Any] = [*OPERATIONS]
        names += [(way, name) for way in ("read", "written") for name in self.memory]
        self.columns: dict[Any, int] = {name: i for i, name in enumerate(names)}
        self._totals: list[Any] = [0] * len(names)
        # What happened, and nothing else: a run appends and goes on. The path of each charge in
        # `log` is in `paths`. Totals and memory are entered when somebody asks, all at once; rows
        # only when somebody asks for rows.
        self.log: list[Event] = []
        self.paths: list[str] = []  # first, so that `settle` never finds a charge without
        self._entered: list[Segment] = []
        self._waiting = 0  # events in `_entered`, and rows that they are to become
        self._base: Mapping[Key, tuple[Any, ...]] = {}  # rows of what came before `_entered`
        # Prices already found and arrays already described (see `array.py`): caches, no record.
        self.charges: dict[Any, Charge] = {}
        self.hot = self.charges  # where operators look; nowhere, while each is to be observed
        self.specs: dict[Any, Spec] = {}
        self.described: WeakSet[Spec] = WeakSet()  # since the last checkpoint
        self.observers: dict[int, list[Observer]] = {}  # of each thread; of 0, see `preceding`
        self.intervals: list[Interval] = []  # under way, the innermost last; see `interval`
        self.thread = 0  # whose turn it is, in an interval
        self._turn = RLock()
        self._moment = RLock()  # held for one only: while events are entered, observers change

    @property
    def observer(self) -> Observer | None:
        """What hears of the operations of this thread, if anything does."""
        return heard(self)

    @contextmanager
    def hearing(self, thread: int, observer: Observer) -> Iterator[None]:
        """A `with` block in which nothing runs that an observer, of a thread, could not hear of."""
        with self._moment:
            self.observers.setdefault(thread, []).append(observer)
        try:
            self.hot = {}
            yield
        finally:
            with self._moment:
                self.observers[thread].remove(observer)
                if not self.observers[thread]:
                    del self.observers[thread]
                self.hot = {} if self.observers else self.charges

    @property
    def charging(self) -> bool:
        """Whether operations of this thread are charged; else it is in a block of `uncharged`."""
        return deaf not in self.observers.get(get_ident(), ())

    @contextmanager
    def uncharged(self) -> Iterator[None]:
        """A `with` block in which this thread's operations cost nothing, and none is observed.

        Arrays that are kept afterwards count as live; peaks know nothing of those that are not.
        """
        peaks = self.peak_bytes
        try:
            with observing(self, deaf):
                yield
        finally:
            with self._moment:
                for name, live in self.live_bytes.items():
                    self.memory[name].peak = larger(peaks[name], live)

    def settle(self) -> None:
        """Enters the events of the log into totals and memory."""
        with self._moment:
            events = self.log[:]
            if not events:
                return
            # Whose turn it is may go on meanwhile: there may be more of both by now.
            del self.log[: len(events)]
            times, charges = Counter(events), 0
            self._waiting += len(events)
            for event, n in times.items():
                if type(event) is Charge:
                    charges += n
                    self._waiting += n * len(event.rows)
                    for column, amount in event.amounts:
                        self._totals[column] += n * amount
            paths = self.paths[:charges]
            del self.paths[:charges]
            for usage in {event.usage for event in times}:
                if usage:
                    usage.enter([event for event in events if event.usage is usage])
            self._entered.append(Segment(paths, events))
            if self._waiting > UNSETTLED:
                done = self._entered
                self._base = fold(self.columns, done, 0, len(done), self._base)
                self._entered, self._waiting = [], 0

    @property
    def live_bytes(self) -> dict[str, Any]:
        """Bytes alive now, by category."""
        with self._moment:
            self.settle()
            return {name: usage.live for name, usage in self.memory.items()}

    @property
    def peak_bytes(self) -> dict[str, Any]:
        """The most bytes that were alive at once, category by category, since the start."""
        with self._moment:
            self.settle()
            return {name: usage.peak for name, usage in self.memory.items()}

    def __repr__(self) -> str:
        live = ", ".join(f"{name} {grouped(n)}" for name, n in self.live_bytes.items())
        return f"Ledger({told(self.snapshot())}; B live: {live})"

    def checkpoint(self) -> Checkpoint:
        """What it holds now, to which `restore` can take it back."""
        with self._moment:
            self.settle()
            self._describe_anew()
            memory = {name: (usage.live, usage.peak) for name, usage in self.memory.items()}
            return Checkpoint([*self._totals], [*self._entered], self._waiting, self._base, memory)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes it back to its last checkpoint: nothing that was done since is counted.

        Arrays made since do not count as live, however long somebody holds them, and their ends
        change nothing. Arrays made before are taken to be alive still.
        """
        with self._moment:
            self.settle()
            for spec in self.described:
                spec.freed.grows = 0
            self._describe_anew()
            totals, entered, self._waiting, self._base, memory = checkpoint
            self._totals, self._entered = [*totals], [*entered]
            for name, (live, peak) in memory.items():
                self.memory[name].live, self.memory[name].peak = live, peak

    def _describe_anew(self) -> None:
        """Forgets specs, so that no array to come shares one with an array that there is."""
        self.described = WeakSet()
        self.specs.clear()
        self.charges.clear()

    def snapshot(self) -> Counts:
        """What was counted so far; the difference of two snapshots is what ran between them."""
        with self._moment:
            self.settle()
            log, stop, base = self._entered, len(self._entered), self._base
            found = partial(fold, self.columns, log, 0, stop, base)
            return Counts(self.columns, found, list(self._totals), Moment(log, stop))


class NotItsTurn(RuntimeError):
    """A thread computed with the arrays of a ledger during an interval of another thread."""

    def __init__(self) -> None:
        super().__init__(
            "another thread is computing with the arrays of this ledger: put what this one does "
            "into `with counting.interval(ledger):`, or load a model for each thread"
        )


@dataclass(eq=False)
class Interval:
    """A `with` block that was counted.

    Attributes:
        thread: the identity of the one that computes in it.
        before: what was counted when it began.
        inside: what each interval inside it counted.
        counts: its operations and bytes, without those of intervals inside it; once it has ended.
    """

    thread: int
    before: Counts
    inside: list[Counts] = field(default_factory=list)
    counts: Counts = field(init=False)


@contextmanager
def interval(ledger: Ledger, thread: int | None = None) -> Iterator[Interval]:
    """A `with` block whose operations on arrays of `ledger` are counted by themselves.

    >>> with interval(ledger) as found:
    ...     y = x @ w
    >>> found.counts.cost

    Intervals of several threads come one after another, so threads that share a ledger compute in
    intervals alone. What one computes outside, during that of another, raises NotItsTurn; only
    operators (`+ - * / @`) that were priced before are too hot to be asked. An interval inside
    another one, as at the prompt of a debugger, is no part of it.

    Args:
        thread: the identity of one that computes in place of the caller, who waits for it.

    Raises:
        TypeError: an argument is wrong.
        RuntimeError: it ends before one that began inside it: nobody could tell whose was what.
    """
    must_be("a Ledger", isinstance(ledger, Ledger), "ledger", ledger)
    if thread is None:
        thread = get_ident()
    must_be("the identity of a thread", type(thread) is int and thread > 0, "thread", thread)
    with ledger._turn:
        found = Interval(thread, ledger.snapshot())
        ledger.intervals.append(found)
        ledger.thread = found.thread
        try:
            yield found
        except BaseException:
            ledger.settle()
            ledger.paths.clear()  # an operation that was interrupted has left its path, no charge
            raise
        finally:
            innermost = ledger.intervals[-1] is found
            ledger.intervals.remove(found)
            ledger.thread = ledger.intervals[-1].thread if ledger.intervals else 0
            whole = found.counts = ledger.snapshot() - found.before
            for counts in found.inside:
                found.counts -= counts
            if not innermost:
                raise RuntimeError("an interval that began inside this one has not ended yet")
            if ledger.intervals:
                ledger.intervals[-1].inside.append(whole)
