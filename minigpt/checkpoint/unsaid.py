"""What a library writes past Python, straight to standard error, kept from there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock

STDERR = 2
_lock = Lock()
_inside = 0  # blocks that are open, in all threads
_usual = -1  # what is standard error else, while one is


@contextmanager
def unsaid() -> Iterator[None]:
    """A `with` block whose lines on standard error are dropped where it ends with an exception.

    Otherwise they come when it ends, those of other threads among them. Blocks may be open in
    several threads. A few microseconds: it is no more than two files exchanged.
    """
    _enter()
    try:
        yield
    except BaseException:
        _leave(dropped=True)
        raise
    _leave(dropped=False)


@cache
def _aside() -> int:
    """A file without a name, open while the process lives."""
    opened, name = tempfile.mkstemp()
    os.unlink(name)
    return opened


def _enter() -> None:
    global _inside, _usual
    with _lock:
        if not _inside:
            with suppress(OSError):  # standard error is closed, or there is no place for a file
                aside = _aside()
                _usual = os.dup(STDERR)
                os.dup2(aside, STDERR)
        _inside += 1


def _leave(dropped: bool) -> None:
    global _inside, _usual
    with _lock:
        if not _inside:  # a child process, which began in the block, has left all
            return
        _inside -= 1
        if _usual == -1 or (_inside and not dropped):
            return
        aside = _aside()
        if said := os.pread(aside, 1 << 20, 0):
            os.ftruncate(aside, 0)
            os.lseek(aside, 0, os.SEEK_SET)
            if not dropped:
                os.write(_usual, said)
        if not _inside:
            _put_back()


def _put_back() -> None:
    global _usual
    os.dup2(_usual, STDERR)
    os.close(_usual)
    _usual = -1


def _forked() -> None:
    """In a child process, whose parent's threads may have been in blocks that nobody will leave."""
    global _inside
    _lock.release()
    _inside = 0
    if _usual != -1:
        _put_back()
    if _aside.cache_info().currsize:
        os.close(_aside())
        _aside.cache_clear()


if hasattr(os, "register_at_fork"):  # not on Windows; a process forks while nothing is half done
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forked)
