"""DeepSeek on numbers and on shapes, held against transformers."""

from collections import Counter

import numpy as np
import pytest
from deepseeks import SOME, TINY, YARN, chosen, hugging_face, routed, started
from helpers import counting_scalars, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers_beside import passes

from counting import Counted, ShapeArray
from minigpt.models.architectures import PRESETS, build
from minigpt.models.families.deepseek import deepseek_v3

SHORT = YARN | {"original_max_position_embeddings": 8}


def record(ran):
    return dict(ran.ledger.snapshot()), ran.ledger.live_bytes, ran.ledger.peak_bytes


def replay(real, shapes):
    """Lets the model on shapes assume the routing that the other one has just observed."""
    for ours, theirs in zip(routed(shapes), routed(real), strict=True):
        ours.assume = lambda config, tokens, met=theirs.dispatch: met


@st.composite
def configs(draw):
    groups, size = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    open_groups = draw(st.integers(1, groups))
    layers = draw(st.integers(1, 3))
    return deepseek_v3(
        vocab_size=draw(st.integers(2, 9)),
        hidden_size=draw(st.integers(1, 6)),
        intermediate_size=draw(st.integers(1, 5)),
        moe_intermediate_size=draw(st.integers(1, 4)),
        num_hidden_layers=layers,
        num_attention_heads=draw(st.integers(1, 3)),
        q_lora_rank=draw(st.none() | st.integers(1, 4)),
        kv_lora_rank=draw(st.integers(1, 4)),
        qk_nope_head_dim=draw(st.integers(1, 3)),
        qk_rope_head_dim=2 * draw(st.integers(1, 2)),
        v_head_dim=draw(st.integers(1, 3)),
        n_routed_experts=groups * size,
        n_shared_experts=draw(st.integers(1, 2)),
        num_experts_per_tok=draw(st.integers(1, open_groups * size)),
        n_group=groups,
        topk_group=open_groups,
        first_k_dense_replace=draw(st.integers(0, layers)),
        max_position_embeddings=16,
        norm_topk_prob=draw(st.booleans()),
        rope_scaling=draw(st.sampled_from((None, SHORT, TINY.rope_scaling))),
        attention_bias=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


CACHES = st.sampled_from(("compressed", "expanded"))
CHUNKS = st.lists(st.integers(1, 3), min_size=1, max_size=3)
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=50)
@given(configs(), CACHES, CHUNKS, st.integers(1, 2), st.sampled_from(("last", "all")), SEEDS)
def test_numbers_shapes_and_executed_scalars_give_one_record(
    config, cache, chunks, batch, logits, seed
):
    make, tally = numbers(seed, config.vocab_size), Counter()
    scalars = counting_scalars(seed, config.vocab_size, tally)
    options = {"capacity": sum(chunks) + 1, "batch": batch, "cache": cache}
    real = started(config, make, **options)
    shapes = started(config, ShapeArray, **options)
    executed = started(config, scalars, dtype=np.float64, **options)
    for T in chunks:
        out = real.model(Counted(make((batch, T), int), real.ledger), real.cache, logits)
        replay(real.model, shapes.model)
        shapes.model(Counted(ShapeArray((batch, T), int), shapes.ledger), shapes.cache, logits)
        tokens = Counted(scalars((batch, T), int), executed.ledger)
        other = executed.model(tokens, executed.cache, logits)
        same = [
            np.array_equal(chosen(a.dispatch), chosen(b.dispatch))
            for a, b in zip(routed(real.model), routed(executed.model), strict=True)
        ]
        if all(same):  # or a tie that rounding breaks otherwise
            np.testing.assert_allclose(other.data.astype(float), out.data, rtol=1e-3, atol=1e-3)
        del out, tokens, other
    assert record(real) == record(shapes)
    cost = real.ledger.snapshot().cost
    assert executed.ledger.snapshot().cost == tally == cost
    made = {charge.result.dtype for charge in real.ledger.charges.values() if charge.result}
    assert made <= {np.dtype(t) for t in (np.float32, bool, np.int64)}  # no float64


@settings(max_examples=25)
@given(configs(), SEEDS, st.integers(1, 4))
def test_both_caches_and_both_phases_say_the_same(config, seed, first):
    make = numbers(seed, config.vocab_size)
    weights = {key: make(shape, np.float64) for key, shape in config.shapes().items()}
    tokens = make((2, 5), int)
    answers = []
    for kind in ("compressed", "expanded"):
        model = build(config, weights, kind)
        answers.append(model(tokens, model.new_cache(2, 5), "all"))
        cache = model.new_cache(2, 5)
        parts = [model(tokens[:, :first], cache, "all")]
        parts += [model(tokens[:, i : i + 1], cache) for i in range(first, 5)]
        answers.append(np.concatenate(parts, 1))
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-5, atol=1e-5)


def test_counting_changes_no_bit_of_the_logits():
    make = numbers(0, 11)
    counted = started(TINY, make, 7)
    bare = build(TINY, {key: weight.data for key, weight in counted.weights.items()})
    cache = bare.new_cache(1, 7)
    for T in (5, 1, 1):
        tokens = make((1, T), int)
        logits = counted.model(Counted(tokens, counted.ledger), counted.cache, "all")
        assert bare(tokens, cache, "all").tobytes() == logits.data.tobytes()


# The true sizes.


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-r1"])
@pytest.mark.parametrize(("cache", "kv_bytes"), [("compressed", 70_272), ("expanded", 4_997_120)])
def test_the_named_sizes_on_shapes(name, cache, kv_bytes):
    config = PRESETS[name]
    assert config.parameters == 671_026_419_200
    ran = started(config, ShapeArray, 1000, dtype=np.float16, cache=cache)
    assert ran.ledger.live_bytes["weights"] == 2 * config.parameters
    assert ran.cache.nbytes == 1000 * kv_bytes
    for layer in ran.cache.layers:
        layer.length = 999
    before = ran.ledger.snapshot()
    ran.model(Counted(ShapeArray((1, 1), int), ran.ledger), ran.cache)
    counts = ran.ledger.snapshot() - before
    assert counts.bytes_written["kv_cache"] == kv_bytes
    H, P, E, R, D = 128, 128, 64, 512, 128
    attended = 2 * H * (R + E + R if cache == "compressed" else P + E + D) * 1000
    measured = counts.where("*.qk").total("fma") + counts.where("*.av").total("fma")
    assert 2 * measured == 61 * attended
    experts = counts.where("*.mlp.experts.*")
    assert 2 * experts.total("fma") == 58 * 8 * 2 * 3 * 7168 * 2048
    assert experts.bytes_read["weights"] == 58 * 8 * 2 * 3 * 7168 * 2048


# Another witness.


def randomised(model):
    """The model with every number random, and its tensors as a checkpoint has them."""
    import torch

    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.normal_(0, 0.3)
    weights = {}
    for key, value in model.state_dict().items():
        array = value.numpy()
        if key.endswith("experts.gate_up_proj"):  # transformers stacks the experts in memory
            for expert, both in enumerate(array):
                path = key.replace("gate_up_proj", str(expert))
                gate, up = np.split(both, 2)
                weights[f"{path}.gate_proj.weight"], weights[f"{path}.up_proj.weight"] = gate, up
        elif key.endswith("experts.down_proj"):
            path = key.removesuffix(".down_proj")
            weights |= {f"{path}.{e}.down_proj.weight": down for e, down in enumerate(array)}
        else:
            weights[key] = array
    return weights


@pytest.mark.parametrize("cache", ["compressed", "expanded"])
@pytest.mark.parametrize("config", SOME)
def test_logits_agree_with_transformers(torch, config, cache):
    theirs = hugging_face(config)
    weights = randomised(theirs)
    shapes = {key: value.shape for key, value in weights.items()}
    assert {key: shapes[key] for key in config.shapes()} == config.shapes()
    for start, ours, counted in passes(theirs, lambda w: build(config, w, cache), weights):
        if cache == "expanded" and start == 0:  # later, theirs expands all latents again
            assert ours == counted
