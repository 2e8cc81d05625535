"""What was counted as a table: for a terminal, as CSV, for pandas."""

import csv
import os
from collections.abc import Iterator
from io import StringIO
from itertools import chain
from typing import Any, TextIO

from counting.cost import KINDS, OUTSIDE, Cost
from counting.counts import Counts, Reported, grouped
from counting.known import known_by
from counting.ledger import Ledger

WIDEST = 2**63  # what a column of whole numbers holds


class Report:
    """What was counted, a row for each path and operation; `print` shows it as a table.

    Args:
        of: a ledger, as it is now, or counts of a part of its run.

    Attributes:
        counts: what the rows are of.
        live, peak: bytes by category, of a ledger; else None.
    """

    def __init__(self, of: Ledger | Counts) -> None:
        ledger = of if isinstance(of, Ledger) else None
        self.counts = of if isinstance(of, Counts) else of.snapshot()
        self.live = None if ledger is None else ledger.live_bytes
        self.peak = None if ledger is None else ledger.peak_bytes

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what `rows` gives, in order."""
        named = (c if isinstance(c, str) else "_".join(c) for c in self.counts.columns)
        return ("path", "operation", "known_by", "flops", *named)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows in the order of their first appearance; numbers are ints or SymPy's."""
        for (path, operation), row in self.counts.items():
            cost = Counts(self.counts.columns, {(path, operation): row}).cost
            yield path, operation, known_by(operation), cost.flops, *row

    def to_csv(self, file: str | os.PathLike[str] | TextIO) -> None:
        """Writes the rows as CSV, below their columns' names, to a path or into an open file."""
        if isinstance(file, str | os.PathLike):
            with open(file, "w", newline="", encoding="utf-8") as opened:
                return self.to_csv(opened)
        csv.writer(file).writerows(chain([self.columns], self.rows()))

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame.

        Numbers are int64, whose sum is right; a column whose numbers add up to more, or that has
        symbols, holds Python's integers and SymPy's expressions as they are.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas") from None
        rows = [*self.rows()]
        made = {}
        for i, name in enumerate(self.columns):
            column = [row[i] for row in rows]
            made[name] = pandas.Series(column, dtype=dtype(column) if i > 2 else None)
        return pandas.DataFrame(made)

    def __str__(self) -> str:
        from rich.console import Console, Group

        from counting import table

        notes = [*self.notes()]
        counted = self._operations() if self.counts else "nothing was counted"
        parts: list[Any] = [counted, *([""] if notes else []), *notes]
        if self.live and self.peak and (self.counts or any(self.peak.values())):
            parts += ["", table.memory(self.counts, self.live, self.peak)]
        text = StringIO()
        console = Console(file=text, width=10_000, markup=False, emoji=False, highlight=False)
        console.print(Group(*parts))
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from counting import notebook

        return notebook.report(self)

    def _operations(self) -> Any:
        from counting.table import table

        counts = self.counts
        cost = counts.cost
        kinds = [kind for kind in (*KINDS, *OUTSIDE) if kind in cost]
        by_path = any(path for path, _ in counts)
        named = ("operation", "calls", "FLOP", *kinds, "bytes read", "bytes written", "known by")
        made = table(*(("path", *named) if by_path else named))
        made.columns[int(by_path)].justify = "left"

        def cells(part: Counts) -> list[str]:
            own = part.cost
            moved = (sum(x.values()) for x in (part.bytes_read, part.bytes_written))
            numbers = (part.total("calls"), own.flops, *(own.get(k, 0) for k in kinds), *moved)
            return [grouped(n) if n != 0 else "" for n in numbers]

        for key, row in counts.items():
            names = key if by_path else key[1:]
            made.add_row(*names, *cells(Counts(counts.columns, {key: row})), known_by(key[1]))
        made.add_section()
        made.add_row(*(("total", "") if by_path else ("total",)), *cells(counts))
        return made

    def notes(self) -> Iterator[str]:
        """What a reader must know of the total, a line each."""
        cost = self.counts.cost
        if "fma" in cost:
            yield "a multiply-add, fma, is two FLOP"
        if cost.keys() & {*OUTSIDE}:
            yield "operations on integers, int, and on truth values, logic, are no FLOP"
        apart: dict[str, dict[str, Cost]] = {}
        for path, operation in self.counts:
            how = known_by(operation)
            part = Counts(self.counts.columns, {(path, operation): self.counts[path, operation]})
            if part.cost:
                of = apart.setdefault(how, {})
                of[operation] = of.get(operation, Cost()) + part.cost
        apart.pop("executed", None)
        if apart:
            said = (
                f"{_figures(sum(of.values(), Cost()))} {_HOW[how]} ({', '.join(of)})"
                for how, of in apart.items()
            )
            yield f"not executed, of the total: {'; '.join(said)}"
        if any(known_by(operation) == "bytes alone" for _, operation in self.counts):
            yield "random numbers: their bytes alone are counted, not what drawing them takes"


_HOW = {
    "bound": "at most, a bound",
    "published": "as published",
    "registered": "as registered",
}


def _figures(cost: Cost) -> str:
    """`12 FLOP, 3 int`."""
    parts = {"FLOP": cost.flops, **{kind: cost.get(kind, 0) for kind in OUTSIDE}}
    return ", ".join(f"{grouped(n)} {name}" for name, n in parts.items() if n != 0)


def dtype(column: list[Any]) -> Any:
    """What holds numbers, and their sum, as they are: "int64", or else `object`."""
    whole = all(isinstance(n, int) for n in column)
    return "int64" if whole and sum(map(abs, column)) < WIDEST else object


Reported.shown = Report  # a ledger imports no report
