"""Files that are written: never one that is read, and whole lines or none."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minigpt.errors import InputError

STREAMS = {0: "standard input", 1: "standard output", 2: "standard error"}


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path | int]) -> None:
    """Checks, before anything is opened, that no output is one of the inputs by another name.

    A name may be a symbolic or a hard link, differ in case where that is no difference, or be one
    of an open file (`/dev/stdin`). Only files are compared: to write to a device or a pipe destroys
    nothing.

    Args:
        inputs: paths, and numbers of open streams.

    Raises:
        InputError: an output is an input, or cannot be looked at.
    """
    existing = {}
    for output in outputs:
        try:
            status = output.stat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InputError(f"{output} cannot be written: {_why(error)}") from None
        if stat.S_ISREG(status.st_mode):
            existing[status.st_dev, status.st_ino] = output
    for each in inputs if existing else ():
        with suppress(OSError):  # what is not there, or is closed, is not read
            status = os.stat(each)
            if (same := existing.get((status.st_dev, status.st_ino))) is not None:
                what = STREAMS[each] if isinstance(each, int) else each
                raise InputError(
                    f"{same} cannot be written: it is the same file as {what}, which is in use; "
                    "choose another"
                )


@contextmanager
def lines(path: Path, name: str) -> Iterator[Callable[[bytes], None]]:
    """A file that is written line by line: yields what takes a line, without its end.

    What is there at any moment are whole lines, but for the one that is being written; where that
    fails, the part of it that was written is taken back.

    Args:
        name: of the file, for who reads the error.

    Raises:
        InputError: the file cannot be opened, or a line not be written.
    """

    @contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {name}: {_why(error)}") from None

    with refused():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    whole = 0  # bytes of lines that are whole

    def write(line: bytes) -> None:
        nonlocal whole
        rest = line + b"\n"
        size = len(rest)
        with refused():
            try:
                while rest:  # a disk that is nearly full takes a part
                    rest = rest[os.write(file, rest) :]
            except BaseException:
                with suppress(OSError):  # of a pipe or a device nothing can be taken back
                    os.ftruncate(file, whole)
                raise
        whole += size

    try:
        yield write
    except BaseException:
        with suppress(OSError):
            os.close(file)
        raise
    with refused():
        os.close(file)  # a disk of another machine may say only here that it is full


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
