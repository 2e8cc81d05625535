"""Which experts tokens are sent to: what is assumed, what is observed, what it costs."""

import numpy as np
import pytest
from deepseeks import TINY, chosen, routed, started
from helpers import numbers
from hypothesis import given
from hypothesis import strategies as st

from counting import Counted, ShapeArray
from minigpt.models.experts import Choice
from minigpt.models.routing import bound, dispatch, expected, expected_experts, fewest, most_experts


def on_shapes(assume, T):
    ran = started(TINY, ShapeArray, T, assume=assume)
    before = ran.ledger.snapshot()
    ran.model(Counted(ShapeArray((1, T), int), ran.ledger), ran.cache)
    return ran.model, (ran.ledger.snapshot() - before).where("*.mlp.experts.*")


@pytest.mark.parametrize("T", [1, 2, 3, 7, 50])
def test_what_is_assumed_without_data_is_stated_and_only_moves_bytes(T):
    weights = 3 * TINY.hidden_size * TINY.moe_intermediate_size * 4 * len(("layer 1", "layer 2"))
    pairs = T * TINY.num_experts_per_tok
    met = {expected: round(8 * (1 - (5 / 8) ** T)), bound: min(8, pairs)}
    for assume, experts in met.items():
        model, counts = on_shapes(assume, T)
        assert {moe.dispatch.source for moe in routed(model)} == {assume.__name__}
        assert {len(moe.dispatch.segments) for moe in routed(model)} == {experts}
        assert counts.bytes_read["weights"] == experts * weights
        assert counts.total("fma") == 2 * pairs * 3 * TINY.hidden_size * 5
    assert met[expected] == round(expected_experts(TINY, T))
    assert met[bound] == most_experts(TINY, T)


@given(E=st.integers(1, 40), A=st.integers(1, 40), tokens=st.integers(1, 200))
def test_what_is_assumed_is_what_tokens_in_turn_would_choose(E, A, tokens):
    choice = Choice(E, min(A, E))
    met = {fewest: min(A, E), bound: most_experts(choice, tokens)}
    met[expected] = round(expected_experts(choice, tokens))
    for assume, experts in met.items():
        in_turn = np.arange(tokens * choice[1]).reshape(tokens, -1) % experts
        found, laid_out = assume(choice, tokens), dispatch(in_turn)
        assert found.segments == laid_out.segments
        assert found.tokens.shape == found.back.shape == laid_out.tokens.shape
        assert found.tokens.dtype == laid_out.tokens.dtype == laid_out.back.dtype


def test_the_expectation_is_that_of_uniform_choices():
    rng = np.random.default_rng(0)
    for T in (1, 2, 4):
        met = [
            len(set(np.concatenate([rng.choice(8, 3, replace=False) for _ in range(T)])))
            for _ in range(4000)
        ]
        assert np.mean(met) == pytest.approx(expected_experts(TINY, T), abs=0.05)


def test_on_data_the_ledger_says_by_path_who_was_met():
    make = numbers(0, 11)
    ran = started(TINY, make, 6)
    before = ran.ledger.snapshot()
    ran.model(Counted(make((1, 6), int), ran.ledger), ran.cache)
    counts = ran.ledger.snapshot() - before
    for layer in (1, 2):
        dispatch = ran.model.model.layers[layer].mlp.one.dispatch
        assert dispatch.source == "observed"
        assert sum(stop - start for _, start, stop in dispatch.segments) == 6 * 3
        for expert in range(8):
            part = counts.where(f"model.layers.{layer}.mlp.experts.{expert}.up_proj")
            tokens = sum(stop - start for e, start, stop in dispatch.segments if e == expert)
            assert part.total("fma") == tokens * TINY.hidden_size * 5
            assert part.bytes_read["weights"] == (tokens > 0) * TINY.hidden_size * 5 * 4


def test_the_groups_limit_the_choice():
    make = numbers(1, 11)
    ran = started(TINY, make, 40)
    ran.model(Counted(make((1, 40), int), ran.ledger), ran.cache)
    for moe in routed(ran.model):
        for experts in chosen(moe.dispatch):
            assert len(set(experts)) == 3
            assert len(set(experts // 2)) <= TINY.topk_group
