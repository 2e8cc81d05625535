"""A debugger for `breakpoint()`: PYTHONBREAKPOINT=minigpt.step."""

import sys
from functools import cache
from typing import Any

from minigpt.stepping.debugger import Debugger


@cache
def _debugger() -> Debugger:
    debugger = Debugger()  # one, so that its breakpoints and aliases last
    debugger.inline = True
    return debugger


def step(*args: Any, **options: Any) -> None:
    """The debugger of `minigpt step`, opened where it is called, as `pdb.set_trace` is.

    PYTHONBREAKPOINT=minigpt.step makes it what `breakpoint()` calls. Figures are those of the
    ledger from its start, and composites called from there on run open; `quit` ends the program
    quietly, as SystemExit does; only `back` needs `minigpt step`.
    """
    _debugger().break_in(sys._getframe(1))
