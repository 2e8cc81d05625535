"""GPUs that pass arrays on in a ring, by NCCL, a process each.

It has not run on GPUs yet: calls are by CuPy's reference, and tested against a stand-in.
"""

import atexit
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import cupy

with warnings.catch_warnings(action="ignore"):  # what they say where NCCL is missing, `NCCL` does
    from cupy.cuda import nccl

from minigpt.errors import InputError


class World(Protocol):
    """Processes that agree on how to begin, such as `communicators.MPI`."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def everyone(self, value: Any) -> list[Any]: ...


class NCCL:
    """A ring of the current GPUs of processes. See `communicators.Communicator`.

    Args:
        world: the processes, all of which make one at once.

    Raises:
        InputError: NCCL is not installed, or cannot join these GPUs.
    """

    def __init__(self, world: World) -> None:
        if not nccl.available:
            wheel = f"nvidia-nccl-cu{cupy.cuda.runtime.runtimeGetVersion() // 1000}"
            raise InputError(f"CuPy finds no NCCL, which joins GPUs: pip install {wheel}")
        self.rank, self.size = world.rank, world.size
        with _errors():
            name = world.everyone(None if self.rank else nccl.get_unique_id())[0]
            self._ring = nccl.NcclCommunicator(self.size, name, self.rank)
        # It lives until then: to let go of it where others still wait for it could wait for them.
        atexit.register(self._ring.destroy)

    def exchange(self, x: Any, width: int, distance: int = 1) -> Any:
        """Sends `x` (n,) so many GPUs on, gives what comes from as many before (width,), any dtype.

        Both are on the current stream; of no bytes there is no message, nor an address.
        """
        sent, received = cupy.ascontiguousarray(x), cupy.empty(width, x.dtype)
        stream = cupy.cuda.get_current_stream().ptr
        with _errors():
            nccl.groupStart()  # either alone would wait for the other
            if sent.nbytes:
                after = (self.rank + distance) % self.size
                self._ring.send(sent.data.ptr, sent.nbytes, nccl.NCCL_UINT8, after, stream)
            if received.nbytes:
                before = (self.rank - distance) % self.size
                self._ring.recv(received.data.ptr, received.nbytes, nccl.NCCL_UINT8, before, stream)
            nccl.groupEnd()
        return received


@contextmanager
def _errors() -> Iterator[None]:
    """A `with` block in which what NCCL says is wrong is an InputError."""
    try:
        yield
    except nccl.NcclError as error:
        raise InputError(f"NCCL: {error}") from None  # it says how to learn more
