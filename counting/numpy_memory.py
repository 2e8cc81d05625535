"""NumPy's allocator as an independent witness of what a ledger says of memory.

tracemalloc is told of every block of array data, exactly and in native code; once Python's own
objects are taken out of its sight, its peak is NumPy's alone. A data-memory handler (NEP 49; the
package numpy-allocator installs one) would need callbacks in Python, and `free` is called while
exceptions are pending: tried with ctypes, the exception was lost, then the process crashed.
"""

import ctypes
import os
import tracemalloc
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from counting.charge import Charge
from counting.ledger import Ledger
from counting.scope import place

_FRAMES = 12  # how far back `by_file` looks for a file
_OWN = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, np.__file__))


class _Allocator(ctypes.Structure):
    """`PyMemAllocatorEx` of Python's C-API."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


class Allocations:
    """Every block of array data that NumPy allocates in a `with` block, in bytes as asked for.

    Blocks born before are not known, nor is anything after. Nor is what NumPy does not ask its
    data allocator for: memory-mapped files, scalars (a full sum is live to the ledger alone),
    shapes and strides, buffers of iterators and casts, BLAS's workspace. A block that NumPy's
    small-block cache keeps for reuse counts as freed; an empty array counts 1 byte.

    Raises:
        RuntimeError: tracemalloc is tracing already: there is only one.
    """

    def __enter__(self) -> "Allocations":
        if tracemalloc.is_tracing():
            raise RuntimeError("tracemalloc is tracing already: stop it first")
        kept = [(domain, _Allocator()) for domain in range(3)]  # raw, mem, object
        for domain, allocator in kept:
            ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        tracemalloc.start(_FRAMES)
        for domain, allocator in kept:  # without tracemalloc's hooks, as `stop` will leave it
            ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))
        tracemalloc.clear_traces()
        return self

    def __exit__(self, *exception: object) -> None:
        tracemalloc.stop()

    @property
    def live(self) -> int:
        """Bytes alive now; 0 after the block."""
        return tracemalloc.get_traced_memory()[0]

    @property
    def peak(self) -> int:
        """The most bytes that were alive at once, since the start or `reset_peak`."""
        return tracemalloc.get_traced_memory()[1]

    def reset_peak(self) -> None:
        """Sets the peak to what is alive now."""
        tracemalloc.reset_peak()

    def by_file(self, known: Collection[Path] = ()) -> dict[Path, int]:
        """Live bytes by the file whose code, outside of NumPy and this package, asked for them.

        Args:
            known: files that are named sooner, where they asked for it through others.
        """
        found: dict[Path, int] = {}
        for trace in tracemalloc.take_snapshot().traces:
            files = [frame.filename for frame in reversed(trace.traceback)]
            others = [name for name in files if not name.startswith(_OWN)] or files[-1:]
            file = next((f for f in map(Path, others) if f in known), Path(others[0]))
            found[file] = found.get(file, 0) + trace.size
        return found


class Moment(NamedTuple):
    """The most bytes held while an operation ran, over what was held at the start.

    Attributes:
        path, operation: which, as in `Counts`.
        ledger: by the ledger: what was alive before, and its temporaries or its result.
        real: by the allocator.
    """

    path: str
    operation: str
    ledger: int
    real: int


class _Watched(dict[Any, Charge]):
    """The prices of a ledger; each operation asks for its own just before it runs."""

    def __init__(self, ledger: Ledger, allocations: Allocations) -> None:
        super().__init__(ledger.charges)
        self._ledger, self._allocations = ledger, allocations
        self._start = self._before()
        self.moments: list[Moment] = []
        self._running: tuple[str, str, int] | None = None

    def _before(self) -> tuple[int, int]:
        return sum(self._ledger.live_bytes.values()), self._allocations.live

    def close(self) -> None:
        """Enters the operation that ran last."""
        if self._running:
            real = self._allocations.peak - self._start[1]
            self.moments.append(Moment(*self._running, real))
        self._running = None

    def get(self, key: Any, default: Any = None) -> Any:
        self.close()
        charge = super().get(key)
        if charge is not None:
            held = max(charge.transient, charge.result.nbytes if charge.result else 0)
            ledger = self._before()[0] - self._start[0] + held
            self._running = (place.get().path, charge.operation, ledger)
            self._allocations.reset_peak()
        return charge


def moments(ledger: Ledger, run: Callable[[], Any], allocations: Allocations) -> list[Moment]:
    """What ledger and allocator say of each operation of `run`, in order.

    It runs twice: finding the prices of operations, the first time, makes small arrays itself.
    Arrays of `run` must be born inside `allocations`, or the two do not see the same.
    """
    run()
    charges = ledger.charges
    watched = _Watched(ledger, allocations)
    ledger.charges = ledger.hot = watched
    try:
        run()
        watched.close()
    finally:
        ledger.charges = ledger.hot = charges
    return watched.moments


def transients(moments: list[Moment]) -> dict[str, int]:
    """The bytes that each operation held beyond what the ledger knows of, at most; none at 0.

    In float32 on NumPy 2.1 and 2.4 they are, each tried alone: for a number among the operands 4,
    the array that it is made into (more where the result is as small, for it is float64 first);
    `np.where` with a number 12, both; `np.ones_like` 12 for its 1, of bool 16; `np.mean` 16 for
    its number of elements; `np.tril` a mask of one byte an element, and its 0; float16 differs in
    `np.mean`, which adds up in float32. Below 0 would be a temporary of 256 KiB or more that NumPy
    writes over: `x * x * x` on bare arrays.
    """
    beyond: dict[str, int] = {}
    for moment in moments:
        if differs := moment.real - moment.ledger:
            beyond[moment.operation] = max(differs, beyond.get(moment.operation, differs))
    return beyond
