"""How files are written: whole or not at all, whole lines or none, never one that is read."""

import fcntl
import os
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minigpt.errors import InputError

STREAMS = {0: "standard input", 1: "standard output", 2: "standard error"}
PART = ".part"  # how the name of what is not whole yet ends
FORGOTTEN = 86_400.0  # seconds after which nobody is at it any more, where no lock can tell


def cache_folder() -> Path:
    """The user's cache folder for this program: in $XDG_CACHE_HOME, or ~/.cache without it.

    A relative $XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification says: it would
    be another folder, of whoever made it, wherever the program is started.

    Raises:
        OSError: this user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.environ.get("HOME", "")
        if not os.path.isabs(home):
            try:
                home = pwd.getpwuid(os.geteuid()).pw_dir
            except KeyError:
                raise OSError("this user has no home folder: set XDG_CACHE_HOME") from None
        base = os.path.join(home, ".cache")
    return Path(base) / "minigpt"


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """An empty folder next to `path`, of this block alone and gone after it.

    Its name is random and made exclusively: threads, processes and containers that share a disk
    never meet in one. It is locked, so that what a killed process left behind can be told from
    what is being written, and taken away here.

    Raises:
        OSError: the folder of `path` is not there, or cannot be written.
    """
    prefix = f".{os.fsdecode(os.fsencode(path.name)[:100])}."
    sweep(path.parent, prefix)
    folder, lock = _locked(path.parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new folder in `parent`, and the descriptor that locks it while it is open."""
    while True:
        folder = Path(tempfile.mkdtemp(PART, prefix, parent))
        with suppress(FileNotFoundError):  # swept by another process before it was locked
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if _lock(lock) is not False and folder.exists():
                return folder, lock
            os.close(lock)


def _lock(opened: int) -> bool | None:
    """Locks a folder; False if somebody else has, None if this file system has no locks."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sweep(folder: Path, prefix: str = ".") -> None:
    """Takes away what killed processes left in `folder`, of names that begin with `prefix`."""
    with suppress(OSError):
        for part in folder.iterdir():
            if part.name.startswith(prefix) and part.name.endswith(PART):
                with suppress(OSError):
                    _take_away(part)


def _take_away(part: Path) -> None:
    """Removes a folder of `beside` unless somebody is at it."""
    opened = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        free = _lock(opened)
        if free is None:
            free = time.time() - os.fstat(opened).st_mtime > FORGOTTEN
        if free:
            shutil.rmtree(part)
    finally:
        os.close(opened)


def replace(part: Path, path: Path) -> None:
    """Puts a file, or a folder, in the place of `path` once all of it is on the disk.

    Without waiting for the disk, a machine that loses power may keep the name and lose what it
    stands for: pages of zeros.
    """
    for written in (*part.rglob("*"), part):
        _sync(written)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        if not path.is_dir():  # some file systems know no such thing of folders
            raise
    finally:
        os.close(opened)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a path to write a file or a folder to: it becomes `path` at the end, or nothing does.

    Others may want the same file at the same time: the last one stands, whole.

    Raises:
        OSError: the folder is not there or cannot be written, or there is no room.
    """
    with beside(path) as folder:
        part = folder / path.name
        yield part
        replace(part, path)


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
            raise InputError(f"{output} cannot be written: {reason(error)}") from None
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
    """A file that is written line by line: yields a function that appends one, without its newline.

    At any moment the file consists of whole lines, but for the one that is being written. Where
    that fails, the part of it that was written is cut off again.

    Args:
        name: what errors call the file.

    Raises:
        InputError: the file cannot be opened, or a line not be written.
    """

    @contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {name}: {reason(error)}") from None

    with refused():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    whole = 0  # bytes of whole lines

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


def reason(error: OSError | ValueError) -> str:
    """What an error of the system says, without its number and the name of the file."""
    return getattr(error, "strerror", None) or str(error)
