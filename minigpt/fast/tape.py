"""An executor that records jobs in order, and the buffers that they write into, to be replayed."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from counting.scope import here
from minigpt.fast.fused import fused_kernels
from minigpt.fast.kernels.machine import SOME, Machine, address
from minigpt.fast.kernels.threads import fitting
from minigpt.fast.packed import FLOAT, gathered

LINE = 64  # bytes: buffers begin a line of the cache


class Unrecordable(Exception):
    """Something that no kernel does, or that depends on the numbers themselves.

    It is no TypeError: a model takes that for an array without numbers, whose experts it assumes.
    """


class Job(NamedTuple):
    """A call of `Pool.run`.

    Attributes:
        path: where in the model it was recorded.
    """

    address: int
    words: bytes
    total: int
    chunk: int
    path: str


class Tape:
    """Jobs in order, none of which has run, and slots: buffers that are used again once released.

    A function may be recorded several times, say with one key more each time: results lie where
    they lay in the first recording, which must be the largest.

    Args:
        machine: whose kernels the jobs are.

    Attributes:
        machine: the same, its jobs recorded here.
        kernels: the fused kernels in the place of composites, recorded here too.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine.on(self)
        self.kernels = {**fused_kernels(self.machine), gathered: self._gathered}
        self._jobs: list[Job] = []
        self._slots: list[np.ndarray] = []
        self._free: list[int] = []
        self._others: list[Any] = []  # arrays from elsewhere that jobs read
        self._taken: list[int] = []  # slots that the operation under way has taken
        self._chosen: list[int] | None = None  # the slot of each result, once chosen
        self._choices: list[int] = []  # those of the recording under way

    def record(self, function: Callable[[], Any]) -> tuple[list[Job], Any]:
        """Jobs that do what `function` does, and what it gives.

        Raises:
            Unrecordable: it does what no job does.
        """
        self._jobs, self._choices = [], []
        result = function()
        self._chosen = self._choices
        return self._jobs, result

    def end(self) -> list[Any]:
        """What the jobs need to stay in memory, once there is nothing more to record."""
        held, self._slots, self._others = self._slots + self._others, [], []
        return held

    # As an executor.

    def run(self, job: int, words: bytes, total: int, chunk: int) -> None:
        """Records a job."""
        self._jobs.append(Job(job, words, total, fitting(total, chunk), here().path))

    def empty(self, shape: tuple[int, ...], dtype: Any, kept: bool = False) -> np.ndarray:
        """An array in a slot, which is never another's if it is to be kept.

        Raises:
            Unrecordable: the recordings differ in what they take.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        if self._chosen is None:
            number = self._new(size) if kept else self._choose(size)
        elif len(self._choices) < len(self._chosen):
            number = self._chosen[len(self._choices)]
        else:
            raise Unrecordable("not the same results each time")
        self._choices.append(number)
        if not kept:
            self._taken.append(number)
        slot = self._slots[number]
        if slot.size < size:
            raise Unrecordable("results grew")
        return slot[:size].view(dtype).reshape(shape)

    def fallback(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What NumPy alone does is refused."""

        def refuse(*operands: Any) -> Any:
            raise Unrecordable(f"no kernel does {function.__name__} of these")

        return refuse

    # What operations read and give.

    def keep(self, x: Any) -> Any:
        """An operand from elsewhere, kept for the jobs that read it."""
        self._others.append(x)
        return x

    def output(self, data: np.ndarray) -> int:
        """The slot of an operation's output; the others that it took, its scratch, are released."""
        number = next(n for n in self._taken if address(self._slots[n]) == address(data))
        self._free += [other for other in self._taken if other != number]
        self._taken.clear()
        return number

    def release(self, slot: int) -> None:
        """What lay in a slot is no longer needed."""
        self._free.append(slot)

    def constant(self, data: np.ndarray) -> np.ndarray:
        """An array that NumPy made of shapes alone; in each recording, the largest one's beginning.

        Raises:
            Unrecordable: it does not.
        """
        first = self._chosen is None
        array = self.empty(data.shape, data.dtype, kept=True)
        if first:
            array[...] = data
        elif not np.array_equal(array, data):
            raise Unrecordable("a constant that changes")
        return array

    def position(self, n: int) -> np.ndarray:
        """A whole number (1,), which may grow from one recording to the next."""
        to = self.empty((1,), FLOAT)
        self.machine.job("position", "qq")(1, 1, address(to), n)
        return to

    def mean(self, x: np.ndarray) -> np.ndarray:
        """`x.mean(axis=-1, keepdims=True)`

        Raises:
            Unrecordable: no kernel fits.
        """
        d = x.shape[-1] if x.ndim else 0
        if x.dtype != FLOAT or not x.flags.c_contiguous or not d or d % self.machine.lanes:
            raise Unrecordable("no kernel for this mean")
        to = self.empty((*x.shape[:-1], 1), FLOAT)
        job = self.machine.job("mean", "qqq")
        job(x.size // d, max(1, SOME // d), address(x), address(to), d)
        return to

    def _choose(self, size: int) -> int:
        fit = [number for number in self._free if self._slots[number].size >= size]
        if fit:
            number = min(fit, key=lambda number: self._slots[number].size)
            self._free.remove(number)
            return number
        return self._new(size)

    def _new(self, size: int) -> int:
        memory = np.empty(size + LINE, np.uint8)
        begin = -address(memory) % LINE
        self._slots.append(memory[begin : begin + max(1, size)])
        return len(self._slots) - 1

    def _gathered(self, rows: np.ndarray, *scale_and_index: np.ndarray) -> np.ndarray:
        *scale, index = scale_and_index
        d, fits = rows.shape[-1], index.dtype == np.int64 and index.flags.c_contiguous
        if not fits or d % self.machine.lanes:
            raise Unrecordable("no kernel gathers this")
        to = self.empty((*index.shape, d), FLOAT)
        factors = address(scale[0]) if scale else 0
        job = self.machine.job(f"gathered_{rows.dtype.name}", "qqqqq")
        job(index.size, max(1, SOME // d), address(rows), factors, address(index), address(to), d)
        return to
