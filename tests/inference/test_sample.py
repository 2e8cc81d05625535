"""Logits to a token: who is drawn, and how often."""

from collections import Counter
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting import Counted, Ledger, scalars
from minigpt.inference.sample import _descending, sample

HALVES = np.log(np.array([1, 4, 1, 2], "f4") / 8)  # token 1 half of the time, 3 a quarter


class Even:
    """A generator that draws every part of [0, 1) equally often: k / n for each k."""

    def __init__(self, n):
        self._draws = iter(range(n))
        self._n = n

    def random(self):
        return (next(self._draws) + 0.5) / self._n


def shares(logits, n=720, **options):
    """How often each token is drawn, as fractions of 1."""
    rng = Even(n)
    drawn = Counter(sample(np.asarray(logits), rng, **options) for _ in range(n))
    return {token: Fraction(times, n) for token, times in sorted(drawn.items())}


def parts(*tokens_and_weights):
    total = sum(weight for _, weight in tokens_and_weights)
    return {token: Fraction(weight, total) for token, weight in tokens_and_weights}


# claim: options, the share of each token of HALVES
CLAIMS = {
    "every token has its probability": ({}, parts((0, 1), (1, 4), (2, 1), (3, 2))),
    "temperature 0 takes the most likely": ({"temperature": 0}, parts((1, 1))),
    "temperature 0.5 squares": ({"temperature": 0.5}, parts((0, 1), (1, 16), (2, 1), (3, 4))),
    "a temperature next to 0 is as 0": ({"temperature": 1e-320}, parts((1, 1))),
    "heat levels": ({"temperature": 1e300}, parts((0, 1), (1, 1), (2, 1), (3, 1))),
    "top_k 1 takes the most likely": ({"top_k": 1}, parts((1, 1))),
    "top_k keeps the likeliest": ({"top_k": 2}, parts((1, 2), (3, 1))),
    "of equals top_k keeps the first": ({"top_k": 3}, parts((0, 1), (1, 4), (3, 2))),
    "top_k of all keeps all": ({"top_k": 4}, parts((0, 1), (1, 4), (2, 1), (3, 2))),
    "top_p next to 0 takes the most likely": ({"top_p": 1e-9}, parts((1, 1))),
    "top_p reached is enough": ({"top_p": 0.5}, parts((1, 1))),
    "top_p not reached takes one more": ({"top_p": 0.51}, parts((1, 2), (3, 1))),
    "top_p 1 keeps all": ({"top_p": 1.0}, parts((0, 1), (1, 4), (2, 1), (3, 2))),
    "top_p is of what top_k keeps": ({"top_k": 2, "top_p": 0.6}, parts((1, 1))),
    "top_p is of the tempered": ({"temperature": 0.5, "top_p": 0.7}, parts((1, 1))),
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_shares(claim, dtype):
    options, expected = CLAIMS[claim]
    found = shares(HALVES.astype(dtype), **options)
    assert found.keys() == expected.keys()
    for token, share in expected.items():
        assert abs(found[token] - share) < Fraction(1, 200)


@given(st.lists(st.sampled_from(range(-8, 9)), min_size=1, max_size=9), st.integers(0, 99))
def test_of_bfloat16_those_are_drawn_that_are_of_the_same_numbers_in_float32(values, seed):
    for temperature in (0, 0.7):
        drawn = [
            sample(np.array(values, dtype), np.random.default_rng(seed), temperature)
            for dtype in (ml_dtypes.bfloat16, np.float32)
        ]
        assert drawn[0] == drawn[1]


def test_of_equal_logits_greed_takes_the_first():
    assert sample(np.array([1.0, 3.0, 3.0]), Even(1), temperature=0) == 1


def test_of_many_equal_logits_top_k_keeps_the_first():
    assert set(shares(np.tile([0.0, 1.0], 500), top_k=3)) == {1, 3, 5}


def test_logits_of_any_size_can_be_drawn_from():
    assert shares([1e30, -1e30]) == {0: 1}
    assert shares([-3e38, -3e38]) == {0: Fraction(1, 2), 1: Fraction(1, 2)}
    assert shares([-65504.0, 65504.0], temperature=1e-3) == {1: 1}
    assert shares([7.0]) == {0: 1}


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=9),
    st.floats(0.1, 5),
    st.none() | st.integers(1, 9),
    st.none() | st.floats(1e-6, 1),
)
def test_only_the_kept_are_drawn(logits, temperature, k, p):
    k = min(k or len(logits), len(logits))
    likely = np.sort(np.exp((np.array(logits) - max(logits)) / temperature))[::-1][:k]
    least = likely[-1]
    if p is not None:
        reached = np.cumsum(likely / likely.sum()) >= p * (1 - 1e-9)
        least = likely[int(reached.argmax()) if reached.any() else -1]
    drawn = shares(np.array(logits, "f4"), 50, temperature=temperature, top_k=k, top_p=p)
    assert sum(drawn.values()) == 1
    for token in drawn:
        weight = np.exp((logits[token] - max(logits)) / temperature)
        assert weight >= least * (1 - 1e-6)


# What it costs.


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12),
    st.just(0) | st.floats(0.1, 5),
    st.none() | st.integers(1, 12),
    st.none() | st.floats(1e-6, 1),
    st.integers(0, 9),
)
def test_its_arithmetic_is_counted_as_it_is_executed(logits, temperature, k, p, seed):
    k = min(k or len(logits), len(logits))
    tally, ledger, values = Counter(), Ledger(), np.array(logits)

    def drawn(array):
        rng = np.random.default_rng(seed)
        return sample(array, rng, temperature=temperature, top_k=k, top_p=p)

    executed = Counted(scalars(values, tally), ledger)
    assert drawn(executed) == drawn(values)
    assert ledger.snapshot().cost == tally  # every + - * / exp, really executed
    plain = Ledger()
    assert drawn(Counted(values, plain)) == drawn(values)
    assert plain.snapshot().cost == tally
    greedy = {"cmp": len(logits) - 1}
    one_by_one = {"add": 3 * k - 2, "div": 2 * k, "exp": k, "mul": 1}
    assert +tally == +Counter(one_by_one if temperature else greedy)


@given(st.lists(st.integers(-3, 3) | st.floats(-3, 3, width=16), min_size=1, max_size=30))
def test_candidates_come_from_the_largest_on_and_equals_in_their_order(logits):
    values = np.array(logits, float)
    assert _descending(values).tolist() == np.argsort(-values, kind="stable").tolist()


def test_the_same_seed_draws_the_same_tokens():
    def draws(seed):
        rng = np.random.default_rng(seed)
        return [sample(HALVES, rng) for _ in range(50)]

    assert draws(1) == draws(1) != draws(2)
