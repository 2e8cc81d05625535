"""`count`: known sizes, and its run on shapes held against a run on data."""

import json
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from checkpoints import SHIPPED
from configs import TINY
from families import CASES, read, small
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category
from counting.views import flops
from minigpt import generate, load
from minigpt.checkpoint.hub import WEIGHTS
from minigpt.checkpoint.resolve import NAMES, resolve
from minigpt.commands.count import document, run
from minigpt.commands.devices import run as run_devices
from minigpt.errors import InputError, did_you_mean
from minigpt.formulas.figures import named
from minigpt.models.architectures import PRESETS, build
from minigpt.planning.count import count, rows
from minigpt.planning.devices import Split
from minigpt.planning.forward import Pass, counts_by_kind, forward, on_shapes

PASSES = {"T": st.integers(1, 4), "N": st.integers(0, 4), "B": st.integers(1, 3)}
CONTRACT = {
    *("schema", "model", "new_tokens", "past", "batch", "dtype", "logits", "matmul_flops", "flops"),
    *("kinds", "bytes_read", "bytes_written", "kv_bytes_per_token", "parameters"),
    *("weight_bytes", "peak_bytes", "arithmetic_intensity"),
}


def on_data(config, T, N, B, logits):
    """The same pass on random float32 numbers, its first N tokens cached by a pass before."""
    rng, ledger = np.random.default_rng(0), Ledger()
    with category("weights"):
        weights = {
            key: Counted(rng.standard_normal(shape).astype("f4"), ledger)
            for key, shape in config.shapes().items()
        }
    model = build(config, weights)
    cache = model.new_cache(B, N + T)
    if N:
        model(rng.integers(config.vocab_size, size=(B, N)), cache)
    before = ledger.snapshot()
    model(rng.integers(config.vocab_size, size=(B, T)), cache, logits)
    return ledger.snapshot() - before


@pytest.mark.parametrize(
    ("model", "cache", "parameters", "kv"),
    [
        ("gpt2-xl", None, 1_557_611_200, 307_200),
        ("llama-3.1-8b", None, 8_030_261_248, 131_072),
        ("llama-3.1-405b", None, 405_853_388_800, 516_096),
        ("deepseek-r1", "compressed", 671_026_419_200, 70_272),
        ("deepseek-r1", "expanded", 671_026_419_200, 4_997_120),
    ],
)
def test_known_sizes(model, cache, parameters, kv):
    found = count(model, Pass(N=999, cache=cache))
    assert (found.config.parameters, found.kv_bytes_per_token) == (parameters, kv)
    assert found.weight_bytes == found.peak_bytes["weights"] == 2 * parameters


@pytest.mark.alone
def test_json_is_whole_and_takes_a_process_less_than_two_seconds():
    code = "from minigpt.cli import main; main()"
    command = [sys.executable, "-c", code, "count", "deepseek-r1", "--past", "999", "--json"]
    before = os.times()
    done = subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    found = json.loads(done.stdout)
    assert found.keys() >= CONTRACT
    assert after.children_user - before.children_user < 2


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@given(logits=st.sampled_from(("all", "last")), **PASSES)
def test_shapes_cost_what_data_does(name, logits, **sizes):
    shapes = on_shapes(TINY[name], Pass(logits=logits, dtype="float32", **sizes)).counts
    assert dict(shapes) == dict(on_data(TINY[name], logits=logits, **sizes))


@pytest.mark.parametrize("name", CASES)
@given(cache=st.sampled_from(("compressed", "expanded")), spare=st.integers(0, 3), **PASSES)
@settings(max_examples=3)
def test_a_layer_of_each_kind_stands_for_all(name, cache, spare, T, N, B):
    config = read(name, small(name))
    sizes = Pass(T, N, B, cache=cache, capacity=N + T + spare)
    each, found = forward(config, sizes), on_shapes(config, sizes)
    assert [*found.counts.items()] == [*each.counts.items()]  # in the order in which they ran
    assert found.peak == each.peak
    assert repr(found.counts) == repr(counts_by_kind(config, sizes)) == repr(each.counts)
    for by in ("component", "op"):
        whole, few = (list(rows(run, by)) for run in (each.counts, counts_by_kind(config, sizes)))
        assert [(label, repr(part)) for label, part in whole] == [(k, repr(v)) for k, v in few]


@given(**PASSES)
def test_experts_are_expected_and_bounded(**sizes):
    config = TINY["deepseek"]
    with mock.patch.dict(PRESETS, tiny=config):
        found = document(count("tiny", Pass(dtype="float32", **sizes)))
    real = on_data(config, logits="all", **sizes)
    experts = found["experts"]
    read = [experts[kind]["weight_bytes_read"] for kind in ("expected", "bound")]
    assert found["bytes_read"]["weights"] == read[0] <= read[1]
    assert real.bytes_read["weights"] <= read[1]
    met = [experts[kind]["met_in_each_layer"] for kind in ("expected", "bound")]
    assert read[1] - read[0] == (met[1] - met[0]) * 2 * (3 * 8 * 4 * 4)  # layers, bytes of each
    assert real.cost["fma"] * 2 == found["matmul_flops"]
    if sizes["T"] * sizes["B"] == 1:
        assert real.bytes_read["weights"] == read[0] == read[1]


@pytest.mark.parametrize("cache", [None, "compressed", "expanded"])
def test_the_cache_is_said_where_there_is_a_choice_with_experts_or_without(cache):
    lite = PRESETS["deepseek-v2-lite"]
    dense = lite.but(first_k_dense_replace=lite.layers)
    with mock.patch.dict(PRESETS, dense=dense):
        for name in ("deepseek-v2-lite", "dense"):
            found = document(count(name, Pass(cache=cache)))
            assert found["cache"] == (cache or "compressed")
            assert ("experts" in found) == (name != "dense")
    for name in ("mixtral-8x7b", "gpt2"):
        assert "cache" not in document(count(name))


@given(**PASSES)
def test_positions_that_are_reserved_and_not_filled_cost_nothing(T, N, B):
    config = TINY["gpt2"]
    whole = forward(config, Pass(T, N, B, capacity=config.n_positions)).counts
    assert dict(forward(config, Pass(T, N, B)).counts) == dict(whole)


@pytest.mark.parametrize("by", ["component", "layer", "op"])
@pytest.mark.parametrize("name", TINY)
def test_parts_add_up(name, by):
    counts = forward(TINY[name], Pass(T=3)).counts
    parts = [part for label, part in rows(counts, by) if not label.startswith(" ")]
    assert sum(map(flops, parts)) == flops(counts)
    assert sum(len(part) for part in parts) == len(counts)


@pytest.mark.parametrize("name", ["shakespeare", SHIPPED, SHIPPED / "model.safetensors"])
def test_the_model_that_comes_along_is_counted_by_every_name_that_generates(name):
    found = document(count(str(name), Pass(N=4)))
    assert (found["schema"], found["parameters"]) == (1, 5_066_752)
    *_, step = generate(load(name), "To be", max_new_tokens=4, seed=1)
    assert (found["matmul_flops"], found["flops"]) == (step.matmul_flops, step.flops)


@given(st.sampled_from((*NAMES, *WEIGHTS)), st.data())
def test_another_spelling_of_a_name_is_told_apart(name, data):
    wrong = "".join(data.draw(st.sampled_from((c.upper(), c.lower()))) for c in name)
    expected = f"; did you mean {name}?" if wrong != name else ""
    assert did_you_mean(wrong, NAMES if name in NAMES else WEIGHTS) == expected


@given(st.sampled_from(NAMES), st.integers(0, 99))
def test_a_letter_left_out_is_found_again(name, place):
    place %= len(name)
    wrong = name[:place] + name[place + 1 :]
    if wrong not in NAMES:
        assert did_you_mean(wrong, NAMES).removeprefix("; did you mean ").rstrip("?") in NAMES


def test_what_is_like_nothing_known_is_not_meant():
    assert did_you_mean("zebra", NAMES) == ""


def test_another_spelling_does_not_ask_the_hub(monkeypatch):
    monkeypatch.setattr("minigpt.checkpoint.hub.on_hub", lambda *_: pytest.fail("asked the hub"))
    for ask in (resolve, named):
        with pytest.raises(InputError, match=r"unknown model .* did you mean llama-3.1-8b\?$"):
            ask("Llama-3.1-8B")
    meta = r"no name of any weights; did you mean meta-llama/Llama-3.1-8B\?$"
    for name in ("Llama-3.1-8B", "llama-3.1-8b"):
        with pytest.raises(InputError, match=meta):
            load(name)


def test_a_config_json_is_a_model(tmp_path):
    values = PRESETS["gpt2-large"].values()
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert resolve(str(tmp_path)) == resolve(f"{tmp_path}/config.json") == PRESETS["gpt2-large"]


def test_a_long_name_in_brackets_is_told_whole_in_one_line(tmp_path, capsys):
    folder = tmp_path / ("[red]" + 200 * "x")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    run(str(folder))
    assert capsys.readouterr().out.startswith(f"{folder}: 1 new token(s) after 0, batch 1, float16")


@pytest.mark.parametrize("by", ["component", "layer", "op"])
def test_the_table_ends_in_the_totals(by, capsys):
    run("gpt2", by=by)
    assert "124,439,808 parameters, 248,879,616 bytes; 36,864 bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"model": "gpt-5"},
            "unknown model 'gpt-5': it is one of .. names .gpt2-xl, .*-r1",
        ),
        ({"model": "nowhere.json"}, "nowhere.json cannot be read"),
        ({"T": 0}, "new tokens is 0"),
        ({"N": -1}, "past is -1"),
        ({"B": 0}, "batch is 0"),
        ({"B": 10**23}, "batch is 1000.*000; it must be 1099511627776 or less"),
        ({"N": 1024}, "1024 past and 1 new tokens are 1025; the model's context is 1024"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"logits": "some"}, "unknown logits"),
        ({"cache": "expanded"}, "only DeepSeek"),
        ({"cache": "compressed"}, "only DeepSeek"),
        ({"model": "deepseek-r1", "cache": "latent"}, "unknown cache 'latent'"),
        ({"by": "head"}, "unknown grouping"),
    ],
)
def test_wrong_input_is_said_in_a_line(wrong, said):
    model, by = wrong.pop("model", "gpt2"), wrong.pop("by", None)
    with pytest.raises(InputError, match=f"^{said}[^\n]*$"):
        run(model, Pass(**wrong), by)
    if by is None:
        with pytest.raises(InputError, match=f"^{said}[^\n]*$"):
            run_devices(model, Pass(**wrong), Split(1, 2))


@pytest.mark.parametrize("counted", [on_shapes, counts_by_kind])
def test_a_context_is_that_of_each_model_though_another_computes_the_same(counted):
    long = PRESETS["llama-3.2-1b"].but(max_position_embeddings=5000)
    short = long.but(max_position_embeddings=1000)
    assert long == short
    counted(long, Pass(1, 3000))
    with pytest.raises(InputError, match="the model's context is 1000"):
        counted(short, Pass(1, 3000))
