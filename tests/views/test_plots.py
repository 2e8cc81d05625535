"""Figures: what is drawn is what was counted, and can be read."""

import json
import re
import sys
import xml.etree.ElementTree as xml
from itertools import combinations

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint, complaint, environment, minigpt
from families import small
from helpers import numbers
from recordings import FAMILIES, recorded
from viewed import cut, ran, written

from counting.views import flops
from minigpt import InputError, load
from minigpt.models.architectures import READERS
from minigpt.planning.accelerators import Accelerator
from minigpt.recording.memory import filled, moments
from minigpt.recording.read import read
from minigpt.views import figures
from minigpt.views.options import FIGURES, ViewOptions
from minigpt.views.plots import DRAWN, STYLE, drawing

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine that need not be measured."""
    cpu = Accelerator("CPU", {"float32/float32": 5e10}, 1e10, 2**34, "said", measured=True)
    monkeypatch.setattr(figures, "this_machine", lambda: cpu)


def drawn(recording, **options):
    """A figure, laid out."""
    with matplotlib.rc_context(STYLE):
        figure = drawing(recording, ViewOptions(**options))
        figure.draw_without_rendering()
    return figure


def text(axes):
    return [axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)]


def model(folder, **values):
    """A model of random numbers, of a config.json with these values."""
    values = {"vocab_size": CONFIG.vocab_size, **values}
    shapes = READERS[values["model_type"]](values, "drawn").shapes()
    make = numbers(0, CONFIG.vocab_size)
    weights = {key: make(shape, np.float32) for key, shape in shapes.items()}
    return load(checkpoint(folder, weights, **values))


@pytest.mark.parametrize("ops", [False, True])
@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_bars_add_up_to_the_flop_that_were_counted(seed, ops, tmp_path):
    run = ran(seed, ops, tmp_path)
    [axes] = drawn(run.recording, figure="layers").axes
    heights = {}
    for bar in axes.patches:
        place = round(bar.get_x() + bar.get_width() / 2)
        assert bar.get_y() == heights.get(place, 0)  # upon those before
        heights[place] = heights.get(place, 0) + int(bar.get_height())
    assert sum(heights.values()) == flops(run.counts)
    layers = run.lm.config.layers
    assert sum(place >= 0 for place in heights) == layers
    for number in range(layers):
        inside = run.counts.where(f"*.{number}"), run.counts.where(f"*.{number}.*")
        paths = {key[0] for part in inside for key in part}
        of = [p for p in paths if re.match(rf"[^\d]*\.{number}(\.|$)", p)]
        rows = [run.counts.where(path) for path in of]
        assert heights[number] == sum(map(flops, rows))


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_the_peak_that_is_marked_is_that_of_the_run(seed, tmp_path):
    run = ran(seed, True, tmp_path)
    [axes] = drawn(run.recording, figure="memory").axes
    levels = [(moment.at, sum(moment.live.values())) for moment in moments(run.recording)]
    high = max(level for _, level in levels)
    [marked] = [line for line in axes.lines if line.get_marker() == "v"]
    weights = run.recording.header["live_bytes"]["weights"]
    assert marked.get_ydata()[0] == high - weights
    assert (marked.get_xdata()[0], high) in levels
    [outline] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert [*outline.get_ydata()[1:]] == [level - weights for _, level in levels]


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_passes_alone_say_at_most_what_the_ledger_says(seed, tmp_path):
    run = ran(seed, False, tmp_path)
    [axes] = drawn(run.recording, figure="memory").axes
    [most] = {y for line in axes.lines if line.get_linestyle() == "--" for y in line.get_ydata()}
    assert most == sum(n for name, n in run.peak.items() if name != "weights")


@pytest.mark.parametrize("seed", range(12))
def test_what_is_filled_is_what_the_cache_says(seed, tmp_path):
    rng = np.random.default_rng(seed)
    family = ("gemma2", "mistral", "gpt2", "deepseek_v3", "gpt_oss", "olmo3")[seed % 6]
    values = {"model_type": family} | small(family)
    lm = model(tmp_path / "model", **values)
    batch, length, new = (int(n) for n in rng.integers(1, (4, 7, 6)))
    prompts = ["".join(rng.choice([*"abcdef"], length)) for _ in range(batch)]
    _, recording = recorded(lm, prompts, tmp_path / "run", max_new_tokens=new)
    cache = lm.model.new_cache(batch, length + new - 1)
    ids = np.array([prompt["tokens"] for prompt in recording.header["prompts"]])
    expected = []
    for one in recording.passes:
        lm.forward(ids, cache)
        expected.append(cache.filled_bytes)
        assert one["live_bytes"]["kv_cache"] == cache.nbytes
        ids = ids[:, -1:]
    assert filled(recording) == expected
    [axes] = drawn(recording, figure="kv").axes
    if any(expected):
        [steps] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        assert [*steps.get_ydata()[1:-1]] == expected


@pytest.mark.parametrize("seed", range(3))
def test_points_of_the_roofline_are_what_was_counted(seed, tmp_path):
    run = ran(seed, False, tmp_path)
    [axes] = drawn(run.recording, figure="roofline").axes
    points = [line for line in axes.lines if line.get_marker() in "os"]
    roof = next(line for line in axes.lines if line not in points)
    assert max(roof.get_ydata()) == 5e10
    phases = [p for p in ("prefill", "decode") if run.recording.counts(p)]
    for point, phase in zip(points, phases, strict=True):
        counts = run.recording.counts(phase)
        moved = sum((*counts.bytes_read.values(), *counts.bytes_written.values()))
        seconds = sum(p["seconds"] for p in run.recording.passes if p["phase"] == phase)
        assert point.get_xdata()[0] == pytest.approx(flops(counts) / moved)
        assert point.get_ydata()[0] == pytest.approx(flops(counts) / seconds)
    [axes] = drawn(run.recording, figure="roofline", gpu="rtx-3060-12gb").axes
    assert text(axes)[0] == "Roofline: RTX 3060 12 GB"
    assert "360 GB/s" in text(axes)
    processor = run.recording.header["machine"]["processor"]
    assert axes.get_legend().get_title().get_text() == f"as it ran on {processor}"


@pytest.mark.parametrize("seed", range(3))
def test_no_roof_is_drawn_of_a_machine_that_the_run_was_not_on(seed, tmp_path, monkeypatch):
    recording = ran(seed, False, tmp_path).recording
    recording.header["machine"]["processor"] = "another"
    monkeypatch.setattr(figures, "this_machine", pytest.fail)
    [axes] = drawn(recording, figure="roofline").axes
    assert "was on another machine" in text(axes)[0]


def adversarial(name, folder):
    """A recording that is hard to draw."""
    if name == "deep":
        lm = model(
            folder / f"a_{'long_' * 20}name_$x_1$", model_type="gpt2", n_layer=48, n_embd=16,
            n_head=2, n_positions=16, eos_token_id=259,
        )  # fmt: skip
        return recorded(lm, ["ab", "cd", "ef"], folder / "run", True, max_new_tokens=1)[1]
    if name == "window":
        values = small("gemma2") | {"max_position_embeddings": 64}
        lm = model(folder / "m", model_type="gemma2", **values)
        return recorded(lm, ["abcdef"], folder / "run", True, max_new_tokens=20)[1]
    if name == "stateful":
        lm = model(folder / "m", model_type="qwen3_next", **small("qwen3_next"))
        return recorded(lm, ["abc"], folder / "run", True, max_new_tokens=4)[1]
    recording = ran(0, name == "large with operations", folder).recording
    lines = map(json.loads, recording.path.read_text().splitlines())
    text = "".join(json.dumps(larger(line)) + "\n" for line in lines)
    recording.path.write_text(text)
    return read(recording.path)


def larger(line, within=False):
    """A line of a run that does, holds and takes a billion times as much."""
    fields = "flops matmul_flops bytes bytes_read bytes_written live_bytes peak_bytes"
    fields += " seconds at start kv_bytes_per_token"
    return {
        key: larger(value, key in fields.split())
        if isinstance(value, dict)
        else value * 10**9
        if within or key in fields.split()
        else value
        for key, value in line.items()
    }


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("deep", "h100"),
        ("window", None),
        ("stateful", None),
        ("large", None),
        ("large with operations", "rtx-3060-12gb"),
    ],
)
def test_no_text_lies_upon_another_or_outside(name, gpu, tmp_path):
    recording = adversarial(name, tmp_path)
    for options in ({}, *({"figure": figure} for figure in FIGURES)):
        figure = drawn(recording, gpu=gpu, **options)
        boxes = [
            (found.get_text(), found.get_window_extent())
            for found in texts(figure)
            if found.get_text()
        ]
        for (one, a), (other, b) in combinations(boxes, 2):
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            along = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across < 1 or along < 1, (one, other)
        width, height = figure.canvas.get_width_height()
        for said, box in boxes:
            assert box.x0 > -1, said
            assert box.x1 < width + 1, said
            assert -1 < box.y0 < box.y1 < height + 1, said


def texts(figure):
    """All that is written in a figure: of ticks, what is within the limits of their axes."""
    yield from figure.texts
    for axes in figure.axes:
        legend = axes.get_legend()
        yield from (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
        yield from (*legend.get_texts(), legend.get_title()) if legend else ()
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            labels = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            yield from (label for at, label in labels if low <= at <= high)


def test_formats_are_what_their_endings_say(tmp_path):
    from matplotlib.image import imread

    recording = ran(1, True, tmp_path).recording
    assert imread(written(recording, ".png")).shape == (1500, 2200, 4)
    assert imread(written(recording, ".png", figure="kv")).shape == (750, 1100, 4)
    root = xml.parse(written(recording, ".svg")).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    pdf = written(recording, ".pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # the font comes along, as TrueType
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("seed", range(2))
def test_what_a_cut_run_does_not_say_is_not_drawn(seed, tmp_path):
    whole = ran(seed, False, tmp_path).recording
    part = read(cut(whole, 2))
    [axes] = drawn(part, figure="layers").axes
    assert "the run did not end" in text(axes)[1]
    nothing = read(cut(whole, 1))
    with pytest.raises(InputError, match="no pass has ended"):
        written(nothing, ".png")


def test_figures_are_known_by_name(tmp_path):
    assert tuple(DRAWN) == FIGURES
    with pytest.raises(InputError, match="unknown figure 'pie': it is one of memory, layers"):
        ViewOptions(figure="pie")


def test_without_the_package_a_line_says_how_to_have_it(tmp_path, monkeypatch):
    recording = ran(0, False, tmp_path).recording
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"\.svg needs matplotlib: pip install -e '.\[views\]'"):
        written(recording, ".svg")


def test_a_backend_that_is_not_known_is_said_in_a_line(tmp_path):
    recording = ran(0, False, tmp_path).recording
    env = environment(MPLBACKEND="nosuch")
    result = minigpt("report", recording.path, "--to", "o.svg", cwd=tmp_path, env=env)
    assert "matplotlib refuses MPLBACKEND" in complaint(result)
    assert not (tmp_path / "o.svg").exists()
