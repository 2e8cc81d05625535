"""A recording as rows: CSV, and DataFrames of pandas."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt.recording.read import Line, Recording
from minigpt.views.options import ViewOptions


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes what happened as CSV: a row for each operation, or token where none were recorded."""
    rows = [*_flat(recording.operations or recording.tokens)]
    with path.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        made = csv.DictWriter(file, names, restval=0)
        made.writeheader()
        made.writerows(rows)


def _flat(lines: list[Line]) -> Iterator[dict[str, Any]]:
    """Lines whose nested fields have names of their own: `bytes_read.weights`."""
    for line in lines:
        row: dict[str, Any] = {}
        for name, value in line.items():
            if isinstance(value, dict):
                row |= {f"{name}.{inner}": n for inner, n in value.items()}
            else:
                row[name] = value
        yield row
