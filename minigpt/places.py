"""Where files that can be made again are kept, and how files are written: whole or not at all."""

import fcntl
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"  # how the name of what is not whole yet ends
YOUNG = 1.0  # seconds in which a new folder may not be locked yet
FORGOTTEN = 86_400.0  # seconds after which nobody is at it any more, where locks do not tell


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
        OSError: the folder of `path` cannot be made or written.
    """
    with suppress(FileExistsError):  # where it is no folder, the next lines say so
        path.parent.mkdir(parents=True)
    prefix = f".{path.name[:100]}."
    sweep(path.parent, prefix)
    folder = Path(tempfile.mkdtemp(PART, prefix, path.parent))
    lock = None
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system that has no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


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
        age = time.time() - os.fstat(opened).st_mtime
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = age > YOUNG
        except BlockingIOError:
            return
        except OSError:
            left = age > FORGOTTEN
        if left:
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
    """A place to write a file or a folder that becomes `path` at the end, or nothing does.

    Others may want the same file at the same time: the last one stands, whole.

    Raises:
        OSError: the folder cannot be written, or there is no room.
    """
    with beside(path) as folder:
        part = folder / path.name
        yield part
        replace(part, path)
