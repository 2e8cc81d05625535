"""Packed matrices of each dtype, and what may multiply them."""

import numpy as np
import pytest

from minigpt.fast import enabled
from minigpt.fast.packed import DTYPES, PackedMatrix, quantised

OUT, IN = 20, 32


def machines():
    """What may multiply: NumPy, and the kernels if they can be had."""
    yield pytest.param(lambda: None, id="NumPy")
    missing = pytest.mark.skipif(not enabled(), reason="llvmlite is not installed")
    yield pytest.param(here, id="kernels", marks=missing)


def here():
    from minigpt.fast.kernels.machine import here as machine

    return machine()


def packed(dtype, machine=None, turned=False, shape=(OUT, IN), seed=0):
    """A matrix of `shape` in one of its dtypes, and its numbers in float64."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(shape[::-1] if turned else shape, dtype=np.float32)
    stored, scale = quantised(rows) if dtype == "int8" else (rows.astype(DTYPES[dtype]), None)
    numbers = stored.astype(np.float64) * (1 if scale is None else scale[:, None])
    made = PackedMatrix(stored, scale, turned, machine)
    return made, numbers.T if turned else numbers


ROWS = np.array([1, 2])
