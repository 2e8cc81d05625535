"""Which library machine code belongs to, as the system's map of this process says."""

import re
from bisect import bisect_right
from functools import cache
from pathlib import Path

from counting.machine.ran import COMPILED

_KNOWN = {"numpy": "NumPy", "scipy": "SciPy"}


class Mapped:
    """Executable memory of this process as it is now."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._rest: list[tuple[int, str]] = []  # end and file
        for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
            place, rights, _, _, _, *file = line.split(maxsplit=5)
            if "x" in rights:
                start, end = (int(part, 16) for part in place.split("-"))
                self._starts.append(start)
                self._rest.append((end, file[0] if file else ""))

    def files(self) -> list[str]:
        """Paths of the files whose code is mapped."""
        return sorted({file for _, file in self._rest if file.startswith("/")})

    def at(self, address: int) -> tuple[str, int]:
        """The library that an address belongs to, and how many bytes are mapped from there on.

        "" and 0 if nothing is there any more.
        """
        i = bisect_right(self._starts, address) - 1
        if i < 0 or address >= self._rest[i][0]:
            return "", 0
        end, file = self._rest[i]
        return library(file), end - address


@cache
def library(file: str) -> str:
    """The name of the library that a mapped file is part of.

    >>> library("/usr/lib/python3/site-packages/numpy/_core/_multiarray_umath.cpython-311.so")
    'NumPy'
    >>> library("/usr/lib/x86_64-linux-gnu/libc.so.6")
    'libc'
    """
    if not file or file.endswith(" (deleted)"):
        return COMPILED
    path = Path(file)
    if "openblas" in path.name.lower():
        return "OpenBLAS"
    if path.parent.name == "lib-dynload" or re.match(r"(lib)?python\d", path.name):
        return "Python"
    package = re.search(r"/(?:site|dist)-packages/([^/]+)/", file)
    if package and not package[1].endswith(".libs"):
        return _KNOWN.get(package[1], package[1])
    return re.split(r"-[0-9a-f]{8}|-\d|\.", path.name.strip("[]"))[0]
