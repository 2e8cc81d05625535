"""Llama on every kind of array, held against transformers, PyTorch's counter and a closed form."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import sympy
from helpers import counting_scalars, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers_beside import passes

from counting import Counted, Ledger, ShapeArray, category
from counting.views import matmul
from minigpt.errors import InputError
from minigpt.formulas.other_counters import cache_name
from minigpt.models.architectures import PRESETS, build, read
from minigpt.models.families.llama import llama

LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
TINY = llama(
    vocab_size=11,
    hidden_size=12,
    intermediate_size=10,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    max_position_embeddings=64,
    rope_theta=100.0,
    rope_scaling=LLAMA3,
)


def run(config, make, chunks, batch=1, spare=0, logits="all", dtype=np.float32, cached=0):
    """Runs passes of `chunks` tokens on the arrays that `make(shape, dtype)` gives."""
    ledger = Ledger()
    with category("weights"):
        weights = {key: Counted(make(s, dtype), ledger) for key, s in config.shapes().items()}
    model = build(config, weights)
    cache = model.new_cache(batch, sum(chunks) + cached + spare)
    for layer in cache.layers:
        layer.length = cached
    before = ledger.snapshot()
    prompts = [Counted(make((batch, T), int), ledger) for T in chunks]
    out = [model(tokens, cache, logits) for tokens in prompts]
    counts = ledger.snapshot()
    return SimpleNamespace(
        counts=counts,
        forward=counts - before,
        record=(dict(counts), ledger.live_bytes, ledger.peak_bytes),
        logits=out,
        ledger=ledger,
        weights=weights,
        prompts=prompts,
        cache=cache,
    )


SCALINGS = st.sampled_from(
    (
        None,
        LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 8},
        YARN | {"original_max_position_embeddings": 8},
        YARN | {"original_max_position_embeddings": 8, "mscale": 1.0, "mscale_all_dim": 0.5},
    )
)


@st.composite
def configs(draw):
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return llama(
        vocab_size=draw(st.integers(2, 9)),
        hidden_size=draw(st.integers(1, 6)),
        intermediate_size=draw(st.integers(1, 7)),
        num_hidden_layers=draw(st.integers(1, 2)),
        num_attention_heads=kv_heads * group,
        num_key_value_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 3)),
        max_position_embeddings=16,
        rope_theta=draw(st.sampled_from((10.0, 10000.0))),
        rope_scaling=draw(SCALINGS),
        attention_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


RUNS = st.fixed_dictionaries(
    {
        "chunks": st.lists(st.integers(1, 3), min_size=1, max_size=3),
        "batch": st.integers(1, 2),
        "spare": st.integers(0, 2),
        "logits": st.sampled_from(("last", "all")),
    }
)


@settings(max_examples=100)
@given(configs(), RUNS, st.integers(0, 2**32 - 1))
def test_numbers_shapes_and_executed_scalars_give_one_record(config, options, seed):
    vocab, tally = config.vocab_size, Counter()
    real = run(config, numbers(seed, vocab), **options)
    assert real.record == run(config, ShapeArray, **options).record
    executed = run(config, counting_scalars(seed, vocab, tally), dtype=np.float64, **options)
    assert executed.counts.cost == tally == real.counts.cost
    for a, b in zip(executed.logits, real.logits, strict=True):
        np.testing.assert_allclose(a.data.astype(float), b.data, rtol=1e-3, atol=1e-3)


@settings(max_examples=50)
@given(configs(), RUNS, st.integers(0, 2**32 - 1))
def test_no_operation_of_a_float32_run_makes_float64(config, options, seed):
    ran = run(config, numbers(seed, config.vocab_size), **options)
    made = {charge.result.dtype for charge in ran.ledger.charges.values() if charge.result}
    assert made == {np.dtype(np.float32), np.dtype(bool)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_counting_changes_no_bit_of_the_logits(dtype):
    counted = run(TINY, numbers(0, 11), (5, 1, 1), dtype=dtype)
    model = build(TINY, {key: weight.data for key, weight in counted.weights.items()})
    cache = model.new_cache(1, 7)
    for tokens, logits in zip(counted.prompts, counted.logits, strict=True):
        bare = model(tokens.data, cache, "all")
        assert bare.dtype == logits.dtype == dtype
        assert bare.tobytes() == logits.data.tobytes()


@settings(max_examples=25)
@given(configs(), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_decoding_says_what_one_prefill_says(config, seed, first):
    make = numbers(seed, config.vocab_size)
    weights = {key: make(shape, np.float64) for key, shape in config.shapes().items()}
    model, tokens = build(config, weights), make((2, 5), int)
    whole = model(tokens, model.new_cache(2, 5), "all")
    cache = model.new_cache(2, 5)
    parts = [model(tokens[:, :first], cache, "all")]
    parts += [model(tokens[:, i : i + 1], cache) for i in range(first, 5)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-5, atol=1e-5)


def test_the_formula_read_off_a_run_on_symbols():
    B, T, N, K, G, C, F, V = sympy.symbols("B T N K G C F V", integer=True, positive=True)
    D = sympy.Symbol("D", integer=True, positive=True, even=True)
    config = llama(
        vocab_size=V,
        hidden_size=C,
        intermediate_size=F,
        num_hidden_layers=1,
        num_attention_heads=K * G,
        num_key_value_heads=K,
        head_dim=D,
        max_position_embeddings=N + T,
    )
    counts = run(config, ShapeArray, (T,), B, cached=N).forward
    H, L = K * G, 1
    layer = 2 * C * H * D + 2 * C * K * D + 3 * C * F + 2 * H * D * (N + T)
    assert sympy.expand(matmul(counts) - 2 * B * T * (L * layer + C * V)) == 0
    # Keys and values are read once, however many queries share them.
    assert sympy.expand(counts.bytes_read["kv_cache"] - 4 * L * 2 * B * K * D * (N + T)) == 0
    assert sympy.expand(counts.bytes_written["kv_cache"] - 4 * L * 2 * B * K * D * T) == 0
    assert counts.cost["sin"] == counts.cost["cos"] == T * D
    rotated = counts.where("*.rope").cost
    assert sympy.expand(rotated["mul"] - 2 * L * B * T * (H + K) * D) == 0
    assert sympy.expand(rotated["add"] - L * B * T * (H + K) * D) == 0


@pytest.mark.parametrize(
    ("name", "parameters", "kv_bytes"),
    [
        ("llama-3.2-1b", 1_235_814_400, 32_768),
        ("llama-3.1-8b", 8_030_261_248, 131_072),
        ("llama-3.1-70b", 70_553_706_496, 327_680),
        ("llama-3.1-405b", 405_853_388_800, 516_096),
    ],
)
def test_the_named_sizes_on_shapes_with_a_full_context(name, parameters, kv_bytes):
    config = PRESETS[name]
    ran = run(config, ShapeArray, (1,), cached=131_071, logits="last", dtype=np.float16)
    assert config.parameters == parameters
    assert ran.ledger.live_bytes["weights"] == 2 * parameters
    assert ran.forward.bytes_written["kv_cache"] == kv_bytes
    assert ran.forward.bytes_read["kv_cache"] == kv_bytes * 131_072
    assert ran.cache.nbytes == kv_bytes * 131_072


# Other witnesses.


def hugging_face(config, device="cpu"):
    import torch
    import transformers

    theirs = transformers.LlamaConfig(
        **{"eos_token_id": None, **config.given, "bos_token_id": None},
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.LlamaForCausalLM(theirs).eval()


def randomised(model):
    """The model with every parameter random, those that start at 0 and 1 too; and its weights."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return {key: value.numpy() for key, value in model.state_dict().items()}


SOME = [
    TINY,
    TINY.but(rope_scaling=None, attention_bias=True, mlp_bias=True),
    TINY.but(num_key_value_heads=4, tie_word_embeddings=True),
    TINY.but(num_key_value_heads=1, rope_scaling=YARN),
]


@pytest.mark.parametrize("config", SOME)
def test_logits_and_matmul_flops_agree_with_transformers(torch, config):
    theirs = hugging_face(config)
    weights = randomised(theirs)
    assert {k: v.shape for k, v in weights.items() if k in config.shapes()} == config.shapes()
    for _, ours, counted in passes(theirs, lambda w: build(config, w), weights):
        assert ours == counted


def test_matmul_flops_agree_with_torch_on_the_true_8b(torch):
    from torch.utils.flop_counter import FlopCounterMode

    config = PRESETS["llama-3.1-8b"]
    theirs = hugging_face(config, "meta")
    assert sum(p.numel() for p in theirs.parameters()) == config.parameters
    name, past, cached = cache_name(theirs), None, 0
    for T in (100, 1):
        tokens = torch.zeros((1, T), dtype=torch.long, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            past = theirs(tokens, **{name: past}, use_cache=True)[name]
        counts = run(config, ShapeArray, (T,), cached=cached).forward
        assert matmul(counts) == counter.get_total_flops()
        cached += T


# Configurations.


def written(tmp_path, **changes):
    values = {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "attention_bias": False,
        **changes,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))
    return path


def test_the_published_config_json_is_the_preset(tmp_path):
    assert read(written(tmp_path)) == PRESETS["llama-3.1-8b"]
    several = read(written(tmp_path, eos_token_id=[128001, 128008, 128009]))
    assert several.eos_token_id == (128001, 128008, 128009)


@pytest.mark.parametrize("config", SOME)
def test_a_config_json_of_transformers_is_read(torch, tmp_path, config):
    hugging_face(config).config.save_pretrained(tmp_path)
    assert read(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "tree"}, "model_type is 'tree'; known architectures are gpt2, llama"),
        ({"hidden_size": "absent"}, "hidden_size is missing"),
        ({"hidden_size": 4096.0}, "hidden_size is 4096.0; it must be a positive whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 2**30}, "it must be a positive whole number up to 10000"),
        ({"num_key_value_heads": 5}, "num_attention_heads 32 is not a multiple"),
        ({"num_attention_heads": 24}, "hidden_size 4096 is not a multiple"),
        ({"head_dim": 127}, "127 of a head's 127 numbers would turn"),
        ({"hidden_act": "quick"}, "hidden_act is 'quick'; computed are silu, gelu"),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps is 'tiny'"),
        ({"rope_theta": -1}, "rope_theta is -1"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 0}}, "beta_fast is 0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is 'NaN'"),
        ({"rope_theta": 10**400}, "rope_theta is 1000"),
        ({"rope_scaling": {"type": "llama3", "factor": 2}}, "low_freq_factor is missing"),
        ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "below 1"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": 0}}, "truncate is 0; it must"),
        ({"rope_scaling": 3}, "rope_scaling is 3; it must be an object"),
        ({"mlp_bias": "yes"}, "mlp_bias is 'yes'; it must be true or false"),
        (
            {"eos_token_id": [1, -1]},
            "eos_token_id is [1, -1]; it must be the number of a token, or several",
        ),
    ],
)
def test_a_config_json_that_cannot_be_is_one_line(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
