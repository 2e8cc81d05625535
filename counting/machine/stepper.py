"""One call, stepped: the processor stops after each instruction, and machine code notes it."""

import ctypes
import gc
import mmap
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from counting.machine import code, signals
from counting.machine.libraries import Mapped, library
from counting.machine.unavailable import Unavailable

MOST = 1 << 25  # instructions of one call: 6 minutes of them
_ROOM = 8 * MOST, 8 * MOST  # bytes for headers and values; what is not used takes no memory
_SLOT = 512  # bytes of the page of machine code for each of its functions
_NORESERVE = 0x4000


class Stepped(NamedTuple):
    """What was noted of a call.

    Attributes:
        result: what it gave.
        headers, values: the two streams of `code`, (n,) and (m,) of 64 bits.
        threads: as `Ran.threads`.
    """

    result: Any
    headers: np.ndarray
    values: np.ndarray
    threads: Mapping[str, int | None]


class _Code:
    """The machine code in memory, and what it shares with Python."""

    def __init__(self) -> None:
        rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        try:
            page = mmap.mmap(-1, mmap.PAGESIZE, prot=rights)
        except OSError:
            raise Unavailable(
                "executed() needs memory that may be both written and executed, "
                "which this system denies"
            ) from None
        self.handler = _address(page)
        self.state = code.State()
        called = ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value or 0
        state = ctypes.addressof(self.state).to_bytes(8, "little")
        page.seek(2 * _SLOT)
        page.write(code.assembled(code.MASKS))
        masks = ctypes.CFUNCTYPE(ctypes.c_uint32)(self.handler + 2 * _SLOT)()
        page.seek(0)
        page.write(code.assembled(code.HANDLER, state=state, masks=masks.to_bytes(4, "little")))
        page.seek(_SLOT)
        page.write(code.assembled(code.RUN, state=state, call=called.to_bytes(8, "little")))
        objects = 4 * [ctypes.py_object]
        form = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, *objects, ctypes.c_uint32)
        self.run = form(self.handler + _SLOT)
        self.forward = self.handler + 3 * _SLOT
        page.seek(3 * _SLOT)
        page.write(code.assembled(code.FORWARD, state=state))
        self._page = page

    def owns(self, addresses: np.ndarray) -> np.ndarray:
        """Which of them lie in this code."""
        return (addresses >= self.handler) & (addresses < self.handler + mmap.PAGESIZE)


def _address(room: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(room))


_MADE: dict[str, _Code] = {}


def machine_code() -> _Code:
    """The machine code, the same in all threads of a process.

    Raises:
        Unavailable: memory may not be both written and executed.
    """
    return _MADE.get("code") or _MADE.setdefault("code", _Code())


def check() -> None:
    """Raises Unavailable unless this process can be stepped."""
    here = sys.platform, platform.machine(), sys.implementation.name, sys.maxsize > 1 << 32
    if here != ("linux", "x86_64", "cpython", True):
        raise Unavailable("executed() steps CPython on x86-64 processors under Linux alone")
    if int(_status("TracerPid")):
        raise Unavailable("executed() cannot step a process that a debugger or tracer has attached")
    if signal.SIGTRAP in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        raise Unavailable("executed() needs the signal SIGTRAP, which this thread blocks")


def _status(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1]
    raise Unavailable(f"executed() needs {name} in /proc/self/status, which is not there")


def stepped(
    function: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Stepped:
    """Calls a function under the trap flag, the garbage collector off, OpenBLAS on one thread.

    Raises:
        Unavailable: as for `executed`.
    """
    check()
    machine = machine_code()
    if (turn := machine.state.turn) % 2:
        _refuse()
    kinds = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    try:
        rooms = [mmap.mmap(-1, size, flags=kinds) for size in _ROOM]
    except OSError:
        raise Unavailable(f"executed() needs {sum(_ROOM) >> 20} MiB of address space") from None
    headers, values = (np.frombuffer(room, np.uint64) for room in rooms)
    handlers = signals.Handlers(machine.handler, machine.forward)
    threads = _threads()
    first = headers.ctypes.data, values.ctypes.data
    state = code.State(
        turn=turn,
        header=first[0],
        headers=first[0] + headers.nbytes,
        value=first[1],
        values=first[1] + values.nbytes - 24 * 8,
        native_id=threading.get_native_id(),
        process=os.getpid(),
        python=handlers.python,
    )
    calls, given = _calls(handlers, machine.state, state), (tuple(args), dict(kwargs))
    result = machine.run(ctypes.addressof(calls), function, *given, _refuse, turn)
    meanwhile = _meanwhile(threads)
    headers = headers[: (state.header - first[0]) // 8]
    if state.stopped == code.FULL:
        raise Unavailable(
            f"executed() has no room for more than {len(headers):,} instructions: step a part of it"
        )
    if state.stopped == code.TAKEN:
        raise Unavailable(
            "executed() cannot step what starts a thread or a process, or else blocks or takes "
            "signals: let it do so before"
        )
    if not len(headers):
        raise Unavailable("executed() needs the trap flag, which this system ignores")
    return Stepped(result, headers, values[: (state.value - first[1]) // 8], meanwhile)


def _refuse(*_: Any, **__: Any) -> None:
    raise Unavailable("executed() is stepping a call already")


def _calls(handlers: signals.Handlers, shared: code.State, state: code.State) -> Any:
    """What C is called with before and after, for `code.RUN`: all that changes, and back again.

    Args:
        shared: the state that the machine code has, which is to be `state` meanwhile.
    """

    def at(function: Any) -> int:
        return ctypes.cast(function, ctypes.c_void_p).value or 0

    c = ctypes.CDLL(None)
    copy, act, size = at(c.memcpy), at(c.sigaction), ctypes.sizeof(state)
    both = ctypes.addressof(shared), ctypes.addressof(state)
    first, last = [[copy, *both, size]], [[copy, *both[::-1], size]]
    first += [[act, number, new, 0] for number, new, _ in handlers.addresses()]
    last += [[act, number, old, 0] for number, _, old in handlers.addresses()]
    if gc.isenabled():
        first.append([at(ctypes.pythonapi.PyGC_Disable), 0, 0, 0])
        last.append([at(ctypes.pythonapi.PyGC_Enable), 0, 0, 0])
    for set_threads, now in _openblas():
        first.append([at(set_threads), 1, 0, 0])
        last.append([at(set_threads), now, 0, 0])
    words = [word for call in (*first, [0] * 4, *last, [0] * 4) for word in call]
    return (ctypes.c_uint64 * len(words))(*words)


def _openblas() -> list[tuple[Any, int]]:
    """What sets the number of threads of each OpenBLAS that has several, and their number."""
    found = []
    for path in Mapped().files():
        if library(path) != "OpenBLAS":
            continue
        blas = ctypes.CDLL(path)
        for name in ("openblas_{}", "openblas_{}64_", "scipy_openblas_{}", "scipy_openblas_{}64_"):
            get = getattr(blas, name.format("get_num_threads"), None)
            if get is not None and get() > 1:
                found.append((getattr(blas, name.format("set_num_threads")), get()))
                break
    return found


def _threads() -> dict[int, tuple[str, int]]:
    """Names of the process's other threads, and the nanoseconds that they ran so far."""
    found = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        if thread == threading.get_native_id():
            continue
        try:
            name = Path(f"/proc/self/task/{thread}/comm").read_text().strip()
            found[thread] = name, time.clock_gettime_ns(~thread << 3 | 6)  # its CPU clock
        except OSError:  # it ended
            continue
    return found


def _meanwhile(before: Mapping[int, tuple[str, int]]) -> dict[str, int | None]:
    """What `_threads` gives now beside what it gave before: those that ran, by "name (number)"."""
    now, ran = _threads(), dict[str, int | None]()
    for thread, (name, _) in {**before, **now}.items():
        spent = now[thread][1] - before.get(thread, ("", 0))[1] if thread in now else None
        if spent != 0:
            ran[f"{name} ({thread})"] = spent
    return ran
