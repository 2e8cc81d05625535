"""The kernels compiled for the GPU that is here, by NVRTC, and launched by CuPy."""

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from minigpt.errors import InputError
from minigpt.fast.cuda.source import numbers, source

STATIC = 1024  # bytes of shared memory that a kernel has beside what it asks for, at most
FEWEST = 2  # pieces of weight on their way to each thread: with fewer none comes during a wait


class Compiled:
    """What launches jobs on the current GPU, see `step.Kernels`.

    Args:
        depth: pieces of weight that each thread has on their way, a power of two; as many as fit.
        threads: of a block, a multiple of 32 from 64 on.

    Raises:
        InputError: the GPU cannot run one block of these on each of its multiprocessors.
    """

    def __init__(self, depth: int | None = None, threads: int | None = None) -> None:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.get_device_id())
        self.blocks = int(properties["multiProcessorCount"])
        self.capability = int(cupy.cuda.Device().compute_capability)
        self.threads = threads or numbers()["THREADS"]
        self.shared_limit = int(properties["sharedMemPerBlockOptin"]) - STATIC
        most = max(1, self.shared_limit * 2 // 3 // (self.threads * 16))  # a third is for x
        self.depth = depth or min(numbers()["DEPTH"], 1 << most.bit_length() - 1)
        if self.depth < FEWEST:
            raise InputError(f"{self.shared_limit:,} bytes of shared memory are too few")
        options = ("-std=c++17", f"-DDEPTH={self.depth}", f"-DTHREADS={self.threads}")
        self._module = cupy.RawModule(code=source(), options=options)
        self._module.compile()
        self._kernels: dict[str, Any] = {}
        self._replay, self._shared = self._module.get_function("replay"), 0

    def launch(
        self, jobs: Any, run: tuple[int, int], done: Any, position: Any, shared: int, meets: bool
    ) -> None:
        """As `step.Kernels` says."""
        self._require(shared)
        given = (jobs, *map(np.int32, run), done, position)
        sizes = (self.blocks,), (self.threads,)
        self._replay.kernel(*sizes, given, shared, enable_cooperative_groups=meets)

    def call(self, name: str, blocks: int, threads: int, *words: Any) -> None:
        """As `prompts.Kernels` says."""
        if name not in self._kernels:
            self._kernels[name] = self._module.get_function(name)
        self._kernels[name]((blocks,), (threads,), tuple(map(_argument, words)))

    def _require(self, shared: int) -> None:
        """Asks for shared memory; CuPy would make a grid smaller that does not fit with it."""
        if shared <= self._shared:
            return
        self._replay.max_dynamic_shared_size_bytes = shared
        of_one = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
        if of_one(self._replay.kernel.ptr, self.threads, shared) < 1:
            raise InputError(f"a block with {shared:,} bytes of shared memory does not fit the GPU")
        self._shared = shared

    def capture(self, launches: Callable[[], None]) -> Any:
        """As `step.Kernels` says."""
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                launches()
            finally:
                graph = stream.end_capture()
        return graph


def _argument(word: Any) -> Any:
    """A word as CuPy passes it: numbers of 8 bytes, arrays by address."""
    kinds = {int: np.int64, float: np.float64}
    return np.uint64(0) if word is None else kinds.get(type(word), lambda array: array)(word)
