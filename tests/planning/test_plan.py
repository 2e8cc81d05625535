"""`plan`: what fits, what does not by one, and floors that follow from the runs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from configs import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from counting.views import matmul
from minigpt.checkpoint.resolve import resolve
from minigpt.commands.plan import document, run, verdict
from minigpt.errors import InputError
from minigpt.formulas.article import tables
from minigpt.inference.device import Cuda
from minigpt.inference.memory import Sizes, require
from minigpt.models.architectures import COMPARED, PRESETS
from minigpt.models.families.windows import gemma2
from minigpt.planning.accelerators import Accelerator
from minigpt.planning.activations import as_written, fused
from minigpt.planning.assumptions import uneven
from minigpt.planning.devices import Split, on_devices
from minigpt.planning.forward import Pass, on_shapes
from minigpt.planning.hardware import GPUS
from minigpt.planning.options import Options
from minigpt.planning.place import part_of
from minigpt.planning.plan import OVERHEAD_RANGE, plan

XL, RTX = PRESETS["gpt2-xl"], GPUS["rtx-3060-12gb"]
TIGHT = GPUS["rtx-4060"]
SHORT = Options(context=2, prompt=1)


def made(model, gpu=RTX, **options):
    return plan(model, PRESETS[model], gpu, Options(**options))


def test_gpt2_xl_on_the_articles_gpu():
    it = made("gpt2-xl")
    about = it.first.estimate
    assert about.weight_bytes == 2 * (
        XL.parameters - 1022 * 1600
    )  # one row of wpe, one of wte twice
    assert it.first.weight_bytes == 2 * (XL.parameters - 1023 * 1600)  # one of wpe
    assert (it.first.kv_bytes, about.kv_bytes) == (307_200, 2 * 307_200)  # written; read again
    told = [f"{1e3 * seconds:.2f} ms" for seconds in (it.first.seconds, about.seconds)]
    assert told == ["8.64 ms", "8.65 ms"]
    assert (it.first.flops, it.first.binds, it.prefill.binds) == (
        3_110_249_600,
        "memory",
        "arithmetic",
    )
    assert it.memory[:2] == (2 * XL.parameters, 1024 * 307_200)
    assert it.fits
    assert it.largest_batch == 24
    assert "at least 8.64 ms" in verdict(it)


def test_llama_8b_does_not_fit_there():
    it = made("llama-3.1-8b")
    weights = 2 * 8_030_261_248
    assert not it.fits
    assert it.memory[:2] == (weights, 8192 * 131_072)
    assert it.spare == 11_901 * 2**20 - it.memory.needed < 11_901 * 2**20 - weights < 0
    assert it.remedies() == {"weights_dtype": ["int8", "int4"], "gpus": 2, "gpu": "l4"}
    assert verdict(it).startswith("llama-3.1-8b does not fit on one RTX 3060 12 GB in float16: ")
    for way in ("5.55 GB too much", "int8 weights", "on 2 of them", "on one l4"):
        assert way in verdict(it)
    for other in (
        replace(it, weights_dtype="int8"),
        replace(it, gpus=2),
        replace(it, gpu=GPUS["l4"]),
    ):
        assert other.fits


def test_what_would_fit_is_what_the_next_command_takes():
    """A T4 multiplies no bfloat16: of one that does the memory is the least that is enough."""
    it = made("llama-2-7b", dtype="bfloat16", context=256)
    assert it.remedies() == {"weights_dtype": ["int8", "int4"], "gpus": 2, "gpu": "l4"}
    assert made("llama-2-7b", dtype="float16", context=256).remedies()["gpu"] == "t4"
    with pytest.raises(InputError, match="T4 has no peak rate for bfloat16"):
        made("llama-2-7b", GPUS["t4"], dtype="bfloat16", context=256)


@pytest.mark.parametrize("vocabulary", [1, 3, 5])
def test_a_vocabulary_of_few_tokens_ends_no_plan(vocabulary):
    config = XL.but(vocab_size=vocabulary, n_layer=2000)
    it = plan("it", config, RTX, Options(context=4))
    assert not it.fits
    assert it.remedies()["gpus"] is None
    assert verdict(it).startswith("it does not fit on one RTX 3060 12 GB")
    with pytest.raises(InputError, match=f"cannot share a vocabulary of {vocabulary}"):
        plan("it", config, RTX, Options(8, context=4)).fits  # noqa: B018


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
    deep = TINY[name].but(**{field: 6})
    few, _ = deep.short()
    few_peak, all_peak = (on_shapes(c, Pass(T, 3, 2, "last")).peak for c in (few, deep))
    assert few != deep
    assert few_peak["activations"] == all_peak["activations"]


def test_every_gpu_has_less_than_its_name_says():
    for gpu in GPUS.values():
        assert 0.9 < gpu.memory / gpu.nominal_memory < 1
    at_most = {"t4": 15_360, "l4": 23_034, "l40s": 46_068, "rtx-3060-12gb": 12_288, "h100": 81_559}
    for name, mib in at_most.items():  # what nvidia-smi shows, of which the driver keeps some
        assert 0.96 * mib < GPUS[name].memory / 2**20 < mib


@settings(max_examples=30)
@given(name=st.sampled_from(list(GPUS)), between=st.floats(0.01, 1))
def test_weights_that_only_the_nominal_memory_holds_do_not_fit(name, between):
    gpu = GPUS[name]
    nbytes = gpu.memory + between * (gpu.nominal_memory - gpu.memory)
    body = replace(PRESETS["gpt2"], vocab_size=1)
    rows = int(nbytes / 2 - body.parameters) // body.n_embd
    config = body.but(vocab_size=rows)
    it = plan("it", config, gpu, SHORT)
    assert gpu.memory < it.memory.weights <= gpu.nominal_memory
    assert not it.fits
    assert not it.may_fit
    assert verdict(it).startswith(f"it does not fit on one {gpu.name} in float16: ")
    assert plan("it", config, gpu._replace(memory=2 * gpu.memory), SHORT).fits


def test_what_the_driver_of_a_t4_keeps_is_not_offered():
    for context, prompt in ((1024, 256), (256, 64)):
        it = made("llama-3.1-8b", GPUS["t4"], context=context, prompt=prompt)
        assert it.gpu.memory < it.memory.weights < it.gpu.nominal_memory
        assert verdict(it).startswith("llama-3.1-8b does not fit on one T4 in float16: ")


def test_what_fits_only_if_the_runtime_is_modest_may_fit_by_one_name(capsys):
    it = made("llama-3.1-70b", GPUS["l40s"], weights_dtype="int4", context=32768)
    assert it.room() < 0 < it.spare < it.room(OVERHEAD_RANGE[0])
    assert (it.fits, it.may_fit, it.largest_batch) == (False, True, 0)
    assert it.most_sequences(OVERHEAD_RANGE[0]) == 1
    told = verdict(it)
    assert told.startswith("llama-3.1-70b may fit on one L40S in float16")
    assert "llama-3.1-70b may fit on L40S" in it._repr_html_()
    run("llama-3.1-70b", "all", Options(weights_dtype="int4", context=32768))
    [row] = (line for line in capsys.readouterr().out.splitlines() if "L40S" in line)
    assert "  may fit  " in row
    assert "0.75 GB of it for the runtime, which may take up to 1.5 GB" in told
    assert document(it)["what_would_fit"]["gpus"] == 2


@settings(max_examples=40)
@given(name=st.sampled_from(list(TINY)), T=st.integers(1, 5), N=st.integers(0, 5))
def test_fused_attention_holds_all_but_what_is_made_in_its_scopes(name, T, N):
    sizes = TINY[name], Pass(T, N, 2, "last")
    assert fused(*sizes, unstored=()) == as_written(*sizes)
    assert fused(*sizes) <= as_written(*sizes)


def test_fused_activations_grow_with_the_prompt_and_not_with_its_square():
    config = PRESETS["llama-3.1-8b"]
    short, middle, long = (fused(config, Pass(T, logits="last")) for T in (1000, 2000, 3000))
    assert long - middle == middle - short
    written = [as_written(config, Pass(T, logits="last")) for T in (1000, 2000, 3000)]
    assert written[2] - written[1] > 1.5 * (written[1] - written[0])
    # A SwiGLU's three arrays of its width are the most: gate and up, and what is made of them.
    assert long > 3 * 3000 * config.intermediate_size * 2


def test_a_long_prompt_fits_with_fused_attention_and_says_that_it_takes_that():
    it = made("llama-3.1-8b", GPUS["h100"], context=29_000, prompt=29_000)
    assert (it.fits, it.fits_as_written) == (True, False)
    assert it.memory.activations < 5e9 < 200e9 < it.memory_as_written.activations
    told = verdict(it)
    assert told.startswith("llama-3.1-8b fits on one H100 SXM in float16: 24.67 GB")
    assert "all scores stored at once, it needs 237.48 GB and does not fit" in told
    found = document(it)
    assert (found["fits"], found["fits_as_written"]) == (True, False)
    assert found["largest_batch"] == it.largest_batch > found["largest_batch_as_written"] == 0


def test_this_projects_own_run_on_a_gpu_asks_for_all_scores():
    cuda = Cuda.__new__(Cuda)
    cuda.name = "stand-in"
    config, sizes = PRESETS["gpt2"], Sizes(batch=1, context=1024, prompt=1024)
    scores = as_written(config, Pass(1024, logits="last", dtype="float32"))
    needed = 2 * config.parameters + 1024 * 36_864 + scores

    def with_free(nbytes):
        runtime = SimpleNamespace(memGetInfo=lambda: (nbytes, 2**40))
        pool = SimpleNamespace(free_bytes=lambda: 0)
        cuda._cupy = SimpleNamespace(
            cuda=SimpleNamespace(runtime=runtime), get_default_memory_pool=lambda: pool
        )
        require(cuda, config, "float16", sizes)

    with_free(needed)
    with pytest.raises(InputError, match=f"needs {needed:,} bytes"):
        with_free(needed - 1)


def test_every_assumption_is_named(capsys, monkeypatch):
    small = FEW_EXPERTS.but(n_routed_experts=16, topk_group=8)
    monkeypatch.setattr("minigpt.commands.plan.resolve", lambda name: small)
    run("deepseek", "h200", Options(8, None, "float8", context=65536, batch=4, prompt=16))
    told = capsys.readouterr().out
    for said in (
        "143156 MB",
        "0.75 GB a GPU, in a range of 0.4 to 1.5",
        "fused attention never stores scores",
        "at the dense float8/float32 rate",
        "60 MiB a GPU may still be in its cache",
        "the same 8 experts",
        "of a layer's 16 are met on average",
        "no latency",
        "two phases of 8 us",
        "none is speculated",
    ):
        assert said in told
    it = plan("it", PRESETS["llama-3.2-1b"], RTX)
    listed = document(it)["assumptions"]
    assert {"memory", "floor", "estimate"} == listed.keys()
    assert not any("experts" in line or "latency" in line for line in listed["floor"])


def test_what_was_measured_is_called_an_estimate():
    cpu = Accelerator("CPU", {"float32/float32": 1e11}, 3e10, 2**34, "here", measured=True)
    it = plan("gpt2", PRESETS["gpt2"], cpu)
    told = verdict(it)
    assert "at least" not in told
    assert "at most" not in told
    assert document(it)["bound"] is False
    assert "the floor is an estimate too" in document(it)["assumptions"]["floor"][0]


@pytest.mark.parametrize("command", [("gpus",), ("plan", "gpt2-xl", "--gpu", "all")])
def test_piped_tables_are_not_folded(command):
    environment = {**os.environ, "COLUMNS": "80"}
    told = subprocess.run(
        [sys.executable, "-m", "minigpt", *command],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout.splitlines()
    assert max(map(len, told)) > 100
    assert not any("…" in line for line in told)
    rows = [line for line in told if line.startswith(("h100", "gpt2-xl"))]
    assert min(map(len, rows)) > 100  # each to its last column in one line


WINDOWS = gemma2(  # in every other layer
    vocab_size=11,
    hidden_size=12,
    intermediate_size=10,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    max_position_embeddings=16,
)
WINDOWED = {f"window {W}": WINDOWS.but(sliding_window=W) for W in (1, 3, 5, 9)}


@pytest.mark.parametrize("name", TINY | WINDOWED)
def test_a_prefill_is_its_tokens_one_by_one(name):
    config, T = (TINY | WINDOWED)[name], 6
    it = plan(name, config, RTX, Options(prompt=T))
    steps = [it.roofline.floor(1, n, 1).estimate.flops for n in range(T)]
    heads = (
        (T - 1) * 2 * config.width * config.vocab_size
    )  # the prefill has logits of its last alone
    if name != "deepseek":  # which attends to keys made of its latents, where that is cheaper
        assert it.prefill.estimate.flops == sum(steps) - heads
    assert it.prefill.flops < it.prefill.estimate.flops <= sum(steps) - heads


@pytest.mark.parametrize("W", [3, 9, 40])
def test_a_window_is_cached_and_no_more(W):
    config = WINDOWS.but(sliding_window=W, max_position_embeddings=64)
    at = [plan("it", config, RTX, Options(context=n, dtype="float16")) for n in (1, 20, 64)]
    each = 2 * 2 * 6 * 2  # keys and values of 2 heads of 6 numbers of 2 bytes
    for made, n in zip(at, (1, 20, 64), strict=True):
        assert made.memory.kv_cache == 2 * each * (n + min(n, W))
        assert made.kv_cache_kept == 4 * each * n == n * made.kv_bytes_per_token


def test_the_floor_of_several_gpus_is_an_even_share_and_each_sum_once():
    h200 = GPUS["h200"]
    one, many = (made("llama-3.1-8b", h200, gpus=n) for n in (1, 8))
    assert many.first.arithmetic_s == pytest.approx(one.first.arithmetic_s / 8)
    assert many.first.memory_s == pytest.approx(
        one.first.memory_s / 8 - 7 / 8 * h200.cache / 4.8e12
    )
    assert (one.first.wire_s, many.first.wire_bytes) == (0, 32 * 2 * 4096 * 2)
    assert many.first.wire_s == pytest.approx(32 * 2 * 4096 * 2 / 450e9)
    about = many.first.estimate
    phases = 2 * (2 * 32 + 1) + 1  # a sum of the embedding, two of a layer; the logits
    assert about.wire_s == pytest.approx(about.wire_bytes / 450e9 + phases * 8e-6)


@pytest.mark.parametrize(
    "model", ["shakespeare", "gpt2-xl", "llama-3.1-8b", "gemma-2-9b", "qwen3-next-80b-a3b"]
)
@given(
    gpus=st.integers(2, 20),
    batch=st.integers(1, 9) | st.integers(10**4, 10**5),  # logits outweigh the table's rows
    context=st.integers(1, 200),
)
@settings(max_examples=6, deadline=None)
def test_a_gpu_holds_does_and_sends_what_its_part_does(model, gpus, batch, context):
    config = PRESETS[model] if model in PRESETS else resolve(model)
    asked = Options(gpus, context=context, batch=batch, prompt=1, dtype="float16")
    it = plan(model, config, GPUS["h100"], asked)
    sizes = Pass(1, context - 1, batch, "last", "float16")
    devices = on_devices(config, sizes, Split(gpus))
    assert sum(it.memory_as_written[:4]) == max(sum(d.held.values()) for d in devices)
    assert it.memory.activations <= it.memory_as_written.activations
    about = it.last.estimate
    assert about.flops in [matmul(d.counts) for d in devices]
    assert about.wire_bytes in [sum(d.sent.values()) for d in devices]
    read = [d.counts.bytes_read["weights"] for d in devices]
    assert about.weight_bytes in read
    assert about.seconds >= max(read) / it.gpu.bandwidth


@pytest.mark.parametrize("gpus", [4, 5, 7, 12])
def test_parts_that_are_not_even_hold_and_do_more_than_an_even_share(gpus):
    it = plan("shakespeare", resolve("shakespeare"), GPUS["h100"], Options(gpus, dtype="float32"))
    assert gpus * it.memory.weights > 4 * it.config.parameters
    even = gpus == 4  # what 8 heads, 1,024 columns and tokens can be divided by
    assert (it.last.estimate.flops == it.last.flops) == even


def test_a_gpu_has_a_head_of_keys_or_more_and_latents_whole():
    assert made("llama-3.1-8b", GPUS["h200"], gpus=16).kv_bytes_per_token == 131_072 // 8
    assert made("deepseek-r1", GPUS["h200"], gpus=16).kv_bytes_per_token == 70_272


def test_what_does_not_divide_is_said(capsys):
    run("gpt2-xl", "h100", Options(2))
    told = capsys.readouterr().out
    assert "25 heads do not divide by 2: a GPU has 12 or 13" in told
    assert "not divide" not in verdict(made("llama-3.1-8b", GPUS["h100"], gpus=16))
    assert "8 heads of keys do not divide by 3: a GPU has 2 or 3" in verdict(
        made("llama-3.1-8b", GPUS["h100"], gpus=3)
    )
    line = "160 experts do not divide by 64: a GPU has 2 or 3"
    assert line in document(made("deepseek-v2", GPUS["h100"], gpus=64))["assumptions"]["memory"]


@pytest.mark.parametrize(
    ("heads", "keys", "gpus", "has"),
    [
        (9, 3, 2, "9 heads do not divide by 2: a GPU has 3 or 6"),
        (32, 8, 3, "32 heads do not divide by 3: a GPU has 8 or 12"),
        (14, 2, 3, "14 heads do not divide by 3: a GPU has 3 or 4 or 7"),
        (12, 4, 3, "12 heads do not divide by 3, as they go with their keys: a GPU has 3 or 6"),
        (2, 2, 3, "2 heads do not divide by 3: a GPU has one or none"),
        (16, 8, 16, ""),
        (16, 4, 2, ""),
    ],
)
def test_a_gpu_has_the_heads_that_go_with_its_keys(heads, keys, gpus, has):
    sizes = {"num_attention_heads": heads, "num_key_value_heads": keys, "head_dim": 8}
    config = PRESETS["llama-3.2-1b"].but(**sizes)
    it = plan("drawn", config, GPUS["h100"], Options(gpus))
    told = [line for line in uneven(it) if "heads d" in line]
    assert told == ([has] if has else [])
    (name,) = (key for key in config.shapes() if "layers.0." in key and "q_proj" in key)
    split = Split(gpus)
    has = {int(part_of(config, at).shapes()[name][0]) // 8 for at in split.places()}
    words = {"none": 0, "one": 1}
    said = told[0].rpartition("has ")[2].split(" or ") if told else [heads // gpus]
    assert has == {int(words.get(n, n)) for n in said}


def test_heads_of_linear_attention_are_said_too():
    sizes = {"linear_num_key_heads": 3, "linear_num_value_heads": 6}
    config = PRESETS["qwen3-next-80b-a3b"].but(**sizes, num_hidden_layers=4)
    told = uneven(plan("odd", config, GPUS["h100"], Options(2)))
    assert told[0] == (
        "6 heads of linear attention do not divide by 2, as they go with their keys: "
        "a GPU has 2 or 4"
    )


FEW_EXPERTS = PRESETS["deepseek-r1"].but(num_hidden_layers=4, first_k_dense_replace=2)


@pytest.mark.parametrize("config", [XL, PRESETS["llama-3.2-1b"], FEW_EXPERTS])
def test_arithmetic_takes_over_where_it_says(config):
    it = plan("it", config, GPUS["h100"], Options(context=1, prompt=1))
    turn = it.compute_bound_batch(it.first)
    near = int(0.98 * turn), int(1.02 * turn)
    below, above = (replace(it, batch=n).first.estimate for n in near)
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
    assert "24 to 28 over the range of the overhead; 24 with all scores stored" in told
    run("gpt2-xl", "rtx-3060-12gb", as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(document(made("gpt2-xl"))))


def test_all_compares(capsys):
    run("gpt2-xl", "all", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    lines = found["plans"]
    assert [line["gpu"] for line in lines] == [gpu.name for gpu in GPUS.values()]
    assert lines[0]["largest_batch"] == 24
    run("all", "h100", Options(context=2048))
    told = capsys.readouterr().out
    assert all(name in told for name in COMPARED)


def test_the_articles_tables():
    told = str([*tables.models(), *tables.gpu()])
    for figure in ("3.11 G", "15.01 G", "807.50 G", "0.307 GB", "0.131 GB", "0.516 GB", "8.64 ms"):
        assert figure in told


def test_a_thousand_gpus_have_a_plan_and_are_compared_by_the_hundred_alone():
    it = made("gpt2", GPUS["h100"], gpus=1000, context=1024, prompt=1024)
    assert it.fits
    with pytest.raises(InputError, match="where plans are compared it must be from 1 to 256"):
        run("gpt2", "all", Options(1000))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"context": 1025}, "context is 1025; it must be from 1 to 1024"),
        ({"prompt": 9, "context": 8}, "prompt is 9; it must be from 1 to 8"),
        ({"batch": 0}, "batch is 0"),
        ({"gpus": 0}, "gpus is 0"),
        ({"gpus": 1025, "gpu": GPUS["h100"]}, "gpus is 1025; it must be from 1 to 1024"),
        ({"dtype": "int4"}, "unknown dtype 'int4'"),
        ({"weights_dtype": "int3"}, "unknown weights dtype 'int3'"),
        ({"dtype": "float64"}, "RTX 3060 12 GB has no peak rate for float64"),
        ({"gpus": 2, "gpu": RTX._replace(link_bandwidth=0)}, "has no link to others"),
    ],
)
def test_wrong_input_is_said_in_a_line(wrong, said):
    with pytest.raises(InputError, match=said):
        made("gpt2", **wrong)
