"""How files of others are read: regular ones alone, up to a size, and JSON that says one thing."""

import json
import math
import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

LONGEST = 1 << 28  # bytes of a file of text: several times those of the largest tokenizer
NOT_UTF8 = "it is not UTF-8 text: save it as that"
TOO_DEEP = "it is nested too deep"


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
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode):
        os.close(opened)
        what = "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise OSError(f"it is {what}")
    with open(opened, "rb") as stream:
        if longest is not None and status.st_size > longest:
            raise OSError(f"it has {status.st_size:,} bytes, and {longest:,} are read at most")
        yield stream


def text(path: Path, longest: int = LONGEST) -> str:
    """The text in a file, without the mark of byte order that some editors begin it with.

    Raises:
        OSError: see `regular`.
        ValueError: it is not UTF-8.
    """
    with regular(path, longest) as stream:
        read = stream.read(longest + 1)  # files of /proc have no size, and some files grow
    if len(read) > longest:
        raise OSError(f"it has more than {longest:,} bytes")
    if read.startswith(b"\x1f\x8b"):
        raise ValueError("it is compressed: unpack it with gunzip")
    try:
        return read.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(NOT_UTF8) from None


def document(path: Path) -> Any:
    """What a JSON file says, or a TOML file, which its name tells; see `parsed`.

    Raises:
        OSError: see `regular`.
        ValueError: it is not UTF-8, no TOML, or see `parsed`.
    """
    read, toml = text(path), path.suffix.lower() == ".toml"
    try:
        return tomllib.loads(read) if toml else parsed(read)
    except RecursionError:  # of TOML; JSON says so itself
        raise ValueError(TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(instead(read) or _in_words(error)) from None


def instead(text: str) -> str | None:
    """What stands in the place of a JSON or a TOML file, and the way out; None if that is unknown.

    Args:
        text: of a file that is neither.
    """
    begin = text[:512].lstrip().casefold()
    if begin.startswith("version https://git-lfs"):
        return "it is a pointer of Git LFS: run git lfs pull, or get it again"
    if begin.startswith(("<!doctype", "<html")):
        return "it is a page of HTML: get it again"
    if "\0" in begin:
        return NOT_UTF8
    return None if begin else "it is empty: get it again"


def parsed(text: str, halves: bool = False) -> Any:
    """What a JSON text says.

    What JSON has no number for, `NaN`, `Infinity` or 1e999, stays the text that stands there: no
    check takes it for a number, and it can be written as JSON again.

    Args:
        halves: take halves of characters too, which no text that is printed or made into tokens
            can hold, but the names of files do.

    Raises:
        ValueError: it is no JSON, is nested too deep, has a number of thousands of digits, or an
            object says a key twice.
    """
    try:
        found = json.loads(
            text, object_pairs_hook=_once, parse_constant=str, parse_float=_finite_or_text
        )
        if not halves and "\\ud" in text.casefold():
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except UnicodeEncodeError:
        raise ValueError("it has half a character of UTF-16") from None
    except ValueError as error:
        raise ValueError(_in_words(error)) from None
    return found


def _in_words(error: ValueError) -> str:
    """What is wrong; of a number that Python does not read, not how a program would let it."""
    said = str(error)
    return "it has a number of thousands of digits" if said.startswith("Exceeds the") else said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it says {twice!r:.100} twice")
    return made


def _finite_or_text(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits
