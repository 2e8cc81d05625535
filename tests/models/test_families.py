"""Every family by itself: numbers, shapes, executed scalars; its config.json, right and wrong."""

import json
from collections import Counter

import numpy as np
import pytest
from families import CASES, kind, read, small, tiny
from helpers import counting_scalars, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, ShapeArray, category
from minigpt.errors import InputError
from minigpt.models.architectures import READERS, build
from minigpt.models.cache import LayerCache
from minigpt.models.experts import Experts


def started(config, make, dtype):
    """A model on the arrays that `make(shape, dtype)` gives, its empty cache, and its ledger."""
    ledger = Ledger()
    with category("weights"):
        weights = {key: Counted(make(s, dtype), ledger) for key, s in config.shapes().items()}
    model = build(config, weights)
    return model, model.new_cache(1, 9), ledger


def follow(shapes, real):
    """Lets a model on shapes meet the experts that another has just met."""
    pairs = zip(shapes.modules(), real.modules(), strict=True)
    for ours, theirs in pairs:
        if isinstance(ours, Experts):
            ours.assume = lambda choice, tokens, met=theirs.dispatch: met


def test_every_family_has_a_case():
    assert {kind(name) for name in CASES} == READERS.keys()


@pytest.mark.parametrize("name", CASES)
def test_numbers_shapes_and_executed_scalars_give_one_record(name):
    """In a prompt longer than a window of 3, in single tokens past it, and in a chunk."""
    config, tally = read(name, tiny(name)), Counter()
    real, cache, ledger = started(config, numbers(3, config.vocab_size), np.float32)
    flat, empty, on_shapes = started(config, ShapeArray, np.float32)
    scalars = counting_scalars(3, config.vocab_size, tally)
    executed, slots, on_scalars = started(config, scalars, np.float64)
    at = 0
    for T in (4, 1, 1, 2, 1):
        tokens = np.arange(at, at + T)[None] % config.vocab_size
        real(Counted(tokens, ledger), cache, "all")
        follow(flat, real)
        flat(Counted(ShapeArray((1, T), np.int64), on_shapes), empty, "all")
        executed(Counted(tokens, on_scalars), slots, "all")
        at += T
    assert dict(ledger.snapshot()) == dict(on_shapes.snapshot())
    assert ledger.peak_bytes == on_shapes.peak_bytes
    assert on_scalars.snapshot().cost == tally == ledger.snapshot().cost
    made = {charge.result.dtype for charge in ledger.charges.values() if charge.result}
    assert np.dtype(np.float64) not in made


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=3)
@given(chunks=st.lists(st.integers(1, 5), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_one_prompt_says_what_its_chunks_say(name, chunks, seed):
    config, n = read(name, tiny(name)), min(sum(chunks), 9)
    make = numbers(seed, config.vocab_size)
    weights = {key: make(shape, np.float64) for key, shape in config.shapes().items()}
    model, tokens = build(config, weights), make((2, n), int)
    whole = model(tokens, model.new_cache(2, n), "all")
    cache, parts, at = model.new_cache(2, n), [], 0
    for layer in cache.layers:  # what is read before it is written shows
        if isinstance(layer, LayerCache):
            layer.k[...] = layer.v[...] = np.nan
    for T in chunks:
        if at < n:
            parts.append(model(tokens[:, at : at + T], cache, "all"))
            at += T
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_key_that_nobody_knows_is_said_to_be_uncomputed(name):
    values = small(name)
    assert read(name, values).uncomputed == ()
    found = read(name, values | {"some_new_thing": 3})
    assert found.uncomputed == ("some_new_thing of its config.json",)
    assert found.shapes() == read(name, values).shapes()


WRONG = (0, -1, 2**31, 2**40, 1.5, float("nan"), "8", [], [1, "a"], {}, None, True, 7)


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(CASES)), data=st.data())
def test_a_value_that_cannot_be_is_one_line_that_names_the_file(name, data):
    """Whatever stands in one place of a config.json: it is read, or refused in a line."""
    values = small(name)
    key = data.draw(st.sampled_from(sorted(values)))
    wrong = values | {key: data.draw(st.sampled_from(WRONG))}
    said = ""
    try:
        read(name, json.loads(json.dumps(wrong)))
    except InputError as error:
        said = str(error)
    assert said == "" or said.startswith("config.json: ")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_more_experts_than_can_be_listed_are_refused(name):
    values = small(name) | {"num_hidden_layers": 10_000}
    count = next(
        key for key in ("n_routed_experts", "num_local_experts", "num_experts") if key in values
    )
    values |= {count: 1000} | dict.fromkeys(("layer_types", "mlp_only_layers"))
    with pytest.raises(InputError, match="are more than 100000"):
        read(name, values)


@pytest.mark.parametrize("name", ["falcon, groups", "gpt_neox", "opt"])
def test_heads_that_do_not_share_the_width_alike_are_refused(name):
    values = small(name) | {"num_attention_heads": 64}  # of 32 numbers
    with pytest.raises(InputError, match="32 is not a multiple of num_attention_heads 64"):
        read(name, values)


@pytest.mark.parametrize("name", ["llama", "deepseek_v3", "cohere2"])
def test_heads_of_which_more_turns_than_can_be_written_are_refused(name):
    key = "qk_rope_head_dim" if name == "deepseek_v3" else "head_dim"
    with pytest.raises(InputError, match="1000000 of a head's 1000000 numbers would turn"):
        read(name, small(name) | {key: 10**6})
