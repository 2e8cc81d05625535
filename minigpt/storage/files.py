"""The cache folder, and files and folders that are written whole or not at all."""

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
MARK = "minigpt"  # the only entry of such a folder, and what tells it from anybody else's
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
    """An empty folder near `path`, of this block alone and gone after it.

    It lies in a hidden folder whose name is random and made exclusively: threads, processes and
    containers that share a disk never meet in one. That is locked, so that what a killed process
    left behind can be told from what is being written, and taken away here.

    Raises:
        OSError: the folder of `path` is not there, or cannot be written.
    """
    sweep(path.parent)
    prefix = f".{os.fsdecode(os.fsencode(path.name)[:100])}."
    hidden = Path(tempfile.mkdtemp(PART, prefix, path.parent))
    opened = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY)
    try:
        locked(opened)
        folder = hidden / MARK  # not before it is locked: what has one and no lock was left behind
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(opened)


def locked(opened: int) -> bool | None:
    """Locks a file or folder until it is closed.

    Returns:
        False if somebody else has locked it, None if this file system has no locks.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sweep(folder: Path) -> None:
    """Takes away what killed processes left in `folder`, and nothing that is not of `beside`."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(".") and path.name.endswith(PART):
                with suppress(OSError):
                    _take_away(path)


def _take_away(hidden: Path) -> None:
    """Removes what `beside` made in a folder, and the folder, unless somebody is at it.

    An empty one was left before it was marked, or is about to be: only its age can tell.

    Raises:
        OSError: it was not made there, or has something else in it too.
    """
    opened = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        forgotten = time.time() - os.fstat(opened).st_mtime > FORGOTTEN
        marked = MARK in os.listdir(opened)
        free = locked(opened) if marked else None
        if forgotten if free is None else free:
            if marked:
                shutil.rmtree(MARK, dir_fd=opened)
            hidden.rmdir()
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


def reason(error: OSError | ValueError) -> str:
    """What an error of the system says, without its number and the name of the file."""
    return getattr(error, "strerror", None) or str(error)
