"""The page about a run: it fetches nothing, says what the recording says, and escapes the rest."""

import hashlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pages
import pytest
from checkpoints import checkpoint
from recordings import FAMILIES, drawn, recorded

from minigpt import load
from minigpt.planning.accelerators import GPUS
from minigpt.planning.hardware import processor_name, processors
from minigpt.recording.memory import moments
from minigpt.recording.read import read
from minigpt.views import page as module
from minigpt.views.charts import APART, counted, spread, spread_log
from minigpt.views.high import Level, thinned
from minigpt.views.options import ViewOptions
from minigpt.views.page import embedded, page, write
from minigpt.views.roof import recorded_here

GPU = GPUS["rtx-3060-12gb"]
PANELS = ("tokens", "components", "memory", "cache", "roofline", "what-if", "formulas")
VEGA = Path(module.__file__).parent / "vega"
DIGEST = "3425bd951a44d478d0505c6b5d1e8d57656b6e9a4da7bfe88a718ce61d76e572"


@pytest.fixture(scope="module", params=range(2 * len(FAMILIES)))
def run(request, tmp_path_factory):
    """The recording of a drawn run, with and without its operations."""
    seed = request.param
    folder = tmp_path_factory.mktemp("run")
    lm, prompts, new = drawn(seed, folder)
    ops = seed >= len(FAMILIES)
    _, found = recorded(lm, prompts, folder / "run.jsonl", ops, max_new_tokens=new)
    return found


@pytest.fixture(scope="module")
def document(run):
    """The page about it."""
    return pages.read(page(run, GPU))


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory):
    """A run of two sequences, its operations recorded."""
    folder = tmp_path_factory.mktemp("batch")
    lm, _, _ = drawn(1, folder)
    return recorded(lm, ["abc", "cab"], folder / "run.jsonl", True, max_new_tokens=3)[1]


def total(recording, name):
    return sum(sum(row[name].values()) for row in recording.rows)


def amounts(recording):
    """FLOP, and bytes read and written, by the rows of a recording."""
    moved = total(recording, "bytes_read") + total(recording, "bytes_written")
    return sum(row["flops"] for row in recording.rows), moved


def test_nothing_is_fetched_and_all_is_whole(run):
    text = page(run, GPU)
    assert len(text.encode()) < 2_000_000
    document = pages.read(text)
    assert [section.attributes["id"] for section in document.all("section")] == [*PANELS]
    for element in document.all():
        assert element.tag not in ("link", "img", "iframe", "object", "base")
        assert "src" not in element.attributes
        assert element.attributes.get("href", "#").startswith("#")
    [style] = document.all("style")
    assert not re.search(r"@import|url\(", style.text)
    [policy] = (meta for meta in document.all("meta") if "http-equiv" in meta.attributes)
    assert policy.attributes["content"].startswith("default-src 'none'; ")
    names = [element.attributes["id"] for element in document.all() if "id" in element.attributes]
    assert len(set(names)) == len(names)


def test_the_parts_add_up_to_the_rows_of_the_recording(run, document):
    [section] = document.all("section", id="components")
    wholes = [[*details.rows()][1] for details in section.all("details")]
    for chart, whole, amount in zip(
        pages.charts(document, "components"), wholes, amounts(run), strict=True
    ):
        parts = chart["data"]["values"]
        leaves = [part for part in parts if part["operation"]]
        assert sum(int(leaf["amount"]) for leaf in leaves) == amount
        columns = {part["column"] for part in parts}
        assert sum(int(part["amount"]) for part in parts if part["column"] == 0) == amount
        assert columns == {*range(max(columns) + 1)}
        for part in parts:
            height = part["end"] - part["start"]
            assert math.isclose(height, int(part["amount"]) / amount, abs_tol=1e-12)
        assert whole[:3] == ["the run", f"{amount:,}", "100.00%"]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_phase_takes_what_its_passes_did(run, document, phase):
    passes = [one for one in run.passes if one["phase"] == phase]
    flop, _ = pages.charts(document, "components")
    drawn = [part for part in flop["data"]["values"] if part["path"] == phase]
    assert sum(int(part["amount"]) for part in drawn) == sum(one["flops"] for one in passes)


def test_each_token_has_its_record(run, document):
    spans = [one for one in document.all("span") if one.attributes.get("class", "")[:1] == "t"]
    batch = len(run.header["prompts"])
    given = sum(len(prompt["tokens"]) for prompt in run.header["prompts"])
    assert len(spans) == given + len(run.tokens)
    assert all(span.attributes["tabindex"] == "0" for span in spans)
    came = [span for span in spans if "decode, " in span.attributes["aria-description"]]
    decoded = [one for one in run.tokens if one["phase"] == "decode"]
    assert len(came) == len(decoded)
    decoded.sort(key=lambda one: one["sequence"])  # the page tells one sequence after another
    for span, one in zip(came, decoded, strict=True):
        said = span.attributes["aria-description"]
        assert f"token {one['token']} at position {one['position']}" in said
        assert f"{one['flops']:,} FLOP, {one['matmul_flops']:,} by 2mnp" in said
        assert f"{one['kv_bytes_per_token']:,} B of KV cache a token" in said
        shades = re.findall(r"--(\w+):([\d.]+)", span.attributes["style"])
        assert [name for name, _ in shades] == ["FLOP", "bytes", "seconds"]
        assert all(0 <= float(shade) <= 1 for _, shade in shades)
    dearest = max(run.passes, key=lambda one: one["flops"] / one["new_tokens"])
    if len({one["flops"] / one["new_tokens"] for one in run.passes}) > 1:
        shaded = [span for span in spans if "--FLOP:1.000" in span.attributes["style"]]
        n = batch * (1 if dearest["phase"] == "decode" else 1 + dearest["new_tokens"])
        assert len(shaded) == n


def test_memory_is_that_of_the_recording_and_its_peak_is_exact(run, document):
    by_token, *by_operation = pages.charts(document, "memory")
    lines = {}
    for value in by_token["data"]["values"]:
        lines.setdefault(value["line"], []).append(value["bytes"])
    for name in run.tokens[-1]["live_bytes"]:
        live = [one["live_bytes"][name] for one in run.passes]
        assert lines.get(name, [0] * len(live)) == live
    assert lines["activations at the peak so far"][-1] == run.end["peak_bytes"]["activations"]
    assert len(by_operation) == (min(2, len(run.passes)) if run.operations else 0)
    if by_operation:
        highest = max(value["bytes"] for one in by_operation for value in one["data"]["values"])
        assert highest == run.end["peak_bytes"]["activations"]
        [section] = document.all("section", id="memory")
        total = max(sum(one.live.values()) for one in moments(run) if one.line["pass"] is not None)
        assert f"{total:,} B" in next(section.all("b")).text


def test_of_many_levels_the_highest_and_the_lowest_are_kept():
    rng = np.random.default_rng(18)
    for _ in range(50):
        heights = rng.integers(1, 1000, int(rng.integers(1, 400))).tolist()
        levels = [Level({"number": n}, {"a": height}) for n, height in enumerate(heights)]
        most = int(rng.integers(2, 100))
        kept, n = thinned(levels, most)
        assert len(kept) <= most or n == 1
        assert {one.total for one in kept} >= {max(heights), min(heights)}
        numbers = [one.operation["number"] for one in kept]
        assert numbers == sorted({*numbers})
        for start in range(0, len(heights), n):
            few = heights[start : start + n]
            there = [
                level.total for level in kept if start <= level.operation["number"] < start + n
            ]
            assert {max(few), min(few)} == {max(there), min(there)}


def test_the_cache_is_full_when_all_positions_are_used(run, document):
    if not run.tokens[-1]["live_bytes"]["kv_cache"]:
        pytest.skip("no layer of this model keeps keys")
    [chart] = pages.charts(document, "cache")
    values = chart["data"]["values"]
    assert [value["reserved"] for value in values] == [
        one["live_bytes"]["kv_cache"] for one in run.passes
    ]
    assert values[-1]["keys"] == run.header["context"]
    assert values[-1]["filled"] == values[-1]["reserved"]
    if "sliding_window" not in run.header["config"]:  # else what is written overwrites
        written = np.cumsum([one["bytes_written"]["kv_cache"] for one in run.passes])
        assert [value["filled"] for value in values] == written.tolist()


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float16"])
def test_a_cache_of_any_dtype_is_filled_by_what_is_written(dtype, tmp_path):
    lm = load(checkpoint(tmp_path / "model"), dtype=dtype)
    _, found = recorded(lm, ["abc", "cab"], tmp_path / "run.jsonl", max_new_tokens=5)
    [chart] = pages.charts(pages.read(page(found, GPU)), "cache")
    written = np.cumsum([one["bytes_written"]["kv_cache"] for one in found.passes])
    assert [value["filled"] for value in chart["data"]["values"]] == written.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_ticks_of_what_is_counted_are_whole_and_few(seed):
    rng = np.random.default_rng(seed)
    low = int(rng.integers(0, 10 ** int(rng.integers(1, 6))))
    high = low + int(rng.integers(0, 10 ** int(rng.integers(1, 6))))
    ticks = counted("", low - 0.5, high + 0.5)["axis"]["values"]
    assert all(type(tick) is int and low <= tick <= high for tick in ticks)
    assert len(ticks) <= 16
    assert len(ticks) >= min(2, high - low + 1) or high - low < 3
    assert len({*np.diff(ticks)}) <= 1


def test_the_roofline_has_the_points_of_the_run_and_of_the_roof(run):
    cpu = GPU._replace(name="CPU", flops={"float32/float32": 3e10}, bandwidth=2e10, measured=True)
    [chart] = pages.charts(pages.read(page(run, GPU, cpu)), "roofline")
    points = chart["layer"][1]["data"]["values"]
    for phase in ("prefill", "decode"):
        of = [one for one in run.passes if one["phase"] == phase]
        if not of:
            continue
        measured, best = (point for point in points if point["text"].startswith(phase))
        flop = sum(one["flops"] for one in of)
        moved = sum(sum(one[way].values()) for one in of for way in ("bytes_read", "bytes_written"))
        assert measured["intensity"] == best["intensity"] == flop / moved
        assert measured["speed"] == flop / sum(one["seconds"] for one in of)
        assert best["speed"] == min(12.74e12, 360e9 * (flop / moved))
    lines = {(line["roof"], line["intensity"]): line["speed"] for line in chart["data"]["values"]}
    assert lines["CPU", 1.5] == 3e10
    assert max(speed for (roof, _), speed in lines.items() if roof == GPU.name) == 12.74e12


def test_the_roof_of_this_machine_is_that_of_runs_on_it_alone(run_of_two):
    assert recorded_here(run_of_two)
    other = {"processor": processor_name() + "?"}, {"cores": len(processors()) + 1}
    for machine in other:
        header = run_of_two.header | {"machine": run_of_two.header["machine"] | machine}
        assert not recorded_here(replace(run_of_two, header=header))
    assert not recorded_here(replace(run_of_two, header=run_of_two.header | {"device": "cuda"}))


def test_a_page_is_written_of_a_model_of_any_name(run_of_two, tmp_path):
    header = run_of_two.header | {"model": "odd\udcff_\u6a21", "device": "cuda"}
    write(replace(run_of_two, header=header), tmp_path / "report.html", ViewOptions())
    [heading] = pages.read((tmp_path / "report.html").read_text(encoding="utf-8")).all("h1")
    assert heading.text.startswith("odd?_\u6a21: ")


def test_a_page_is_written_of_a_recording(run_of_two, tmp_path, monkeypatch):
    cpu = GPU._replace(name="here and now", measured=True)
    monkeypatch.setattr(module, "this_cpu", lambda: cpu)
    write(run_of_two, tmp_path / "report.html", ViewOptions(gpu="h100"))
    text = (tmp_path / "report.html").read_text()
    assert "The roof of here and now, memory at 360 GB/s, is measured, when this page was" in text
    assert f"The roof of the {GPUS['h100'].name}" in text
    header = run_of_two.header | {"machine": run_of_two.header["machine"] | {"cores": 999}}
    write(replace(run_of_two, header=header), tmp_path / "report.html", ViewOptions())
    text = (tmp_path / "report.html").read_text()
    assert "here and now" not in text
    assert "No roof is drawn" in text
    write(run_of_two, tmp_path / "report.html", ViewOptions(gpu="cpu"))
    assert (tmp_path / "report.html").read_text().count("The roof of") == 1


HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"\'`&quot; onfocus=alert(1) x="',
    "\u2028\u2029\x00\x1b[31m\ufeff",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- <script>",
    "]]>&#x3c;",
    "\n\t \u202eevil\u202c",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_texts_of_a_model_are_texts(run_of_two, hostile):
    plain = page(run_of_two, GPU)
    prompts = [
        prompt | {"text": hostile, "pieces": [hostile] * len(prompt["tokens"])}
        for prompt in run_of_two.header["prompts"]
    ]
    header = run_of_two.header | {"model": hostile, "prompts": prompts, "dtype": "float32"}
    header["machine"] = run_of_two.header["machine"] | {"processor": hostile}
    header["config"] = run_of_two.header["config"] | {hostile: hostile}
    changed = replace(
        run_of_two,
        header=header,
        events=[one | {"text": hostile, "path": hostile} for one in run_of_two.events],
        rows=[one | {"path": hostile} for one in run_of_two.rows],
        notes=(hostile,),
    )
    told, before = pages.read(page(changed, GPU)), pages.read(plain)

    def shape(document):
        return [
            (element.tag, sorted(element.attributes))
            for element in document.all()
            if element.tag in ("script", "img", "style", "span", "section", "figure", "b", "p")
        ]

    notes = [("p", ["class", "role"])]
    assert sorted(shape(told), key=str) == sorted(shape(before) + notes, key=str)
    [heading] = told.all("h1")
    assert heading.text == f"{hostile}: {len(run_of_two.tokens)} tokens"
    spans = [one for one in told.all("span") if one.attributes.get("class", "")[:1] == "t"]
    assert {span.text for span in spans} == {hostile.replace("\n", "\u21b5\n")}
    names = {part["path"] for part in pages.charts(told, "components")[0]["data"]["values"]}
    assert any(hostile.split(".")[-1] in name for name in names)


def test_integers_that_are_no_numbers_of_javascript_are_strings():
    rng = np.random.default_rng(18)
    for _ in range(100):
        n = int(rng.integers(2**53 - 3, 2**53 + 4))
        [told] = json.loads(embedded([{"n": (n, -n)}]))
        for value, exact in zip(told["n"], (n, -n), strict=True):
            assert int(value) == exact
            assert isinstance(value, str) == (n > 2**53)
    assert json.loads(embedded({"a": "</script>&\u2028"})) == {"a": "</script>&\u2028"}
    assert embedded("</script><!--&\u2028").isascii()
    assert not set(embedded("</script><!--&\u2028")) & {*"<>&"}


def test_sums_that_are_no_numbers_of_javascript_are_exact(run_of_two):
    times = 10**15 + 1
    rows = [
        row
        | {"kinds": {kind: times * n for kind, n in row["kinds"].items()}}
        | {way: {name: times * n for name, n in row[way].items()} for way in WAYS}
        for row in run_of_two.rows
    ]
    document = pages.read(page(replace(run_of_two, rows=rows)))
    for chart, amount in zip(
        pages.charts(document, "components"), amounts(run_of_two), strict=True
    ):
        leaves = [part["amount"] for part in chart["data"]["values"] if part["operation"]]
        assert sum(map(int, leaves)) == times * amount
        assert any(isinstance(leaf, str) for leaf in leaves)


WAYS = ("bytes_read", "bytes_written")


def test_a_recording_that_was_cut_is_shown_as_far_as_it_goes(run, tmp_path):
    lines = run.path.read_text().splitlines(keepends=True)
    rng = np.random.default_rng(len(lines))
    for kept in {1, 2, *rng.integers(2, len(lines), 2).tolist()}:
        cut = tmp_path / "cut.jsonl"
        cut.write_text("".join(lines[:kept]) + lines[-1][: len(lines[-1]) // 2] * (kept > 1))
        found = read(cut)
        document = pages.read(page(found, GPU))
        notes = [one.text for one in document.all("p", role="note")]
        assert notes == [*found.notes] != []
        assert len([*document.all("section")]) == len(PANELS)


def test_a_long_run_is_shown_in_part_and_says_so(run_of_two):
    last, first = run_of_two.tokens[-1], len(run_of_two.passes)
    more = [
        last
        | {"pass": number, "sequence": sequence, "position": last["position"] + number}
        | {"keys": last["keys"] + number, "freed": [], "text": " incomprehensible"}
        for number in range(first, 5000)
        for sequence in range(2)
    ]
    prefill = [one for one in run_of_two.operations if one["pass"] in (None, 0)]
    number = max(one["number"] for one in run_of_two.operations)
    passing = [
        one
        | {"number": number + n, "pass": 1, "path": "model.layers.100.mlp.experts.1000.gate_proj"}
        | {"bytes": 1, "category": "activations", "freed": [number + n - 1] if n > 1 else []}
        for n, one in enumerate(prefill[-1:] * 9000, start=1)
    ]
    header = run_of_two.header | {"context": 9999}
    header["config"] = header["config"] | {"max_position_embeddings": 9999}
    tokens = [one | {"freed": []} for one in run_of_two.tokens] + more
    events = prefill + tokens[:2] + passing + tokens[2:]
    long = replace(run_of_two, header=header, events=events)
    text = page(long, GPU)
    assert len(text.encode()) < 2_000_000
    document = pages.read(text)
    said = [one.text for kind in ("summary", "figcaption") for one in document.all(kind)]
    by_token, _, by_operation = pages.charts(document, "memory")
    assert "Live memory by category, after each pass, of every 21 passes one" in said
    positions = {value["position"] for value in by_token["data"]["values"]}
    assert len(positions) <= 250
    assert {tokens[0]["position"], tokens[-1]["position"]} <= positions
    assert any("of every 45 operations the highest and the lowest" in line for line in said)
    assert len(by_operation["data"]["values"]) <= 400
    [left_out] = (line for line in said if line.startswith("The records as a table, without"))
    assert f"{len(tokens) - 400:,} in the middle" in left_out
    gaps = [one for one in document.all("span") if one.attributes.get("class") == "gap"]
    assert len(gaps) == 2


def test_texts_beside_one_another_are_apart():
    rng = np.random.default_rng(18)
    for _ in range(200):
        n = int(rng.integers(1, 12))
        places, most = rng.uniform(0, 300, n).tolist(), 300.0
        found = spread(places, most)
        ordered = sorted(found)
        assert min(ordered) >= -1e-9
        assert max(ordered) <= most
        gaps = np.diff(ordered)
        assert (gaps >= APART - 1e-9).all()
        assert np.argsort(found).tolist() == np.argsort(places).tolist()
        if n == 1:
            assert found == places


def test_texts_on_a_logarithmic_axis_stand_where_they_were_told_to():
    [place] = spread_log([100.0], 1, 1e4, 400, [20])
    assert math.isclose(place, 10**2.2)


def test_vega_is_the_one_that_was_taken_with_the_licences_of_what_is_in_it():
    assert hashlib.sha256((VEGA / "vega.js").read_bytes()).hexdigest() == DIGEST
    licence = (VEGA / "LICENSE").read_text(encoding="utf-8")
    for name in ("vega", "vega-lite", "vega-embed", "vega-tooltip", "d3-array", "topojson-client"):
        assert re.search(rf"(^|, ){name} \d+\.", licence, re.M)
    assert licence.count("Redistributions in binary form must reproduce") >= 3
