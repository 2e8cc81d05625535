"""A decode step as the jobs of one kernel: recorded as the CPU's is, fused, laid out on the GPU.

It is recorded on the host, by arrays whose numbers lie on the GPU and are not there to be read;
then each address among the jobs becomes that of the same thing on the GPU.
"""

import ctypes
from bisect import bisect
from collections.abc import Mapping
from math import ceil
from typing import Any, Protocol

import cupy
import numpy as np
from numpy.lib.array_utils import byte_bounds

from counting.composite import composite
from counting.growing import Line
from minigpt.fast import tape
from minigpt.fast.cublas_array import CublasArray, widened_rows
from minigpt.fast.cuda.fusing import fused
from minigpt.fast.cuda.job import Job, Span, entries, table
from minigpt.fast.cuda.prompts import Kernels as ByName
from minigpt.fast.cuda.prompts import composites
from minigpt.fast.cuda.source import numbers
from minigpt.fast.cuda.tape import DeviceTape, Recorder, read
from minigpt.fast.fused import Run
from minigpt.fast.packed import PackedMatrix
from minigpt.fast.replay import Pass, Replayed
from minigpt.fast.tape import Tape, Unrecordable
from minigpt.models.cache import KVCache
from minigpt.models.model import Model
from minigpt.notes import note

LANES, SPLITS = numbers()["LANES"], numbers()["SPLITS"]
MOST_PARTS = 16  # that a row of a weight is cut into
BESIDE = 2  # what a part costs beside its pieces, in pieces


class Kernels(ByName, Protocol):
    """What launches jobs, see `launch.Compiled`.

    Attributes:
        blocks: that take part, all of them at once.
        threads: of each, a multiple of 32 from 64 on.
        depth: pieces of weight that each thread has on their way.
        shared_limit: bytes of shared memory that a block can have.
    """

    blocks: int
    threads: int
    depth: int
    shared_limit: int

    def launch(
        self, jobs: Any, run: tuple[int, int], done: Any, position: Any, shared: int, meets: bool
    ) -> None:
        """Runs some jobs of a table, all arrays on the GPU.

        Args:
            jobs: the table, see `job.entries`.
            run: the first, and how many.
            done: a counter (1,), 0 before and after.
            position: (1,) of int64.
            shared: bytes of shared memory that a block needs.
            meets: whether blocks wait for each other on the way: all must be there at once.

        Raises:
            InputError: they do not fit the GPU.
        """

    def capture(self, launches: Any) -> Any:
        """What `launches()` launches, as a graph."""


class Fast(Replayed):
    """A model on the GPU whose decode steps run as one kernel, if all of a step is known to it.

    That is a token of one sequence. Prompts, and all else, run as the model's code says, with
    kernels in the place of composites.

    Args:
        model: the model.
        weights: that it was built from, see `device.Cuda.hold`.
        kernels: what launches jobs.
    """

    def __init__(self, model: Model, weights: Mapping[str, Any], kernels: Kernels) -> None:
        self.launched_by = kernels
        super().__init__(model, weights, Recorder())

    def step(self, cache: KVCache) -> "Step | None":
        """The step that runs at the cache's position; None if the model's own code does."""
        try:
            found: Any = self._recorded((1, 1), cache, "last")
        except (Unrecordable, ValueError):
            return None
        return found

    def _composites(self) -> dict[composite, Run]:
        return composites(self.launched_by)

    def _refusing(self, why: str) -> None:
        note(f"decode steps run by the model's own code: {why}")

    def _recorded(self, shape: tuple[int, ...], cache: KVCache, logits: str) -> Pass | None:
        return None if shape[1] > 1 else super()._recorded(shape, cache, logits)

    def _record(self, *given: Any) -> "Step":
        return Step(self, *given)


class Step(Pass):
    """A recorded decode step.

    Attributes:
        jobs: what it does, at the last position that it was recorded for.
        phases: (first, count) of jobs between which blocks do not wait for each other.
        shared: bytes of shared memory that a block needs.
    """

    _of: Fast

    def _tape(self, machine: Any) -> Tape:
        self._there: list[tuple[Span, Any]] = []  # memory of the host, and what it is on the GPU
        self._begins: list[int] = []  # of these, in order
        self._parts: dict[int, np.ndarray] = {}
        return DeviceTape(machine)

    def _weight(self, tape: Tape, array: Any) -> Any:
        if not isinstance(array, CublasArray):
            own = array.get()
            self._lies(own, array)
            return super()._weight(tape, own)
        turned = not array.data.flags.c_contiguous
        there = array.data.T if turned else array.data
        own = np.empty(there.shape, there.dtype)  # is not written, and takes no memory
        self._lies(own, there)
        return _Matrix(own, turned=turned, machine=tape.machine)

    def _cache(self, array: Any) -> np.ndarray:
        own = np.empty(array.shape, array.dtype)
        self._lies(own, array.data)
        return own

    def _numbers(self, jobs: list[tape.Job], result: np.ndarray) -> np.ndarray:
        self.jobs = fused([read(job) for job in jobs], _span(result), self._parts_of)
        for job in self.jobs:
            if job.structure == "Product":
                job.fields["parts"] = _parts(self._of.launched_by, job)
        return table(self.jobs)

    def _parts_of(self, attention: Job) -> int:
        heads, blocks = attention["heads"], self._of.launched_by.blocks
        splits = max(1, min(SPLITS, blocks // heads))
        attention.fields["splits"] = splits
        size = heads * splits * (attention["D"] + 2)
        return _span(self._parts.setdefault(attention["y"], np.empty(size, np.float32))).begin

    def _prepare(self, line: Line) -> None:
        kernels, (first, last) = self._of.launched_by, (self._span[0], self._span[-1])
        floats = max(_scratch(kernels, job) for job in self.jobs)
        self.shared = kernels.depth * kernels.threads * 16 + floats * 4
        if self.shared > kernels.shared_limit:
            raise Unrecordable(f"a block needs {self.shared:,} bytes of shared memory")
        starts = [i for i, job in enumerate(self.jobs) if i == 0 or job["meets"]]
        ends = [*starts[1:], len(self.jobs)]
        self.phases = [(i, j - i) for i, j in zip(starts, ends, strict=True)]
        self._state = cupy.empty(2, np.int64)  # the token, the position
        self._lies(self._tokens, self._state)
        self._result = cupy.empty(self._logits.shape, np.float32)
        self._lies(self._logits, self._result)
        for array in (*self._kept, *self._parts.values()):
            if type(array) is np.ndarray and self._known(_span(array)) is None:
                self._lies(array, None)
        origin, near, far = line(0), line(first), line(last)
        for i, job in enumerate(self.jobs):
            for word in job.addresses():
                origin[i, word] += self._offset(int(near[i, word]), int(far[i, word]))
        self._table = cupy.asarray(entries(origin, line.slope))
        self._done = cupy.zeros(1, np.uint32)
        self._held = self._there  # what jobs touch stays where it is
        del self._begins, self._parts, self._kept

    def _lies(self, own: np.ndarray, there: Any) -> None:
        """Where on the GPU lies what own memory stands for; None if that is still to be found."""
        i = bisect(self._begins, _span(own).begin)
        self._begins.insert(i, _span(own).begin)
        self._there.insert(i, (_span(own), there))

    def _known(self, span: Span) -> int | None:
        """The number of the memory that something is in, or is the end of; None if of none."""
        i = bisect(self._begins, span.end - 1) - 1
        return i if i >= 0 and self._there[i][0].touches(span) else None

    def _offset(self, near: int, far: int) -> int:
        """From the host's address of something to the GPU's.

        Raises:
            Unrecordable: it is nothing that is known, or not the same thing at both addresses.
        """
        i, j = (self._known(Span(at, at + 1)) for at in (near, far))
        if i is None or i != j:
            raise Unrecordable("an address that is nobody's")
        span, there = self._there[i]
        if there is None:
            there = _uploaded(span)
            self._there[i] = span, there
        return int(there.data.ptr) - span.begin

    def _perform(self, tokens: np.ndarray, n: int) -> Any:
        self.begin(tokens.item(), n)
        self._launch(0, len(self.jobs))
        return self._result.copy()  # the next ones are written into the same memory

    def begin(self, token: int, n: int) -> None:
        """Tells all jobs which token they are given, and at which position."""
        # A copy from the host would wait for the step before; what a kernel is given does not.
        self._of.launched_by.call("begin", 1, 1, self._state, token, n)

    def placed(self, n: int) -> list[Job]:
        """Its jobs at position n, each address the GPU's."""
        origin, slope = self._table.get().swapaxes(0, 1)
        words = origin + n * slope
        return [Job.of(*pair) for pair in zip([j.structure for j in self.jobs], words, strict=True)]

    def launch(self, n: int, first: int = 0, count: int | None = None) -> None:
        """Runs jobs [first, first + count) alone, at position n, with the last token."""
        self._state[1:].fill(n)
        self._launch(first, len(self.jobs) - first if count is None else count)

    def graph(self) -> Any:
        """The step as a graph of one launch a phase, at the token and position of the last run.

        Where one kernel for all of a step does not fit the GPU at once, this does the same.
        """

        def launches() -> None:
            for phase in self.phases:
                self._launch(*phase)

        return self._of.launched_by.capture(launches)

    def _launch(self, first: int, count: int) -> None:
        meets = any(job["meets"] for job in self.jobs[first + 1 : first + count])
        given = self._table, (first, count), self._done, self._state[1:], self.shared, meets
        self._of.launched_by.launch(*given)


class _Matrix(PackedMatrix):
    """A weight on the GPU while it is recorded: at the price of a `CublasArray`."""

    def reference(self, function: Any) -> Any:
        return widened_rows if function is np.take and self.dtype != np.float32 else None


def _parts(kernels: Kernels, product: Job) -> int:
    """Into how many parts to cut the rows of a weight so that warps are done at the same time."""
    warps, pieces = kernels.threads // LANES, product["K"] // 8
    rows = ceil(product["N"] / kernels.blocks)

    def rounds(parts: int) -> int:
        return ceil(rows * parts / warps) * (ceil(ceil(pieces / parts) / LANES) + BESIDE)

    return min(range(1, min(MOST_PARTS, pieces) + 1), key=rounds)


def _scratch(kernels: Kernels, job: Job) -> int:
    """Numbers of shared memory that a block needs for a job, beside the ring of weights."""
    if job.structure == "Product":
        return job["K"] + ceil(job["N"] / kernels.blocks) * job["parts"]
    if job.structure == "Attention":
        return kernels.threads // LANES * (job["D"] + 2)
    return 0


def _span(array: np.ndarray) -> Span:
    return Span(*byte_bounds(array))


def _uploaded(span: Span) -> Any:
    """The bytes of memory of the host on the GPU."""
    size = span.end - span.begin
    there = cupy.empty(size, np.uint8)
    there.set(np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(span.begin)))
    return there
