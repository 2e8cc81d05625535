"""The record of a run, and of parts of it: conventions are in `views.py`, tables in `table.py`."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress, repeat
from operator import is_
from sys import maxsize
from threading import RLock, get_ident
from typing import Any, NamedTuple
from weakref import WeakSet

from counting.charge import OPERATIONS, Charge, Spec
from counting.checks import label, must_be
from counting.counts import Counts, Reported, Tally, grouped, told
from counting.memory import Event, Usage, larger
from counting.observers import Observer, deaf, heard, observing

LONGEST = 100_000  # entries of a log, three an event

CATEGORIES = ("weights", "kv_cache", "state", "activations")

_moment = RLock()  # held for one only: while events are entered, observers or intervals change
_ledgers: "WeakSet[Ledger]" = WeakSet()


def _forked() -> None:
    """In a child process: of its parent's threads it has only the one that forked."""
    _moment.release()
    for ledger in [*_ledgers]:
        ledger._leave_to(get_ident())


if hasattr(os, "register_at_fork"):  # not on Windows; a process forks while nothing is half done
    os.register_at_fork(
        before=_moment.acquire, after_in_parent=_moment.release, after_in_child=_forked
    )


class Checkpoint(NamedTuple):
    """What a ledger held at a moment, see `Ledger.restore`."""

    tally: Tally
    memory: dict[str, tuple[Any, Any]]  # live and peak bytes by category


class Ledger(Reported):
    """Where counted arrays record what they do. Arrays carry their ledger; it is never global.

    Threads may share one, and figures may be asked for at any time; what a thread does is counted
    by itself in an `interval`.

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
        self._tally = Tally(self.columns)
        # What happened, and nothing else: a run adds to it and goes on. Three entries each, added
        # at once, or a thread or a signal may come in between: the interval that it is part of, if
        # any, the path, the event. Totals and memory are entered when somebody asks, all at once;
        # rows only when somebody asks for rows.
        self.log: list[Any] = []
        self.longest = LONGEST  # entries that wait in the log until some operation enters them
        self.intervals: list[Interval] = []  # under way
        self.running: dict[int, Interval] = {}  # of these the innermost of each thread
        # Prices already found and arrays already described (see `array.py`): caches, no record.
        self.charges: dict[Any, Charge] = {}
        self.hot = self.charges  # where operators look; nowhere, while each is to be observed
        self.specs: dict[Any, Spec] = {}
        self.described: WeakSet[Spec] = WeakSet()  # since the last checkpoint
        self.observers: dict[int, list[Observer]] = {}  # of each thread; of 0, see `preceding`
        _ledgers.add(self)

    def _leave_to(self, thread: int) -> None:
        """Forgets what other threads were in the midst of."""
        self.intervals = [each for each in self.intervals if each.thread == thread]
        self.running = {each.thread: each for each in self.intervals}
        self.observers = {of: each for of, each in self.observers.items() if of in (0, thread)}
        self.hot = {} if self.observers else self.charges

    @property
    def observer(self) -> Observer | None:
        """What hears of the operations of this thread, if anything does."""
        return heard(self)

    @contextmanager
    def hearing(self, thread: int, observer: Observer) -> Iterator[None]:
        """A `with` block in which nothing runs that an observer, of a thread, could not hear of."""
        with _moment:
            self.observers.setdefault(thread, []).append(observer)
        try:
            self.hot = {}
            yield
        finally:
            with _moment:
                hearing = self.observers.get(thread, [])
                if observer in hearing:  # a child process may have forgotten it
                    hearing.remove(observer)
                if not hearing:
                    self.observers.pop(thread, None)
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
            with _moment:
                for name, live in self.live_bytes.items():
                    self.memory[name].peak = larger(peaks[name], live)

    def settle(self) -> None:
        """Enters the events of the log into totals and memory."""
        with _moment:
            self._do()
            n = len(self.log)  # others may add to it meanwhile
            if not n:
                return
            intervals, paths, events = self.log[:n:3], self.log[1:n:3], self.log[2:n:3]
            changes = self._tally.entering(paths, events)
            for found in {*intervals} - {None}:
                own = [*map(is_, intervals, repeat(found))]
                changes += found.tally.entering([*compress(paths, own)], [*compress(events, own)])
            for usage in {event.usage for event in {*events}} - {None}:
                changes += usage.entering([event for event in events if event.usage is usage])
            self.log[:n] = (None, "", changes)  # at once: a signal may end the rest at any moment
            self._do()

    def _do(self) -> None:
        """Does what `settle` has worked out; all of it again if a signal ended it in the midst."""
        if self.log and type(self.log[2]) is list:
            for of, name, value in self.log[2]:
                setattr(of, name, value)
            del self.log[:3]

    @contextmanager
    def unsettled(self) -> Iterator[None]:
        """A `with` block of one thread, after which the log has all events of it and no others."""
        self.settle()
        before, self.longest = self.longest, maxsize
        try:
            yield
        finally:
            self.longest = before

    def events(self, usage: Usage) -> list[Event]:
        """Those in the log that are of one category of memory."""
        return [event for event in self.log[2::3] if event.usage is usage]

    @property
    def live_bytes(self) -> dict[str, Any]:
        """Bytes alive now, by category."""
        with _moment:
            self.settle()
            return {name: usage.live for name, usage in self.memory.items()}

    @property
    def peak_bytes(self) -> dict[str, Any]:
        """The most bytes that were alive at once, category by category, since the start."""
        with _moment:
            self.settle()
            return {name: usage.peak for name, usage in self.memory.items()}

    def __repr__(self) -> str:
        live = ", ".join(f"{name} {grouped(n)}" for name, n in self.live_bytes.items())
        return f"Ledger({told(self.snapshot())}; B live: {live})"

    def checkpoint(self) -> Checkpoint:
        """What it holds now, to which `restore` can take it back."""
        with _moment:
            self.settle()
            self._describe_anew()
            memory = {name: (usage.live, usage.peak) for name, usage in self.memory.items()}
            return Checkpoint(self._tally.copy(), memory)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes it back to its last checkpoint: nothing that was done since is counted.

        Arrays made since do not count as live, however long somebody holds them, and their ends
        change nothing. Arrays made before are taken to be alive still.
        """
        with _moment:
            self.settle()
            for spec in self.described:
                spec.freed.grows = 0
            self._describe_anew()
            self._tally = checkpoint.tally.copy()
            for name, (live, peak) in checkpoint.memory.items():
                self.memory[name].live, self.memory[name].peak = live, peak

    def _describe_anew(self) -> None:
        """Forgets specs, so that no array to come shares one with an array that there is."""
        self.described = WeakSet()
        self.specs.clear()
        self.charges.clear()

    def snapshot(self) -> Counts:
        """What was counted so far; the difference of two snapshots is what ran between them."""
        with _moment:
            self.settle()
            return self._tally.counts()


@dataclass(eq=False)
class Interval:
    """A `with` block that was counted.

    Attributes:
        thread: the identity of the one that computes in it.
        before: what the ledger had counted when it began, of all threads.
        tally: what was counted so far.
        counts: its operations and bytes, without those of intervals inside it; once it has ended.
    """

    thread: int
    before: Counts
    tally: Tally
    counts: Counts = field(init=False)


@contextmanager
def interval(ledger: Ledger, thread: int | None = None) -> Iterator[Interval]:
    """A `with` block whose operations on arrays of `ledger` are counted by themselves.

    >>> with interval(ledger) as found:
    ...     y = x @ w
    >>> found.counts.cost

    They are those of the thread that it began in, whatever other threads do. An interval inside
    another one, as at the prompt of a debugger, is no part of it.

    Args:
        thread: the identity of one that computes in place of the caller, who waits for it.

    Raises:
        TypeError: an argument is wrong.
    """
    must_be("a Ledger", isinstance(ledger, Ledger), "ledger", ledger)
    if thread is None:
        thread = get_ident()
    must_be("the identity of a thread", type(thread) is int and thread > 0, "thread", thread)
    found = Interval(thread, ledger.snapshot(), Tally(ledger.columns))
    with _moment:
        ledger.intervals.append(found)
        ledger.running[found.thread] = found
    try:
        yield found
    finally:
        with _moment:
            ledger.intervals = [each for each in ledger.intervals if each is not found]
            ledger.running = {each.thread: each for each in ledger.intervals}  # the last of each
        ledger.settle()
        found.counts = found.tally.counts()
