"""Closed forms are what a run costs, at every size, in every view."""

import io
import json
import random
from functools import cache
from itertools import permutations

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sympy import Symbol
from typer.testing import CliRunner

from counting.cost import USUAL
from counting.views import VIEWS
from minigpt.cli import app
from minigpt.commands.formulas import document, latex, run, tables
from minigpt.errors import InputError
from minigpt.formulas.closed_forms import B, D, H, L, N, S, T, V, d, formulas, largest
from minigpt.formulas.figures import COMPONENTS, figures, named, part_of, sizes
from minigpt.formulas.notation import plain, readable, si
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config
from minigpt.planning.forward import Pass, forward

XL = GPT2_SIZES["gpt2-xl"]
CONTRACT = ("qkv", "qk", "softmax", "av", "out", "mlp", "norms", "head")

closed = cache(formulas)  # a configuration's sizes do not matter, only which it gives


# What differs by more than sizes: whether F and the head are given.
GPT2 = GPT2Config()
ARCHITECTURES = (GPT2, GPT2Config(n_inner=1, tie_word_embeddings=False))


@st.composite
def passes(draw, most=10**6):
    """A configuration, its architecture, and a pass of it, of sizes far beyond any memory."""
    size = st.integers(1, 6) | st.integers(1, most)
    heads, T, N = draw(size), draw(size), draw(st.integers(0, 6) | st.integers(0, most))
    kind = draw(st.sampled_from(ARCHITECTURES))
    config = GPT2Config(
        vocab_size=draw(size),
        n_positions=N + T + draw(st.integers(0, 3)),
        n_embd=heads * draw(size),
        n_layer=draw(st.integers(1, 4)),
        n_head=heads,
        n_inner=kind.n_inner and draw(size),
        tie_word_embeddings=kind.tie_word_embeddings,
    )
    return config, kind, (draw(size), T, N)


@settings(max_examples=150)
@given(passes(), st.sampled_from((("all", "float32"), ("last", "float16"))))
def test_the_closed_form_evaluated_is_the_count(case, options):
    (config, kind, (batch, new, cached)), (logits, dtype) = case, options
    at = Pass(new, cached, batch, logits, dtype)
    counted = figures(forward(config, at), at, config.parameters)
    form = closed(kind, logits=logits, dtype=dtype)
    assert form.at(B=batch, T=new, N=cached, **sizes(config)) == counted


@pytest.mark.parametrize("seed", range(8))
def test_the_largest_of_polynomials_are_those_that_may_exceed_all_others(seed):
    rng = random.Random(seed)
    kinds = 1, B, N, T, B * N, B * T, sympy.Min(N, 7), B * sympy.Min(N, 7)
    made = [sum(rng.randint(-2, 9) * one for one in kinds) for _ in range(8)]
    kept = largest(made)
    values = sympy.lambdify((B, T, N), (kept, made), "math")
    for _ in range(40):
        few, all_of_them = values(rng.randint(1, 9), rng.randint(1, 9), rng.randint(0, 20))
        assert max(few) == max(all_of_them)
    more = {B: B + 1, T: T + 1}
    for a, b in permutations(kept, 2):
        slack = sympy.Poly((b - a).subs(more, simultaneous=True), B, N, T, sympy.Min(N, 7))
        assert min(slack.coeffs()) < 0, (a, b)  # or a is never above b


@settings(max_examples=40)
@given(passes(most=5))
def test_causal_scores_are_those_of_single_queries_one_after_another(case):
    config, kind, (batch, new, cached) = case
    queries = [forward(config, Pass(1, cached + i, batch)).counts for i in range(new)]
    at = {"B": batch, "T": new, "N": cached, **sizes(config)}
    full, causal = closed(kind).at(**at), closed(kind, scores="causal").at(**at)
    for view, price in VIEWS.items():
        expected = full["views"][view]["by_component"] | {
            name: sum(price(counts.where(f"*.{name}")) for counts in queries)
            for name in ("qk", "softmax", "av")
        }
        assert causal["views"][view]["by_component"] == expected


def test_one_query_sees_the_same_keys_either_way():
    at = {"B": 1, "T": 1, "N": 1023, **sizes(XL)}
    assert closed(GPT2).at(**at) == closed(GPT2, scores="causal").at(**at)


@pytest.mark.parametrize("scores", ["full", "causal"])
def test_the_json_contract(scores):
    found = json.loads(json.dumps(document(closed(GPT2, scores=scores))))
    names = {name: Symbol(name) for name in found["symbols"]}

    def value(text, **sizes_):
        expr = sympy.sympify(text, locals=names)
        assert expr.free_symbols <= set(names.values())
        return expr.subs({names[name]: n for name, n in sizes_.items() if name in names})

    assert found["model"] == "gpt2"
    assert set(found["views"]) == {"matmul", "exact", "all", "macs"}
    at = {"B": 1, "T": 1, "N": 1023, **sizes(XL)}
    peak = forward(XL, Pass(N=1023, dtype="float32")).peak["activations"]
    for view in found["views"].values():
        assert set(CONTRACT) <= set(view["by_component"])
        parts = sum(value(text) for text in view["by_component"].values())
        assert sympy.expand(parts - value(view["total"])) == 0
    assert value(found["views"]["matmul"]["total"], **at) == 3_424_515_200
    assert value(found["kv_elements_per_token"], **at) == 2 * 48 * 1600
    assert value(found["kv_bytes_per_token"], **at) == 2 * 48 * 1600 * 4
    assert value(found["parameters"], **at) == 1_557_611_200
    assert value(found["peak_activation_bytes"], **at) == peak


def test_decode_is_24_L_d2_4_L_d_n_and_2_d_V():
    total = closed(GPT2).closed_forms["views"]["matmul"]["total"]
    width = H * D
    expected = 24 * L * width**2 + 4 * L * width * (N + 1) + 2 * width * V
    assert sympy.expand(total.subs({B: 1, T: 1}) - expected) == 0


@pytest.mark.parametrize(
    ("scores", "flop"), [("full", 3_506_703_564_800), ("causal", 3_345_799_577_600)]
)
def test_prefill_of_gpt2_xl(scores, flop):
    found = closed(GPT2, scores=scores).at(B=1, T=1024, N=0, **sizes(XL))
    assert found["views"]["matmul"]["total"] == flop


def test_components_add_up_in_every_figure():
    forms = closed(GPT2).closed_forms
    for whole in (*forms["views"].values(), forms["bytes_read"], forms["bytes_written"]):
        for way in {"by_component", "by_category"} & set(whole):
            assert sympy.expand(sum(whole[way].values()) - whole["total"]) == 0
    assert set(forms["bytes_read"]["by_component"]) == set(COMPONENTS)
    assert set(forms["kinds"]) == set(USUAL)


def test_python_text_stands_alone():
    namespace = {}
    exec(closed(GPT2).python(), namespace)
    found = namespace["forward"](B=1, T=1, N=1023, L=48, H=25, D=64, V=50257, C=1024)
    assert found["views"]["matmul"]["total"] == 3_424_515_200


def test_a_path_outside_every_component_is_an_error():
    assert part_of("h.12.attn.c_attn") == "qkv"
    assert part_of("h.0") == "residual"
    with pytest.raises(KeyError):
        part_of("h.0.attn.new_part")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (24 * L * H**2 * D**2 + 2 * H * D * V, "24 L d² + 2 d V"),
        (2 * B * T * (N + T) * H * D * L, "2 B T L d S"),
        (B * T * H * D - 2 * B * T, "B T (d - 2)"),
        (H**2 * D, "H d"),
        (-H, "- H"),
        (sympy.Rational(3, 2) * L / V, "3 L / 2 V"),
        (sympy.Max(H * D, V, evaluate=False), "max(V, d)"),
        (sympy.Integer(0), "0"),
    ],
)
def test_plain(expr, text):
    assert plain(expr) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(3_110_249_600, "3.110 G"), (0.00865, "8.650 m"), (1, "1.000 "), (0, "0 ")],
)
def test_si(number, text):
    assert si(number) == text


def test_what_readable_writes_is_the_same_expression():
    for expr in closed(GPT2).closed_forms["bytes_read"]["by_component"].values():
        front, terms = readable(expr)
        back = (sympy.prod(front) * sum(terms)).subs({d: H * D, S: N + T})
        assert sympy.expand(back - expr) == 0


def test_renderings():
    form = closed(GPT2, scores="causal")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables(form))
    shown = console.export_text()
    assert "causal scores" in shown
    assert all(name in shown for name in (*CONTRACT, "matmul", "exact", "macs", "peak"))
    text = latex(form)
    assert text.count(r"\begin{align*}") == text.count(r"\end{align*}") == 7
    assert r"24 L d^{2}" in text


def test_the_command(capsys):
    run("gpt2-xl", "json", scores="causal", logits="last")
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["scores"], found["logits"]) == ("gpt2-xl", "causal", "last")
    assert found["schema"] == 1


@pytest.mark.parametrize(
    "forms", ["latex python", "json latex", "python json", "json latex python"]
)
def test_one_form_at_a_time(forms):
    asked = [f"--{form}" for form in forms.split()]
    refused = CliRunner().invoke(app, ["formulas", "gpt2", *asked])
    assert isinstance(refused.exception, InputError)
    assert all(option in str(refused.exception) for option in asked)
    assert refused.output == ""


@pytest.mark.parametrize("option", ["scores", "logits", "dtype"])
def test_an_option_that_cannot_be(option):
    with pytest.raises(InputError, match=f"unknown {option} 'some': it is one of"):
        formulas(XL, **{option: "some"})


def test_named(tmp_path):
    assert named("gpt2-xl") is XL
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "gpt2", "n_embd": 8, "n_head": 2}')
    assert named(str(config)).n_embd == 8
    with pytest.raises(InputError):
        named(str(tmp_path / "none.json"))
