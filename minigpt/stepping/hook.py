"""A debugger for `breakpoint()`: PYTHONBREAKPOINT=minigpt.step."""

import sys
from functools import cache
from typing import Any

from minigpt.stepping.debugger import Debugger


@cache
def _debugger() -> Debugger:
    return Debugger()  # one, so that its breakpoints and aliases last


def step(*args: Any, **options: Any) -> None:
    """The debugger of `minigpt step`, opened where it is called, as `pdb.set_trace` is.

    PYTHONBREAKPOINT=minigpt.step makes it what `breakpoint()` calls. It counts from there on, and
    composites called from there on run open; only `back` needs `minigpt step`.
    """
    _debugger().break_in(sys._getframe(1))
