"""Signals that ask a program to end: on SIGTERM and SIGHUP it does so as on Ctrl-C.

What was begun is taken back or finished, and the status is what a shell makes of the signal, 128
and its number. Given again it is obeyed at once. What is ignored when the program starts, as nohup
has it, stays so. SIGBUS, which nobody asks for, is at least said in a line.
"""

import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from time import sleep
from typing import Any

from minigpt.harmless import one_line

ASKING = signal.SIGTERM, signal.SIGHUP


@contextmanager
def ending() -> Iterator[None]:
    """A `with` block that SIGTERM and SIGHUP end with SystemExit.

    Python raises it wherever it is, in a `__del__` too, as arrays have that are counted; these
    swallow what is raised. The signal then comes once more, and so does Ctrl-C.
    """
    asked: list[tuple[int, Any]] = []
    swallowing = False

    def end(number: int, *_: Any) -> None:
        asked.append((number, signal.signal(number, signal.SIG_DFL)))
        sys.exit(128 + number)

    def come_again(number: int) -> None:
        while swallowing:  # what is raised there is swallowed for good
            sleep(0.01)
        os.kill(os.getpid(), number)

    def swallowed(lost: Any) -> None:
        nonlocal swallowing
        number: int = signal.SIGINT
        if asked and lost.exc_type is SystemExit:
            number, handler = asked.pop()
            signal.signal(number, handler)
        elif lost.exc_type is not KeyboardInterrupt:
            hook(lost)
            return
        swallowing = True
        Thread(target=come_again, args=(number,), daemon=True).start()
        swallowing = False  # Python looks for signals after calls: there is none before it returns

    hook = sys.unraisablehook
    sys.unraisablehook = swallowed
    try:
        with _handled(_heard(ASKING), end):
            yield
    finally:
        sys.unraisablehook = hook


@contextmanager
def finishing() -> Iterator[Callable[[], int]]:
    """A `with` block that looks itself whether to end: yields what gives the status, 0 until asked.

    Asked again, by Ctrl-C or by either signal, it is KeyboardInterrupt that comes, and then the
    end. Python would raise the first time already, anywhere, in a `__del__` too, which swallows it.
    """
    status = 0

    def ask(number: int, *_: Any) -> None:
        nonlocal status
        if status:
            for each in asking:
                signal.signal(each, signal.SIG_DFL)
            raise KeyboardInterrupt
        status = 128 + number

    asking = [signal.SIGINT, *_heard(ASKING)]
    with _handled(asking, ask):
        yield lambda: status


@contextmanager
def telling() -> Iterator[None]:
    """A `with` block in which a file that is cut while it is mapped ends the program with a line.

    Who reads where a mapped file no longer is gets SIGBUS, in the midst of an instruction that
    cannot end: Python's own handlers run after it, and so never. This one is called from C, at
    once, in whichever thread it was. It may wait for Python's lock there: of those who have it,
    none waits for a thread that computes. In no case does it come back.
    """

    def told(number: int) -> None:
        os.write(2, f"\nminigpt: {one_line(_cut())}\n".encode(errors="replace"))
        os._exit(2)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(told)
    change = ctypes.CDLL(None).signal
    change.restype, change.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    before = change(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        change(signal.SIGBUS, before)


def _cut() -> str:
    """Which of the files that are mapped ends before its mapping, as far as the system says."""
    with suppress(OSError), open("/proc/self/maps", errors="surrogateescape") as maps:
        for line in maps:
            where, mode, offset, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            if path and mode == "r--s":  # as weights are; libraries may be longer than their files
                begin, end = (int(address, 16) for address in where.split("-"))
                with suppress(OSError):
                    size = os.stat(path[0]).st_size
                    if int(offset, 16) + end - begin >= size + mmap.PAGESIZE:
                        return f"{path[0]} was made shorter while it is in use: start again"
    return "a file that is in use cannot be read any more: it was made shorter, or its disk failed"


def _heard(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def _handled(numbers: Sequence[signal.Signals], handle: Callable[..., None]) -> Iterator[None]:
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def handler(number: int, frame: Any) -> None:
        if number == signal.SIGHUP:  # the terminal may be gone: to print there would be an error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in terminals:
                os.dup2(nowhere, stream)
        handle(number, frame)

    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
