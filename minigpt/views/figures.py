"""What figures show: each function draws one matter of a recording on axes of matplotlib."""

from collections import Counter
from dataclasses import replace
from functools import cache
from textwrap import fill
from typing import Any, NamedTuple

from counting.table import si
from minigpt.models.paths import component, layer_number
from minigpt.planning.accelerators import BITS
from minigpt.planning.hardware import find, this_cpu
from minigpt.recording.memory import filled, moments, reserved
from minigpt.recording.read import Recording
from minigpt.views.options import ViewOptions
from minigpt.views.roof import Roof, phases, recorded_here

# The colours of Okabe and Ito, which the colour-blind tell apart, and hatches for those in grey.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, "#D55E00", "#56B4E9", PINK, "#F0E442")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")


this_machine = cache(this_cpu)  # several figures of one command have the same roof


class Look(NamedTuple):
    """How a category is drawn."""

    name: str
    colour: str
    hatch: str


LOOKS = {
    "weights": Look("weights", BLUE, ""),
    "kv_cache": Look("KV cache", ORANGE, "////"),
    "state": Look("state", PINK, "xxxx"),
    "activations": Look("activations", GREEN, "...."),
    "wire": Look("wire", COLOURS[3], "++++"),
}


def memory(axes: Any, recording: Recording, options: ViewOptions) -> None:
    """Live bytes over time, category upon category; weights that stay as they are only in words."""
    times, levels, alive = _levels(recording)
    weights = alive["weights"]
    still = min(weights) == max(weights)
    names = [
        name for name in LOOKS if any(alive.get(name, ())) and not (still and name == "weights")
    ]
    # Of operations what is alive from then on; of passes alone what is so at their ends.
    where = "post" if recording.operations else "pre"
    below, labels = [0] * len(times), []
    for name in names:
        look = LOOKS[name]
        top = [a + b for a, b in zip(below, alive[name], strict=True)]
        style = {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": "white"}
        # Thousands of steps are a picture within the drawing, or it would be as many shapes.
        axes.fill_between(times, below, top, step=where, linewidth=0, rasterized=True, **style)
        labels.append(((below[-1] + top[-1]) / 2, f"{look.name} {si(alive[name][-1])}B"))
        below = top
    axes.step(times, below, "k", where=where, linewidth=0.5, rasterized=True)
    title = "Memory over time" + (f", beside {si(weights[0])}B of weights" if still else "")
    high = max(levels)
    at = times[levels.index(high)]
    drawn = high - (weights[0] if still else 0)
    if recording.operations:
        axes.plot(at, drawn, "kv", markersize=5, clip_on=False)
        said = f"peak {si(high)}B" + (" with the weights" if still else "")
        late = at > (times[0] + times[-1]) / 2
        _annotate(axes, said, (at, drawn), (0, 5), "right" if late else "left", "bottom")
    else:  # each category's own peak is known, which need not be at one time
        drawn = sum(recording.passes[-1]["peak_bytes"][name] for name in names)
        axes.axhline(drawn, color="black", linestyle="--", linewidth=1)
        said = f"within passes at most {si(drawn)}B"
        _annotate(axes, said, (times[0], drawn), (2, 3), "left", "bottom")
    _finish(axes, title, ("time", "s"), ("alive", "B"))
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(0, 1.15 * drawn or 1)
    _beside(axes, labels)


def _levels(recording: Recording) -> tuple[list[float], list[int], dict[str, list[int]]]:
    """Times from the start of the run on, bytes alive then, and of each category."""
    header = recording.header["live_bytes"]
    times, totals = [0.0], [sum(header.values())]
    alive = {name: [n] for name, n in header.items()}
    if recording.operations:
        found = ((moment.at, moment.live) for moment in moments(recording))
    else:
        found = ((one["at"], one["live_bytes"]) for one in recording.passes)
    for at, live in found:
        times.append(at)
        totals.append(sum(live.values()))
        for name, n in live.items():
            alive[name].append(n)
    return times, totals, alive


def layers(axes: Any, recording: Recording, options: ViewOptions) -> None:
    """FLOP of each layer by component; of what is in no layer, in a bar of its own."""
    bars = by_layer(recording)
    if not bars:
        _nothing(axes, "Arithmetic by layer", "not known: the run did not end")
        return
    outside = bars.pop(-1, Counter())
    components = sum(bars.values(), Counter[str]())
    shown = [name for name, _ in components.most_common(len(COLOURS))]
    below = Counter[int]()
    for name, colour, hatch in zip(shown, COLOURS, HATCHES, strict=False):
        heights = {layer: bar[name] for layer, bar in bars.items()}
        _bars(axes, heights, below, label=name, facecolor=colour, hatch=hatch)
    if rest := components.keys() - {*shown}:
        heights = {layer: sum(bar[name] for name in rest) for layer, bar in bars.items()}
        _bars(axes, heights, below, label=f"{len(rest)} others", facecolor="0.7")
    wide = -(-len(bars) // 16)
    left = -wide - len(bars) // 12 - 1
    names = [name for name, n in outside.most_common() if n]
    said = "\n".join(names[:3]) + ("…" if len(names) > 3 else "")
    if names:
        _bars(axes, {left: outside.total()}, below, wide, label=said, facecolor="0.3")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1, 1))
    every = -(-len(bars) // 12)
    numbers = [*range(0, len(bars), every)]
    axes.set_xticks([left] * bool(names) + numbers, ["outside"] * bool(names) + numbers)
    total = components.total() + outside.total()
    _finish(axes, f"Arithmetic by layer: {si(total)}FLOP", ("layer", None), (None, "FLOP"))


def by_layer(recording: Recording) -> dict[int, Counter[str]]:
    """FLOP by the number of the layer, -1 outside of all, and by component."""
    bars: dict[int, Counter[str]] = {}
    for line in recording.rows or recording.operations:
        number = layer_number(line["path"])
        bar = bars.setdefault(-1 if number is None else number, Counter())
        bar[component(line["path"])] += line["flops"]
    return bars


def _bars(axes: Any, heights: dict[int, int], below: Any, wide: float = 0.8, **style: Any) -> None:
    """Bars on what is below them, of which it becomes a part."""
    bottoms = [below[at] for at in heights]
    edge = {"edgecolor": "white", "linewidth": 0.3}
    axes.bar([*heights], [*heights.values()], wide, bottoms, **edge, **style)
    below.update(heights)


def roofline(axes: Any, recording: Recording, options: ViewOptions) -> None:
    """FLOP a byte and FLOP a second of prefill and decode, below what hardware allows.

    That is of `options.gpu`, or else of this machine, measured now, if the run was on it.
    """
    roof, why = _roof(recording, options.gpu)
    points = phases(recording)
    xs, ys = [point.intensity for point in points], [point.speed for point in points]
    if roof:
        xs, ys = [*xs, roof.ridge], [*ys, roof.rate]
    left, right, high = min(xs) / 20, max(xs) * 20, max(ys) * 8
    low = min(ys) * (min(ys) / high) ** 0.4  # below the points there is room for words
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    if roof:
        ridge = roof.ridge
        axes.plot([left, ridge, right], [left * roof.bandwidth, roof.rate, roof.rate], "k")
        said = f"{si(roof.rate)}FLOP/s, {roof.kind}"
        _annotate(axes, said, (right, roof.rate), (0, 3), "right", "bottom")
        middle = (max(left, low / roof.bandwidth) * ridge) ** 0.5
        at = middle, middle * roof.bandwidth
        _annotate(axes, f"{si(roof.bandwidth)}B/s", at, (-5, 0), "right", "bottom")
    for point, colour, marker in zip(points, (BLUE, ORANGE), "os", strict=False):
        at = point.intensity, point.speed
        said = f"{point.name}: {si(point.speed)}FLOP/s"
        if roof and roof.own:
            said += f", {100 * point.speed / roof.at(point.intensity):.2g} % of the roof"
        look = {"color": colour, "markersize": 6, "markeredgecolor": "black"}
        axes.plot(*at, marker, linestyle="", label=said, **look)
        right = point.intensity == max(one.intensity for one in points)
        _annotate(axes, point.name, at, (8 if right else -8, 0), "left" if right else "right")
    header = recording.header
    ran = header["machine"]["processor"] if header["device"] == "cpu" else header["device"]
    said = "operations recorded one by one" if header["ops"] else ""
    if not (roof and roof.own):
        said = f"as it ran on {ran}" + (f",\n{said}" if said else "")
    axes.legend(loc="lower right", title=said or None)
    title = f"Roofline: {roof.name if roof else 'no roof, ' + why}"
    units = ("FLOP a byte read or written", None), (None, "FLOP/s")
    _finish(axes, fill(title, 62), *units)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def _roof(recording: Recording, gpu: str | None) -> tuple[Roof | None, str]:
    """The roof of a GPU, or of this machine if the run was on it; None, and why not."""
    header = recording.header
    if gpu:
        return Roof.of(find(gpu), header["dtype"]), ""
    if not recorded_here(recording):
        return None, "the run was on another machine: --gpu NAME draws one"
    if BITS[header["dtype"]] > 32:
        return None, f"none is measured for {header['dtype']}: --gpu NAME draws one"
    found = Roof.of(this_machine(), header["dtype"], own=True)
    machine = header["machine"]
    name = f"{machine['processor']}, {machine['cores']} cores, measured"
    return replace(found, name=name), ""


def kv(axes: Any, recording: Recording, options: ViewOptions) -> None:
    """Bytes of the KV cache that are reserved, and those that are filled, by tokens in it."""
    most = max(reserved(recording))
    if most <= 0:
        _nothing(axes, "KV cache", "this model keeps none")
        return
    tokens = [0, *(one["position"] for one in recording.passes)]
    full = [0, *filled(recording)]
    ends = [*tokens, tokens[-1] + 1], [*full, full[-1]]
    style = {"facecolor": ORANGE, "hatch": "////", "edgecolor": "white"}
    axes.fill_between(*ends, step="post", linewidth=0, **style)
    axes.step(*ends, "k", where="post", linewidth=0.5)
    axes.axhline(most, color="black", linestyle="--", linewidth=1)
    _annotate(axes, f"reserved {si(most)}B", (0, most), (2, 3), "left", "bottom")
    axes.set_ylim(0, 1.1 * most)
    title = f"KV cache: {full[-1] / most:.0%} filled at the end"
    each = ", of each sequence" if len(recording.header["prompts"]) > 1 else ""
    _finish(axes, title, (f"tokens in it{each}", None), (None, "B"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    _beside(axes, [(full[-1], f"filled {si(full[-1])}B")])


def _finish(axes: Any, title: str, x: Any, y: Any) -> None:
    """Titles of a panel and its axes, each of which has a name or a unit, or both."""
    from matplotlib.ticker import EngFormatter

    axes.set_title(title)
    axes.margins(x=0)
    for axis, (name, unit) in ((axes.xaxis, x), (axes.yaxis, y)):
        if name:
            axis.set_label_text(name)
        if unit:
            axis.set_major_formatter(EngFormatter(unit))


def _annotate(axes: Any, text: str, at: Any, offset: Any, ha: str, va: str = "center") -> None:
    """Text beside a point, so many typographic points away."""
    axes.annotate(text, at, offset, textcoords="offset points", ha=ha, va=va)


def _beside(axes: Any, labels: list[tuple[float, str]]) -> None:
    """Names at the right end of what they are of, one above the other, with lines to it."""
    low, high = axes.get_ylim()
    placed, least = [], -1.0
    for y, text in sorted(labels):
        at = (y - low) / (high - low)
        least = max(at, least + 0.07)
        placed.append((at, least, text))
    excess = max(0.0, placed[-1][1] - 1) if placed else 0
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.4"}
    for at, to, text in placed:
        where = {"xycoords": "axes fraction", "textcoords": "axes fraction", "va": "center"}
        axes.annotate(text, (1, at), (1.03, to - excess), arrowprops=line, **where)


def _nothing(axes: Any, title: str, why: str) -> None:
    """A panel that has nothing to show, and why."""
    axes.set_title(title)
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
