"""How files of others are read: regular ones alone, up to a size, and JSON that says one thing."""

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

LONGEST = 1 << 28  # bytes of a file of text: several times those of the largest tokenizer


@contextmanager
def regular(path: Path, longest: int | None = LONGEST) -> Iterator[BinaryIO]:
    """A `with` block that reads a file. A pipe or a device, which may never end, is refused.

    Args:
        longest: bytes that it may have; None is any number of them.

    Raises:
        OSError: it cannot be read, is no regular file, or is longer.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a name with a zero byte, or with half a character
        raise OSError(str(error)) from None
    with open(opened, "rb") as stream:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no regular file")
        if longest is not None and status.st_size > longest:
            raise OSError(f"it has {status.st_size:,} bytes, and {longest:,} are read at most")
        yield stream


def text(path: Path, longest: int = LONGEST) -> str:
    """The text in a file.

    Raises:
        OSError: see `regular`.
        ValueError: it is not UTF-8.
    """
    with regular(path, longest) as stream:
        read = stream.read(longest + 1)  # files of /proc have no size, and some files grow
    if len(read) > longest:
        raise OSError(f"it has more than {longest:,} bytes")
    return read.decode()


def document(path: Path) -> Any:
    """What a JSON file says, see `parsed`.

    Raises:
        OSError: see `regular`.
        ValueError: it is not UTF-8, or see `parsed`.
    """
    return parsed(text(path))


def parsed(text: str, halves: bool = False) -> Any:
    """What a JSON text says.

    What JSON has no number for, `NaN`, `Infinity` or 1e999, stays the text that stands there: no
    check takes it for a number, and it can be written as JSON again.

    Args:
        halves: take halves of characters too, which no text that is printed or made into tokens
            can hold, but the names of files do.

    Raises:
        ValueError: it is no JSON, is nested too deep, or an object says a key twice.
    """
    try:
        found = json.loads(
            text, object_pairs_hook=_once, parse_constant=str, parse_float=_finite_or_text
        )
        if not halves and "\\ud" in text.casefold():
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("it has half a character of UTF-16") from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it says {twice!r} twice")
    return made


def _finite_or_text(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits
