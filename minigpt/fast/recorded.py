"""An array whose numbers are not there yet: what it is asked for becomes jobs on a tape.

It is one more kind of array under a model's code.
"""

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.composite import composite
from minigpt.fast.kernels.rows import FORMULAS
from minigpt.fast.packed import FLOAT, PackedMatrix
from minigpt.fast.tape import Tape, Unrecordable


class Recorded(NDArrayOperatorsMixin):
    """An array whose numbers jobs on a tape will give.

    Args:
        data: where they will be, or are already if it has neither a slot nor another to view.
        slot: of the tape, released once this array and all its views are gone.
        constant: whether `data` holds them already, for they depend on shapes alone.
        whole: what this is a view of.
    """

    __slots__ = ("constant", "data", "slot", "tape", "whole")

    def __init__(
        self,
        data: np.ndarray,
        tape: Tape,
        slot: int | None = None,
        constant: bool = False,
        whole: "Recorded | None" = None,
    ) -> None:
        self.data, self.tape, self.slot = data, tape, slot
        self.constant, self.whole = constant, whole

    def __del__(self) -> None:
        slot: int | None = getattr(self, "slot", None)  # a signal may have ended what made it
        if slot is not None:
            self.tape.release(slot)

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    nbytes = property(lambda self: self.data.nbytes)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise Unrecordable("the numbers are not there yet")

    __bool__ = __len__ = tolist = __array__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(name)
        raise Unrecordable(f"no kernel for {name}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            if all(map(_constant, inputs)):
                return self._constant(ufunc(*map(_bare, inputs)))
            x, y = inputs if len(inputs) == 2 else (None, None)
            if ufunc is np.matmul and isinstance(x, Recorded) and isinstance(y, PackedMatrix):
                if not (x.data.flags.c_contiguous and _float(x)):
                    x = x.copy()
                return self._output(self.tape.keep(y).multiply(x.data))
            name = ufunc.__name__
            if name in FORMULAS and ufunc is getattr(np, name):  # and not of another package
                return self._by_rows(name, *map(self._number, inputs))
        raise Unrecordable(f"no kernel for {ufunc}")

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.ones_like or all(
            isinstance(x, int | np.integer) or _constant(x) for x in args
        ):
            return self._constant(function(*map(_bare, args), **options))
        if function is np.empty_like and options.keys() <= {"shape"}:
            shape = options.get("shape", args[0].shape)
            return self._output(self.tape.empty(shape, args[0].dtype))
        if function is np.mean and options == {"axis": -1, "keepdims": True}:
            return self.mean(**options)
        if function is np.copyto and not options:
            return args[0].__setitem__(..., args[1])
        if function is np.copy and options == {"order": "C"}:
            return self.copy()
        raise Unrecordable(f"no kernel for numpy.{function.__name__} with {options}")

    def __composite__(self, function: composite, *operands: Any) -> Any:
        kernel = self.tape.kernels.get(function)
        if kernel is None:
            return function.function(*operands)
        return self._output(kernel(*map(self._operand, operands)))

    def __setitem__(self, index: Any, value: Any) -> None:
        to, move = self.data[index], self.tape.machine.move
        copied = f"copy_{to.dtype.name}"
        fits = _float(value) and copied in FORMULAS and to.ndim
        if not (fits and move(copied, to, self._operand(value))):
            raise Unrecordable("no kernel copies this")

    def copy(self) -> "Recorded":
        return self._by_rows("copy_float32", self.data)

    def mean(self, axis: int, keepdims: bool) -> "Recorded":
        if (axis, keepdims) != (-1, True):
            raise Unrecordable("no kernel for this mean")
        whole = self if self.data.flags.c_contiguous else self.copy()
        return self._output(self.tape.mean(whole.data))

    def _by_rows(self, formula: str, *operands: Any) -> "Recorded":
        if all(map(_float, operands)):
            shape = np.broadcast_shapes(*(x.shape for x in operands))
            to = self.tape.empty(shape, FLOAT)
            if self.tape.machine.move(formula, to, *operands):
                return self._output(to)
        raise Unrecordable(f"no kernel for {formula} of this")

    def _operand(self, x: Any) -> Any:
        """What kernels see of an operand."""
        return x.data if isinstance(x, Recorded) else self.tape.keep(x)

    def _number(self, x: Any) -> Any:
        """An operand, a number among them as an array (1,)."""
        if isinstance(x, int | np.integer):
            return self.tape.position(int(x))
        if isinstance(x, float):
            return self.tape.constant(np.full(1, x, FLOAT))
        return self._operand(x)

    def _output(self, data: np.ndarray) -> "Recorded":
        """The output of an operation."""
        return Recorded(data, self.tape, self.tape.output(data))

    def _constant(self, data: np.ndarray) -> "Recorded":
        return Recorded(self.tape.constant(data), self.tape, constant=True)

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
