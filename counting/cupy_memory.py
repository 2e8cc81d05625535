"""CuPy's memory pool as an independent witness of what a ledger says of memory.

Its hook is told of every block that the pool gives out and takes back, with the size asked for
and the size rounded to 512 bytes. It does not see what CUDA itself keeps: the context, kernels,
the workspace of cuBLAS. Those are what the driver says is in use beyond the pool.
"""

from typing import Any, NamedTuple

import cupy

from counting.charge import Charge
from counting.scope import Place, here


class Bytes(NamedTuple):
    """A size as asked for, and as rounded by the pool."""

    asked: int
    rounded: int

    def __add__(self, other: "Bytes") -> "Bytes":  # type: ignore[override]
        return Bytes(self.asked + other.asked, self.rounded + other.rounded)

    def __sub__(self, other: "Bytes") -> "Bytes":
        return Bytes(self.asked - other.asked, self.rounded - other.rounded)


NONE = Bytes(0, 0)


class Block(NamedTuple):
    """What the pool gave out, and where the program was when it asked."""

    place: Place
    bytes: Bytes


class Hidden(NamedTuple):
    """What an operation took beyond its result and gave back before it ended.

    Attributes:
        times: blocks, in all of its calls.
        most: bytes of one call, as asked for.
    """

    times: int
    most: int


class Pool(cupy.cuda.MemoryHook):  # type: ignore[misc] # CuPy has no types
    """Every block that CuPy's pool gives out to this thread in a `with` block.

    Blocks born before are not known. As an observer of a ledger (`observing(ledger, pool)`) it
    also tells which operations take memory that no array shows: casts, contiguous copies.

    Attributes:
        live: blocks alive, by the pool's number for them.
        held: bytes alive in all.
        peak: the most bytes alive at once, as asked for.
        hidden: by path and operation.
    """

    name = "counting.cupy_memory"

    def __init__(self) -> None:
        self.live: dict[int, Block] = {}
        self.held = NONE
        self.peak = 0
        self.hidden: dict[tuple[str, str], Hidden] = {}
        self._young: set[int] = set()  # born since the last operation ended
        self._passed: list[Block] = []  # born since then, and dead

    def __enter__(self) -> "Pool":
        self._young.clear()  # what came before is of no operation that ends now
        self._passed.clear()
        return super().__enter__()

    def malloc_postprocess(self, *, size: int, mem_size: int, pmem_id: int, **_: Any) -> None:
        if not pmem_id or not mem_size:  # it failed, or is of no size and of no pool
            return
        block = self.live[pmem_id] = Block(here(), Bytes(size, mem_size))
        self.held += block.bytes
        self.peak = max(self.peak, self.held.asked)
        self._young.add(pmem_id)

    def free_postprocess(self, *, pmem_id: int, **_: Any) -> None:
        block = self.live.pop(pmem_id, None)
        if block is None:  # born before
            return
        self.held -= block.bytes
        if pmem_id in self._young:
            self._young.remove(pmem_id)
            self._passed.append(block)

    def __call__(self, path: str, charge: Charge, operands: Any, result: Any) -> None:
        """An operation of an observed ledger ended: what was born and died in it was hidden."""
        passed = [block for block in self._passed if block.place.path == path]
        if passed:
            times, most = self.hidden.get((path, charge.operation), (0, 0))
            asked = sum(block.bytes.asked for block in passed)
            self.hidden[path, charge.operation] = Hidden(times + len(passed), max(most, asked))
        self._passed.clear()
        self._young.clear()

    def reset_peak(self) -> None:
        """Sets the peak to what is alive now."""
        self.peak = self.held.asked

    def now(self) -> "Moment":
        """What hook, pool and driver say now."""
        found: dict[str, Bytes] = {}
        for block in self.live.values():
            category = block.place.category
            found[category] = found.get(category, NONE) + block.bytes
        free, total = cupy.cuda.runtime.memGetInfo()
        pool = cupy.get_default_memory_pool()
        return Moment(found, pool.used_bytes(), pool.total_bytes(), total - free)


class Moment(NamedTuple):
    """Bytes by four witnesses, each of which sees what the one before it does and more.

    Attributes:
        categories: by what blocks alive are for, asked and rounded.
        used: given out by the pool, to whomever.
        pool: that the pool took from the driver, given out or kept for later.
        driver: of the device in use, by whomever.
    """

    categories: dict[str, Bytes]
    used: int
    pool: int
    driver: int

    @property
    def asked(self) -> dict[str, int]:
        """Bytes by category, as asked for."""
        return {name: sizes.asked for name, sizes in self.categories.items()}

    @property
    def outside(self) -> int:
        """Of `driver`, what is not the pool's: context, modules, cuBLAS, other programs."""
        return self.driver - self.pool
