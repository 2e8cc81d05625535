"""`steps` and `run_with_cache`: every operation of a pass, and activations by name."""

import gc
import threading

import numpy as np
import pytest
from checkpoints import PROMPT, checkpoint, tensors
from helpers import DRAWN, SMALL, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from stepped import columns, small, tokens_of

from counting import observing
from minigpt import InputError, load, run_with_cache, steps


def added(operations):
    total = {}
    for op in operations:
        for name, n in op.counts.items():
            total[name] = total.get(name, 0) + n
    return total


@settings(max_examples=40)
@given(cases(), st.integers(0, 2**32 - 1))
def test_the_steps_add_up_to_the_ledger(case, seed):
    DRAWN["the steps of a pass add up to its ledger"] += 1
    lm, closed = small(case, seed), small(case, seed)
    tokens = tokens_of(case, seed)
    before = lm.ledger.snapshot()
    total = added(steps(lm, tokens, logits=case.logits))
    assert total == columns(lm.ledger.snapshot() - before)
    before = closed.ledger.snapshot()
    closed.model(tokens, closed.model.new_cache(*tokens.shape), case.logits)
    assert total == columns(closed.ledger.snapshot() - before)


@pytest.mark.parametrize("name", SMALL)
def test_the_steps_of_every_architecture_add_up(name):
    case = SMALL[name]
    lm, closed = small(case), small(case)
    before = lm.ledger.snapshot()
    number = 0
    total = {}
    for number, op in enumerate(steps(lm, tokens_of(case)), 1):
        assert op.number == number
        assert sum(op.cost.values()) == sum(op.counts[kind] for kind in op.cost)
        total = {name: total.get(name, 0) + n for name, n in op.counts.items()}
    assert number == (lm.ledger.snapshot() - before).total("calls")
    before = closed.ledger.snapshot()
    closed.model(tokens_of(case), closed.model.new_cache(case.batch, case.chunks[0]))
    assert total == columns(closed.ledger.snapshot() - before)


def test_steps_that_are_left_end_their_thread():
    lm = load()
    before = threading.active_count()
    some = steps(lm, PROMPT)
    assert [next(some).path for _ in range(3)] == ["", "", ""]  # the cache is made
    assert threading.active_count() == before + 1
    some.close()
    del some
    assert threading.active_count() == before
    assert lm.ledger.observer is None
    assert lm.ledger.live_bytes["kv_cache"] == lm.ledger.live_bytes["activations"] == 0


def test_steps_raise_what_the_pass_raises():
    lm = small(SMALL["gpt2"])
    with pytest.raises(InputError, match=r"tokens is .*; it must be a text, or whole numbers"):
        steps(lm, np.array([[10_000]]))
    lm.model.wpe = None
    with pytest.raises(AttributeError, match="NoneType"):
        list(steps(lm, np.array([[1]])))
    with pytest.raises(InputError, match="the prompt is empty"):
        list(steps(load(), ""))


def test_activations_by_name():
    lm = load()
    logits, kept = run_with_cache(lm, PROMPT, "h.*", logits="all")
    bare = load()
    rows = np.array([bare.tokenizer.encode(PROMPT).ids])
    with observing(bare.ledger, lambda *_: None):
        said = bare.model(rows, bare.model.new_cache(1, 7), "all")
    assert np.array_equal(logits.data, said.data)
    assert kept["h.5"].shape == (1, 7, 256)
    assert kept["h.2.mlp.gelu"].shape == (1, 7, 1024)
    with observing(lm.ledger, lambda *_: None):
        head = lm.model.lm_head(lm.model.ln_f(kept["h.5"]))
    assert np.array_equal(head.data, logits.data)  # h.5 is the stream that the head sees
    held = sum(array.nbytes for array in kept.values())
    del head, said
    assert lm.ledger.live_bytes["activations"] >= held
    del kept, logits
    assert lm.ledger.live_bytes["activations"] == 0


def test_activations_keep_to_their_budget():
    lm = load()
    kept = run_with_cache(lm, PROMPT, "h.*.attn.softmax", budget=6 * 8 * 7 * 7 * 4)[1]
    assert len(kept) == 6
    del kept
    with pytest.raises(
        InputError, match=r"exceed the budget of 9,407 bytes at h\.5\.attn\.softmax"
    ):
        run_with_cache(lm, PROMPT, "h.*.attn.softmax", budget=6 * 8 * 7 * 7 * 4 - 1)
    gc.collect()  # the error held the frames it came through
    assert lm.ledger.live_bytes["activations"] == 0
    with pytest.raises(InputError, match="no path of shakespeare matches 'attn'"):
        run_with_cache(lm, PROMPT, "attn")


def test_steps_of_a_checkpoint_of_ones_own(tmp_path):
    lm = load(checkpoint(tmp_path / "model", tensors()))
    assert added(steps(lm, np.array([[1, 2]])))["calls"] > 30
