"""`plan`: what fits, what does not by one, and floors that follow from the runs."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_count import TINY

from minigpt.architectures import PRESETS
from minigpt.article_tables import markdown
from minigpt.count import forward
from minigpt.dimensions import short
from minigpt.errors import InputError
from minigpt.hardware import GPUS
from minigpt.plan import plan
from minigpt.plan_text import document, run, verdict

XL, RTX = PRESETS["gpt2-xl"], GPUS["rtx-3060-12gb"]
TIGHT = GPUS["rtx-4060"]


def made(model, gpu=RTX, **options):
    return plan(model, PRESETS[model], gpu, **options)


def test_gpt2_xl_on_the_articles_gpu():
    it = made("gpt2-xl")
    assert it.first.weight_bytes == 2 * (
        XL.parameters - 1022 * 1600
    )  # one row of wpe, one of wte twice
    assert it.first.kv_bytes == 2 * 307_200  # written, and read
    assert f"{1e3 * it.first.seconds:.2f} ms" == "8.65 ms"
    assert (it.first.flops, it.first.binds, it.prefill.binds) == (
        3_110_249_600,
        "memory",
        "arithmetic",
    )
    assert it.memory[:2] == (2 * XL.parameters, 1024 * 307_200)
    assert it.fits
    assert it.largest_batch == 27
    assert "8.65 ms" in verdict(it)


def test_llama_8b_does_not_fit_there():
    it = made("llama-3.1-8b")
    weights = 2 * 8_030_261_248
    assert not it.fits
    assert it.memory[:2] == (weights, 8192 * 131_072)
    assert it.spare == 12 * 2**30 - it.memory.needed < 12 * 2**30 - weights < 0
    assert it.remedies() == {"weights_dtype": ["int8", "int4"], "gpus": 2, "gpu": "rtx-3090"}
    assert verdict(it).startswith("llama-3.1-8b does not fit on one RTX 3060 12 GB in float16: ")
    for way in ("5.29 GB too much", "int8 weights", "on 2 of them", "on one rtx-3090"):
        assert way in verdict(it)
    for other in (
        replace(it, weights_dtype="int8"),
        replace(it, gpus=2),
        replace(it, gpu=GPUS["rtx-3090"]),
    ):
        assert other.fits


MODELS = st.sampled_from(("gpt2", "gpt2-xl", "llama-3.2-1b"))
SIZES = {"batch": st.integers(1, 64), "context": st.integers(2, 1024)}


@settings(max_examples=20)
@given(model=MODELS, **SIZES)
def test_more_needs_more(model, batch, context):
    it = made(model, TIGHT, batch=batch, context=context)
    for change in ({"batch": batch - 1}, {"context": context - 1}):
        if min(change.values()) > 0:
            less = made(model, TIGHT, **{"batch": batch, "context": context, **change})
            assert less.memory.needed < it.memory.needed
            assert less.last.seconds <= it.last.seconds


@settings(max_examples=10)
@given(model=MODELS, context=st.integers(1, 1024), batch=st.integers(1, 400))
def test_the_largest_fits_and_one_more_does_not(model, context, batch):
    it = made(model, TIGHT, context=context, batch=batch)
    most = it.largest_batch
    assert most == 0 or replace(it, batch=most).fits
    assert not replace(it, batch=most + 1).fits
    longest = it.largest_context
    assert longest == 0 or replace(it, context=longest, prompt=1).fits
    if longest < it.config.n_positions:
        n = longest + 1
        assert not replace(it, context=n, prompt=min(n, it.prompt)).fits


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("T", [1, 5])
def test_activations_do_not_pile_up_over_layers(name, T):
    field = "n_layer" if name == "gpt2" else "num_hidden_layers"
    deep = replace(TINY[name], **{field: 6})
    few, all_ = (forward(c, T, 3, 2, logits="last").peak for c in (short(deep), deep))
    assert short(deep) != deep
    assert few["activations"] == all_["activations"]


@pytest.mark.parametrize("name", TINY)
def test_a_prefill_is_its_tokens_one_by_one(name):
    config, T = TINY[name], 6
    it = plan(name, config, RTX, prompt=T)
    steps = [it._step(1, n, 1).flops for n in range(T)]
    width = config.n_embd if name == "gpt2" else config.hidden_size
    heads = (T - 1) * 2 * width * config.vocab_size  # the prefill has logits of its last alone
    assert it.prefill.flops == sum(steps) - heads


def test_several_gpus_share_all_but_latents_and_pay_for_the_wire():
    h200 = GPUS["h200"]
    one, many = (made("llama-3.1-8b", h200, gpus=n) for n in (1, 8))
    assert many.first.arithmetic_s == pytest.approx(one.first.arithmetic_s / 8)
    assert many.first.memory_s == pytest.approx(one.first.memory_s / 8)
    assert many.kv_bytes_per_token == one.kv_bytes_per_token / 8
    sent = 32 * 2 * 2 * 7 / 8 * 4096 * 2  # layers, all-reduces, phases, share, width, bytes
    assert (one.first.wire_s, many.first.wire_bytes) == (0, sent)
    assert many.first.wire_s == pytest.approx(sent / 450e9 + 32 * 4 * 8e-6)
    assert made("llama-3.1-8b", h200, gpus=16).kv_bytes_per_token == many.kv_bytes_per_token
    assert made("deepseek-r1", h200, gpus=16).kv_bytes_per_token == 70_272


FEW_EXPERTS = replace(PRESETS["deepseek-r1"], num_hidden_layers=4, first_k_dense_replace=2)


@pytest.mark.parametrize("config", [XL, PRESETS["llama-3.2-1b"], FEW_EXPERTS])
def test_arithmetic_takes_over_where_it_says(config):
    it = plan("it", config, GPUS["h100"], context=1, prompt=1)
    turn = it.compute_bound_batch(it.first)
    below, above = (replace(it, batch=n).first for n in (int(0.98 * turn), int(1.02 * turn)))
    assert below.binds == "memory"
    assert above.binds == "arithmetic"
    assert made("gpt2-xl").compute_bound_batch(made("gpt2-xl").last) is None


def test_narrower_weights_are_bytes_alone():
    whole, quarter = made("gpt2-xl"), made("gpt2-xl", weights_dtype="int4")
    assert quarter.memory.weights == whole.memory.weights / 4
    assert quarter.first.weight_bytes == whole.first.weight_bytes / 4
    assert quarter.first.flops == whole.first.flops


def test_the_command_says_its_verdict_first(capsys):
    run("gpt2-xl", "rtx-3060-12gb")
    told = capsys.readouterr().out
    assert told.startswith("gpt2-xl fits on one RTX 3060 12 GB in float16: ")
    assert "27 (25 to 29 over the range of the overhead)" in told
    run("gpt2-xl", "rtx-3060-12gb", as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(document(made("gpt2-xl"))))


def test_all_compares(capsys):
    run("gpt2-xl", "all", as_json=True)
    lines = json.loads(capsys.readouterr().out)
    assert [line["gpu"] for line in lines] == [gpu.name for gpu in GPUS.values()]
    assert lines[0]["largest_batch"] == 27
    run("all", "h100", context=2048)
    told = capsys.readouterr().out
    assert all(name in told for name in PRESETS)


def test_the_articles_tables():
    told = markdown()
    for figure in ("3.11 G", "15.01 G", "807.50 G", "0.307 GB", "0.131 GB", "0.516 GB", "8.65 ms"):
        assert figure in told


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"context": 1025}, "context is 1025; it must be from 1 to 1024"),
        ({"prompt": 9, "context": 8}, "prompt is 9; it must be from 1 to 8"),
        ({"batch": 0}, "batch is 0"),
        ({"gpus": 0}, "gpus is 0"),
        ({"dtype": "int4"}, "unknown dtype 'int4'"),
        ({"weights_dtype": "int3"}, "unknown weights dtype 'int3'"),
        ({"dtype": "float64"}, "RTX 3060 12 GB has no peak rate for float64"),
        ({"gpus": 2, "gpu": RTX._replace(link_bandwidth=0)}, "has no link to others"),
    ],
)
def test_wrong_input_is_said_in_a_line(wrong, said):
    with pytest.raises(InputError, match=said):
        made("gpt2", **wrong)
