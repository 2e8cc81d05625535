"""The KV cache: what was reserved for it, and how much of that is filled."""

from counting.table import si
from minigpt.recording.memory import filled, reserved
from minigpt.recording.read import Line, Recording
from minigpt.views.charts import PASSES, SI, Spec, chart, counted, every, layer, linear, tips
from minigpt.views.html import render, table
from minigpt.views.panel import Panel


def cache(recording: Recording) -> Panel:
    """Reserved and filled bytes of keys and values after each pass."""
    if min(reserved(recording), default=0) <= 0:
        return Panel("cache", "KV cache", "<p>Nothing was reserved for keys and values.</p>")
    last, full, held = recording.passes[-1], filled(recording), reserved(recording)
    html = render(
        "cache.html",
        token=last["kv_bytes_per_token"],
        filled=full[-1],
        reserved=held[-1],
        context=recording.header["context"],
        batch=last["batch"],
        share=full[-1] / held[-1],
    )
    keys = (one["keys"] for one in recording.passes)
    all_rows = [(n, *of, f"{of[0] / of[1]:.1%}") for n, *of in zip(keys, full, held, strict=True)]
    rows, thinner = every(all_rows, PASSES)
    columns = "tokens in the cache", "filled B", "reserved B", "share"
    tables = table(f"Filled and reserved as a table{thinner}", columns, rows)
    return Panel("cache", "KV cache", html, (_chart(rows, thinner),), tables)


def _chart(rows: list[tuple[int, int, int, str]], thinner: str) -> Spec:
    values: list[Line] = [
        {"keys": keys, "filled": full, "reserved": held, "said": f"{full:,} B of {held:,}"}
        for keys, full, held, _ in rows
    ]
    first, last = values[0], values[-1]
    most = max(value["reserved"] for value in values)
    title = "tokens in the cache, of each sequence"
    x = counted(title, first["keys"] - 0.5, last["keys"] + 0.5)
    y = linear("bytes", 0, 1.15 * most, labelExpr=SI.format("B"), tickCount=5)
    x |= {"field": "keys"}
    filled, reserved = ({"x": x, "y": {**y, "field": name}} for name in ("filled", "reserved"))
    end = [{**last, "text": f"reserved {si(last['reserved'], '.4g')}B"}]
    each = f"width / {len(values)}"
    bars: Spec = {"width": {"expr": f"{each} > 6 ? {each} - 1 : {each}"}, "opacity": 0.45}
    layers = [
        layer("bar", filled | tips(tokens="keys", filled="said"), color="var(--orange)", **bars),
        layer("line", reserved, color="var(--ink)", strokeDash=[6, 3]),
        layer("text", reserved | {"text": {"field": "text"}}, end, align="right", dy=-10),
    ]
    about = "Filled bytes by tokens cached, as bars under a line of the bytes reserved"
    return chart(f"Bytes of the cache that are filled{thinner}", about, 200, values, layers)
