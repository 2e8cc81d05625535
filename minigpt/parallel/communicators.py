"""What joins the devices that share a model: in a ring each passes arrays on to one after it."""

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import sleep
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np

from counting import ShapeArray
from minigpt.errors import InputError
from minigpt.parallel.processes import said


@runtime_checkable
class Communicator(Protocol):
    """A device's place in the ring.

    Attributes:
        rank: its number.
        size: how many there are.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def exchange(self, x: Any, width: int, distance: int = 1) -> Any:
        """Sends `x` (n,) so many devices on; gives what comes from as many before (width,)."""


@dataclass(frozen=True)
class Alone:
    """A ring of one."""

    rank = 0
    size = 1

    def exchange(self, x: Any, width: int, distance: int = 1) -> Any:
        return x.copy()


@dataclass(frozen=True)
class OnPaper:
    """A device of a ring of which no other runs: arrays are shapes alone."""

    rank: int
    size: int

    def exchange(self, x: Any, width: int, distance: int = 1) -> ShapeArray:
        return ShapeArray((width,), x.dtype)


class MPI:
    """Processes that mpiexec started, by the buffers of mpi4py.

    Raises:
        InputError: mpi4py or an MPI is not installed.
    """

    def __init__(self) -> None:
        try:
            from mpi4py.MPI import COMM_WORLD
        except (ImportError, RuntimeError) as error:
            line = str(error).splitlines()[0]
            raise InputError(
                f"several processes need MPI: pip install -e '.[parallel]' in the clone ({line})"
            ) from None
        self.world = COMM_WORLD
        self.rank, self.size = COMM_WORLD.Get_rank(), COMM_WORLD.Get_size()
        COMM_WORLD.Barrier()  # from here on all have what they share
        _unname()

    def exchange(self, x: np.ndarray, width: int, distance: int = 1) -> np.ndarray:
        received = np.empty(width, x.dtype)
        after, before = ((self.rank + far) % self.size for far in (distance, -distance))
        sent, came = (a.view(np.uint8) for a in (np.ascontiguousarray(x), received))  # any dtype
        self.world.Sendrecv(sent, after, recvbuf=came, source=before)
        return received

    def everyone(self, value: Any) -> list[Any]:
        """What each process says, in the order of ranks; it is no part of what is counted."""
        return self.world.allgather(value)

    def on_machine(self) -> tuple[int, int]:
        """Which of how many processes of one machine it is, from 0 on."""
        from mpi4py.MPI import COMM_TYPE_SHARED

        here = self.world.Split_type(COMM_TYPE_SHARED)
        return here.Get_rank(), here.Get_size()

    @contextmanager
    def together(self) -> Iterator[None]:
        """A `with` block that ends all processes, if an error ends it in one that then ends too.

        The error goes on, so that what is wrong is said first. Most errors come to all processes:
        the first one says them, others wait a second before they do.
        """
        try:
            yield
        except BaseException as error:
            code = error.code if isinstance(error, SystemExit) else None
            stopped = 130 if isinstance(error, KeyboardInterrupt) else 2
            atexit.register(self.abort, code if isinstance(code, int) else stopped)
            if self.rank and isinstance(error, Exception):
                sleep(1)
            raise

    def abort(self, status: int) -> NoReturn:
        """Ends all processes, without a line of MPI's own, once what this one said is read."""
        with suppress(OSError):
            said()
            os.close(2)
        self.world.Abort(status)
        os._exit(status)


def _unname() -> None:
    """Removes the name of the memory that processes on a machine share, which goes on without.

    MPICH does so at the end alone: of processes that are killed it would stay for good.
    """
    with suppress(OSError), open("/proc/self/maps") as maps:
        for name in set(re.findall("/dev/shm/mpich_shm_.*_0$", maps.read(), re.MULTILINE)):
            with suppress(FileNotFoundError):  # another was first
                os.unlink(name)
