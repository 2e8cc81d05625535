"""The closed forms of every family evaluated are the count, at sizes that nobody chose."""

import json
import random
from functools import cache

import pytest
import sympy

from counting.views import matmul
from minigpt.commands.formulas import document, latex, one_token, tables
from minigpt.formulas.closed_forms import F, L, V, d, formulas
from minigpt.formulas.decoded import n, of_a_token, ways
from minigpt.formulas.drawn import with_sizes
from minigpt.formulas.figures import figures, kv_bytes_per_token
from minigpt.formulas.symbols import letter, met, sizes
from minigpt.models.architectures import FAMILIES, PRESETS
from minigpt.planning.forward import Pass, forward

BY_NAME = {family.model_type: family for family in FAMILIES}
USUAL = {
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 4096,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 6}
MODELS = {
    "llama": PRESETS["llama-3.1-8b"],
    "deepseek-v3": PRESETS["deepseek-v3"],
    "qwen3-moe": BY_NAME["qwen3_moe"](**USUAL, **EXPERTS),
    "qwen2-moe": BY_NAME["qwen2_moe"](**USUAL, **EXPERTS, shared_expert_intermediate_size=5),
    "gemma2": BY_NAME["gemma2"](**USUAL, sliding_window=8),
    "gpt-oss": BY_NAME["gpt_oss"](**USUAL, num_experts=8, num_experts_per_tok=2),
    "mistral": BY_NAME["mistral"](**USUAL, sliding_window=8),
    "pythia": PRESETS["pythia-70m"],
    "falcon": PRESETS["falcon-7b"],
    "opt": PRESETS["opt-125m"],
}


@cache
def closed(config, cached=None):
    return formulas(config, cache=cached)


def drawn(model, rng):
    """A configuration of a model's architecture, and a pass: windows smaller and larger than N."""
    config, values = MODELS[model], {}
    for name in sizes(config):
        values[name] = rng.randint(1, 3 if name.startswith("L") else 9)
        if name.startswith("D"):
            values[name] *= 8 if model == "pythia" else 2  # a quarter of a head turns, in pairs
    groups = 8 if model == "deepseek-v3" else 1
    values |= {"W": rng.randint(1, 30), "E": groups * rng.randint(2, 4), "A": rng.randint(1, 2)}
    values["C"] = 60
    made = with_sizes(config, values)
    return made, (rng.randint(1, 3), rng.choice((1, rng.randint(2, 9))), rng.randint(0, 40))


@pytest.mark.parametrize(
    ("model", "latents"),
    [("deepseek-v3", "expanded"), *((model, None) for model in ("gemma2", "mistral", "qwen3-moe"))],
)
def test_the_closed_form_evaluated_is_the_count(model, latents):
    """Of windows of any width; other families beside all models that have a name."""
    form, rng = closed(MODELS[model], latents), random.Random(0)
    for _ in range(10):
        config, (batch, new, cached) = drawn(model, rng)
        at = Pass(new, cached, batch, dtype="float32", cache=latents)
        told = figures(forward(config, at), at, config.parameters, form.of.roles)
        told |= kv_bytes_per_token(config, at)
        if config.experts:
            del told["peak_activation_bytes"]
        values = sizes(config) | met(config, batch * new)
        assert form.at(B=batch, T=new, N=cached, **values) == told


@pytest.mark.parametrize("model", MODELS)
def test_every_letter_is_in_the_legend(model):
    form = closed(MODELS[model])
    found = document(form)
    json.dumps(found)
    known = {str(form.of.letters[name]) for name in found["symbols"]}
    used = {str(s) for s in form.closed_forms["views"]["exact"]["total"].free_symbols}
    assert used <= known
    assert set(sizes(MODELS[model])) - known <= {"G", "K"}
    assert r"\begin{align*}" in latex(form)
    tables(form)


def test_a_decoded_token_of_a_llama():
    total = of_a_token(closed(MODELS["llama"]).closed_forms["views"]["matmul"]["total"])
    D, K, H = letter("D"), letter("K"), letter("K") * letter("G")
    expected = L * (4 * d * H * D + 4 * d * K * D + 6 * d * F) + 4 * L * H * D * n + 2 * d * V
    assert sympy.expand(total - expected) == 0
    (line,) = one_token(closed(MODELS["llama"])).values()
    assert line == "L (4 H D d + 4 K D d + 6 d F) + 4 L H D n + 2 d V"


def test_both_ways_of_latents_are_their_runs():
    config = PRESETS["deepseek-v3"]
    both = ways(closed(config))
    at = {letter(name): value for name, value in sizes(config).items()} | {n: 5000}
    for latents, form in (("compressed", both.compressed), ("expanded", both.expanded)):
        run = forward(config, Pass(1, 4999, cache=latents))
        assert form.subs(at) == matmul(run.counts)
    assert [e.subs(at) for e in both.elements] == [61 * 576, 61 * 128 * 320]
    assert both.at == pytest.approx(512 * 256 / (1024 - 256))


def test_a_model_as_wide_as_its_heads_has_their_letters():
    """Of GPT-NeoX, and of Falcon, whose heads all read the keys of one."""
    width = letter("K") * letter("D")
    total = of_a_token(closed(MODELS["pythia"]).closed_forms["views"]["matmul"]["total"])
    layer = 8 * width**2 + 4 * width * F
    assert sympy.expand(total - L * layer - 4 * L * width * n - 2 * width * V) == 0
    D, width = letter("D"), letter("H") * letter("D")
    total = of_a_token(closed(MODELS["falcon"]).closed_forms["views"]["matmul"]["total"])
    layer = 4 * width**2 + 4 * width * D + 16 * width**2
    assert sympy.expand(total - L * layer - 4 * L * width * n - 2 * width * V) == 0


@pytest.mark.parametrize("first", [True, False])
def test_models_that_compute_the_same_have_the_letters_of_what_each_says(first):
    one = dict.fromkeys(("num_attention_heads", "num_kv_heads"), 1)
    shared = MODELS["falcon"].but(**one, hidden_size=6, num_hidden_layers=1)
    own = shared.but(multi_query=False)
    assert shared == own
    letters = {id(of): {*sizes(of)} for of in ((shared, own) if first else (own, shared))}
    assert letters[id(shared)] >= {"H"}
    assert not letters[id(own)] & {"H"}
    for of in (shared, own):
        assert with_sizes(of, sizes(of)).decoder == of.decoder


@pytest.mark.parametrize("model", ["llama", "mistral"])
def test_causal_scores_are_those_of_single_queries_one_after_another(model):
    form, rng = formulas(MODELS[model], scores="causal"), random.Random(1)
    for _ in range(10):
        config, (batch, new, cached) = drawn(model, rng)
        runs = [forward(config, Pass(1, cached + i, batch)).counts for i in range(new)]
        priced = form.at(B=batch, T=new, N=cached, **sizes(config))["views"]["matmul"]
        for name in ("qk", "av"):
            each = sum(matmul(run.by(form.of.roles.part_of)[name]) for run in runs)
            assert priced["by_component"][name] == each
