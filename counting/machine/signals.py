"""Which signals are handled otherwise while a call is stepped, and how they were handled before."""

import ctypes
import signal
import threading
from collections.abc import Iterator

_SA_SIGINFO = 4


class _Action(ctypes.Structure):
    """C's `struct sigaction`."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Handlers:
    """How signals are handled now, and how they are to be while this thread is stepped.

    SIGTRAP goes to `trap`; in the main thread, what Python has a handler for goes to `forward`.

    Args:
        trap, forward: addresses of `code.HANDLER` and `code.FORWARD`.

    Attributes:
        python: the address of what Python handles signals with in C; 0 if it handles none.
    """

    def __init__(self, trap: int, forward: int) -> None:
        self.python = 0
        self._actions = [(signal.SIGTRAP, _Action(trap, flags=_SA_SIGINFO), _now(signal.SIGTRAP))]
        if threading.current_thread() is not threading.main_thread():
            return  # the main thread waits for its lock, and looks then
        for number in sorted(signal.valid_signals() - {signal.SIGTRAP}):
            old = _now(number) if callable(signal.getsignal(number)) else None
            if old is None or not old.handler or (self.python and old.handler != self.python):
                continue
            self.python = old.handler
            self._actions.append((number, _Action(forward, old.mask, old.flags), old))

    def addresses(self) -> Iterator[tuple[int, int, int]]:
        """Signals, and addresses of C's structures: how to handle them, how they were handled."""
        for number, new, old in self._actions:
            yield number, ctypes.addressof(new), ctypes.addressof(old)


def _now(number: int) -> _Action:
    found = _Action()
    ctypes.CDLL(None).sigaction(number, None, ctypes.byref(found))
    return found
