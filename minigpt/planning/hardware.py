"""Hardware by name: the table of `accelerators`, files that describe more, and this machine."""

import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from timeit import repeat

from minigpt.checks import NAME, OBJECT, a, checked, optional, shown
from minigpt.errors import InputError, did_you_mean
from minigpt.planning.accelerators import GPUS, Accelerator
from minigpt.storage.files import reason
from minigpt.storage.reading import document

READ = 1 << 28  # bytes that are read to measure the speed of memory
TAKEN = {*GPUS, "cpu", "all"}  # names that hardware has, or that stand for more


def catalogue(file: Path | None = None) -> dict[str, Accelerator]:
    """All hardware by name: `GPUS`, and what a JSON or TOML file describes.

    Raises:
        InputError: see `read`.
    """
    checked("file", file, optional(a("a Path", Path)))
    more = [read(file)] if file else []
    return GPUS | {made.name: made for made in more}


def find(name: str, file: Path | None = None) -> Accelerator:
    """The hardware of a name: one of `GPUS`, "cpu", or a JSON or TOML file that describes it.

    Args:
        file: describes one more, known by its own name.

    Raises:
        InputError: there is none, or the file does not describe one, or is not the one named.
    """
    checked("name", name, NAME)
    known, described = catalogue(file), Path(name).suffix.lower() in (".json", ".toml")
    if file and (name in TAKEN or (described and name not in known)):
        raise InputError(f"{file} would do nothing beside the GPU {name}: leave one of them out")
    if name in known:
        return known[name]
    if name == "cpu":
        return this_cpu()
    if described:
        return read(Path(name))
    raise InputError(
        f"unknown GPU {shown(name)}: {', '.join(known)}, cpu, or a .json or .toml file of one"
        + did_you_mean(name, [*known, "cpu"])
    )


def read(path: Path) -> Accelerator:
    """The hardware that a JSON or TOML file describes: the fields of `Accelerator`.

    Its name is the file's if it gives none.

    Raises:
        InputError: the file is unreadable, or says what cannot be.
    """
    path = Path(os.path.expanduser(path))
    try:
        values = document(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML or JSON: {reason(error)}") from None
    checked(str(path), values, OBJECT)
    if unknown := values.keys() - {*Accelerator._fields}:
        known = ", ".join(Accelerator._fields)
        raise InputError(f"{path}: {shown(min(unknown))} is no field of hardware; they are {known}")
    usual = dict.fromkeys(Accelerator._fields) | Accelerator._field_defaults
    made = Accelerator(**{**usual, "name": path.stem, "source": str(path), **values})
    made.check(f"{path}: ")
    if made.name in TAKEN:
        raise InputError(f"{path}: name is {shown(made.name)}; it must be a name of its own")
    if made.memory == 0:
        raise InputError(f"{path}: memory is 0; it must be the bytes that a program can have")
    return made


def this_cpu() -> Accelerator:
    """This machine, measured now by all threads that the process may use: an estimate.

    Rates are those of the best of several runs: a float32 matrix product by NumPy's library, and
    256 MiB that threads read together. Other spells of the machine, and better kernels, are faster.
    """
    import numpy as np

    n = 1024
    a = np.ones((n, n), np.float32)
    product = np.empty_like(a)
    rate = 2 * n**3 / min(repeat(lambda: np.matmul(a, a, out=product), number=1, repeat=4))
    bandwidth = READ / min(reading(threads()))
    memory, told_by = memory_here()
    said = (
        f"measured here and now, {threads()} threads: float32 matmul of {n} x {n}, read of 256 MiB"
    )
    return Accelerator(
        "CPU",
        {"float32/float32": rate},
        bandwidth,
        memory,
        said,
        memory_source=told_by,
        cache=_cache(processors()),
        measured=True,
    )


def processors() -> set[int]:
    """The numbers of the processors that this process may run on."""
    told = hasattr(os, "sched_getaffinity")  # not on every system
    return os.sched_getaffinity(0) if told else set(range(os.cpu_count() or 1))


def threads() -> int:
    """How many of them there are: every engine gets as many threads."""
    return len(processors())


def processor_name() -> str:
    """The name of this machine's processor, or its kind where it has none."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        about = ""
    named = re.search(r"^model name\s*: (.+)$", about, re.M)
    return named[1] if named else platform.machine()


def memory_here(groups: Path = Path("/sys/fs/cgroup")) -> tuple[int, str]:
    """Bytes that this process may have, and where that is from; 0 where the system does not tell.

    Args:
        groups: where Linux shows the limits of a container, as it is seen from within.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not every system tells
        memory = 0
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of versions 2 and 1
        try:
            limit = int((groups / name).read_text())
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
        if 0 < limit < memory:
            return limit, "the limit of this process's container"
    return memory, "all of the machine's"


def reading(threads: int, nbytes: int = READ) -> list[float]:
    """The seconds that threads take to read so much memory together, nine times.

    Whole words are or-ed: a sum of floats would be bound by its arithmetic.
    """
    import numpy as np

    parts = np.array_split(np.ones(nbytes // 8, np.uint64), threads)
    with ThreadPoolExecutor(threads) as pool:
        return repeat(lambda: list(pool.map(np.bitwise_or.reduce, parts)), number=1, repeat=9)


def _cache(processors: set[int], at: Path = Path("/sys/devices/system/cpu")) -> int:
    """Bytes of the last caches that these processors share; 0 where the system does not tell."""
    sizes = {}
    for one in processors:
        folders = (at / f"cpu{one}" / "cache").glob("index*")
        for folder in sorted(folders, reverse=True)[:1]:  # numbered from the nearest on
            with suppress(OSError, ValueError):  # some virtual machines leave the file out
                size = (folder / "size").read_text().strip()
                unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(size[-1:], 1)
                sizes[(folder / "shared_cpu_list").read_text()] = int(size.rstrip("KMG")) * unit
    return sum(sizes.values())
