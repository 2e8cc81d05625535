"""A model's text recorded, as jobs in order and places for what they give, to be replayed."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minigpt.fast.fused import FLOAT, twins
from minigpt.fast.kernels.machine import SOME, Machine, address
from minigpt.fast.kernels.threads import fitting
from minigpt.fast.packed import gathered
from minigpt.fast.recorded import Recorded, Unrecordable

LINE = 64  # bytes: results begin a line of the cache


class Job(NamedTuple):
    """A call of `Pool.run`."""

    address: int
    words: bytes
    total: int
    chunk: int


class Tape(Machine):
    """A machine that notes its jobs in order, with the places of what they give, and runs none.

    A text may be recorded several times, say with one key more each time: results lie where they
    lay in the first recording, which must be the largest.

    Args:
        machine: whose kernels the jobs are.

    Attributes:
        twins: what stands for composites.
    """

    def __init__(self, machine: Machine) -> None:
        vars(self).update(vars(machine))
        self.run, self.empty, self.otherwise = self._note, self._place, _refused
        self.twins = {**twins(self), gathered: self._gathered}
        self._jobs: list[Job] = []
        self._places: list[np.ndarray] = []
        self._number: dict[int, int] = {}  # of a place, by its address
        self._free: list[int] = []
        self._others: list[Any] = []  # arrays from elsewhere that jobs read
        self._taken: list[int] = []  # places that the operation under way has taken
        self._chosen: list[int] | None = None  # the place of each result, once chosen
        self._choices: list[int] = []  # those of the recording under way

    def record(self, text: Callable[[], Any]) -> tuple[list[Job], Any]:
        """Jobs that do what `text` does, and what it gives.

        Raises:
            Unrecordable: it does what no job does.
        """
        self._jobs, self._choices = [], []
        result = text()
        self._chosen = self._choices
        return self._jobs, result

    def end(self) -> list[Any]:
        """What the jobs need to stay in memory, once there is nothing more to record."""
        held, self._places, self._others = self._places + self._others, [], []
        return held

    def _note(self, job: int, words: bytes, total: int, chunk: int) -> None:
        self._jobs.append(Job(job, words, total, fitting(total, chunk)))

    def _place(self, shape: tuple[int, ...], dtype: Any, kept: bool = False) -> np.ndarray:
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
        place = self._places[number]
        if place.size < size:
            raise Unrecordable("results grew")
        return place[:size].view(dtype).reshape(shape)

    def _choose(self, size: int) -> int:
        fit = [number for number in self._free if self._places[number].size >= size]
        if fit:
            number = min(fit, key=lambda number: self._places[number].size)
            self._free.remove(number)
            return number
        return self._new(size)

    def _new(self, size: int) -> int:
        memory = np.empty(size + LINE, np.uint8)
        begin = -address(memory) % LINE
        self._places.append(memory[begin : begin + max(1, size)])
        self._number[address(self._places[-1])] = len(self._places) - 1
        return len(self._places) - 1

    def _gathered(self, rows: np.ndarray, *scale_and_index: np.ndarray) -> np.ndarray:
        *scale, index = scale_and_index
        d, fits = rows.shape[-1], index.dtype == np.int64 and index.flags.c_contiguous
        if not fits or d % self.lanes:
            raise Unrecordable("no kernel gathers this")
        to = self.empty((*index.shape, d), FLOAT)
        factors = address(scale[0]) if scale else 0
        job = self.job(f"gathered_{rows.dtype.name}", "qqqqq")
        job(index.size, max(1, SOME // d), address(rows), factors, address(index), address(to), d)
        return to

    def position(self, n: int) -> np.ndarray:
        """A whole number (1,), which may grow from one recording to the next."""
        to = self.empty((1,), FLOAT)
        self.job("position", "qq")(1, 1, address(to), n)
        return to

    def given(self, data: np.ndarray) -> Recorded:
        """An array that is there already."""
        return Recorded(data, self, None)

    def result(self, data: np.ndarray) -> Recorded:
        """The array that an operation gives, whose other places are free now."""
        number = self._number[address(data)]
        for other in self._taken:
            if other != number:
                self.free(other)
        self._taken.clear()
        return Recorded(data, self, number)

    def constant(self, data: np.ndarray) -> Recorded:
        """An array that NumPy made of shapes alone; in each recording, the largest one's beginning.

        Raises:
            Unrecordable: it does not.
        """
        first = self._chosen is None
        place = self._place(data.shape, data.dtype, kept=True)
        if first:
            place[...] = data
        elif not np.array_equal(place, data):
            raise Unrecordable("a constant that changes")
        return Recorded(place, self, None, constant=True)

    def operand(self, x: Any) -> Any:
        """What kernels see of an operand."""
        if isinstance(x, Recorded):
            return x.data
        self._others.append(x)
        return x

    def free(self, number: int) -> None:
        """What lay in a place is no longer needed."""
        self._free.append(number)


def _refused(function: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*operands: Any) -> Any:
        raise Unrecordable(f"no kernel does {function.__name__} of these")

    return refuse
