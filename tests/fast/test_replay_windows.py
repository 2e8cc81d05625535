"""Decode steps of models that look through windows, replayed past the rounds of their rings."""

import numpy as np
import pytest
from helpers import DRAWN
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from replays import subject, taken

from minigpt.fast.kernels.machine import here
from minigpt.fast.packed import DTYPES
from minigpt.fast.replay import FEW
from minigpt.models.families.llama import mistral, qwen2


@pytest.fixture(autouse=True)
def _not_followed(monkeypatch):
    """Coverage follows as a debugger does."""
    monkeypatch.setattr("minigpt.fast.replay.watched", lambda: False)


def windowed(window, room, mixed=False):
    """A model whose layers look through a window; if mixed, all but the first of them."""
    D = here().lanes
    sizes = {
        "vocab_size": 40,
        "hidden_size": 2 * D,
        "intermediate_size": 3 * D,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": D,
        "max_position_embeddings": room,
        "sliding_window": window,
    }
    if mixed:
        return qwen2(**sizes, num_hidden_layers=3, use_sliding_window=True, max_window_layers=1)
    return mistral(**sizes, num_hidden_layers=2)


def assert_near(found, expected, dtype):
    """The C library's cosines are not NumPy's, and keys in 16 bits round them apart."""
    near = 0.05 if dtype in ("bfloat16", "float16") else 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=near * np.abs(expected).max())


@settings(max_examples=20)
@given(
    window=st.integers(1, 24),
    more=st.integers(1, 20),
    prompt=st.integers(1, 40),
    batch=st.integers(1, 2),
    dtype=st.sampled_from(list(DTYPES)),
    mixed=st.booleans(),
    counts=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
# From the first step to the last are two rounds: at the three places that would be recorded the
# token goes into the same slot.
@example(12, 1, 12, 1, "float32", False, True, 0)
@example(12, 1, 12, 2, "float32", True, False, 0)
def test_steps_are_those_of_the_code_for_two_rounds_and_more(
    window, more, prompt, batch, dtype, mixed, counts, seed
):
    rng, room = np.random.default_rng(seed), prompt + 2 * window + more
    config = windowed(window, room, mixed)
    subjects = [subject(config, dtype, counts) for _ in range(2)]
    runs = subjects[0].code, subjects[1].replayed
    caches = [each.code.new_cache(batch, room) for each in subjects]
    for n in (prompt, *[1] * (room - prompt)):
        tokens = rng.integers(config.vocab_size, size=(batch, n))
        (a, written), (b, replayed) = (
            taken(run, (tokens, cache), each.ledger)
            for run, cache, each in zip(runs, caches, subjects, strict=True)
        )
        assert_near(b, a, dtype)
        assert written == replayed
        assert caches[0].length == caches[1].length
    if window > FEW:
        assert runs[1]._steps, "it was replayed"
    assert (batch, 1) not in {shape for shape, _ in runs[1]._refused}
    DRAWN["a replayed step past the window costs what its code costs"] += 1


def test_steps_at_any_position_in_any_order():
    """Of a ring too: whatever lies in its slots."""
    each = subject(windowed(16, 64), "float32", False)
    caches = [each.code.new_cache(1, 64) for _ in range(2)]
    for n in (5, 6, 40, 41, 2, 63, 0, 16, 15, 31, 32, 33):
        logits = []
        for run, cache in zip((each.replayed, each.code), caches, strict=True):
            for layer in cache.layers:
                slots = np.arange(layer.capacity)[:, None]
                layer.k[...], layer.v[...] = np.sin(slots + n), np.cos(slots - n)
                layer.length = n
            logits.append(run(np.array([[n % 7]]), cache))
        assert_near(*logits, "float32")


def test_a_ring_longer_than_the_sequence_is_recorded_once():
    each = subject(windowed(64, 40), "float32", False)
    cache, recorded = each.code.new_cache(1, 40), []
    for n in range(40):
        each.replayed(np.array([[n]]), cache)
        recorded.append(each.replayed._steps[cache])
    assert len(set(map(id, recorded))) == 1
