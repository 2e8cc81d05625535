"""What was counted of a program that is stepped through."""

from collections import Counter, defaultdict
from fnmatch import fnmatchcase
from typing import Any

from counting.charge import Charge
from counting.counts import Counts
from counting.ledger import Ledger
from counting.views import flops


class Figures:
    """What was counted since the start, since a mark, and since the program stopped before.

    Attributes:
        ledger: that of the program, once it is known.
        number: operations so far.
        stretch: what was counted since it stopped before, while it is stopped.
        lines: how often which charges were made, by path, file and line: each operation once,
            at the innermost line of the program's own; since the mark.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ledger: Ledger | None = None
        self.number = 0
        self.stretch: Counts | None = None
        self.lines: defaultdict[tuple[str, str, int], Counter[Charge]] = defaultdict(Counter)
        self._before: Counts | None = None
        self._start: Counts | None = None
        self._mark: Counts | None = None

    def begin(self, ledger: Ledger, from_now: bool) -> None:
        """Counts from now on, or from the start of the ledger."""
        self.ledger, self.number = ledger, 0
        self.mark()
        self._start = self._before = self._mark
        if not from_now:
            self._start = self._mark = None
            self.number = ledger.snapshot().total("calls")

    def mark(self) -> None:
        """Begins the figures anew that are about a part of the run."""
        self.lines = defaultdict(Counter)
        self._mark = self.ledger.snapshot() if self.ledger else None

    def pause(self) -> None:
        """Ends the stretch since the stop before."""
        if self.ledger and self._before is not None:
            now = self.ledger.snapshot()
            self.stretch, self._before = now - self._before, now

    @property
    def counts(self) -> Counts | None:
        """What was counted since the start; None while no ledger is known."""
        return self._since(self._start)

    @property
    def since_mark(self) -> Counts | None:
        """What was counted since the mark, which the start is if there was no other."""
        return self._since(self._mark)

    def _since(self, moment: Counts | None) -> Counts | None:
        if self.ledger is None:
            return None
        now = self.ledger.snapshot()
        return now if moment is None else now - moment

    @property
    def flops(self) -> Any:
        """FLOP since the start, a multiply-add as two."""
        return flops(self.counts) if self.counts is not None else 0

    @property
    def live(self) -> Any:
        """Bytes that are live, of every category."""
        return sum(self.ledger.live_bytes.values()) if self.ledger else 0

    def at_line(self, file: str, line: int, path: str = "*") -> Counts:
        """What was counted at a line itself, at paths that match a glob."""
        columns = self.ledger.columns if self.ledger else {}
        rows: dict[tuple[str, str], list[Any]] = {}
        for (where, *there), charges in self.lines.items():
            if there == [file, line] and fnmatchcase(where, path):
                for charge, times in charges.items():
                    row = rows.setdefault((where, charge.operation), [0] * len(columns))
                    for column, amount in charge.amounts:
                        row[column] += times * amount
        return Counts(columns, {key: tuple(row) for key, row in rows.items()})
