"""What was really allocated in a run, by the allocator's own word, beside what the ledger says."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from counting import observing
from counting.numpy_memory import Allocations
from minigpt.commands import pool
from minigpt.inference.load import LanguageModel

if TYPE_CHECKING:  # it imports CuPy
    from counting.cupy_memory import Pool

# What NumPy's bytes are, by the module that asked for them; of others they are activations.
_CATEGORIES = {
    "minigpt.checkpoint.tensors": "weights",
    "minigpt.fast.store": "weights",
    "minigpt.models.cache": "kv_cache",
}
# What the ledger does not count: tokens and draws; threads, recorded jobs.
_OUTSIDE = (
    "minigpt.inference.generate",
    "minigpt.inference.sample",
    "minigpt.fast.replay",
    "minigpt.fast.kernels.machine",
    "minigpt.fast.kernels.threads",
)


class Host:
    """NumPy's allocator, asked after each pass for what is live."""

    def __init__(self, allocations: Allocations) -> None:
        self._allocations = allocations
        allocations.reset_peak()

    def look(self) -> dict[str, int]:
        """Live bytes by category."""
        return allocated(self._allocations)

    def report(self, component: Callable[[str], str]) -> RenderableType:
        """What else it has to say at the end."""
        return f"NumPy's allocator held {self._allocations.peak:,} bytes at most since loading"


class Cuda:
    """CuPy's pool and the driver, likewise."""

    def __init__(self, device: str, witness: "Pool") -> None:
        self._device, self._pool = device, witness
        witness.reset_peak()

    def look(self) -> dict[str, int]:
        self._moment = self._pool.now()
        return self._moment.asked

    def report(self, component: Callable[[str], str]) -> RenderableType:
        tables = pool.report(self._device, self._moment, self._pool.hidden, component)
        return Group("", tables)


@contextmanager
def witnessing(
    lm: LanguageModel, allocations: "Allocations | Pool | None"
) -> Iterator[Host | Cuda | None]:
    """A `with` block in which a loaded model runs, and what `device.witness` gave is asked."""
    if allocations is None:
        yield None
    elif isinstance(allocations, Allocations):
        yield Host(allocations)
    else:
        with observing(lm.ledger, allocations):
            yield Cuda(lm.device.name, allocations)


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
