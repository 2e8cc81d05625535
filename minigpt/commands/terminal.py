"""What is printed: tables of any width, and text that comes bit by bit with a status under it."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.highlighter import ReprHighlighter
from rich.segment import Segment
from rich.text import Text

from minigpt.harmless import bare, harmless

FEWEST = 40, 12  # columns and rows of a full screen
WIDE = 10_000  # columns: more than a table has


class _Figures(ReprHighlighter):
    """The colours of figures and names; none in a text so long that to find them takes minutes."""

    def highlight(self, text: Text) -> None:
        if len(text) <= WIDE:
            super().highlight(text)


class Shown(Console):
    """A rich console for text of others: brackets are no style, and a terminal gets it harmless.

    Args:
        file: where it prints.
        options: of `rich.console.Console`.
    """

    def __init__(self, file: Any, **options: Any) -> None:
        options = {"markup": False, "emoji": False, "highlighter": _Figures(), **options}
        super().__init__(file=bare(file), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(self._harmless(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        segments = super().render(renderable, options)
        if not self.is_terminal:
            return segments
        return (Segment(s.text if s.control else harmless(s.text), *s[1:]) for s in segments)

    def _harmless(self, text: str) -> str:
        return harmless(text) if self.is_terminal else text


def console(stderr: bool = False, prose: bool = False) -> Console:
    """A console for tables, wide enough for any: a figure that is cut is none.

    Args:
        stderr: standard error instead of standard output.
        prose: tables of sentences, which fold in the width of a terminal; elsewhere nothing does.
    """
    made = Shown(sys.stderr if stderr else sys.stdout)
    if not (prose and made.is_terminal):
        made.width = WIDE
    return made


@contextmanager
def progress(title: str, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar while a block runs, on standard error if that is a terminal: (bytes done, in all).

    It is drawn when the first bytes are told of, so that none stands before an error.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # not for tables

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
    terminal = Shown(sys.stderr)
    hidden = not (show and terminal.is_terminal)
    bar = Progress(*columns, console=terminal, transient=True, disable=hidden)
    task = bar.add_task(title, total=None)

    def told(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield told
    finally:
        bar.stop()


@contextmanager
def doing(what: str) -> Iterator[Callable[[str], None]]:
    """What is done while a block runs, on standard error if that is a terminal: to say it anew."""
    with Shown(sys.stderr).status(Text(what)) as status:
        yield lambda what: status.update(Text(what))


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
        text = harmless(text).replace("\t", "    ")
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
        print(f"\x1b[J{text}", end="", flush=True, file=bare(sys.stdout))
