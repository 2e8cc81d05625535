"""DeepSeek on numbers and on shapes, held against transformers, and what its routing costs."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import counting_scalars, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, ShapeArray, category
from counting.views import matmul
from minigpt.errors import InputError
from minigpt.formulas.other_counters import cache_name
from minigpt.models.architectures import read
from minigpt.models.deepseek import Deepseek, MoE
from minigpt.models.deepseek_config import DEEPSEEK_SIZES, DeepseekConfig
from minigpt.models.rope import UNSCALED, YarnScaling
from minigpt.models.routing import bound, expected, expected_experts, most_experts

TINY = DeepseekConfig(
    vocab_size=11,
    hidden_size=12,
    intermediate_size=10,
    moe_intermediate_size=5,
    num_hidden_layers=3,
    num_attention_heads=3,
    q_lora_rank=7,
    kv_lora_rank=6,
    qk_nope_head_dim=3,
    qk_rope_head_dim=4,
    v_head_dim=5,
    n_routed_experts=8,
    n_shared_experts=2,
    num_experts_per_tok=3,
    n_group=4,
    topk_group=2,
    first_k_dense_replace=1,
    max_position_embeddings=64,
    rope_theta=100.0,
    rope_scaling=YarnScaling(4.0, 16, mscale=1.0, mscale_all_dim=1.0),
)


def started(config, make, capacity, batch=1, dtype=np.float32, **options):
    """A model on the arrays that `make(shape, dtype)` gives, its empty cache, and its ledger."""
    ledger = Ledger()
    with category("weights"):
        weights = {key: Counted(make(s, dtype), ledger) for key, s in config.shapes().items()}
    model = Deepseek(config, weights, **options)
    cache = model.new_cache(batch, capacity)
    return SimpleNamespace(model=model, cache=cache, ledger=ledger, weights=weights)


def record(ran):
    return dict(ran.ledger.snapshot()), ran.ledger.live_bytes, ran.ledger.peak_bytes


def routed(model):
    return [block.mlp for block in model.model.layers if isinstance(block.mlp, MoE)]


def chosen(dispatch):
    """The experts of each token, in the order in which it chose them."""
    runs = [np.full(stop - start, expert) for expert, start, stop in dispatch.segments]
    k = len(dispatch.back) // (dispatch.tokens.max() + 1)
    return np.concatenate(runs)[dispatch.back].reshape(-1, k)


def replay(real, shapes):
    """Lets the model on shapes assume the routing that the other one has just observed."""
    for ours, theirs in zip(routed(shapes), routed(real), strict=True):
        table = chosen(theirs.dispatch)
        ours.assume = lambda config, tokens, table=table: table


@st.composite
def configs(draw):
    groups, size = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    open_groups = draw(st.integers(1, groups))
    layers = draw(st.integers(1, 3))
    return DeepseekConfig(
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
        rope_scaling=draw(st.sampled_from((UNSCALED, YarnScaling(4.0, 8), TINY.rope_scaling))),
        attention_bias=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


CACHES = st.sampled_from(("compressed", "expanded"))
CHUNKS = st.lists(st.integers(1, 3), min_size=1, max_size=3)
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=100)
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
        model = Deepseek(config, weights, kind)
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
    bare = Deepseek(TINY, {key: weight.data for key, weight in counted.weights.items()})
    cache = bare.new_cache(1, 7)
    for T in (5, 1, 1):
        tokens = make((1, T), int)
        logits = counted.model(Counted(tokens, counted.ledger), counted.cache, "all")
        assert bare(tokens, cache, "all").tobytes() == logits.data.tobytes()


# The true sizes.


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-r1"])
@pytest.mark.parametrize(("cache", "kv_bytes"), [("compressed", 70_272), ("expanded", 4_997_120)])
def test_the_named_sizes_on_shapes(name, cache, kv_bytes):
    config = DEEPSEEK_SIZES[name]
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


# Routing.


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
        dispatch = ran.model.model.layers[layer].mlp.dispatch
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


# Another witness.


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers", reason="transformers, a witness, is not installed")
    return pytest.importorskip("torch", reason="PyTorch, a witness, is not installed")


def rope_parameters(scaling, theta):
    kind = "default" if scaling == UNSCALED else "yarn"
    return {"rope_type": kind, "rope_theta": theta, **vars(scaling)}


def hugging_face(config):
    import torch
    import transformers

    theirs = transformers.DeepseekV3Config(
        **{name: value for name, value in vars(config).items() if not name.startswith("rope")},
        num_key_value_heads=config.num_attention_heads,
        rope_parameters=rope_parameters(config.rope_scaling, config.rope_theta),
        attn_implementation="eager",
        experts_implementation="eager",
        bos_token_id=None,
        num_nextn_predict_layers=0,
    )
    torch.manual_seed(0)
    return transformers.DeepseekV3ForCausalLM(theirs).eval()


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


SOME = [
    TINY,
    replace(TINY, q_lora_rank=None, rope_scaling=UNSCALED, norm_topk_prob=False),
    replace(TINY, attention_bias=True, rope_scaling=YarnScaling(4.0, 16), topk_group=4),
    replace(TINY, first_k_dense_replace=0, tie_word_embeddings=True, n_group=1, topk_group=1),
]


@pytest.mark.parametrize("cache", ["compressed", "expanded"])
@pytest.mark.parametrize("config", SOME)
def test_logits_agree_with_transformers(torch, config, cache):
    from torch.utils.flop_counter import FlopCounterMode

    theirs = hugging_face(config)
    weights = randomised(theirs)
    shapes = {key: value.shape for key, value in weights.items()}
    assert {key: shapes[key] for key in config.shapes()} == config.shapes()
    ledger = Ledger()
    ours = Deepseek(config, {k: Counted(w, ledger) for k, w in weights.items()}, cache)
    held, past = ours.new_cache(2, 40), None
    tokens = np.random.default_rng(0).integers(11, size=(2, 40))
    name = cache_name(theirs)
    for start, stop in ((0, 30), (30, 31), (31, 39), (39, 40)):
        new = tokens[:, start:stop]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            answer = theirs(torch.tensor(new), **{name: past}, use_cache=True)
        past = answer[name]
        before = ledger.snapshot()
        logits = ours(Counted(new, ledger), held, "all")
        np.testing.assert_allclose(logits.data, answer.logits.numpy(), rtol=1e-4, atol=1e-4)
        if cache == "expanded" and start == 0:  # later, theirs expands all latents again
            assert matmul(ledger.snapshot() - before) == counter.get_total_flops()


# Configurations.


def written(tmp_path, **changes):
    values = {
        "model_type": "deepseek_v3",
        "attention_bias": False,
        "eos_token_id": 1,
        "ep_size": 1,
        "first_k_dense_replace": 3,
        "hidden_act": "silu",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "kv_lora_rank": 512,
        "max_position_embeddings": 163840,
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_group": 8,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "quantization_config": {"fmt": "e4m3", "quant_method": "fp8"},
        "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 40,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
            "type": "yarn",
        },
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "v_head_dim": 128,
        "vocab_size": 129280,
        **changes,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))
    return path


def test_the_published_config_json_is_the_preset(tmp_path):
    assert read(written(tmp_path)) == DEEPSEEK_SIZES["deepseek-r1"]


@pytest.mark.parametrize("config", SOME)
def test_a_config_json_of_transformers_is_read(torch, tmp_path, config):
    hugging_face(config).config.save_pretrained(tmp_path)
    assert read(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_lora_rank": "absent"}, "kv_lora_rank is missing"),
        ({"num_hidden_layers": 2**30}, "it must be a positive whole number up to 10000"),
        ({"n_routed_experts": 2**30}, "it must be a positive whole number up to 10000"),
        ({"q_lora_rank": 0}, "q_lora_rank is 0; it must be a positive whole number"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace is -1; it must be a whole number"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax'; only 'sigmoid' is supported"),
        ({"n_group": 7}, "n_routed_experts 256 is not a multiple of n_group 7"),
        ({"n_group": 256}, "a group of experts has 1"),
        ({"topk_group": 9}, "topk_group 9 of n_group 8"),
        ({"num_experts_per_tok": 129}, "a token may choose from 128 experts"),
        ({"qk_rope_head_dim": 63}, "qk_rope_head_dim 63 is odd"),
        ({"routed_scaling_factor": "2.5"}, "routed_scaling_factor is '2.5'"),
        ({"norm_topk_prob": 1}, "norm_topk_prob is 1; it must be true or false"),
    ],
)
def test_a_config_json_that_cannot_be_is_one_line(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
