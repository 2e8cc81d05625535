"""Published counts beside what the installed library executes, as a table.

python scripts/executed.py

For rows of the table of costs that nobody looks into, at sizes that take a minute in all. What is
executed is that of this processor and of these versions of NumPy and its BLAS.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from counting import Counted, Ledger, executed
from counting.table import table
from counting.views import flops

OWN = ("Python", "libc")  # what looks after a call, and computes nothing of it


class Row(NamedTuple):
    """A call, the floating-point operations that are published of it, and those that it executed.

    `masked` are lanes of vectors that it ran switched off, which nobody counts.
    """

    call: str
    published: int
    executed: int
    masked: int


def calls(n: int = 24) -> list[tuple[str, Callable[..., Any], tuple[np.ndarray, ...]]]:
    """A name, a function, and what it is called with: matrices (n, n), vectors of 16 n."""
    rng = np.random.default_rng(0)
    a, b, x = rng.random((n, n)), rng.random((n, n)), rng.random(16 * n)
    whole = a @ a.T + np.eye(n)
    matrices = f"({n}, {n})"
    return [
        (f"det {matrices}", np.linalg.det, (a,)),
        (f"solve {matrices}, {matrices}", np.linalg.solve, (a, b)),
        (f"inv {matrices}", np.linalg.inv, (a,)),
        (f"cholesky {matrices}", np.linalg.cholesky, (whole,)),
        (f"qr {matrices}", np.linalg.qr, (a,)),
        (f"svd {matrices}", np.linalg.svd, (a,)),
        (f"eigh {matrices}", np.linalg.eigh, (whole,)),
        (f"eigvals {matrices}", np.linalg.eigvals, (a,)),
        (f"fft.fft ({16 * n},)", np.fft.fft, (x,)),
        (f"fft.rfft ({16 * n},)", np.fft.rfft, (x,)),
        (f"sort ({16 * n},)", np.sort, (x,)),
        (f"argsort ({16 * n},)", np.argsort, (x,)),
    ]


def rows(n: int = 24) -> Iterator[Row]:
    """A row for each of `calls(n)`."""
    for name, function, args in calls(n):
        ledger = Ledger()
        function(*(Counted(x, ledger) for x in args))
        function(*args)  # what is done at a first call is not counted
        _, ran = executed(function, *args)
        libraries = [library for library in ran.libraries if library not in OWN]
        did = sum(map(ran.flops, libraries))
        off = sum(ran.masked(library).total() for library in libraries)
        yield Row(name, int(flops(ledger.snapshot())), did, off)


def main() -> None:
    made = table("call", "published", "executed", "executed / published", "masked off")
    for row in rows():
        ratio = f"{row.executed / row.published:.2f}"
        off = f"{row.masked:,}" if row.masked else ""
        made.add_row(row.call, f"{row.published:,}", f"{row.executed:,}", ratio, off)
    Console(width=100).print(made)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
