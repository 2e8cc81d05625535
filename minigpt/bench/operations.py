"""What counting adds to single operations of NumPy: each bare and counted, in turn."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from counting import Counted, Ledger
from counting import table as tables
from minigpt.errors import InputError

# The twenty that programs call most, of two small arrays, so that hardly anything is computed.
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * 2.0": lambda x, y: x * 2.0,
    "x / y": lambda x, y: x / y,
    "x @ y": lambda x, y: x @ y,
    "x > y": lambda x, y: x > y,
    "x ** 2": lambda x, y: x**2,
    "-x": lambda x, y: -x,
    "x *= y": lambda x, y: x.__imul__(y),
    "np.exp(x)": lambda x, y: np.exp(x),
    "np.sqrt(x)": lambda x, y: np.sqrt(x),
    "np.maximum(x, y)": lambda x, y: np.maximum(x, y),
    "x.sum()": lambda x, y: x.sum(),
    "x.max(axis=1)": lambda x, y: x.max(axis=1),
    "x.argmax(1)": lambda x, y: x.argmax(1),
    "x[1]": lambda x, y: x[1],
    "x[:, 0] = 1.0": lambda x, y: x.__setitem__((slice(None), 0), 1.0),
    "x.T": lambda x, y: x.T,
    "x.reshape(8, 2)": lambda x, y: x.reshape(8, 2),
    "np.where(x > 0, x, y)": lambda x, y: np.where(x > 0, x, y),
}


class Added(NamedTuple):
    """Microseconds of an operation, medians over rounds of a bare and a counted loop in turn."""

    operation: str
    bare_us: float
    counted_us: float
    added_us: float  # median of the differences within a round


def operations(rounds: int = 75, calls: int = 100) -> list[Added]:
    """Each of `OPERATIONS` on arrays of (4, 4), bare and counted.

    Args:
        rounds: how often the two are timed in turn.
        calls: how many of each in a row.

    Raises:
        InputError: there is nothing to time.
    """
    if rounds < 1 or calls < 1:
        raise InputError(f"there must be at least 1 of each: {rounds} rounds of {calls} calls")
    ledger = Ledger()
    bare = np.full((4, 4), 0.5), np.full((4, 4), 1.0)
    counted = tuple(Counted(x.copy(), ledger) for x in bare)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in OPERATIONS}
    for i in range(rounds):  # all in each round: what disturbs this machine lasts longer than one
        for name, operation in OPERATIONS.items():
            for which in (0, 1) if i % 2 else (1, 0):
                times[name][which].append(_time(operation, (bare, counted)[which], calls))
                ledger.settle()
    return [
        Added(name, *map(statistics.median, (a, b, [y - x for x, y in zip(a, b, strict=True)])))
        for name, (a, b) in times.items()
    ]


def _time(operation: Callable[[Any, Any], Any], arrays: Any, calls: int) -> float:
    x, y = arrays
    began = time.perf_counter()
    for _ in range(calls):
        operation(x, y)
    return (time.perf_counter() - began) / calls * 1e6


def show(found: list[Added]) -> Table:
    """A table of them for a terminal."""
    made = tables.table("operation", "bare µs", "counted µs", "added µs")
    for row in found:
        made.add_row(row.operation, *(f"{figure:.2f}" for figure in row[1:]))
    return made
