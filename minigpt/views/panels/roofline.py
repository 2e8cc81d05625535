"""The roofline: arithmetic intensity against speed, of this run and of what hardware allows."""

from collections.abc import Iterator

from counting.table import si
from minigpt.planning.accelerators import Accelerator
from minigpt.recording.read import Line, Recording
from minigpt.views.charts import SI, Spec, chart, chosen, layer, logarithmic, spread_log, tips
from minigpt.views.html import render, table
from minigpt.views.panel import Panel
from minigpt.views.roof import Phase, Roof, phases

HEIGHT = 340
COLOURS = "var(--blue)", "var(--orange)"
SIDES: dict[str, Spec] = {  # of a point where its name may stand, and the end of a line
    "right": {"align": "left", "dx": 8},
    "left": {"align": "right", "dx": -8},
    "end": {"align": "right"},
}


def roofline(
    recording: Recording, gpu: Accelerator | None = None, cpu: Accelerator | None = None
) -> Panel:
    """The points of prefill and decode under the roofs of this machine and of a GPU.

    Args:
        gpu: on which the run would be; its points are where its roof is, a bound.
        cpu: the machine of the run, as measured.
    """
    points = phases(recording)
    if not points:
        return Panel("roofline", "Roofline", "<p>No pass has ended in this recording.</p>")
    dtype = recording.header["dtype"]
    roofs = [Roof.of(one, dtype, own=one is cpu) for one in (cpu, gpu) if one]
    header = recording.header
    html = render("roofline.html", roofs=roofs, machine=header["machine"], ops=header["ops"])
    columns = ["phase", "FLOP", "bytes", "FLOP/B", "s", "FLOP/s"]
    columns += [f"{roof.name}: most FLOP/s" for roof in roofs]
    rows = (
        (
            one.name,
            one.flops,
            one.nbytes,
            f"{one.intensity:.3g}",
            f"{one.seconds:.4g}",
            si(one.speed, ".4g"),
            *(si(roof.at(one.intensity), ".4g") for roof in roofs),
        )
        for one in points
    )
    tables = table("The points as a table", columns, rows)
    return Panel("roofline", "Roofline", html, (_chart(points, roofs),), tables)


def _chart(points: list[Phase], roofs: list[Roof]) -> Spec:
    marks = [*_marks(points, roofs)]
    intensities, speeds = ([mark[name] for mark in marks] for name in ("intensity", "speed"))
    left = min(intensities) / 8
    right = max([8 * max(intensities), *(4 * roof.ridge for roof in roofs)])
    low, high = min(speeds) / 8, 3 * max([*speeds, *(roof.rate for roof in roofs)])
    most = max((roof.rate for roof in roofs), default=0)
    lines = [
        {"roof": roof.name, "intensity": x, "speed": roof.at(x)}
        for roof in roofs
        for x in (max(left, low / roof.bandwidth), roof.ridge, right)
    ]
    texts = [
        {
            "intensity": right,
            "speed": roof.rate,
            "side": "end",
            "above": 10 if roof.rate == most else -10,
        }
        | {"text": f"{roof.name}: {si(roof.rate)}FLOP/s"}
        for roof in roofs
    ]
    for mark in marks:  # on the side of a point where there is more space
        far = mark["intensity"] ** 2 > left * right
        texts.append({**mark, "side": "left" if far else "right", "above": 9 if far else -9})
    above = [text["above"] for text in texts]
    heights = spread_log([text["speed"] for text in texts], low, high, HEIGHT, above)
    texts = [{**text, "speed": height} for text, height in zip(texts, heights, strict=True)]
    x = logarithmic("FLOP a byte", left, right, format="~g")
    y = logarithmic("FLOP a second", low, high, labelExpr=SI.format(""))
    place = {"x": {**x, "field": "intensity"}, "y": {**y, "field": "speed"}}
    colours = {roof.name: colour for roof, colour in zip(roofs, COLOURS, strict=False)}
    point = {
        **place,
        "shape": chosen("kind", {"measured": "circle", "at most": "diamond"}),
        "fill": chosen("kind", {"measured": "var(--ink)", "at most": "var(--paper)"}),
        **tips(point="text", intensity="said"),
    }
    named = place | {"text": {"field": "text"}}
    layers = [
        layer("line", place | {"stroke": chosen("roof", colours)}, clip=True, strokeWidth=2),
        layer("point", point, marks, size=70, opacity=1, stroke="var(--ink)", strokeWidth=2),
        *(
            layer("text", named, [text for text in texts if text["side"] == side], **style)
            for side, style in SIDES.items()
        ),
    ]
    about = "Roofs of hardware as lines, prefill and decode as points"
    return chart("Speed against arithmetic intensity", about, HEIGHT, lines, layers)


def _marks(points: list[Phase], roofs: list[Roof]) -> Iterator[Line]:
    """The points: those of the run, and on promised roofs where they would be at best."""
    for one in points:
        found = {"intensity": one.intensity, "said": f"{one.intensity:.3g} FLOP a byte"}
        done = {"kind": "measured", "text": f"{one.name}: {si(one.speed)}FLOP/s"}
        yield {**found, "speed": one.speed, **done}
        for roof in roofs:
            if not roof.measured:
                best = roof.at(one.intensity)
                bound = {"kind": "at most", "text": f"{one.name} \u2264 {si(best)}FLOP/s"}
                yield {**found, "speed": best, **bound}
