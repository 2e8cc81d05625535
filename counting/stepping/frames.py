"""Frames of a running program: which are its own, and what can be seen in them."""

import os
import sys
from collections.abc import Iterable, Iterator
from inspect import CO_OPTIMIZED
from types import FrameType

import numpy as np

from counting.array import Counted
from counting.ledger import Ledger

# What a program calls and is not, by folder: this package, NumPy, the standard library.
_COUNTING, _NUMPY = os.path.dirname(os.path.dirname(__file__)), os.path.dirname(np.__file__)
MACHINERY = (f"{_COUNTING}{os.sep}", f"{_NUMPY}{os.sep}")  # spelled as their code objects are
_STANDARD = f"{os.path.dirname(os.__file__)}{os.sep}"
_INSTALLED = ("site-packages", "dist-packages")  # may lie within the standard library's folder


def not_machinery(file: str) -> bool:
    """Whether a file, by its name, is of the program, and not what the program calls."""
    if file.startswith(("<", *MACHINERY)):
        return False
    inside = file.removeprefix(_STANDARD)
    return inside == file or inside.startswith(_INSTALLED)


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, and those that called it, from the inside out."""
    while frame:
        yield frame
        frame = frame.f_back


def ledger_of(frames: Iterable[FrameType]) -> Ledger | None:
    """The ledger of the nearest variable that is a counted array, or that has one."""
    for frame in frames:
        for value in [*frame.f_locals.values()]:
            if type(value) is Counted:
                return value.ledger
            if isinstance(ledger := getattr(value, "__dict__", {}).get("ledger"), Ledger):
                return ledger
    return None


# Before Python 3.13 a look at a frame's variables copies them. The copy stays, and arrays in it
# live on that the program has let go, until the next look, or the end of the frame.
COPIED = sys.version_info < (3, 13)


def forget_variables(frame: FrameType) -> None:
    """Empties the copy of its variables that a look at them has left in a frame of a function.

    Not for the frame whose trace function runs: there it is written back.
    """
    if frame.f_code.co_flags & CO_OPTIMIZED and isinstance(frame.f_locals, dict):
        frame.f_locals.clear()
