"""The kernels as functions of arrays, compiled once for this machine; an executor takes their jobs.

Threads are one executor: they run a job at once, on the cores that this process may use. A tape is
another, `fast/tape.py`: it records jobs, to be run later.
"""

import ctypes
import struct
from collections.abc import Callable
from copy import copy
from functools import cache, lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from llvmlite import ir

from minigpt.fast.kernels import attention, job, matmul, pointwise, rows, threads, types
from minigpt.fast.kernels.llvm import Target

SHARE = 1 << 18  # bytes of a weight that a thread takes at a time
BLAS = 128  # rows from which on BLAS multiplies faster by columns
SOME = 1 << 13  # numbers that a thread takes at a time of what is done to each
SEVERAL = 2  # rows from which on it pays to round x to int16 first, for weights in int8
MANY = 16  # rows from which on it pays to round x to bfloat16 first

Multiply = Callable[[np.ndarray], np.ndarray]


def kernels(module: ir.Module, target: Target) -> None:
    """Puts all kernels into a module, and what shares them out among threads."""
    threads.sharing(module, target)
    for dtype in job.STORED:
        matmul.product(module, target, dtype)
    for dtype in ("float32", "bfloat16", "float16"):
        matmul.product_by_columns(module, target, dtype)
        attention.one_by_one(module, target, dtype)
        attention.together(module, target, dtype)
    if matmul.PAIRS_FEATURE in target.features:
        matmul.product(module, target, "bfloat16", "pairs")
    if matmul.SHORTS_FEATURE[target.lanes] in target.features:
        matmul.product(module, target, "int8", "shorts")
        pointwise.shorts(module, target)
    pointwise.elementwise(module, target, "narrow", job.rounded, types.i16)
    for formula in (pointwise.gelu, pointwise.gelu_exact, pointwise.silu, pointwise.relu):
        pointwise.elementwise(module, target, formula.__name__, formula)
    pointwise.mean(module, target)
    pointwise.layer_norm(module, target)
    pointwise.rms_norm(module, target)
    for name in rows.FORMULAS:
        rows.by_rows(module, target, name)
    rows.position(module)
    for dtype in job.STORED:
        rows.gathered(module, target, dtype)


class Executor(Protocol):
    """What takes the jobs of kernels: threads, or a tape."""

    def run(self, job: int, words: bytes, total: int, chunk: int) -> None:
        """Runs or records the job at an address over range(total), `chunk` at a time."""

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array that a job writes its results into."""

    def fallback(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What runs in place of `function`, which is in NumPy, where no kernel fits."""


class _Unit(NamedTuple):
    """What multiplies in 16 bits.

    Attributes:
        least: rows of x from which on it pays.
        rounded: x (…, d) of n rows in 16 bits, and the factor of each row if it has one.
        run: the job.
        segment: of its rows.
    """

    least: int
    rounded: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray | None]]
    run: Callable[..., None]
    segment: int


class Machine:
    """The kernels for `target`, and threads to run them.

    Attributes:
        lanes: numbers in a vector.
        pairs: whether two products of bfloat16 are one operation.
        pool: of the threads.
        executor: what takes the jobs: the pool, unless another is asked for by `on`.
    """

    def __init__(self, target: Target, cores: int | None = None) -> None:
        sources = sorted(Path(__file__).parent.glob("*.py"))
        self._code = target.load(kernels, sources, apart=True)
        self.lanes, self.pairs = target.lanes, matmul.PAIRS_FEATURE in target.features
        self.shorts = matmul.SHORTS_FEATURE[target.lanes] in target.features
        self.pool = threads.Pool(self._code, cores)
        self.executor: Executor = self.pool

    def on(self, executor: Executor) -> "Machine":
        """The same kernels, whose jobs another executor takes."""
        other = copy(self)
        other.executor = executor
        return other

    def job(self, name: str, words: str) -> Callable[..., None]:
        """A kernel as a function: of the range to cover, of how much at a time, and its words.

        Args:
            words: their types in order: q a whole number or an address, f a float.
        """
        address, run = self._code[name], self.executor.run
        pack = struct.Struct("".join({"q": "q", "f": "f4x"}[word] for word in words)).pack

        def call(total: int, chunk: int, *values: Any) -> None:
            run(address, pack(*values), total, chunk)

        return call

    def kernel(self, job: int) -> str:
        """The kernel that lies at the address of a job."""
        return next(name for name, address in self._code.items() if address == job)

    def product(
        self, stored: np.ndarray, scale: np.ndarray | None, turned: bool
    ) -> Multiply | None:
        """`x @ stored.T * scale` if turned, or `x @ stored`, x (..., d); None if no kernel fits.

        The arrays must stay where they are.
        """
        out, d = stored.shape if turned else stored.shape[::-1]
        if d % self.lanes or (not turned and out % self.lanes):
            return None
        return self._product_by_rows(stored, scale) if turned else self._product_by_columns(stored)

    def _product_by_rows(self, stored: np.ndarray, scale: np.ndarray | None) -> Multiply:
        out, d = stored.shape
        share = max(4, SHARE // (d * stored.itemsize) // 4 * 4)
        unit = self._unit(stored.dtype.name, d)
        run = self.job(f"product_{stored.dtype.name}", "q" * 10)
        weight, scales = address(stored), 0 if scale is None else address(scale)
        pieces = matmul.segment(d, 4, self.lanes)

        def multiply(x: np.ndarray) -> np.ndarray:
            x, y, n = self._ready(x, d, out)
            tiles = -(-out // share) * -(-n // matmul.BLOCK)
            sizes = d, out, n, share
            if unit and n >= unit.least:
                given, factors = unit.rounded(x, n)
                where = address(given), 0 if factors is None else address(factors)
                unit.run(tiles, 1, weight, scales, *where, address(y), *sizes, unit.segment)
            else:
                run(tiles, 1, weight, scales, address(x), 0, address(y), *sizes, pieces)
            return y

        return multiply

    def _unit(self, name: str, d: int) -> "_Unit | None":
        """What multiplies rows of d numbers by weights of a dtype in 16 bits, if anything does."""
        empty, step = self.executor.empty, 2 * self.lanes
        words, segment = "q" * 10, matmul.segment(d, 2, step)
        if name == "bfloat16" and self.pairs and d % step == 0:
            narrow = self.job("narrow", "qq")

            def to_bfloat16(x: np.ndarray, n: int) -> tuple[np.ndarray, None]:
                y, units = empty(x.shape, np.uint16), x.size // self.lanes
                narrow(units, max(1, units // 64), address(x), address(y))
                return y, None

            return _Unit(MANY, to_bfloat16, self.job("product_pairs", words), segment)
        if name == "int8" and self.shorts and d % step == 0:
            shorten = self.job("shorts", "qqqq")

            def to_int16(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
                y, factors = empty(x.shape, np.int16), empty((n,), np.float32)
                shorten(n, max(1, SOME // d), *map(address, (x, y, factors)), d)
                return y, factors

            return _Unit(SEVERAL, to_int16, self.job("product_shorts", words), segment)
        return None

    def _product_by_columns(self, stored: np.ndarray) -> Multiply:
        d, out = stored.shape
        run, weight = self.job(f"product_by_columns_{stored.dtype.name}", "qqqqqq"), address(stored)
        units = out // self.lanes
        share = max(1, -(-units // self.pool.threads))
        blas = self.executor.fallback(np.matmul)

        def multiply(x: np.ndarray) -> np.ndarray:
            if stored.dtype == x.dtype == np.float32 and x.size >= BLAS * d:
                return blas(x.reshape(-1, d), stored).reshape(*x.shape[:-1], out)
            x, y, n = self._ready(x, d, out)
            run(units, share, weight, address(x), address(y), d, out, n)
            return y

        return multiply

    def _ready(self, x: np.ndarray, d: int, out: int) -> tuple[np.ndarray, np.ndarray, int]:
        """x (..., d) as kernels read it, an array for the result (..., out), and the rows of x."""
        if x.dtype != np.float32 or not x.flags.c_contiguous:
            x = np.ascontiguousarray(x, np.float32)
        return x, self.executor.empty((*x.shape[:-1], out), np.float32), x.size // d

    def move(self, formula: str, to: np.ndarray, *operands: np.ndarray) -> bool:
        """`to[...] = formula(*operands)`; False, and nothing done, if no kernel fits.

        Args:
            formula: its name in `rows.FORMULAS`.
            operands: of float32, wherever their rows lie, broadcast to the shape of `to`.
        """
        arrays = (to, *operands)
        looks = ((x.shape, x.strides, x.itemsize) for x in arrays)
        if not to.ndim or any(x.ndim > to.ndim for x in operands):
            return False
        if (walk := _walk(to.shape, *looks)) is None:
            return False
        n, d, sizes = walk
        words = [*map(address, arrays), d, *sizes]
        self.job(formula, "q" * len(words))(n, max(1, SOME // max(1, d)), *words)
        return True


@lru_cache(1000)
def _walk(shape: tuple[int, ...], *looks: Any) -> tuple[int, int, list[int]] | None:
    """How `rows.by_rows` goes over arrays: how many rows, their length, and its other sizes.

    Args:
        shape: of what they are broadcast to.
        looks: the shape, strides and bytes of an element of each.
    """
    strides = []  # of each array, in elements, along each axis of `shape`
    for own, steps, itemsize in looks:
        if any(n not in (1, whole) for n, whole in zip(own[::-1], shape[::-1], strict=False)):
            return None
        spread = [0 if n == 1 else step // itemsize for n, step in zip(own, steps, strict=True)]
        strides.append([0] * (len(shape) - len(own)) + spread)
    *lengths, d = shape
    axes: list[list[int]] = []  # of rows: how many, and each array's stride
    for n, *steps in zip(lengths, *(own[:-1] for own in strides), strict=True):
        if axes and axes[-1][1:] == [n * step for step in steps]:
            axes[-1] = [axes[-1][0] * n, *steps]  # one after another: as good as one axis
        elif n != 1:
            axes.append([n, *steps])
    axes = [[1] + [0] * len(strides)] * (rows.AXES - len(axes)) + axes
    if len(axes) > rows.AXES:
        return None
    counts, *along = zip(*axes, strict=True)
    sizes = list(counts[1:])
    for outer, own in zip(along, strides, strict=True):
        sizes += *outer, own[-1]
    return prod(counts), d, sizes


@cache
def here() -> Machine | None:
    """The machine that this is, or None if its processor lacks what the kernels need."""
    target = Target()
    return Machine(target) if target.fits else None


def address(array: np.ndarray) -> int:
    """Where the data of an array begins."""
    return _word(id(array) + _DATA).value


# `array.ctypes.data` takes 1.8 microseconds, more than many a kernel. NumPy's headers say that the
# pointer to the data comes first in an array, right behind what all Python objects begin with.
_word, _DATA = ctypes.c_size_t.from_address, object.__basicsize__
_PROBE = np.zeros(1)
if address(_PROBE) != _PROBE.ctypes.data:
    raise ImportError("this Python or NumPy lays arrays out in a way that kernels do not know")
