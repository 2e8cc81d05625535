"""A model's text recorded: run on arrays that note which jobs give their numbers, and where.

A `Recorded` array is one more kind of array under the same text. What it is asked for becomes jobs
of the machine, on a tape, with a place for each result; nothing runs until the tape is replayed.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.composite import composite
from minigpt.fast import moves
from minigpt.fast.machine import SOME, Machine, address
from minigpt.fast.packed import DTYPES, PackedMatrix, gathered
from minigpt.fast.pool import fitting
from minigpt.fast.twins import twins

FLOAT = np.dtype(np.float32)
LINE = 64  # bytes: results begin a line of the cache

ELEMENTWISE: dict[np.ufunc, moves.Formula] = {
    np.add: moves.add,
    np.multiply: moves.multiply,
    np.cos: moves.cos,
    np.sin: moves.sin,
}
COPIES = {
    DTYPES["float32"]: moves.copy_float32,
    DTYPES["bfloat16"]: moves.copy_bfloat16,
    DTYPES["float16"]: moves.copy_float16,
}


class Unrecordable(TypeError):
    """Something that no kernel does, or that depends on the numbers themselves."""


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

    def given(self, data: np.ndarray) -> "Recorded":
        """An array that is there already."""
        return Recorded(data, self, None)

    def result(self, data: np.ndarray) -> "Recorded":
        """The array that an operation gives, whose other places are free now."""
        number = self._number[address(data)]
        for other in self._taken:
            if other != number:
                self.free(other)
        self._taken.clear()
        return Recorded(data, self, number)

    def constant(self, data: np.ndarray) -> "Recorded":
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


class Recorded(NDArrayOperatorsMixin):
    """An array whose numbers jobs on a tape will give.

    Args:
        data: where they will be.
        place: number of the place that is free once this array and all its views are gone.
        constant: whether `data` holds them already, for they depend on shapes alone.
        whole: what this is a view of.
    """

    __slots__ = ("constant", "data", "place", "tape", "whole")

    def __init__(
        self,
        data: np.ndarray,
        tape: Tape,
        place: int | None,
        constant: bool = False,
        whole: "Recorded | None" = None,
    ) -> None:
        self.data, self.tape, self.place = data, tape, place
        self.constant, self.whole = constant, whole

    def __del__(self) -> None:
        if self.place is not None:
            self.tape.free(self.place)

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    nbytes = property(lambda self: self.data.nbytes)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise Unrecordable("the numbers are not there yet")

    __bool__ = __len__ = tolist = __array__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            if all(map(_constant, inputs)):
                return self.tape.constant(ufunc(*map(_bare, inputs)))
            x, y = inputs if len(inputs) == 2 else (None, None)
            if ufunc is np.matmul and isinstance(x, Recorded) and isinstance(y, PackedMatrix):
                if not (x.data.flags.c_contiguous and _float(x)):
                    x = x.copy()
                return self.tape.result(self.tape.operand(y).multiply(x.data))
            if ufunc in ELEMENTWISE:
                return self._moved(ELEMENTWISE[ufunc], *map(self._operand, inputs))
        raise Unrecordable(f"no kernel for numpy.{ufunc.__name__}")

    def _operand(self, x: Any) -> Any:
        """An operand as an array."""
        if isinstance(x, int):
            return self.tape.position(x)
        return self.tape.operand(
            self.tape.constant(np.full(1, x, FLOAT)) if isinstance(x, float) else x
        )

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.ones_like or all(isinstance(x, int) or _constant(x) for x in args):
            return self.tape.constant(function(*map(_bare, args), **options))
        if function is np.copyto and not options:
            return args[0].__setitem__(..., args[1])
        if function is np.copy and options == {"order": "C"}:
            return self.copy()
        raise Unrecordable(f"no kernel for numpy.{function.__name__} with {options}")

    def __composite__(self, function: composite, *operands: Any) -> Any:
        twin = self.tape.twins.get(function)
        if twin is None:
            return function.function(*operands)
        return self.tape.result(twin(*map(self.tape.operand, operands)))

    def __setitem__(self, index: Any, value: Any) -> None:
        to = self.data[index]
        moved = _float(value) and to.dtype in COPIES and to.ndim
        if not (moved and self.tape.move(COPIES[to.dtype], to, self.tape.operand(value))):
            raise Unrecordable("no kernel copies this")

    def copy(self) -> "Recorded":
        return self._moved(moves.copy_float32, self.data)

    def _moved(self, formula: moves.Formula, *operands: Any) -> "Recorded":
        if all(map(_float, operands)):
            to = self.tape.empty(np.broadcast_shapes(*(x.shape for x in operands)), FLOAT)
            if to.ndim and self.tape.move(formula, to, *operands):
                return self.tape.result(to)
        raise Unrecordable(f"no kernel for {formula.__name__} of this")

    def _view(self, data: np.ndarray) -> "Recorded":
        whole = self if self.whole is None else self.whole
        if not np.may_share_memory(data, whole.data):
            raise Unrecordable("a view that copies")
        return Recorded(data, self.tape, None, self.constant, whole)

    def __getitem__(self, index: Any) -> "Recorded":
        return self._view(self.data[index])

    def __iter__(self) -> Any:
        return map(self.__getitem__, range(len(self.data)))

    def reshape(self, *shape: Any) -> "Recorded":
        return self._view(self.data.reshape(*shape))

    def swapaxes(self, axis1: int, axis2: int) -> "Recorded":
        return self._view(self.data.swapaxes(axis1, axis2))

    def transpose(self, *axes: int) -> "Recorded":
        return self._view(self.data.transpose(*axes))


def _constant(x: Any) -> bool:
    """Whether an operand is known already. A whole number may be a position, which is not."""
    return x.constant if isinstance(x, Recorded) else isinstance(x, float)


def _bare(x: Any) -> Any:
    return x.data if isinstance(x, Recorded) else x


def _float(x: Any) -> bool:
    return getattr(x, "dtype", None) == FLOAT
