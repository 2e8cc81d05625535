"""What was really allocated in a run, by the allocator's own word, beside what the ledger says."""

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from counting import observing
from counting.numpy_memory import Allocations
from counting.process_memory import Resident, resident, resident_of
from counting.table import table
from minigpt.inference.load import LanguageModel
from minigpt.models.paths import component
from minigpt.storage.files import cache_folder
from minigpt.storage.kept import PACKED

if TYPE_CHECKING:  # it imports CuPy
    from counting.cupy_memory import Hidden, Moment, Pool

# What NumPy's bytes are, by the module that asked for them; of others they are activations.
_CATEGORIES = {
    "minigpt.checkpoint.tensors": "weights",
    "minigpt.fast.store": "weights",
    "minigpt.models.cache": "kv_cache",
    "minigpt.models.state": "state",
}
# What the ledger does not count: tokens and draws; threads, recorded jobs.
_OUTSIDE = (
    "minigpt.inference.generate",
    "minigpt.inference.sample",
    "minigpt.fast.replay",
    "minigpt.fast.kernels.machine",
    "minigpt.fast.kernels.threads",
)


@dataclass
class Host:
    """NumPy's allocator and the system, asked after each pass for what is live.

    Attributes:
        files: of the model; they may be mapped.
    """

    allocations: Allocations
    files: Collection[Path]
    _system: Table | None = field(default=None, init=False)  # after the last pass

    def look(self) -> dict[str, int]:
        """Live bytes by category."""
        found = allocated(self.allocations)
        self._system = _system(found, self.allocations.before, self.files)
        return found

    def report(self) -> Group:
        """What else they have to say at the end."""
        peak = f"NumPy's allocator held {self.allocations.peak:,} bytes at most since loading"
        return Group(peak, *(("", self._system) if self._system else ()))


@dataclass
class Cuda:
    """CuPy's pool and the driver, likewise; `device` is the name of what they serve."""

    pool: "Pool"
    device: str
    _moment: "Moment | None" = field(default=None, init=False)  # after the last pass

    def look(self) -> dict[str, int]:
        self._moment = self.pool.now()
        return self._moment.asked

    def report(self) -> Group:
        parts: list[Table | Text | str] = [
            Text.assemble("\n", (self.device, "bold")),
            _device(self._moment or self.pool.now()),
            "outside the ledger: CUDA context, kernels, cuBLAS workspace, other programs",
        ]
        if self.pool.hidden:
            parts += ["", _temporaries(self.pool.hidden)]
        return Group(*parts)


@contextmanager
def witnessing(
    lm: LanguageModel, allocations: "Allocations | Pool | None"
) -> Iterator[Host | Cuda | None]:
    """A `with` block in which a loaded model runs, and what `device.witness` gave is asked."""
    if allocations is None:
        yield None
        return
    allocations.reset_peak()
    if isinstance(allocations, Allocations):
        yield Host(allocations, lm.files)
    else:
        with observing(lm.ledger, allocations):
            yield Cuda(allocations, lm.device.name)


def allocated(allocations: Allocations) -> dict[str, int]:
    """Live bytes of NumPy's allocator by category; memory-mapped weights are not among them."""

    def file(name: str) -> Path:
        return Path(str(sys.modules[name].__file__))

    categories = {file(name): _CATEGORIES[name] for name in _CATEGORIES if name in sys.modules}
    outside = {file(name) for name in _OUTSIDE if name in sys.modules}
    found: dict[str, int] = {}
    for origin, nbytes in allocations.by_file([*categories]).items():
        category = categories.get(origin, "elsewhere" if origin in outside else "activations")
        found[category] = found.get(category, 0) + nbytes
    return found


def _system(
    live: Mapping[str, int], before: Resident | None, files: Collection[Path]
) -> Table | None:
    """What of this process is in memory, in parts that add up; None where the system does not say.

    Args:
        live: bytes of NumPy's allocator by category.
        before: what was in memory before the model was loaded.
        files: of the model.
    """
    now, packs = resident(), Path(realpath(cache_folder())) / PACKED
    if now is None or before is None:
        return None
    own = {file.resolve() for file in files}
    mapped = resident_of(lambda file: file in own or file.is_relative_to(packs))
    parts = {
        "interpreter and libraries, before loading": before.total,
        "files touched since: code of libraries": now.files - before.files - mapped,
        "weights, mapped: what was touched": mapped,
        **{f"{name}, NumPy's arrays": nbytes for name, nbytes in live.items()},
    }
    parts["the rest: objects, kernels, what was freed"] = now.total - sum(parts.values())
    whole = {
        "resident (VmRSS)": now.total,
        "of it private (RssAnon)": now.private,
        "of it pages of files (RssFile)": now.files,
        "of it shared (RssShmem)": now.shared,
        "at most since the start (VmHWM)": now.peak,
    }
    made = table("in memory, as the system says", "bytes")
    for rows in (parts, whole):
        for name, nbytes in rows.items():
            made.add_row(name, f"{nbytes:,}")
        made.add_section()
    return made


def _device(moment: "Moment") -> Table:
    """Memory of the device by four witnesses."""
    made = table("on the device", "asked", "rounded to 512", "pool", "driver")
    for name, sizes in moment.categories.items():
        made.add_row(name, *(f"{n:,}" for n in sizes))
    asked, rounded = (sum(sizes) for sizes in zip(*moment.categories.values(), strict=True))
    made.add_section()
    sums = asked, rounded, moment.pool, moment.driver
    made.add_row("total", *(f"{n:,}" for n in sums), style="bold")
    made.add_row("free in the pool", "", "", f"{moment.pool - moment.used:,}")
    made.add_row("outside the ledger", "", "", "", f"{moment.outside:,}")
    return made


def _temporaries(hidden: "Mapping[tuple[str, str], Hidden]") -> Table:
    """What operations took and gave back, by component and operation."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (path, operation), (times, most) in hidden.items():
        key = component(path), operation
        before = found.get(key, (0, 0))
        found[key] = before[0] + times, max(before[1], most)
    made = table("taken and given back", "operation", "blocks", "bytes at most")
    for (name, operation), (times, most) in found.items():
        made.add_row(name, operation, f"{times:,}", f"{most:,}")
    return made
