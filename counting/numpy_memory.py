"""NumPy's allocator as an independent witness of what a ledger says of memory.

tracemalloc is told of every block of array data, exactly and in native code; once Python's own
objects are taken out of its sight, its peak is NumPy's alone. A data-memory handler (NEP 49; the
package numpy-allocator installs one) would need callbacks in Python, and `free` is called while
exceptions are pending: tried with ctypes, the exception was lost, then the process crashed.
"""

import ctypes
import os
import tracemalloc
from collections.abc import Collection
from pathlib import Path

import numpy as np

from counting.process_memory import resident

_FRAMES = 12  # how far back `by_file` looks for a file
_OWN = tuple(f"{os.path.dirname(file)}{os.sep}" for file in (__file__, np.__file__))


class _Allocator(ctypes.Structure):
    """`PyMemAllocatorEx` of Python's C-API."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


class Allocations:
    """Every block of array data that NumPy allocates in a `with` block, in bytes as asked for.

    Blocks born before are not known, nor is anything after. Nor is what NumPy does not ask its
    data allocator for: memory-mapped files, scalars (a full sum is live to the ledger alone),
    shapes and strides, buffers of iterators and casts, BLAS's workspace. A block that NumPy's
    small-block cache keeps for reuse counts as freed; an empty array counts 1 byte.

    Attributes:
        before: what the system says of the whole process before the block, if it says it.

    Raises:
        RuntimeError: tracemalloc is tracing already: there is only one.
    """

    def __enter__(self) -> "Allocations":
        if tracemalloc.is_tracing():
            raise RuntimeError("tracemalloc is tracing already: stop it first")
        self.before = resident()
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
            known: files to name rather than those that they called, if any is on the way.
        """
        found: dict[Path, int] = {}
        for trace in tracemalloc.take_snapshot().traces:
            files = [frame.filename for frame in reversed(trace.traceback)]
            others = [name for name in files if not name.startswith(_OWN)] or files[-1:]
            file = next((f for f in map(Path, others) if f in known), Path(others[0]))
            found[file] = found.get(file, 0) + trace.size
        return found
