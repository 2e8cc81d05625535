"""Every kernel against the NumPy line beside it, worked out in float64.

What may differ is what float32 rounds: a bound on it is worked out from the operands of each
example, `U` for each operation in the longest chain of them.
"""

from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigpt.fast.fused import fused_kernels
from minigpt.fast.kernels.machine import MANY, address
from minigpt.fast.packed import DTYPES
from minigpt.models import ops

U = 2.0**-24  # the most that float32 is off, relative to the number that is rounded
LANES = 8  # in the narrowest vector: sums have so many lanes, or more
KEYS = [np.dtype(dtype) for dtype in (np.float32, np.float16, ml_dtypes.bfloat16)]
SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=40)


def chain(n):
    """Roundings in a sum of n products by lanes, and some for what is done to it after."""
    return (n / LANES + 2 * LANES + 4) * U


def assert_near(found, expected, bound):
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.all(np.abs(found - expected) <= bound)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def stored(rng, dtype, *shape):
    """A weight of `dtype`, and its scales if it has any."""
    if dtype == "int8":
        scale = rng.uniform(0.001, 1, shape[0]).astype(np.float32)
        return rng.integers(-127, 128, shape).astype(np.int8), scale
    return normal(rng, *shape).astype(DTYPES[dtype]), None


# Products.


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


# What is done to each element, and to each row.

ELEMENTS = {
    "gelu": lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


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
        found, text = fused_kernels(machine)[function](x), function.function(x)
    # exp's argument is off by some U, relatively; x is at most 0.37 / argument times that.
    assert_near(found, exact, 8 * U * np.abs(x))
    assert_near(found, text, 16 * U * np.abs(x))


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


# Attention.


@st.composite
def attentions(draw):
    """Queries, keys and values as the models give them, and a mask."""
    dtype = draw(st.sampled_from(KEYS))
    B, K = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    group = draw(st.sampled_from((None, 1, 2, 3)))  # None: no axis of its own, as in GPT-2
    T, S = draw(st.sampled_from((1, 1, 2, 7, 33))), draw(st.integers(1, 70))
    D, capacity = 16 * draw(st.integers(1, 4)), S + draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(SEEDS))
    k, v = (normal(rng, B, K, capacity, D).astype(dtype)[:, :, :S] for _ in "kv")
    q = normal(rng, B, T, K, group or 1, D).transpose(0, 2, 3, 1, 4)
    q *= np.float32(draw(st.sampled_from((0.1, 1, 30))))
    if group:
        k, v = k[:, :, None], v[:, :, None]
    else:
        q = q[:, :, 0]
    some = draw(st.sampled_from(("causal", "any", "at the end")))
    if some == "causal":
        mask = np.tril(np.ones((T, S), bool), S - T)
    elif some == "any":
        mask = rng.random((T, S)) < draw(st.sampled_from((0.1, 0.5, 0.9)))
    else:
        mask = np.arange(S) >= rng.integers(0, S, (T, 1))  # partly masked at front
    mask[:, rng.integers(S)] |= ~mask.any(1)  # each query sees a key
    return q, k, v, mask


def exact_attention(q, k, v, mask):
    """In float64: what comes out, and how far float32 may be from it."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    S, D = k.shape[-2:]
    scores = np.where(mask, q @ k.swapaxes(-1, -2) * D**-0.5, -np.inf)
    largest = scores.max(-1, keepdims=True)
    p = np.exp(scores - largest)
    p /= p.sum(-1, keepdims=True)
    off = np.abs(q) @ np.abs(k).swapaxes(-1, -2) * D**-0.5 * chain(D)
    # and by the difference to the largest, by exp, by the sums, which are scaled as they grow
    span = np.where(mask, largest - scores, 0)
    off = (off + span * 2 * U).max(-1, keepdims=True)
    return p @ v, p @ np.abs(v) * (2 * off + (2 * S + 40) * U)


@EXAMPLES
@given(case=attentions())
def test_attention(machine, case):
    attention = fused_kernels(machine)[ops.attention]
    found = attention(*case)
    expected, bound = exact_attention(*case)
    assert_near(found, expected, bound)


def test_attention_runs_in_the_kernel_for_what_models_give(machine):
    """Nothing here reaches the text."""
    rng = np.random.default_rng(0)
    with mock.patch.object(ops.attention, "function", side_effect=AssertionError):
        attention = fused_kernels(machine)[ops.attention]
        for dtype in KEYS:
            k = normal(rng, 2, 3, 20, 32).astype(dtype)[:, :, :17]
            q = normal(rng, 2, 5, 3, 32).swapaxes(1, 2)
            mask = np.tril(np.ones((5, 17), bool), 12)
            assert attention(q, k, k, mask).shape == (2, 3, 5, 32)
            q = normal(rng, 2, 3, 4, 1, 32)
            assert attention(q, k[:, :, None], k[:, :, None], mask[:1]).shape == q.shape


@EXAMPLES
@given(data=st.data(), seed=SEEDS)
def test_attention_of_anything_else_is_what_its_text_gives(machine, data, seed):
    """Wherever it runs: other dtypes, widths, strides and ways to broadcast."""
    attention = fused_kernels(machine)[ops.attention]
    rng = np.random.default_rng(seed)
    pick = lambda *choices: data.draw(st.sampled_from(choices))  # noqa: E731
    H, T, S, D = pick(1, 2), pick(1, 3), pick(1, 19), pick(5, 16, 32)
    lead = pick((), (H,), (2, H))
    q = normal(rng, *lead, T, D).astype(pick(np.float32, np.float64))
    k = normal(rng, *pick((), (1,), lead), S, pick(D, 2 * D))[..., :D]
    v = normal(rng, *k.shape[:-1], pick(D, 16))
    if pick(True, False):
        k, v = np.asfortranarray(k), np.asfortranarray(v)
    mask = np.tril(np.ones((T, S), bool), S - T) if S >= T else np.ones((T, S), bool)
    mask = pick(mask, np.asfortranarray(mask), mask[:, :1] | np.ones(S, bool), np.ones(S, bool))
    expected = ops.attention.function(q, k, v, mask)
    found = attention(q, k, v, mask)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_of_heads_too_wide_for_a_stack(machine):
    attention = fused_kernels(machine)[ops.attention]
    x = normal(np.random.default_rng(0), 1, 1, 20, 1 << 16)
    found = attention(x, x, x, np.tril(np.ones((20, 20), bool)))
    np.testing.assert_allclose(found, x, rtol=1e-5)  # each is nearest to itself


def test_a_query_that_sees_nothing_finds_no_number(machine):
    attention = fused_kernels(machine)[ops.attention]
    x = normal(np.random.default_rng(0), 1, 2, 3, 16)
    mask = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1]], bool)
    found = attention(x, x, x, mask)
    assert np.isnan(found[:, :, 1]).all()
    assert np.isfinite(found[:, :, ::2]).all()


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_damage_is_not_hidden(machine, where):
    """What is no number in what a query sees is none in what it finds."""
    attention = fused_kernels(machine)[ops.attention]
    rng = np.random.default_rng(0)
    given = {name: normal(rng, 1, 1, 20, 16) for name in "qkv"}
    given[where][0, 0, 3, 5] = np.nan
    found = attention(*given.values(), np.tril(np.ones((20, 20), bool)))
    expected = ops.attention.function(*given.values(), np.tril(np.ones((20, 20), bool)))
    assert np.isnan(expected).any()
    assert (np.isnan(found) == np.isnan(expected)).all()
