"""What the kernels do to each element and to each row, against float64."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from roundings import EXAMPLES, SEEDS, SIZES, U, assert_near, chain, normal

pytest.importorskip("llvmlite")

from minigpt.fast.fused import fused_kernels
from minigpt.fast.kernels.machine import address
from minigpt.models import ops

# Rounding to bfloat16.


def narrowed(machine, x):
    y = np.empty(x.shape, np.uint16)
    machine.job("narrow", "qq")(x.size // machine.lanes, 3, address(x), address(y))
    return y.view(ml_dtypes.bfloat16)


@EXAMPLES
@given(units=st.integers(1, 60), seed=SEEDS)
def test_narrow_is_what_ml_dtypes_makes_of_any_bits(machine, units, seed):
    bits = np.random.default_rng(seed).integers(0, 2**32, units * machine.lanes, dtype=np.uint32)
    bits[::7] |= 0x7F800000  # no numbers, mostly
    x = bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(ml_dtypes.bfloat16)
    assert narrowed(machine, x).tobytes() == expected.tobytes()


def test_narrow_rounds_ties_to_even_and_what_is_too_large_to_infinity(machine):
    pairs = {
        1 + 2.0**-8: 1.0,  # half way between 1 and 1 + 2**-7
        1 + 3 * 2.0**-8: 1 + 2.0**-6,
        1 + 2.0**-8 + 2.0**-20: 1 + 2.0**-7,
        -(1 + 3 * 2.0**-8): -(1 + 2.0**-6),
        float(np.finfo(np.float32).max): np.inf,
        -3.4e38: -np.inf,
        np.inf: np.inf,
        -np.inf: -np.inf,
        1e-45: 0.0,
        -0.0: -0.0,
    }
    x = np.zeros(-(-len(pairs) // machine.lanes) * machine.lanes, np.float32)
    x[: len(pairs)] = list(pairs)
    found = narrowed(machine, x)[: len(pairs)].astype(np.float32)
    assert found.tobytes() == np.array(list(pairs.values()), np.float32).tobytes()


def test_narrow_keeps_what_is_no_number(machine):
    for bits in (0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001):
        x = np.full(machine.lanes, bits, np.uint32).view(np.float32)
        assert np.isnan(narrowed(machine, x).astype(np.float32)).all()


def shortened(machine, x):
    y, factors = np.empty(x.shape, np.int16), np.empty(len(x), np.float32)
    machine.job("shorts", "qqqq")(len(x), 2, *map(address, (x, y, factors)), x.shape[1])
    return y, factors


@EXAMPLES
@given(n=st.integers(1, 20), units=SIZES, seed=SEEDS)
def test_shorts(machine, n, units, seed):
    rng = np.random.default_rng(seed)
    x = normal(rng, n, units * machine.lanes) * np.exp(normal(rng, n, 1) * 10)
    y, factors = shortened(machine, x)
    most = np.abs(x).max(1)
    assert factors.tobytes() == (most / np.float32(32767)).tobytes()
    expected = np.rint(x * (np.float32(32767) / most)[:, None])
    assert np.array_equal(y, expected)
    assert np.array_equal(np.abs(y).max(1), np.full(n, 32767))


def test_shorts_of_rows_that_are_nothing_or_not_finite(machine):
    x = np.ones((6, machine.lanes), np.float32)
    x[0], x[1] = 0, 1e-38
    x[2, 3], x[3, 1], x[4, 0] = np.nan, np.inf, -np.inf
    y, factors = shortened(machine, x)
    assert not y[:2].any()
    assert not factors[:2].any()
    assert not np.isfinite(factors[2:5]).any()  # and so is all that they make
    assert (y[5] == 32767).all()


# Elements and rows.

ELEMENTS = {
    "gelu": lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_exact": lambda x: x * np.vectorize(share)(x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}
OFF = {"gelu_exact": 1e-7}  # what the code itself is off, relative to x: its share is that near


def share(x):
    """Of a normal distribution below x."""
    return math.erfc(-x / math.sqrt(2)) / 2


@st.composite
def shapes(draw):
    """Shapes whose last axis is, in most of them, some vectors."""
    lanes = draw(st.sampled_from((16, 16, 16, 8, 3)))
    return (*draw(st.lists(SIZES, max_size=2)), lanes * draw(SIZES))


@pytest.mark.parametrize("name", ELEMENTS)
@EXAMPLES
@given(shape=shapes(), size=st.sampled_from((0.01, 1, 10, 1e4)), seed=SEEDS)
@example(shape=(3, 4096), size=1, seed=0)  # more than a thread takes at a time
def test_elementwise(machine, name, shape, size, seed):
    function = getattr(ops, name)
    x = normal(np.random.default_rng(seed), *shape) * np.float32(size)
    with np.errstate(over="ignore"):
        exact = ELEMENTS[name](x.astype(np.float64))
        found, fallback = fused_kernels(machine)[function](x), function.function(x)
    # exp's argument is off by some U, relatively; x is at most 0.37 / argument times that.
    assert_near(found, exact, (8 * U + OFF.get(name, 0)) * np.abs(x))
    assert_near(found, fallback, 16 * U * np.abs(x))


@pytest.mark.parametrize("name", ELEMENTS)
def test_elementwise_of_what_is_no_ordinary_number(machine, name):
    x = np.array(
        [np.nan, np.inf, -np.inf, 0, 3e38, -3e38, 1e-40, -100, 88, -88, 90, 1e5, -1e5] * 16
    )
    x = x.astype(np.float32)
    function = getattr(ops, name)
    with np.errstate(all="ignore"):
        found = fused_kernels(machine)[function](x)
        np.testing.assert_allclose(found, function.function(x), rtol=1e-6, atol=1e-30)


NORMS = st.tuples(st.sampled_from((0, 0, 1, 100)), st.sampled_from((0, 1e-3, 1, 1e3)))


@EXAMPLES
@given(shape=shapes(), spread=NORMS, seed=SEEDS)
def test_layer_norm(machine, shape, spread, seed):
    rng, d = np.random.default_rng(seed), shape[-1]
    x = normal(rng, *shape) * np.float32(spread[1]) + np.float32(spread[0])
    weight, bias, epsilon = normal(rng, d), normal(rng, d), 1e-5
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    factor = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    scaled = centred * factor * weight
    # The mean is off by a chain of the summands; then the centred are, and their squares.
    off = chain(d) * np.abs(wide).mean(-1, keepdims=True) + 2 * U * np.abs(wide)
    worst = off.max(-1, keepdims=True)
    bound = np.abs(weight) * factor * off + np.abs(scaled) * (chain(d) + (worst * factor) ** 2)
    bound += 2 * U * np.abs(scaled + bias)
    found = fused_kernels(machine)[ops.layer_norm](x, weight, bias, epsilon)
    assert_near(found, scaled + bias, 2 * bound)


@EXAMPLES
@given(shape=shapes(), spread=NORMS, seed=SEEDS)
def test_rms_norm(machine, shape, spread, seed):
    rng = np.random.default_rng(seed)
    x = normal(rng, *shape) * np.float32(spread[1]) + np.float32(spread[0])
    weight, epsilon = normal(rng, shape[-1]), 1e-6
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + epsilon) * weight
    found = fused_kernels(machine)[ops.rms_norm](x, weight, epsilon)
    assert_near(found, expected, chain(shape[-1]) * np.abs(expected))


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_refuse_or_spread_weights_as_numpy_does(machine, name):
    function = getattr(ops, name)
    kernel = fused_kernels(machine)[function]
    x = normal(np.random.default_rng(0), 2, 64)

    def weights(*shape):
        given = np.linspace(1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        return (given, given, 1e-5) if name == "layer_norm" else (given, 1e-5)

    with pytest.raises(ValueError, match="broadcast"):
        kernel(x, *weights(32))
    for shape in ((2, 64), (1, 64), (1,)):
        expected = function.function(x, *weights(*shape))
        np.testing.assert_allclose(kernel(x, *weights(*shape)), expected, rtol=1e-5, atol=1e-6)
