"""`intervene`: values put in the place of activations, against models that were changed by hand."""

import gc

import families
import numpy as np
import pytest
from helpers import Case
from interventions import drawn, moved, passes, rows_of, same, weights
from stepped import small

from minigpt import intervene, run_with_cache
from minigpt.models import decoder, gpt2, ops
from minigpt.models.architectures import build
from minigpt.models.experts import ClampedExpert
from minigpt.models.parts import Embedding, Head, LayerNorm, Linear, Projection, RMSNorm, Scale
from minigpt.stepping.values import giving

NAMES = ("gpt2", "llama", "mixtral")  # a GPT-2, a Llama, a mixture of experts
SEEDS = range(4)
ENDING = (  # parts of which the last operation is what they give
    *(gpt2.Block, decoder.Block, ClampedExpert),
    *(Linear, Projection, LayerNorm, RMSNorm, Embedding, Head, Scale),
)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [*NAMES, "qwen2_moe", "gpt_oss", "falcon, groups", "gemma2"])
def test_it_gives_what_a_model_gives_whose_part_was_changed(name, seed):
    case, rng = drawn(name, seed)
    lm, other = small(case, seed), build(case.config, weights(case, seed))
    rows = rows_of(case, rng)
    unchanged = passes(build(case.config, weights(case, seed)), case, rows)
    known = set(giving(lm.model))
    parts = [part for part in other.modules() if type(part) in ENDING and part.path in known]
    parts = [part for part in parts if part.path not in ("", "wpe")]  # those are more than a part
    chosen = {part.path: part for part in rng.choice(parts, size=3)}
    for i, part in enumerate(chosen.values()):
        change(part, moved(seed + i))
    functions = {path: moved(seed + i) for i, path in enumerate(chosen)}
    with intervene(lm, functions):
        found = passes(lm.model, case, rows)
    assert same(found, passes(other, case, rows)), chosen.keys()
    met = any(".experts." not in path for path in chosen)
    assert not same(found, unchanged) or not met
    assert same(passes(lm.model, case, rows), unchanged)  # afterwards it is as it was


def change(part, function):
    forward = part.forward
    part.forward = lambda *args: function(forward(*args))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_of_ones_own_is_what_values_are_mixed_by(name, seed, monkeypatch):
    case, rng = drawn(name, seed)
    rows = rows_of(case, rng)
    lm, real, layer, seen = small(case, seed), ops.softmax, int(rng.integers(4)), []
    path = f"h.{layer}.attn.softmax" if name == "gpt2" else f"model.layers.{layer}.*.softmax"
    with intervene(lm, {path: moved(seed)}):
        found = passes(lm.model, case, rows)

    def softmax(scores, mask):
        seen.append(scores.shape)
        mine = (len(seen) - 1) % 4 == layer
        return moved(seed)(real(scores, mask)) if mine else real(scores, mask)

    monkeypatch.setattr(ops, "softmax", softmax)
    assert same(found, passes(build(case.config, weights(case, seed)), case, rows))
    assert len(seen) == 4 * len(case.chunks)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_with_the_stream_of_another_text_it_says_what_it_says_of_that(name, seed):
    """From a layer on all is as in the other text, the keys and values too."""
    case, rng = drawn(name, seed)
    case = Case(case.config, 1, case.chunks, case.capacity)
    lm, one, other = small(case, seed), rows_of(case, rng), rows_of(case, rng)
    path = rng.choice([path for path in giving(lm.model) if path.rpartition(".")[2].isdigit()])
    streams = []
    with intervene(lm, {path: lambda value: streams.append(value.data.copy()) or value}):
        wanted = passes(lm.model, case, other)
    streams = iter(streams)
    with intervene(lm, {path: lambda value: next(streams)}):
        assert same(passes(lm.model, case, one), wanted)
    assert not same(passes(lm.model, case, one), wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_head_without_a_result_is_a_head_whose_rows_are_zero(seed):
    case, rng = drawn("gpt2", seed)
    lm, rows, held = small(case, seed), rows_of(case, rng), weights(case, seed)
    layer, head, D = int(rng.integers(4)), int(rng.integers(4)), case.config.head_dim
    held[f"h.{layer}.attn.c_proj.weight"][head * D : (head + 1) * D] = 0.0

    def without(value):  # (B, T, H, D)
        value[:, :, head] = 0.0
        return value

    with intervene(lm, {f"h.{layer}.attn.av": without}):
        assert same(passes(lm.model, case, rows), passes(build(case.config, held), case, rows))


@pytest.mark.parametrize("name", families.CASES)
def test_what_changes_nothing_changes_neither_logits_nor_counts_nor_memory(name):
    case, rng = drawn(name, len(name))
    rows, runs = rows_of(case, rng), []
    called = []
    for functions in ({}, {"*": lambda value: called.append(value.path) or value}):
        lm = small(case)
        with intervene(lm, functions):
            logits = passes(lm.model, case, rows)
        gc.collect()
        ledger = lm.ledger
        runs.append((logits, dict(ledger.snapshot()), ledger.live_bytes, ledger.peak_bytes))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]
    assert {*called} <= {*giving(lm.model)}
    assert len(called) == sum(map(len, of_each(lm, case, rows)))


def of_each(lm, case, rows):
    """The paths of each pass that gave anything, as `run_with_cache` finds them."""
    cache, at = lm.model.new_cache(case.batch, case.capacity), 0
    for T in case.chunks:
        yield run_with_cache(lm, rows[:, at : at + T], cache=cache, logits="all")[1]
        at += T


@pytest.mark.parametrize("name", families.CASES)
def test_weights_and_memory_are_what_they_were(name):
    case, rng = drawn(name, len(name))
    lm, rows = small(case, 1), rows_of(case, rng)
    live = lm.ledger.live_bytes

    def other(value):
        return moved(2)(value) if value.dtype.kind == "f" else value

    with intervene(lm, {"*": other}), np.errstate(all="ignore"):
        passes(lm.model, case, rows)
    held = weights(case, 1)
    assert same(passes(lm.model, case, rows), passes(build(case.config, held), case, rows))
    gc.collect()
    assert lm.ledger.live_bytes == live
