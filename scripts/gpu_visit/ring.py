"""Whether NCCL passes arrays on between the GPUs that are here, each a thread; one is a ring."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import cupy
import numpy as np

from gpu_visit.stages import Result
from gpu_visit.visit import Visit
from minigpt.parallel.collectives import all_reduce
from minigpt.parallel.nccl import NCCL, nccl

CASES = [(dtype, n) for dtype in ("float32", "float16", "int8") for n in (1, 1000, 1_000_003)]
LARGE = 2**26  # bytes that are timed


class World:
    """What threads tell each other, once: see `minigpt.parallel.nccl.World`."""

    def __init__(self, rank: int, said: list[Any], all_said: Barrier) -> None:
        self.rank, self.size, self.said, self.all_said = rank, len(said), said, all_said

    def everyone(self, value: Any) -> list[Any]:
        self.said[self.rank] = value
        self.all_said.wait()
        return self.said


def ring(visit: Visit) -> Iterator[Result]:
    """Arrays of three dtypes sent on, a sum, and bytes a second of each GPU."""
    if not nccl.available:
        yield {"missing": "nccl", "rows": [("NCCL", "not run", "CuPy finds no NCCL")]}
        return
    size = cupy.cuda.runtime.getDeviceCount()
    said, all_said = [None] * size, Barrier(size)
    worlds = [World(rank, said, all_said) for rank in range(size)]
    with ThreadPoolExecutor(size) as threads:
        found = list(threads.map(partial(_on_one, visit), worlds))
    wrong = sorted({what for faults, _ in found for what in faults})
    rate = min(rate for _, rate in found)
    version = nccl.get_version()
    what = f"NCCL {version // 10000}.{version // 100 % 100}, a ring of {size}"
    how = f"{rate / 1e9:.1f} GB/s sent by each GPU"
    row = (what, f"WRONG: {', '.join(wrong)}" if wrong else "all arrives as it was sent", how)
    yield {"size": size, "bytes_s": rate, "rows": [row]} | ({"error": row[1]} if wrong else {})


def _on_one(visit: Visit, world: World) -> tuple[list[str], float]:
    """What came wrong to one GPU, and bytes that it sends a second."""
    cupy.cuda.Device(world.rank).use()
    ring, before = NCCL(world), (world.rank - 1) % world.size
    faults = []
    for dtype, n in CASES:
        came = ring.exchange(cupy.array(_values(world.rank, dtype, n)), n)
        if not np.array_equal(came.get(), _values(before, dtype, n)):
            faults.append(f"{n} of {dtype}")
    total = all_reduce(cupy.array(_values(world.rank, "float32", 1000)), ring).get()
    whole = np.sum([_values(rank, "float32", 1000) for rank in range(world.size)], axis=0)
    if not np.allclose(total, whole, 1e-5, 1e-5):
        faults.append("a sum")
    large = cupy.zeros(LARGE if not visit.dry else 1000, np.int8)
    ring.exchange(large, large.size)  # the first makes buffers
    stop = visit.device.stopwatch()
    ring.exchange(large, large.size)
    return faults, large.nbytes / stop()


def _values(rank: int, dtype: str, n: int) -> np.ndarray:
    """What a GPU sends: no two send the same."""
    return np.random.default_rng((rank, n)).integers(-99, 99, n).astype(dtype)
