"""A recording as rows: CSV, and DataFrames of pandas."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from counting.report import dtype
from minigpt.errors import InputError
from minigpt.recording.read import Line, Recording
from minigpt.views.options import ViewOptions


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes what happened as CSV: a row for each operation, or token where none were recorded."""
    rows = [flat(line) for line in recording.operations or recording.tokens]
    with path.open("w", newline="", encoding="utf-8") as file:
        made = csv.DictWriter(file, _columns(rows), restval=0)
        made.writeheader()
        made.writerows(rows)


def to_pandas(lines: Sequence[Line]) -> Any:
    """Lines of a recording as a pandas DataFrame: of its `tokens`, `operations` or `rows`.

    Columns of integers are int64, whose sum is right, Int64 where some have none, and Python's own
    integers where they add up to more.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError("to_pandas needs pandas: pip install pandas") from None
    rows = [flat(line) for line in lines]
    made = {}
    for name in _columns(rows):
        column = [row.get(name, 0) for row in rows]
        numbers = [value for value in column if value is not None]
        whole = all(type(value) is int for value in numbers)
        exact = dtype(numbers) if whole else None
        if exact == "int64" and len(numbers) < len(column):
            exact = "Int64"
        made[name] = pandas.Series(column, dtype=exact)
    return pandas.DataFrame(made)


def flat(line: Line) -> dict[str, Any]:
    """A line whose nested fields have names of their own: `bytes_read.weights`."""
    return dict(_flat(line, ""))


def _flat(line: Line, above: str) -> Iterator[tuple[str, Any]]:
    for name, value in line.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _columns(rows: Sequence[Line]) -> list[str]:
    """All names, in the order of their first appearance; a row without one has 0 of it."""
    return list(dict.fromkeys(name for row in rows for name in row))
