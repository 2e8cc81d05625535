"""A weight that knows how to multiply: stored in 32, 16 or 8 bits, float32 going in and out."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from counting.composite import composite
from counting.scope import scope
from minigpt.checkpoint.dtypes import NUMPY
from minigpt.checkpoint.tensors import BLOCK, Tensor

if TYPE_CHECKING:
    from minigpt.fast.kernels.machine import Machine

DTYPES = {name: dtype for name, dtype in NUMPY.items() if name != "float64"}
FLOAT = DTYPES["float32"]

TINY = 1e-35  # below it a 127th is no normal float32

Parts = tuple[np.ndarray, np.ndarray | None]  # rows, and their scales if they have any


def quantised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in 8 bits, symmetric, each with a scale (out,) that makes its largest entry 127."""
    largest = np.abs(rows).max(axis=1)
    # A row of (next to) nothing becomes zeros; one that is not finite stays so by its scale.
    scale = np.where(largest < TINY, 1, largest / 127).astype(np.float32)
    with np.errstate(invalid="ignore"):
        steps = rows / scale[:, None]
        return np.rint(steps, out=steps).astype(np.int8), scale


def narrowed(rows: np.ndarray, dtype: str) -> Parts:
    """Rows (out, in) of float32 as they are stored in `dtype`."""
    if dtype == "int8":
        return quantised(rows)
    with np.errstate(over="ignore"):  # infinities show in the logits
        return rows.astype(DTYPES[dtype], copy=False), None


def packed_blocks(tensor: Tensor, turned: bool, dtype: str) -> Iterator[tuple[slice, Parts]]:
    """A matrix of a checkpoint, or its transpose, in `dtype`: some rows after the other."""
    for where, block in tensor.blocks(turned):
        yield where, narrowed(np.ascontiguousarray(block, FLOAT), dtype)


def packed_rows(tensor: Tensor, turned: bool, dtype: str) -> Parts:
    """The same in one."""
    shape = tensor.shape[::-1] if turned else tensor.shape
    rows, scale = np.empty(shape, DTYPES[dtype]), np.empty(shape[0], FLOAT)
    for where, (block, scales) in packed_blocks(tensor, turned, dtype):
        rows[where], scale[where] = block, 1 if scales is None else scales
    return rows, scale if dtype == "int8" else None


class PackedMatrix:
    """A matrix that answers what a model asks of a weight: `x @ w`, `w.T`, the rows `w[tokens]`.

    Anything else raises TypeError. What it multiplies, x (..., in), and what it gives are float32;
    a kernel may round several rows of x to 16 bits (`Machine`).

    Args:
        stored: float32, bfloat16, float16 or int8.
        scale: of each row of `stored`, for int8.
        turned: whether the matrix is the transpose of `stored`.
        machine: what multiplies; NumPy without it.
    """

    def __init__(
        self,
        stored: np.ndarray,
        scale: np.ndarray | None = None,
        turned: bool = False,
        machine: "Machine | None" = None,
    ) -> None:
        self.stored, self.scale, self.turned, self.machine = stored, scale, turned, machine
        self.shape = stored.shape[::-1] if turned else stored.shape
        self.dtype, self.ndim = stored.dtype, 2
        self.nbytes = stored.nbytes + (0 if scale is None else scale.nbytes)
        self.multiply = _in_numpy(stored, scale, turned)
        if machine:
            kernel = machine.product(stored, scale, turned)
            self.multiply = kernel or machine.executor.fallback(self.multiply)

    def __repr__(self) -> str:
        return f"PackedMatrix({self.shape} {self.dtype}, {self.nbytes} B)"

    @property
    def T(self) -> "PackedMatrix":
        return type(self)(self.stored, self.scale, not self.turned, self.machine)

    def on(self, machine: "Machine") -> "PackedMatrix":
        """The same matrix, multiplied by `machine`."""
        return type(self)(self.stored, self.scale, self.turned, machine)

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """The arrays that it consists of, as what `reference` gives takes them."""
        return (self.stored,) if self.scale is None else (self.stored, self.scale)

    def reference(self, function: Any) -> Callable[..., Any] | None:
        """The code that prices `function` of it, or None where its own price is right."""
        if self.dtype == np.float32:
            return None
        if function is np.take:
            return gathered.function
        return turned_product if function is np.matmul and self.scale is not None else None

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        x, usable = inputs[0], inputs[-1] is self and (self.turned or self.scale is None)
        if ufunc is not np.matmul or method != "__call__" or options or not usable:
            raise TypeError(f"{self} answers x @ w of an array x, and no numpy.{ufunc.__name__}")
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
            raise TypeError(f"{self} multiplies arrays of real numbers, not {x!r}")
        if x.shape[-1:] != self.shape[:1]:
            raise ValueError(f"{x.shape} @ {self.shape}: the inner dimensions differ")
        return self.multiply(x if x.dtype == np.float32 else x.astype(np.float32))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.take and args[:1] == (self,) and options == {"axis": 0}:
            if not self.turned:
                return gathered(*self.parts, *args[1:])
        elif function in (np.empty_like, np.ones_like) and args == (self,):
            dtype = self.dtype if self.scale is None else np.dtype(np.float32)
            return function(np.empty(0, dtype), **{"shape": self.shape} | options)
        raise TypeError(f"{self} does not answer numpy.{function.__name__} with {options}")

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{self} is no array: it answers x @ w, w.T and w[rows]")

    def __getitem__(self, rows: Any) -> np.ndarray:
        if getattr(rows, "dtype", np.dtype(bool)).kind not in "iu":
            raise TypeError(f"{self} gives rows by an array of whole numbers, not by {rows!r}")
        return np.take(self, rows, axis=0)

    __iter__ = None  # or Python would make one of __getitem__


def _in_numpy(
    stored: np.ndarray, scale: np.ndarray | None, turned: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """What multiplies where no kernel does; a method of the matrix would keep it alive."""

    matrix = stored.T if turned else stored  # (in, out)
    step = max(1, BLOCK // (FLOAT.itemsize * len(matrix)))

    def multiply(x: np.ndarray) -> np.ndarray:
        if matrix.dtype == FLOAT:
            return x @ matrix
        y = np.empty((*x.shape[:-1], matrix.shape[1]), FLOAT)
        for begin in range(0, matrix.shape[1], step):  # NumPy alone would widen all of it at once
            some = slice(begin, begin + step)
            y[..., some] = x @ matrix[:, some].astype(FLOAT)
        return y if scale is None else y * scale

    return multiply


def turned_product(x: Any, rows: Any, scale: Any) -> Any:
    """x (..., in) times the transpose of rows (out, in) whose scales are (out,)."""
    y = x @ rows.T
    with scope("dequantise"):
        return y * scale


@composite
def gathered(rows: Any, *scale_and_index: Any, axis: int = 0) -> Any:
    """Some rows, as float32: (..., in)."""
    *scale, index = scale_and_index
    taken = np.take(rows, index, axis=axis)
    if taken.dtype == np.float32:
        return taken
    with scope("dequantise"):
        y = np.empty_like(rows, dtype=np.float32, shape=taken.shape)
        y[...] = taken
        return y * np.take(scale[0], index, axis=0)[..., None] if scale else y
