"""Where files that can be made again are kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """The user's cache folder for this program: in $XDG_CACHE_HOME, or ~/.cache without it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigpt"


@contextmanager
def written_whole(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes `file` at the end of the block, or nothing does.

    Another process may want the same file at the same time.

    Raises:
        OSError: the folder cannot be written, or there is no room.
    """
    mine = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with mine.open("wb") as stream:
            yield stream
        mine.replace(file)
    finally:
        with suppress(OSError):  # below a file there is nothing to take away
            mine.unlink(missing_ok=True)
