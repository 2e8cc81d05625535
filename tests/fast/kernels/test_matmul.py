"""Products by the kernels, against float64."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from roundings import EXAMPLES, SEEDS, SIZES, U, assert_near, chain, normal

pytest.importorskip("llvmlite")

from minigpt.fast.kernels.machine import MANY
from minigpt.fast.packed import DTYPES


def stored(rng, dtype, *shape):
    """A weight of `dtype`, and its scales if it has any."""
    if dtype == "int8":
        scale = rng.uniform(0.001, 1, shape[0]).astype(np.float32)
        return rng.integers(-127, 128, shape).astype(np.int8), scale
    return normal(rng, *shape).astype(DTYPES[dtype]), None


@pytest.mark.parametrize("dtype", DTYPES)
@EXAMPLES
@given(n=st.integers(1, 40), out=st.integers(1, 90), units=SIZES, seed=SEEDS)
@example(n=MANY, out=64, units=4, seed=0)
@example(n=1, out=50, units=40, seed=0)  # more than a block of the cache
def test_product_by_rows(machine, dtype, n, out, units, seed):
    rng, d = np.random.default_rng(seed), units * machine.lanes
    rows, scale = stored(rng, dtype, out, d)
    x = normal(rng, n, d)
    multiply = machine.product(rows, scale, True)
    found = multiply(x)
    if dtype == "bfloat16" and machine.pairs and d % 32 == 0 and n >= MANY:
        x = x.astype(DTYPES[dtype])  # its product takes pairs of bfloat16
    wide, rows = x.astype(np.float64), rows.astype(np.float64)
    factor = 1 if scale is None else scale.astype(np.float64)
    bound = np.abs(wide) @ np.abs(rows).T * factor * chain(d)
    assert_near(found, wide @ rows.T * factor, bound)


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


def test_a_product_of_many_rows_that_are_long_takes_them_in_blocks(machine):
    rng, (n, out, d) = np.random.default_rng(0), (37, 70, 4096)
    for dtype in DTYPES:
        rows, scale = stored(rng, dtype, out, d)
        x = normal(rng, n, d).astype(ml_dtypes.bfloat16).astype(np.float32)
        found = machine.product(rows, scale, True)(x)
        wide, rows = x.astype(np.float64), rows.astype(np.float64)
        factor = 1 if scale is None else scale.astype(np.float64)
        bound = np.abs(wide) @ np.abs(rows).T * factor * chain(d)
        assert_near(found, wide @ rows.T * factor, bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_does_not_depend_on_the_others(machine, dtype):
    """Up to where rounding sets in, a row of a batch is what it is alone."""
    rng, d = np.random.default_rng(1), 3 * machine.lanes
    rows, scale = stored(rng, dtype, 21, d)
    x = normal(rng, MANY - 1, d)
    multiply = machine.product(rows, scale, True)
    alone = np.concatenate([multiply(row[None]) for row in x])
    np.testing.assert_allclose(multiply(x), alone, rtol=0, atol=d * U * np.abs(alone).max() * 8)


@pytest.mark.parametrize(("out", "d", "turned"), [(16, 7, True), (7, 16, False), (16, 7, False)])
def test_no_kernel_is_given_what_does_not_fill_vectors(machine, out, d, turned):
    weight = np.ones((out, d) if turned else (d, out), np.float32)
    assert machine.product(weight, None, turned) is None
