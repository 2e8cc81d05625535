"""Products by the kernels, against float64."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from roundings import EXAMPLES, SEEDS, SIZES, U, assert_near, chain, normal

pytest.importorskip("llvmlite")

from minigpt.fast.kernels.machine import MANY, SEVERAL
from minigpt.fast.kernels.matmul import BLOCK, FEW, SEGMENT
from minigpt.fast.packed import DTYPES


def stored(rng, dtype, *shape):
    """A weight of `dtype`, and its scales if it has any."""
    if dtype == "int8":
        scale = rng.uniform(0.001, 1, shape[0]).astype(np.float32)
        return rng.integers(-127, 128, shape).astype(np.int8), scale
    return normal(rng, *shape).astype(DTYPES[dtype]), None


def as_multiplied(machine, dtype, x):
    """x (n, d) as the kernels round it for weights of `dtype`, in float64."""
    n, d = x.shape
    if d % (2 * machine.lanes):
        return x.astype(np.float64)
    if dtype == "bfloat16" and machine.pairs and n >= MANY:
        return x.astype(DTYPES[dtype]).astype(np.float64)
    if dtype == "int8" and machine.shorts and n >= SEVERAL:
        most = np.abs(x).max(1, keepdims=True)
        factors, times = most / np.float32(32767), np.float32(32767) / most
        return np.rint(x * times).astype(np.float64) * factors
    return x.astype(np.float64)


def assert_product(machine, dtype, rows, scale, x):
    found = machine.product(rows, scale, True)(x)
    wide, rows = as_multiplied(machine, dtype, x), rows.astype(np.float64)
    factor = 1 if scale is None else scale.astype(np.float64)
    bound = np.abs(wide) @ np.abs(rows).T * factor * chain(x.shape[1])
    assert_near(found, wide @ rows.T * factor, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@EXAMPLES
@given(n=st.integers(1, 40), out=st.integers(1, 90), units=SIZES, seed=SEEDS)
@example(n=MANY, out=64, units=4, seed=0)
@example(n=1, out=50, units=40, seed=0)  # more than a block of the cache
def test_product_by_rows(machine, dtype, n, out, units, seed):
    rng, d = np.random.default_rng(seed), units * machine.lanes
    rows, scale = stored(rng, dtype, out, d)
    assert_product(machine, dtype, rows, scale, normal(rng, n, d))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@EXAMPLES
@given(n=st.integers(1, 40), d_units=SIZES, out_units=SIZES, seed=SEEDS)
@example(n=300, d_units=2, out_units=3, seed=0)
def test_product_by_columns(machine, dtype, n, d_units, out_units, seed):
    rng, d, out = np.random.default_rng(seed), d_units * machine.lanes, out_units * machine.lanes
    columns, _ = stored(rng, dtype, d, out)
    x = normal(rng, n, d)
    found = machine.product(columns, None, False)(x)
    wide, columns = x.astype(np.float64), columns.astype(np.float64)
    bound = np.abs(wide) @ np.abs(columns) * (d + 1) * U  # each column in one lane
    assert_near(found, wide @ columns, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(EXAMPLES, max_examples=12)
@given(
    n=st.sampled_from((1, 2, 3, FEW, FEW + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5)),
    out=st.integers(1, 70),
    units=st.integers(SEGMENT // 64, SEGMENT // 8),
    seed=SEEDS,
)
def test_rows_that_are_long_or_many_are_taken_in_parts(machine, dtype, n, out, units, seed):
    rng, d = np.random.default_rng(seed), units * machine.lanes
    rows, scale = stored(rng, dtype, out, d)
    assert_product(machine, dtype, rows, scale, normal(rng, n, d))


def test_integers_are_added_up_without_overflow(machine):
    """All of the largest: no product of integers is larger, nor any of their sums."""
    n, out, d = 7, 9, 512 * 2 * machine.lanes
    rows = np.full((out, d), 127, np.int8)
    rows[::2] = -127
    x = np.full((n, d), 3.5, np.float32)
    x[1::2] = -3.5
    assert_product(machine, "int8", rows, np.ones(out, np.float32), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_does_not_depend_on_the_others(machine, dtype):
    """Up to where rounding sets in, a row of a batch is what it is alone."""
    rng, d = np.random.default_rng(1), 3 * machine.lanes
    rows, scale = stored(rng, dtype, 21, d)
    x = normal(rng, MANY - 1, d)
    multiply = machine.product(rows, scale, True)
    alone = np.concatenate([multiply(np.stack([row, row]))[:1] for row in x])
    np.testing.assert_allclose(multiply(x), alone, rtol=0, atol=d * U * np.abs(alone).max() * 8)


@pytest.mark.parametrize(("out", "d", "turned"), [(16, 7, True), (7, 16, False), (16, 7, False)])
def test_no_kernel_is_given_what_does_not_fill_vectors(machine, out, d, turned):
    weight = np.ones((out, d) if turned else (d, out), np.float32)
    assert machine.product(weight, None, turned) is None
