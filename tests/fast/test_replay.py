"""Decode steps recorded and replayed: the numbers, the counts and the memory of the code."""

import gc
import sys
from unittest import mock

import numpy as np
import pytest
from helpers import DRAWN
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import category, observing
from minigpt import generate, load
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

pytest.importorskip("llvmlite")

from replays import subject, taken

from minigpt.fast import replay
from minigpt.fast.kernels.machine import here
from minigpt.fast.packed import DTYPES
from minigpt.fast.recorded import Recorded
from minigpt.fast.replay import FEW, MANY, Replayed
from minigpt.fast.tape import Tape


@pytest.fixture(autouse=True)
def _not_followed(monkeypatch):
    """Coverage follows as a debugger does."""
    monkeypatch.setattr(replay, "watched", lambda: False)


# A model's steps.


@st.composite
def configs(draw):
    """GPT-2s and Llamas whose widths fill vectors."""
    some, heads, lanes = st.integers(1, 3), draw(st.sampled_from((1, 2, 3))), here().lanes
    positions, tied = draw(st.integers(MANY + FEW + 2, 80)), draw(st.booleans())
    if draw(st.booleans()):
        return GPT2Config(
            vocab_size=draw(st.integers(3, 70)),
            n_positions=positions,
            n_embd=heads * lanes * draw(some),
            n_layer=draw(some),
            n_head=heads,
            n_inner=lanes * draw(st.integers(1, 6)),
            tie_word_embeddings=tied,
        )
    return llama(
        vocab_size=draw(st.integers(3, 70)),
        hidden_size=lanes * draw(some),
        intermediate_size=lanes * draw(some),
        num_hidden_layers=draw(some),
        num_attention_heads=heads * draw(some),
        num_key_value_heads=heads,
        head_dim=lanes * draw(some),
        max_position_embeddings=positions,
        attention_bias=draw(st.booleans()),
        tie_word_embeddings=tied,
    )


@settings(max_examples=25)
@given(
    config=configs(),
    dtype=st.sampled_from(list(DTYPES)),
    batch=st.integers(1, 3),
    prompt=st.sampled_from((1, 2, 5, MANY + 1)),
    counts=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_step_is_the_one_of_the_text(config, dtype, batch, prompt, counts, seed):
    rng = np.random.default_rng(seed)
    subjects = [subject(config, dtype, counts) for _ in range(2)]
    runs = subjects[0].code, subjects[1].replayed
    caches = [each.code.new_cache(batch, config.n_positions) for each in subjects]
    for n in (prompt, *[1] * (config.n_positions - prompt)):
        tokens = rng.integers(config.vocab_size, size=(batch, n))
        (a, written), (b, replayed) = (
            taken(run, (tokens, cache), each.ledger)
            for run, cache, each in zip(runs, caches, subjects, strict=True)
        )
        if isinstance(config, GPT2Config):
            assert np.array_equal(a, b)
        else:  # the C library's cosines are not NumPy's, and K, V in 16 bits round them apart
            near = 0.05 if dtype in ("bfloat16", "float16") else 1e-3
            np.testing.assert_allclose(a, b, rtol=0, atol=near * np.abs(a).max())
        assert written == replayed
        assert caches[0].length == caches[1].length
    assert len(runs[1]._steps) == 1
    assert not runs[1]._refused, "it was replayed"
    DRAWN["a replayed step costs what its code costs"] += 1


def decoded(each, cache, n, steps=1):
    """The logits of some steps from position n on, after keys and values of ones."""
    for layer in cache.layers:
        layer.k[:, :, :n] = layer.v[:, :, :n] = 1
        layer.length = n
    return [np.array(each(np.array([[3 + k]]), cache)) for k in range(steps)]


CONFIG = GPT2Config(vocab_size=40, n_positions=64, n_embd=32, n_layer=2, n_head=2)


def test_a_step_runs_at_any_position_in_any_order():
    each = subject(CONFIG, "float32", False)
    caches = [each.code.new_cache(1, 64) for _ in range(2)]
    for n in (5, 6, 40, 2, 63, 0):
        found, expected = decoded(each.replayed, caches[0], n), decoded(each.code, caches[1], n)
        assert np.array_equal(found, expected)


def test_logits_stay_what_they_were():
    each = subject(CONFIG, "float32", False)
    cache = each.code.new_cache(1, 64)
    first = each.replayed(np.array([[1]]), cache)
    kept = first.copy()
    decoded(each.replayed, cache, 1, steps=5)
    assert np.array_equal(first, kept)


def test_several_caches_in_turn():
    each = subject(CONFIG, "bfloat16", False)
    caches = [each.code.new_cache(1, 64) for _ in range(2)]
    for n in range(4):
        assert np.array_equal(*(decoded(each.replayed, cache, n) for cache in caches))
    assert len(each.replayed._steps) == 2


def test_what_is_refused_stays_refused():
    each = subject(CONFIG, "float32", False)
    cache = each.code.new_cache(1, 12)
    decoded(each.replayed, cache, 0)
    for wrong in (40, -41):
        with pytest.raises(IndexError):
            each.replayed(np.array([[wrong]]), cache)
    last = each.code.new_cache(1, 12)  # -1 is the last token, as in NumPy
    decoded(each.code, last, 0)
    expected = each.code(np.array([[CONFIG.vocab_size - 1]]), last)
    assert np.array_equal(each.replayed(np.array([[-1]]), cache), expected)
    with pytest.raises(ValueError, match="broadcast"):
        decoded(each.replayed, cache, 12)
    with pytest.raises(TypeError, match="whole numbers"):
        each.replayed(np.array([[1.0]]), each.code.new_cache(1, 12))
    with pytest.raises(ValueError, match="broadcast"):
        each.replayed(np.array([[1], [2]]), each.code.new_cache(1, 12))


@pytest.mark.parametrize(
    "changes", [{"n_embd": 24}, {"n_inner": 40}, {"n_embd": 8, "n_head": 1}], ids=str
)
def test_widths_that_no_kernel_has_run_as_text(changes):
    config = GPT2Config(**{**vars(CONFIG), **changes})
    each = subject(config, "float32", True)
    caches = [each.code.new_cache(1, 64) for _ in range(2)]
    for n in range(3):
        tokens = np.array([[n]])
        assert np.array_equal(
            each.replayed(tokens, caches[0]).data, each.code(tokens, caches[1]).data
        )


def test_a_short_continuation_is_not_recorded():
    each = subject(CONFIG, "float32", False)
    decoded(each.replayed, each.code.new_cache(1, FEW + 1), 1)
    assert not each.replayed._steps


def test_the_memory_of_a_cache_ends_with_it():
    each = subject(CONFIG, "float32", True)
    cache = each.code.new_cache(1, 64)
    each.replayed(np.array([[1]]), cache)
    assert each.replayed._steps
    held = each.ledger.live_bytes["kv_cache"]
    del cache
    assert not each.replayed._steps
    assert each.ledger.live_bytes["kv_cache"] == 0 < held
    assert not any(type(x) is Recorded for x in gc.get_objects())


def test_a_cache_whose_arrays_change_is_recorded_anew():
    """Sequences in another order, as a search over beams has them; more room."""
    each = subject(CONFIG, "float32", True)
    runs = each.replayed, each.code
    caches = [each.code.new_cache(2, 20) for _ in runs]
    tokens = np.array([[1], [2]])
    logits = []
    for run, cache in zip(runs, caches, strict=True):
        for _ in range(3):
            run(tokens, cache)
        for layer in cache.layers:
            layer.k, layer.v = (np.take(x, np.array([1, 0]), axis=0) for x in (layer.k, layer.v))
        logits += [run(tokens, cache).data]
        cache.capacity = 60
        for layer in cache.layers:
            for name in "kv":
                room = np.empty_like(layer.k, shape=(2, 2, 60, 16))
                room[:, :, :20] = getattr(layer, name)
                setattr(layer, name, room)
        logits += [run(tokens, cache).data for _ in range(50)]
    assert np.array_equal(logits[:51], logits[51:])


def test_what_ends_a_recording_leaves_no_step_behind(monkeypatch):
    each = subject(CONFIG, "float32", False)
    first, second, third = (each.code.new_cache(1, 64) for _ in range(3))
    decoded(each.replayed, first, 0, steps=3)
    kept = first.layers[0].k.copy()
    with monkeypatch.context() as patch:
        patch.setattr(Tape, "record", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            each.replayed(np.array([[1]]), second)
    found = decoded(each.replayed, second, 0, steps=3)
    assert np.array_equal(found, decoded(each.code, third, 0, steps=3))
    assert np.array_equal(first.layers[0].k[:, :, :3], kept[:, :, :3])


def test_the_cache_of_another_model_is_refused_as_the_text_does():
    one, other = (subject(CONFIG, "float32", True) for _ in range(2))
    for run in (one.code, one.replayed):
        with pytest.raises(ValueError, match="two ledgers"):
            run(np.array([[1]]), other.code.new_cache(1, 64))
    narrow = GPT2Config(**{**vars(CONFIG), "n_head": 1, "n_embd": 16})
    one = subject(CONFIG, "float32", False)
    for run in (one.code, one.replayed):
        with pytest.raises(ValueError, match="broadcast"):
            run(np.array([[1]]), subject(narrow, "float32", False).code.new_cache(1, 64))
    cache = one.code.new_cache(1, 64)
    decoded(one.replayed, cache, 0)
    assert one.replayed._steps, "one call that was refused does not end recording"


def test_other_categories_are_charged_as_the_text_charges_them():
    records = []
    for replayed in (True, False):
        each = subject(CONFIG, "float32", True)
        run, cache = each.replayed if replayed else each.code, each.code.new_cache(1, 64)
        for name in ("kv_cache", "activations", "kv_cache", "activations"):
            with category(name):
                records.append(taken(run, (np.array([[1]]), cache), each.ledger)[1])
    assert records[:4] == records[4:]


def test_many_passes_are_the_sum_of_their_records(monkeypatch):
    """However they are folded into rows."""
    monkeypatch.setattr("counting.counts.UNSETTLED", 300)
    monkeypatch.setattr(replay, "MANY", 32)
    each, parts = subject(CONFIG, "int8", True), []
    start = before = each.ledger.snapshot()
    for seed in range(3):
        cache = each.code.new_cache(1, 64)
        for T in (32, 1, 1, 1, 2, 1):
            each.replayed(np.full((1, T), seed), cache)
            after = each.ledger.snapshot()
            parts.append(dict(after - before))
            before = after
    total = {}
    for part in parts:
        for key, row in part.items():
            total[key] = tuple(map(sum, zip(row, total.get(key, [0] * len(row)), strict=True)))
    assert dict(each.ledger.snapshot() - start) == total
    assert len(each.ledger._tally._segments) < 5, "folded on the way"


def test_who_follows_hears_of_every_operation(monkeypatch):
    each = subject(CONFIG, "float32", True)
    cache, heard = each.code.new_cache(1, 64), []
    with observing(each.ledger, lambda path, *_: heard.append(path)):
        each.replayed(np.array([[1]]), cache)
    assert "h.1.attn.softmax" in heard
    monkeypatch.undo()
    before = sys.gettrace()
    lines = []
    sys.settrace(lambda frame, *_: lines.append(frame.f_code.co_qualname))
    try:
        each.replayed(np.array([[1]]), cache)
    finally:
        sys.settrace(before)
    assert "Block.forward" in lines


def test_a_generation_is_replayed(monkeypatch):
    """All of its records are those of the code, which runs without kernels' replay."""
    said = []
    for forward in (None, "model"):
        lm = load("shakespeare", dtype="int8")
        if forward:
            object.__setattr__(lm, "forward", lm.model)
        steps = generate(lm, "To be", max_new_tokens=40, seed=3)
        said.append([{**step.record(), "seconds": 0} for step in steps])
        assert isinstance(lm.forward, Replayed) == (forward is None)
    assert said[0] == said[1]
