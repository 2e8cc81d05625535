"""The sliders without a browser: the numbers of the chart are those of `count` and `plan`."""

import copy
import json
import xml.etree.ElementTree as xml

import pytest
import vl_convert
from sliders import OWN, drawn, said, specification

from minigpt.models.architectures import PRESETS
from minigpt.models.decoder_config import RoutedExperts
from minigpt.models.routing import expected_experts
from minigpt.views import whatif_chart
from minigpt.views.whatif import OFFERED, whatif


@pytest.fixture(scope="module")
def sliders():
    return specification()


def shown(spec, chosen):
    """What a chart says where the inputs have these values: its numbers by their names."""
    spec = copy.deepcopy(spec) | {"width": 360}
    for param in spec["params"]:
        param["value" if "bind" in param else "_"] = chosen.get(param["name"], param.get("value"))
        param.pop("_", None)
    svg = xml.fromstring(vl_convert.vegalite_to_svg(json.loads(json.dumps(spec))))
    marks = [mark for mark in svg.iter() if ": " in mark.get("aria-label", "")]
    found = {mark.get("aria-label").split(": ")[0]: mark.text for mark in marks}
    assert all(mark.get("aria-label").endswith(f": {mark.text}") for mark in marks)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_numbers_are_those_of_count_and_plan(sliders, seed):
    chosen = drawn(seed, sliders)
    assert shown(sliders, chosen) == said(chosen), chosen


@pytest.mark.parametrize("model", [OWN, *OFFERED])
def test_the_first_token_and_the_whole_context_are_too(sliders, model):
    first = drawn(7, sliders) | {"model": model}
    for context in (0, 30):
        chosen = first | {"context": context}
        assert shown(sliders, chosen) == said(chosen), chosen


def test_they_stand_first_at_the_run(sliders):
    found = shown(sliders, {})
    assert (found["context, tokens"], found["batch, sequences"]) == ("2,048", "1")
    assert found == said(first(sliders))


def first(spec):
    return {param["name"]: param["value"] for param in spec["params"] if "bind" in param}


def test_a_gpu_without_a_rate_for_a_type_says_so(sliders):
    found = shown(sliders, {"gpu": "t4", "dtype": "bfloat16"})
    timed = ("at least", "about", "bound by, about", "tokens/s at most", "tokens/s about")
    assert {found[name] for name in timed} == {"no rate for bfloat16"}
    assert found["KV cache"] == shown(sliders, {"gpu": "l4", "dtype": "bfloat16"})["KV cache"]


def test_a_model_without_closed_forms_is_left_out_and_named():
    name = "qwen3-next-80b-a3b"
    panel = whatif(name, PRESETS[name], context=64)
    assert "qwen3_next" in panel.html
    models = next(param for param in panel.charts[0]["params"] if param["name"] == "model")
    assert (models["value"], models["bind"]["options"]) == (OFFERED[0], [*OFFERED])


def test_a_model_whose_figures_no_page_shows_exactly_is_left_out_and_named():
    huge = PRESETS["llama-3.1-405b"].but(num_hidden_layers=126 * 50)
    panel = whatif("huge", huge, context=64)
    assert "huge, whose flops may exceed 2**53" in panel.html


CORNERS = {  # what draws seldom meet: parts that are no whole bytes, what may fit
    "yes": {"weights": "int4"},
    "may fit": {"model": "gpt2-xl", "gpu": "rtx-4060", "batch": 13},
    "no": {"model": "llama-3.1-8b", "gpu": "t4", "dtype": "float16"},
}


@pytest.mark.parametrize("fits", CORNERS)
def test_corners_are_too(sliders, fits):
    chosen = first(sliders) | CORNERS[fits]
    assert shown(sliders, chosen) == said(chosen)
    assert said(chosen)["fits"] == fits


@pytest.mark.parametrize("context", [0, 1, 5, 12])
def test_keys_of_latents_are_made_or_kept_whatever_is_faster(context):
    model = "deepseek-v2-lite"
    [spec] = whatif(model, PRESETS[model], context=1, batch=256).charts
    chosen = first(spec) | {"context": context, "weights": "int4"}
    assert shown(spec, chosen) == said(chosen)


@pytest.mark.parametrize(("E", "k"), [(8, 2), (24, 6), (32, 4), (60, 4), (128, 8), (256, 8)])
def test_experts_met_are_rounded_as_python_rounds(E, k):
    letters = whatif_chart.LETTERS
    of_each = f"({letters['met_B'].replace(', B)', ', datum.B)')})"
    models = {"name": "models", "value": {"one": {"experts": E, "met": k}}}
    known = {name: letters[name] for name in ("routed", "chosen")}
    spec = {
        "params": [models, {"name": "model", "value": "one"}]
        + [{"name": name, "expr": made} for name, made in known.items()],
        "data": {"sequence": {"start": 1, "stop": 257, "as": "B"}},
        "transform": [
            {"calculate": letters["U"].replace("met_B", of_each), "as": "U"},
            {"calculate": "datum.B + '=' + datum.U", "as": "text"},
        ],
        "mark": "text",
        "encoding": {"text": {"field": "text"}},
    }
    svg = xml.fromstring(vl_convert.vegalite_to_svg(json.loads(json.dumps(spec))))
    found = {mark.text for mark in svg.iter() if mark.text and "=" in mark.text}
    experts = RoutedExperts(E, k, 1, 1)
    assert found == {f"{B}={round(expected_experts(experts, B))}" for B in range(1, 257)}
