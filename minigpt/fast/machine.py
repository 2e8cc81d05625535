"""What runs the kernels: compiled once for this machine, on the cores that this process may use."""

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir

from minigpt.fast import between, jobs, pool, products
from minigpt.fast.llvm import Target
from minigpt.fast.pool import Pool

SHARE = 1 << 18  # bytes of a weight that a thread takes at a time
BLOCK = 1 << 18  # bytes of rows of x that stay in the cache while weights pass by
BLAS = 128  # rows from which on BLAS multiplies faster by columns
MANY = 16  # rows from which on it pays to round x to bfloat16 first


def kernels(module: ir.Module, target: Target) -> None:
    """All kernels, and what shares them out."""
    pool.sharing(module, target)
    for dtype in jobs.STORED:
        products.product(module, target, dtype)
    for dtype in ("float32", "bfloat16", "float16"):
        products.product_by_columns(module, target, dtype)
        between.attention(module, target, dtype)
    if products.PAIRS_FEATURE in target.features:
        products.product(module, target, "bfloat16", pairs=True)
    products.narrow(module, target)
    for formula in (between.gelu, between.silu):
        between.elementwise(module, target, formula)
    between.layer_norm(module, target)
    between.rms_norm(module, target)


class Machine:
    """The kernels for `target`, and threads to run them.

    Attributes:
        lanes: numbers in a vector.
        pairs: whether two products of bfloat16 are one operation.
    """

    def __init__(self, target: Target, threads: int | None = None) -> None:
        sources = [Path(str(room.__file__)) for room in (between, jobs, pool, products)]
        self._code = target.load(kernels, [*sources, Path(__file__)])
        self._pool = Pool(self._code, threads)
        self.lanes, self.pairs = target.lanes, products.PAIRS_FEATURE in target.features
        self.threads = self._pool.threads

    def job(self, name: str, words: str) -> Callable[..., None]:
        """A kernel as a function: of the range to cover, of how much at a time, and its words.

        Args:
            words: their types in order: q a whole number or an address, f a float.
        """
        address, run = self._code[name], self._pool.run
        pack = struct.Struct("".join({"q": "q", "f": "f4x"}[word] for word in words)).pack

        def call(total: int, chunk: int, *values: Any) -> None:
            run(address, pack(*values), total, chunk)

        return call

    def product(
        self, stored: np.ndarray, scale: np.ndarray | None, turned: bool
    ) -> Callable[[np.ndarray], np.ndarray] | None:
        """`x @ stored.T * scale` if turned, or `x @ stored`, x (..., d); None if no kernel fits.

        The arrays must stay where they are.
        """
        out, d = stored.shape if turned else stored.shape[::-1]
        if d % self.lanes or (not turned and out % self.lanes):
            return None
        name, width = stored.dtype.name, stored.itemsize
        place = address(stored)
        if not turned:
            job = self.job(f"product_by_columns_{name}", "qqqqqq")
            units = out // self.lanes
            share = max(1, -(-units // self.threads))

            def by_columns(x: np.ndarray) -> np.ndarray:
                if stored.dtype == x.dtype == np.float32 and x.size >= BLAS * d:
                    return (x.reshape(-1, d) @ stored).reshape(*x.shape[:-1], out)
                x, y, n = _rows(x, d, out)
                job(units, share, place, address(x), address(y), d, out, n)
                return y

            return by_columns
        by_rows, pairs = self.job(f"product_{name}", "qqqqqqqq"), None
        if name == "bfloat16" and self.pairs and d % 32 == 0:
            pairs, narrow = self.job("product_pairs", "qqqqqqqq"), self.job("narrow", "qq")
        factors = 0 if scale is None else address(scale)
        share = max(4, SHARE // (d * width) // 4 * 4)
        block = max(4, BLOCK // (d * 4) // 4 * 4)

        def multiply(x: np.ndarray) -> np.ndarray:
            x, y, n = _rows(x, d, out)
            if pairs is None or n < MANY:
                by_rows(out, share, place, factors, address(x), address(y), d, out, n, block)
            else:
                half = np.empty(x.shape, np.uint16)
                units = half.size // self.lanes
                narrow(units, max(1, units // 64), address(x), address(half))
                pairs(out, share, place, 0, address(half), address(y), d, out, n, 2 * block)
            return y

        return multiply


def _rows(x: np.ndarray, d: int, out: int) -> tuple[np.ndarray, np.ndarray, int]:
    """x (..., d) as a kernel reads it, room for the result (..., out), and how many rows."""
    if x.dtype != np.float32 or not x.flags.c_contiguous:
        x = np.ascontiguousarray(x, np.float32)
    return x, np.empty((*x.shape[:-1], out), np.float32), x.size // d


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
