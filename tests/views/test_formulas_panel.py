"""Published formulas over the length of the context: each line has a witness."""

import copy
import json
import random
import xml.etree.ElementTree as xml

import pytest
import vl_convert

from minigpt.commands.count import document
from minigpt.models.architectures import PRESETS
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.views.formulas_panel import formulas_panel

MODELS = ("llama-3.2-1b", "gpt2-xl")  # in the order of the charts
BOTH = pytest.mark.parametrize("chart", [0, 1])


@pytest.fixture(scope="module")
def panel():
    return formulas_panel(MODELS[0], PRESETS[MODELS[0]])


def some(panel, chart, formula):
    """Points drawn of those of a formula, which it begins with."""
    rows = panel.charts[chart]["data"]["values"]
    return random.Random(chart).sample([r for r in rows if r["formula"].startswith(formula)], 5)


def executed(chart, sizes):
    return document(count(MODELS[chart], sizes))["matmul_flops"]


@BOTH
def test_a_decoded_token_takes_what_count_says(panel, chart):
    for point in some(panel, chart, "kipply, latency calculations: 2P FLOP"):
        assert point["execution"] == executed(chart, Pass(1, point["n"] - 1))


@BOTH
def test_a_token_of_a_sequence_takes_its_mean(panel, chart):
    for point in some(panel, chart, "Megatron, appendix: forward pass"):
        n = point["n"]
        assert point["execution"] == pytest.approx(executed(chart, Pass(n)) / n, rel=1e-15)
    for point in some(panel, chart, "Transformer Math, compute: 6P a token (training)"):
        n = point["n"]
        assert point["execution"] == pytest.approx(3 * executed(chart, Pass(n)) / n, rel=1e-15)


@BOTH
def test_what_is_published_is_drawn_as_it_is_written(panel, chart):
    config = PRESETS[MODELS[chart]]
    L, d, V = config.layers, config.width, config.vocab_size
    for point in some(panel, chart, "kipply, latency calculations: 2P FLOP"):
        assert point["published"] == 2 * config.parameters
    for point in some(panel, chart, "article, headline"):
        assert point["published"] == 24 * L * d**2 + 2 * V * d**2
    for point in some(panel, chart, "Megatron, appendix: forward pass"):
        assert point["published"] == 24 * L * d**2 + 4 * L * point["n"] * d + 2 * d * V


@BOTH
def test_the_term_that_is_missing_is_named_at_the_gap(panel, chart):
    missing = ("missing 4 L H D n: scores and values", "missing 4 L d n: scores and values")
    assert missing[chart] in " ".join(shown(panel, chart, "kipply, latency calculations: 2P FLOP"))
    assert "one factor d too many" in " ".join(shown(panel, chart, "article, headline and eq. 9"))


@BOTH
def test_each_formula_can_be_chosen(panel, chart):
    formulas = panel.charts[chart]["params"][0]["bind"]["options"]
    for formula in random.Random(chart).sample(formulas, 6):
        lines = shown(panel, chart, formula)
        assert " % at 1, " in lines[0]
        assert lines[0].split(" % ")[0] in panel.tables
        assert formula.partition(" (")[0].split(":")[0] in panel.tables


def test_a_model_without_closed_forms_is_named():
    name = "qwen3-next-80b-a3b"
    panel = formulas_panel(name, PRESETS[name])
    assert "qwen3_next" in panel.html
    assert [chart["title"] for chart in panel.charts] == ["gpt2-xl"]


def shown(panel, chart, formula):
    """The lines at the gap of a formula that is chosen."""
    spec = copy.deepcopy(panel.charts[chart]) | {"width": 340}
    spec["params"][0]["value"] = formula
    svg = xml.fromstring(vl_convert.vegalite_to_svg(json.loads(json.dumps(spec))))
    [mark] = [mark for mark in svg.iter() if " % at 1, " in mark.get("aria-label", "")]
    return mark.get("aria-label").split("\n")
