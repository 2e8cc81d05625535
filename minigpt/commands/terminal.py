"""What is printed: tables of any width, and text that comes bit by bit with a status under it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import ReprHighlighter
from rich.text import Text

# A model may say anything: control characters do not reach the terminal.
_HARMLESS = dict.fromkeys((*range(32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")
_HARMLESS |= {ord("\n"): "\n", ord("\t"): "    ", ord("\r"): ""}

FEWEST = 40, 12  # columns and rows of a full screen
WIDE = 10_000  # columns: more than a table has


class _Figures(ReprHighlighter):
    """The colours of figures and names; none in a text so long that to find them takes minutes."""

    def highlight(self, text: Text) -> None:
        if len(text) <= WIDE:
            super().highlight(text)


def console(stderr: bool = False, prose: bool = False, markup: bool = True) -> Console:
    """A console for tables, wide enough for any: a figure that is cut is none.

    Args:
        stderr: standard error instead of standard output.
        prose: tables of sentences, which fold in the width of a terminal; elsewhere nothing does.
        markup: whether text in brackets may be a style, which a name never is.
    """
    made = Console(stderr=stderr, markup=markup, highlighter=_Figures())
    if not (prose and made.is_terminal):
        made.width = WIDE
    return made


@contextmanager
def progress(title: str, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar while a block runs, on standard error if that is a terminal: (bytes done, in all)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # not for tables

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
    terminal = Console(stderr=True)
    hidden = not (show and terminal.is_terminal)
    with Progress(*columns, console=terminal, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def harmless(text: str) -> str:
    """What a terminal may be sent of a text that nobody has looked at."""
    return text.translate(_HARMLESS)


def can_show() -> bool:
    """Whether standard output is a terminal whose cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def has_room() -> bool:
    """Whether there is room for panels, and some text over them."""
    columns, rows = get_terminal_size()
    return columns >= FEWEST[0] and rows >= FEWEST[1]


class LiveText:
    """Text on standard output that the terminal itself wraps, so that a copy of it is whole.

    The status is drawn below and the cursor goes back to where the text ends; what comes next
    erases it.
    """

    def __init__(self) -> None:
        self._column = 0  # where the text ends

    def write(self, text: str, *status: str) -> None:
        """Adds `text`, and puts the parts of `status` under it in place of the last one."""
        columns, rows = get_terminal_size()
        text = harmless(text)
        for char in text:
            wide = cell_len(char)
            if char == "\n" or self._column + wide > columns:
                self._column = 0
            self._column += wide
        joined = " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in status)
        lines = wrap(joined, columns)[: rows - 1]
        if lines and self._column < columns:  # past a full row the cursor could not come back
            back = f"\x1b[{len(lines)}A\r" + (f"\x1b[{self._column}C" if self._column else "")
            text += "\x1b[2m" + "".join(f"\n{line}" for line in lines) + f"\x1b[0m{back}"
        print(f"\x1b[J{text}", end="", flush=True)
