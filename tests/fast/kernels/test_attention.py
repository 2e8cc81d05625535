"""Attention by the kernel, against float64."""

from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roundings import EXAMPLES, SEEDS, U, assert_near, chain, normal

pytest.importorskip("llvmlite")

from minigpt.fast.fused import fused_kernels
from minigpt.models import ops

KEYS = [np.dtype(dtype) for dtype in (np.float32, np.float16, ml_dtypes.bfloat16)]


@st.composite
def attentions(draw):
    """Queries, keys and values as the models give them, a mask, and what scores are scaled by."""
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
    return q, k, v, mask, draw(st.sampled_from((D**-0.5, 1.0, 0.3 / D)))


def exact_attention(q, k, v, mask, scale, cap=None, sinks=-np.inf):
    """In float64: what comes out, and how far float32 may be from it."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    S, D = k.shape[-2:]
    scores = q @ k.swapaxes(-1, -2) * scale
    off = np.abs(q) @ np.abs(k).swapaxes(-1, -2) * scale * chain(D)
    if cap:
        scores, off = np.tanh(scores / cap) * cap, off + 16 * U * cap
    scores = np.where(mask, scores, -np.inf)
    largest = np.maximum(scores.max(-1, keepdims=True), sinks)
    p = np.exp(scores - largest)
    p /= p.sum(-1, keepdims=True) + np.exp(sinks - largest)
    # and by the difference to the largest, by exp, by the sums, which are scaled as they grow
    span = np.where(mask, largest - scores, 0)
    span = np.maximum(span, np.where(np.isfinite(sinks), largest - sinks, 0))
    off = (off + span * 2 * U).max(-1, keepdims=True)
    none = np.exp(-87) * np.abs(v).sum(-2, keepdims=True)  # so far below the largest, exp is 0
    return p @ v, p @ np.abs(v) * (2 * off + (2 * S + 40) * U) + none


@EXAMPLES
@given(case=attentions())
def test_attention(machine, case):
    attention = fused_kernels(machine)[ops.attention]
    found = attention(*case)
    expected, bound = exact_attention(*case)
    assert_near(found, expected, bound)


@EXAMPLES
@given(case=attentions(), cap=st.sampled_from((0.1, 5.0, 50.0)))
def test_capped_attention(machine, case, cap):
    found = fused_kernels(machine)[ops.capped_attention](*case, cap)
    expected, bound = exact_attention(*case, cap)
    assert_near(found, expected, bound)


@EXAMPLES
@given(case=attentions(), size=st.sampled_from((0.1, 3, 30)), seed=SEEDS)
def test_sink_attention(machine, case, size, seed):
    heads = case[0].shape[1:-2]
    sinks = normal(np.random.default_rng(seed), *heads, 1, 1) * np.float32(size)
    found = fused_kernels(machine)[ops.sink_attention](*case, sinks)
    expected, bound = exact_attention(*case, sinks=sinks.astype(np.float64))
    assert_near(found, expected, bound)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (3, 5, 1), (2, 3, 1, 1), ()])
def test_sinks_of_any_shape_are_as_in_its_code(machine, shape):
    rng = np.random.default_rng(0)
    q, k, v = (normal(rng, 2, 3, 5, 16) for _ in "qkv")
    given = q, k, v, np.tril(np.ones((5, 5), bool)), 0.25, normal(rng, *shape)
    found = fused_kernels(machine)[ops.sink_attention](*given)
    expected = ops.sink_attention.function(*given)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_attention_runs_in_the_kernel_for_what_models_give(machine):
    """Nothing here reaches the code."""
    rng = np.random.default_rng(0)
    with mock.patch.object(ops.attention, "function", side_effect=AssertionError):
        attention = fused_kernels(machine)[ops.attention]
        for dtype in KEYS:
            k = normal(rng, 2, 3, 20, 32).astype(dtype)[:, :, :17]
            q = normal(rng, 2, 5, 3, 32).swapaxes(1, 2)
            mask = np.tril(np.ones((5, 17), bool), 12)
            assert attention(q, k, k, mask, 0.1).shape == (2, 3, 5, 32)
            q = normal(rng, 2, 3, 4, 1, 32)
            k, mask = k[:, :, None], mask[:1]
            assert attention(q, k, k, mask, 0.1).shape == q.shape


@EXAMPLES
@given(data=st.data(), seed=SEEDS)
def test_attention_of_anything_else_is_what_its_code_gives(machine, data, seed):
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
    scale = pick(D**-0.5, 0.7)
    expected = ops.attention.function(q, k, v, mask, scale)
    found = attention(q, k, v, mask, scale)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_of_heads_too_wide_for_a_stack(machine):
    attention = fused_kernels(machine)[ops.attention]
    x = normal(np.random.default_rng(0), 1, 1, 20, 1 << 16)
    found = attention(x, x, x, np.tril(np.ones((20, 20), bool)), 2.0**-8)
    np.testing.assert_allclose(found, x, rtol=1e-5)  # each is nearest to itself


def test_a_query_that_sees_nothing_finds_no_number(machine):
    attention = fused_kernels(machine)[ops.attention]
    x = normal(np.random.default_rng(0), 1, 2, 3, 16)
    mask = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1]], bool)
    found = attention(x, x, x, mask, 0.25)
    assert np.isnan(found[:, :, 1]).all()
    assert np.isfinite(found[:, :, ::2]).all()


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_damage_is_not_hidden(machine, where):
    """What is no number in what a query sees is none in what it finds."""
    attention = fused_kernels(machine)[ops.attention]
    rng = np.random.default_rng(0)
    given = {name: normal(rng, 1, 1, 20, 16) for name in "qkv"}
    given[where][0, 0, 3, 5] = np.nan
    others = np.tril(np.ones((20, 20), bool)), 0.25
    found = attention(*given.values(), *others)
    expected = ops.attention.function(*given.values(), *others)
    assert np.isnan(expected).any()
    assert (np.isnan(found) == np.isnan(expected)).all()
