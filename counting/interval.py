"""What a block of a program does, apart from whatever runs between such blocks or beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from counting.counts import Counts
from counting.ledger import Ledger


class NotItsTurn(RuntimeError):
    """A thread computed with the arrays of a ledger during an interval of another thread."""

    def __init__(self) -> None:
        super().__init__(
            "another thread is computing with the arrays of this ledger: put what this one does "
            "into `with counting.interval(ledger):`, or load a model for each thread"
        )


class Interval:
    """A `with` block that was counted.

    Attributes:
        before: what was counted when it began.
        inside: what each interval inside it counted.
        counts: its operations and bytes, without those of intervals inside it; once it has ended.
    """

    before: Counts
    counts: Counts

    def __init__(self) -> None:
        self.inside: list[Counts] = []


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
    """
    found = Interval()
    with ledger.turn(thread or get_ident()):
        ledger.intervals.append(found)
        found.before = ledger.snapshot()
        try:
            yield found
        finally:
            whole = found.counts = ledger.snapshot() - found.before
            for counts in found.inside:
                found.counts -= counts
            ledger.intervals.remove(found)
            if ledger.intervals:
                ledger.intervals[-1].inside.append(whole)
