"""Notes: what the program does without and the way out, each said once, in one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from minigpt.harmless import one_line

log = logging.getLogger("minigpt")


@lru_cache(1000)
def note(line: str) -> None:
    """Says a line on standard error, once in a process.

    It is a warning of the logger "minigpt", for programs that want it elsewhere or not at all.
    """
    log.warning("minigpt: %s", one_line(line))


@contextmanager
def saying(aloud: bool) -> Iterator[None]:
    """A `with` block in which notes are said, or are not."""
    before, log.disabled = log.disabled, not aloud
    try:
        yield
    finally:
        log.disabled = before
