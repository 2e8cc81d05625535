"""Signals that ask a program to end: on SIGTERM and SIGHUP it does so as on Ctrl-C.

What was begun is taken back or finished, and the status is what a shell makes of the signal, 128
and its number. Given again it is obeyed at once. What is ignored when the program starts, as nohup
has it, stays so.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ASKING = signal.SIGTERM, signal.SIGHUP


@contextmanager
def ending() -> Iterator[None]:
    """A `with` block that SIGTERM and SIGHUP end with SystemExit."""

    def end(number: int, *_: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        sys.exit(128 + number)

    with _handled(_heard(ASKING), end):
        yield


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
