"""Memory over time by category, and what was alive at the peak."""

import json
from collections.abc import Iterator

from counting.table import si
from minigpt.models.paths import layer_of
from minigpt.recording.read import Line, Recording
from minigpt.views.charts import (
    PASSES,
    SI,
    Spec,
    chart,
    chosen,
    counted,
    every,
    layer,
    linear,
    logarithmic,
    spread_log,
    tips,
)
from minigpt.views.high import Level, Peak, largest, levels, peak, thinned
from minigpt.views.html import render, table
from minigpt.views.panel import Panel

HEIGHT = 240
LEVELS = 400  # that are drawn of a pass
ARRAYS = 10  # that are named at the peak
COLOURS = {
    "weights": "blue",
    "kv_cache": "orange",
    "state": "pink",
    "activations": "green",
    "wire": "note",
}
DASHES = {
    "weights": [],
    "kv_cache": [8, 3],
    "state": [8, 3, 2, 3],
    "activations": [3, 2],
    "wire": [1, 2],
}


def memory(recording: Recording) -> Panel:
    """Live bytes by category: by token, and operation by operation where they are recorded."""
    if not recording.tokens:
        return Panel("memory", "Memory", "<p>No pass has ended in this recording.</p>")
    high = peak(recording)
    end = recording.end or recording.tokens[-1]
    html = render(
        "memory.html",
        level=high.level,
        arrays=largest(high.alive, ARRAYS),
        peaks=end["peak_bytes"],
    )
    passes, thinner = every(recording.passes, PASSES)
    charts = [_by_token(passes, thinner)]
    tables = [_table(passes, thinner)]
    for number, title in _chosen(recording, high):
        kept, n = thinned(levels(recording, number), LEVELS)
        if n > 1:
            title += f", of every {n} operations the highest and the lowest moment"
        charts.append(_by_operation(kept, title))
        tables.append(_levels(kept, title))
    return Panel("memory", "Memory", html, tuple(charts), "".join(tables))


def _chosen(recording: Recording, high: Peak) -> Iterator[tuple[int, str]]:
    """The passes that are drawn operation by operation: the prefill, and the highest decode."""
    for phase, title in (
        ("prefill", "Activations in the prefill, operation by operation"),
        ("decode", "Activations in the decode pass that held the most, that at {} keys"),
    ):
        of = [one for one in recording.passes if one["phase"] == phase and high.passes[one["pass"]]]
        if of:
            one = max(of, key=lambda one: high.passes[one["pass"]])
            yield one["pass"], title.format(one["keys"])


def _by_token(passes: list[Line], thinner: str) -> Spec:
    last = passes[-1]
    lines = [(name, name, "live_bytes") for name in last["live_bytes"]]
    lines += [("activations", "activations at the peak so far", "peak_bytes")]
    lines = [line for line in lines if last[line[2]][line[0]]]
    values = [
        {"position": one["position"], "category": category, "line": name, "bytes": float(n)}
        | {"said": f"{n:,} B"}
        for category, name, field in lines
        for one in passes
        if (n := one[field][category])
    ]
    amounts = [value["bytes"] for value in values]
    low, high, right = min(amounts) / 2, max(amounts) * 2, last["position"] + 0.5
    ends = [last[field][category] for category, _, field in lines]
    places = spread_log(ends, low, high, HEIGHT, [9] * len(ends))
    names = [
        {"position": right, "bytes": place, "text": f"{name} {si(end, '.4g')}B"}
        for (_, name, _), end, place in zip(lines, ends, places, strict=True)
    ]
    dashes = {name: [] if field == "peak_bytes" else DASHES[c] for c, name, field in lines}
    along = "position of the token that the pass produced"
    x = counted(along, passes[0]["position"] - 0.5, right)
    y = logarithmic("bytes", low, high, labelExpr=SI.format("B"))
    place = {"x": {**x, "field": "position"}, "y": {**y, "field": "bytes"}}
    colours = {name: f"var(--{colour})" for name, colour in COLOURS.items()}
    drawn = {"stroke": chosen("category", colours), "strokeDash": chosen("line", dashes)}
    layers = [
        layer("line", place | drawn, point=len(passes) == 1),
        layer("point", place | tips(memory="line", position="position", bytes="said"), opacity=0),
        layer("text", place | {"text": {"field": "text"}}, names, align="right"),
    ]
    about = "Live bytes by category over the positions of tokens, as lines"
    return chart(
        f"Live memory by category, after each pass{thinner}", about, HEIGHT, values, layers
    )


def _by_operation(of: list[Level], title: str) -> Spec:
    first = of[0].operation["number"]
    values = [
        {
            "operation": one.operation["number"] - first,
            "bytes": float(one.live["activations"]),
            "what": f"{one.operation['path']} {one.operation['operation']}".strip(),
            "said": f"{one.live['activations']:,} B",
        }
        for one in of
    ]
    last = values[-1]["operation"]
    top = max(values, key=lambda value: value["bytes"])
    names = {n: name for name, n in _begins(of, first)}
    where = f"({json.dumps(names)})[datum.value]"
    x = linear(
        "operations, from where each layer begins",
        *(0, last + 1),
        values=[*names],
        labelExpr=where,
        labelAlign="left",
        labelOffset=2,
    )
    y = linear("bytes", 0, 1.18 * top["bytes"] or 1, labelExpr=SI.format("B"), tickCount=5)
    place = {"x": {**x, "field": "operation"}, "y": {**y, "field": "bytes"}}
    said = place | {"text": {"field": "text"}}
    peak = [{**top, "text": f"{top['said']} at {top['what']}"}]
    green: Spec = {"color": "var(--green)"}
    area: Spec = green | {"fillOpacity": 0.25, "line": {**green, "strokeWidth": 1}}
    share = top["operation"] / (last + 1)  # of the width that is left of the peak
    room = {"expr": f"width * {max(share, 1 - share)}"}
    style: Spec = {"align": "right" if share > 0.5 else "left", "limit": room, "dy": -14}
    layers = [
        layer("area", place, interpolate="step-after", **area),
        layer("bar", place | tips(after="what", live="said"), opacity=0, width=4, aria=False),
        layer("point", place, peak, filled=True, size=50, color="var(--ink)", opacity=1),
        layer("text", said, peak, **style),
    ]
    return chart(title, f"{title}, as an area of live bytes", 200, values, layers)


def _begins(of: list[Level], first: int) -> Iterator[tuple[str, int]]:
    """The layers, and what follows the last of them, each with where its operations begin."""
    before = None
    for one in of:
        path = one.operation["path"]
        here = layer_of(path)
        if here != before and (here or before):
            names = path.split(".")[-1:] if here is None else here.split(".")[-2:]
            yield ".".join(names), one.operation["number"] - first
        before = here


def _table(passes: list[Line], thinner: str) -> str:
    names = [name for name in passes[-1]["live_bytes"] if passes[-1]["peak_bytes"][name]]
    columns = "position", "phase", *names, *(f"{name}, peak so far" for name in names)
    rows = (
        (
            one["position"],
            one["phase"],
            *(one["live_bytes"][name] for name in names),
            *(one["peak_bytes"][name] for name in names),
        )
        for one in passes
    )
    return table(f"Live and peak bytes by token as a table{thinner}", columns, rows)


def _levels(of: list[Level], title: str) -> str:
    rows = (
        (
            one.operation["number"],
            one.operation["path"],
            one.operation["operation"],
            " x ".join(map(str, one.operation["shape"])),
            one.operation["bytes"],
            *one.live.values(),
        )
        for one in of
    )
    columns = "number", "path", "operation", "shape", "bytes"
    live = (f"{name} alive" for name in of[0].live)
    return table(f"{title}, as a table", (*columns, *live), rows)
