"""A pass in which the processor is stepped: each job of a kernel, each function of NumPy.

An executor and one more kind of array under a model's code, both of which step what they run.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from types import MethodDescriptorType
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting import Counted, Ledger, ShapeArray
from counting.composite import Kernels, composite
from counting.cost import Cost
from counting.machine import Ran, executed
from counting.scope import here
from minigpt.fast.kernels.machine import Machine
from minigpt.fast.packed import PackedMatrix
from minigpt.fast.replay import Replayed
from minigpt.formulas.machine.algebra import Call, read
from minigpt.models.model import Model

# All of a job at once, past the threads: what they do to share it is many times what it does.
_JOB = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Execution(NamedTuple):
    """What the processor executed of a job or of a function.

    Attributes:
        path: where in the model.
        call: the job; None of a function of NumPy.
        counted: what such a function is counted to take.
        ran: None of a function that was not stepped.
    """

    path: str
    call: Call | None
    counted: Cost
    ran: Ran | None


class Steps:
    """An executor whose jobs, and what NumPy does in their place, are stepped while it watches.

    Args:
        machine: whose kernels they are, of one thread; None if there are none.
        numpy: whether what NumPy does beside kernels is stepped too; else it is taken to execute
            what is counted of it.

    Attributes:
        machine: the same, its jobs stepped here.
        arrays: whose bytes are told apart, by name.
        watching: whether it steps; else everything runs as ever.
        done: what was stepped.
        said: called after each step with their number.
    """

    def __init__(self, machine: Machine | None, numpy: bool = True) -> None:
        self.machine = machine and machine.on(self)
        self.numpy = numpy
        self.arrays: dict[str, np.ndarray] = {}
        self.watching = False
        self.done: list[Execution] = []
        self.said: Callable[[int], None] = lambda done: None

    def run(self, job: int, words: bytes, total: int, chunk: int) -> None:
        """Runs a job, stepped."""
        assert self.machine
        if self.watching:
            self._job(here().path, job, words, total)
        else:
            self.machine.pool.run(job, words, total, chunk)

    @property
    def lost(self) -> int:
        """Times that the processor ran on without a trap, see `Ran.lost`."""
        return sum(one.ran.lost for one in self.done if one.ran)

    empty = staticmethod(np.empty)

    def fallback(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What runs in place of a function in NumPy where no kernel fits: itself, stepped."""
        return lambda *operands: self.do(function, *operands)

    def replay(self, jobs: np.ndarray, paths: Sequence[str]) -> None:
        """Runs the recorded jobs of a pass one by one, each stepped."""
        assert self.machine
        if not self.watching:
            return self.machine.pool.replay(jobs)
        for (job, words, total, _), path in zip(jobs.tolist(), paths, strict=True):
            self._job(path, job, words, total)

    def do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A function of bare arrays, stepped."""
        if not self.watching:
            return function(*args, **options)
        counted = price(function, args, options) if self.machine else Cost()
        if self.numpy:
            result, ran = executed(function, *args, arrays=self.arrays, **options)
        else:
            result, ran = function(*args, **options), None
        self._note(Execution(here().path, None, counted, ran))
        return result

    def _job(self, path: str, job: int, words: bytes | int, total: int) -> None:
        assert self.machine
        call = read(self.machine.kernel(job), words, total, self.machine.lanes)
        _, ran = executed(_JOB(job), words, 0, total, arrays=self.arrays)
        self._note(Execution(path, call, Cost(), ran))

    def _note(self, one: Execution) -> None:
        self.done.append(one)
        self.said(len(self.done))


class ReplayedInSteps(Replayed):
    """A model whose recorded passes run job by job, each stepped.

    Args:
        steps: what runs them.
        model, weights: see `Replayed`.

    Attributes:
        replayed: whether there was a recorded pass.
    """

    def __init__(self, steps: Steps, model: Model, weights: Mapping[str, Any]) -> None:
        assert steps.machine
        super().__init__(model, weights, steps.machine)
        self._steps_of, self.replayed = steps, False

    def replay(self, jobs: np.ndarray, paths: Sequence[str]) -> None:
        self.replayed = True
        self._steps_of.replay(jobs, paths)


class Stepped(NDArrayOperatorsMixin):
    """An array whose every operation is stepped.

    Args:
        data: the array itself, or a weight that multiplies.
        steps: what steps.
        kernels: what runs in the place of composites, with the jobs of `steps`.
    """

    __slots__ = ("data", "kernels", "steps")

    def __init__(self, data: Any, steps: Steps, kernels: Kernels) -> None:
        self.data, self.steps, self.kernels = data, steps, kernels

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    nbytes = property(lambda self: self.data.nbytes)
    flags = property(lambda self: self.data.flags)
    T = property(lambda self: self._of(self.data.T))

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("an array that is stepped does not leave: use x.data")

    def __len__(self) -> int:
        return len(self.data)

    def tolist(self) -> Any:
        return self.data.tolist()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self._do(function, *inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return self._do(function, *args, **options)

    def __composite__(self, function: composite, *operands: Any) -> Any:
        kernel = self.kernels.get(function)
        if kernel is None:
            return function.function(*operands)
        return self._of(kernel(*map(bare, operands)))

    def _do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        args, options = bare(args), {name: bare(x) for name, x in options.items()}
        own = args[-1] if args and isinstance(args[-1], PackedMatrix) else None
        if function is np.matmul and own is not None and own.machine:
            if own.machine.product(own.stored, own.scale, own.turned):
                return self._of(function(*args))  # its jobs are stepped
            args = *args[:-1], PackedMatrix(own.stored, own.scale, own.turned)
        return self._of(self.steps.do(function, *args, **options))

    def _of(self, data: Any) -> Any:
        if type(data) is tuple:
            return tuple(map(self._of, data))
        known = isinstance(data, np.ndarray | PackedMatrix)
        return Stepped(data, self.steps, self.kernels) if known else data

    def __getitem__(self, index: Any) -> Any:
        return self._of(self.data[bare(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.steps.do(np.ndarray.__setitem__, self.data, bare(index), bare(value))

    def __getattr__(self, name: str) -> Any:
        if isinstance(self.data, PackedMatrix) and name in ("parts", "reference"):
            return getattr(self.data, name)
        method = getattr(np.ndarray, name, None)
        if name.startswith("__") or not callable(method):
            raise AttributeError(name)
        if name in ("reshape", "swapaxes", "transpose", "view", "diagonal"):
            return lambda *args, **options: self._of(getattr(self.data, name)(*args, **options))
        return lambda *args, **options: self._do(method, self, *args, **options)


def bare(x: Any) -> Any:
    """An operand, or some, as NumPy and kernels take them."""
    if type(x) is tuple:
        return tuple(map(bare, x))
    return x.data if isinstance(x, Stepped) else x


def price(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> Cost:
    """What a function of bare arrays is counted to take, found on their shapes."""
    if function is np.ndarray.__setitem__:  # a write, which costs bytes alone
        return Cost()
    ledger, given, code = Ledger(), list[Any](), None

    def shaped(x: Any) -> Any:
        known = isinstance(x, np.ndarray | PackedMatrix)
        return Counted(ShapeArray(x.shape, x.dtype), ledger) if known else x

    for x in args:
        code = code or (isinstance(x, PackedMatrix) and x.reference(function)) or None
        given += x.parts if code and isinstance(x, PackedMatrix) else [x]
    operands = [*map(shaped, given)]
    if isinstance(function, MethodDescriptorType):  # of `np.ndarray`, which asks for its own
        code, operands = getattr(operands[0], function.__name__), operands[1:]
    (code or function)(*operands, **{name: shaped(x) for name, x in options.items()})
    return ledger.snapshot().cost
