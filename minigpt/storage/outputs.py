"""Files that a user names to be written: never one that is read, whole lines or a whole file."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minigpt.errors import InputError
from minigpt.storage.files import locked, reason, written_whole

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
            raise InputError(f"{output} cannot be written: {refusal(output, error)}") from None
        if stat.S_ISREG(status.st_mode):
            existing[status.st_dev, status.st_ino] = output
    for each in inputs if existing else ():
        with suppress(OSError):  # what is not there, or is closed, is not read
            status = os.stat(each)
            if (same := existing.get((status.st_dev, status.st_ino))) is not None:
                what = STREAMS[each] if isinstance(each, int) else str(each)
                also = "" if what == str(same) else f"the same file as {what}, which is "
                raise InputError(f"{same} cannot be written: it is {also}in use; choose another")


@contextmanager
def lines(path: Path, name: str) -> Iterator[Callable[[bytes], None]]:
    """A file that is written line by line: yields a function that appends one, without its newline.

    What was in the file stays until the first line, or the end of a block that writes none. From
    then on the file consists of whole lines at any moment, but for the one that is being written.
    Where that fails, the part of it that was written is cut off again. Until the block ends the
    file is locked, and another block or process that wants to write it so is refused.

    Args:
        name: what errors call the file.

    Raises:
        InputError: the file cannot be opened, is written by another, or a line cannot be written.
    """

    @contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {name}: {refusal(path, error)}") from None

    with refused():
        file, regular = _opened(path)
    whole = 0  # bytes of whole lines

    def cut() -> None:
        if regular:  # of a pipe or a device nothing can be taken back
            os.ftruncate(file, whole)

    def write(line: bytes) -> None:
        nonlocal whole
        rest = line + b"\n"
        size = len(rest)
        with refused():
            if not whole:
                cut()
            try:
                while rest:  # a disk that is nearly full takes a part
                    rest = rest[os.write(file, rest) :]
            except BaseException:
                with suppress(OSError):
                    cut()
                raise
        whole += size

    try:
        yield write
        with refused():
            cut()
    except BaseException:
        with suppress(OSError):
            os.close(file)
        raise
    with refused():
        os.close(file)  # a disk of another machine may say only here that it is full


def _opened(path: Path) -> tuple[int, bool]:
    """Opens a file to write, all that is in it still there: its descriptor, and if it is regular.

    Raises:
        OSError: it cannot be opened, nobody reads it, or somebody has locked it.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            raise OSError("nobody reads it") from None  # and who waits for that waits for ever
        raise
    os.set_blocking(file, True)
    regular = stat.S_ISREG(os.fstat(file).st_mode)
    if regular and locked(file) is False:
        os.close(file)
        raise OSError("another process is writing it")
    return file, regular


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """As `written_whole`, for a file of the user's: it is what a link leads to, and keeps its mode.

    Raises:
        OSError: it is a folder, a pipe or a device, or cannot be written.
    """
    mode = None
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError("it is no regular file")
    with written_whole(Path(os.path.realpath(path))) as part:
        yield part
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))


def refusal(path: Path, error: OSError | ValueError) -> str:
    """Why a file cannot be written, and the way out where it is known."""
    number = getattr(error, "errno", None)
    if number == errno.EISDIR:
        return "it is a folder: name a file in it"
    if number == errno.ENOENT:
        parent = os.path.dirname(os.path.realpath(path) if path.parent.is_dir() else path)
        if not os.path.lexists(parent):  # a descriptor that is not open has one
            return f"there is no folder {parent}: make it first"
    return reason(error)
