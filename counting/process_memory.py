"""The system's account of this process's memory, beside what allocators say: Linux keeps one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_OWN = Path("/proc/self")
_NAMES = "VmRSS", "VmHWM", "RssAnon", "RssFile", "RssShmem"


class Resident(NamedTuple):
    """Bytes of this process that are in memory.

    Attributes:
        total: all of them: private, of files and shared.
        peak: the most that there were since the process started.
        private: of no file: what allocators gave out, and keep, once it was written to.
        files: pages of mapped files that were touched, the code of libraries among them.
        shared: that other processes can write to.
    """

    total: int
    peak: int
    private: int
    files: int
    shared: int


def resident() -> Resident | None:
    """What is in memory now; None where the system does not say."""
    try:
        lines = (_OWN / "status").read_text().splitlines()
    except OSError:
        return None
    said = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if not said.keys() >= {*_NAMES}:
        return None
    return Resident(*(1024 * int(said[name].split()[0]) for name in _NAMES))


def resident_of(chosen: Callable[[Path], bool]) -> int:
    """Bytes of mapped files that are in memory, of those that are `chosen`.

    Raises:
        OSError: the system does not say.
    """
    found, counts = 0, False
    for line in (_OWN / "smaps").read_text(errors="surrogateescape").splitlines():
        name, _, value = line.partition(" ")
        if not name.endswith(":"):  # a mapping begins: places, rights, offset, device, inode, file
            file = line.split(maxsplit=5)[5:]
            counts = bool(file) and chosen(Path(file[0]))
        elif counts and name == "Rss:":
            found += 1024 * int(value.split()[0])
    return found
