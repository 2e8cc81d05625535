"""Linear attention: the rule as it is published, and transformers, past a chunk and past many."""

from collections import Counter

import numpy as np
import pytest
from deltas import kinds, token_by_token
from families import DELTA, INTERVAL, read, small, tiny
from families_beside import compared
from helpers import DRAWN, Case, counting_scalars, numbers, run
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import ShapeArray
from minigpt.errors import InputError
from minigpt.formulas.closed_forms import formulas
from minigpt.models.architectures import build
from minigpt.models.delta import GatedDeltaNet
from minigpt.models.ops import causal_convolution, forward_substitution, softplus
from minigpt.models.state import State

SIDES = st.integers(1, 4)


@settings(max_examples=60)
@given(*[SIDES] * 5, st.integers(1, 9), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_chunks_give_what_the_rule_gives_token_by_token(B, K, G, D, E, T, chunk, seed):
    DRAWN["chunks of linear attention give what the rule gives token by token"] += 1
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, B, K, 1, T, D))
    v, S = rng.standard_normal((B, K, G, T, E)), rng.standard_normal((B, K, G, D, E))
    b, fade = rng.uniform(0, 1, (B, K, G, T)), -rng.uniform(0, 9, (B, K, G, T))
    found, after = [], S
    for first in range(0, T, chunk):
        t = slice(first, first + chunk)
        operands = (x[..., t, :] for x in (q, k, v)), (x[..., t] for x in (b, fade))
        y, after = GatedDeltaNet.through(None, *operands[0], *operands[1], after)
        found.append(y)
    found = np.concatenate(found, -2)
    for at in np.ndindex(B, K, G):
        one = *at[:2], 0
        y, matrix = token_by_token(q[one], k[one], v[at], b[at], fade[at], S[at])
        np.testing.assert_allclose(found[at], y, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(after[at], matrix, rtol=1e-9, atol=1e-9)


def test_a_memory_that_fades_at_once_is_no_number_that_overflows():
    """Differences of logarithms are masked before they are raised: above the diagonal they grow."""
    q = np.ones((1, 1, 1, 64, 2), np.float32)
    fade = np.full((1, 1, 1, 64), -90, np.float32)
    with np.errstate(over="raise", invalid="raise"):
        y, S = GatedDeltaNet.through(None, q, q, q, fade * 0 + 1, fade, q[..., :2, :])
    np.testing.assert_array_equal(y, np.full_like(y, 2.0))
    np.testing.assert_array_equal(S, np.ones_like(S))


@given(st.integers(1, 5), SIDES, st.integers(0, 2**32 - 1))
def test_what_is_substituted_solves_the_system(C, E, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 3, C, C)), rng.standard_normal((2, 3, C, E))
    x = forward_substitution(a, b)
    np.testing.assert_allclose(np.tril(a, -1) @ x + x, b, rtol=1e-9, atol=1e-9)


@given(SIDES, SIDES, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_convolution_is_that_of_each_channel(T, channels, n, seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((2, n - 1 + T, channels)), rng.standard_normal((channels, n))
    found = causal_convolution(x, weight)
    for b, c in np.ndindex(2, channels):
        np.testing.assert_allclose(found[b, :, c], np.correlate(x[b, :, c], weight[c], "valid"))


def test_a_softplus_neither_overflows_nor_vanishes():
    x = np.array([-90, -20, -1, 0, 1, 20, 90], np.float64)
    np.testing.assert_allclose(softplus(x), np.logaddexp(0, x), rtol=1e-7, atol=1e-15)
    with np.errstate(over="raise"):
        assert softplus(np.array([1e4, -1e4], np.float32)).tolist() == [1e4, 0.0]


def in_chunks_of(chunk, **values):
    """A tiny model without experts, which data and shapes would not meet alike."""
    config = read("qwen3_next", tiny("qwen3_next") | {"mlp_only_layers": [0, 1], **values})
    mixers = [block["mixer"] for block in config.blocks]
    shorter = [m.but(chunk=chunk) if m.kind is GatedDeltaNet else m for m in mixers]
    pairs = zip(config.blocks, shorter, strict=True)
    return config.of(tuple(block.but(mixer=mixer) for block, mixer in pairs))


@pytest.mark.parametrize("values", [{}, {"linear_conv_kernel_dim": 1}])
def test_of_several_chunks_numbers_shapes_and_executed_scalars_are_one_record(values):
    config, tally = in_chunks_of(2, **values), Counter()
    case = Case(config, 2, (5, 1, 3), 9)
    real, shapes = run(case, numbers(0, 7)), run(case, ShapeArray)
    assert real.record == shapes.record
    executed = run(case, counting_scalars(0, 7, tally), np.float64)
    assert executed.counts.cost == tally == real.counts.cost
    whole = run(Case(in_chunks_of(64, **values), 2, (5, 1, 3), 9), numbers(0, 7))
    for a, b in zip(real.logits, whole.logits, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-4, atol=1e-5)


# Keys of a chunk that are many more than their width overlap so that float32 rounds at 1e-3: both.
WIDE = {"linear_key_head_dim": 64, "max_position_embeddings": 256}


@pytest.mark.parametrize(
    ("name", "more"), [("qwen3_next", {"num_hidden_layers": 2}), ("qwen3_next, mixed", {})]
)
def test_past_many_chunks_it_says_and_keeps_what_transformers_does(torch, name, more, tmp_path):
    runs = {"whole": [140, 1], "parts": [70, 64, 1, 6], "one first": [1, 1, 130, 9]}
    values = small(name) | WIDE | more
    found = compared(name, values, runs, tmp_path)
    assert max(found.errors.values()) < 1e-4, found.errors
    for theirs, ours, on_shapes in found.flops:
        assert theirs == ours == on_shapes
    assert len(found.states) == kinds(values).count("linear_attention")
    for inputs, matrix, our_inputs, our_matrix in found.states:
        B, before, K, width = our_inputs.shape
        assert tuple(inputs.shape) == (B, K * width, before + 1)  # of which the first is not used
        np.testing.assert_allclose(
            our_matrix.reshape(tuple(matrix.shape)), matrix, rtol=1e-4, atol=1e-4
        )
        D = values["linear_key_head_dim"]
        queries = our_inputs[..., :D].reshape(B, before, K * D).swapaxes(1, 2)
        np.testing.assert_allclose(queries, inputs[:, : K * D, 1:], rtol=1e-4, atol=1e-4)


def test_a_state_takes_as_much_whatever_the_tokens():
    config = read("qwen3_next", small("qwen3_next"))
    model = build(config, {key: ShapeArray(shape) for key, shape in config.shapes().items()})
    short, long = model.new_cache(2, 1), model.new_cache(2, 64)
    K, H = DELTA["linear_num_key_heads"], DELTA["linear_num_value_heads"]
    D, E = DELTA["linear_key_head_dim"], DELTA["linear_value_head_dim"]
    layers = config.layers // INTERVAL["full_attention_interval"]
    numbers_held = H * D * E + 3 * (2 * K * D + H * E)
    assert short.state_bytes == long.state_bytes == 2 * layers * numbers_held * 4
    assert 64 * short.nbytes == long.nbytes
    assert isinstance(long[0], State)
    assert long.length == long[0].length == 0


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("qwen3_next", {"layer_types": ["sliding_attention"] * 4}, "'sliding_attention'"),
        ("qwen3_next", {"layer_types": ["linear_attention"] * 4}, "no layer has full attention"),
        ("qwen3_next", {"full_attention_interval": 9}, "no layer has full attention"),
        ("qwen3_next", {"linear_num_value_heads": 5}, "5 is not a multiple of linear_num_key"),
        ("qwen3_next", {"linear_conv_kernel_dim": 0}, "linear_conv_kernel_dim is 0"),
        ("qwen3_next", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("qwen3", {"layer_types": ["linear_attention"] * 4}, "'linear_attention'"),
        ("gemma2", {"layer_types": ["linear_attention"] * 4}, "'linear_attention'"),
        ("qwen2_moe", {"layer_types": ["sliding_attention"] * 4}, "has windows"),
        ("qwen3_moe", {"use_sliding_window": True}, "use_sliding_window is True"),
    ],
)
def test_kinds_of_layers_and_sizes_that_are_not_computed_are_named(name, wrong, said):
    with pytest.raises(InputError, match=said):
        read(name, small(name) | wrong)


def test_it_has_no_closed_forms_and_says_so_in_one_line():
    with pytest.raises(InputError, match=r"chunks of 64 tokens.*minigpt count says") as refused:
        formulas(read("qwen3_next", small("qwen3_next")))
    assert "\n" not in str(refused.value)
