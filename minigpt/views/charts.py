"""What the charts of the page have in common, as parts of Vega-Lite specifications."""

import math
from collections.abc import Sequence
from typing import Any

Spec = dict[str, Any]

PASSES = 250  # that are drawn of a run
MOST_TICKS = 15
APART = 16.0  # pixels from one line of text to the next

# Labels of an axis: `20 MB`, `3 TFLOP/s`, for a unit to be filled in.
SI = "replace(format(datum.value, '~s'), /([^0-9.]*)$/, ' $1{}')"


def chart(title: str, about: str, height: int, values: list[Any], layers: list[Spec]) -> Spec:
    """A chart as wide as its container.

    Args:
        title: the line over it.
        about: what it is a picture of, for those who do not see it.
        values: the data of layers that have none of their own.
    """
    return {
        "title": title,
        "description": about,
        "width": "container",
        "height": height,
        "data": {"values": values},
        "layer": layers,
    }


def layer(mark: str, encoding: Spec, values: list[Any] | None = None, **style: Any) -> Spec:
    """Marks of a kind; texts stand in the picture alone, since other marks say what they say."""
    spoken = {"aria": False} if mark == "text" else {}
    made: Spec = {"mark": {"type": mark, **spoken, **style}, "encoding": encoding}
    return made if values is None else {"data": {"values": values}, **made}


def linear(title: str, low: float, high: float, **axis: Any) -> Spec:
    """A channel for numbers from `low` to `high`."""
    scale = {"domain": [low, high], "nice": False}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": axis}


def counted(title: str, low: float, high: float) -> Spec:
    """A horizontal channel for whole numbers from `low` to `high`, its ticks whole numbers."""
    step = next(
        step
        for n in range(20)
        for step in (10**n, 2 * 10**n, 5 * 10**n)
        if (high - low) / step <= MOST_TICKS
    )
    ticks = range(math.ceil(low / step) * step, math.floor(high) + 1, step)
    return linear(title, low, high, values=[*ticks], grid=False)


def logarithmic(title: str, low: float, high: float, **axis: Any) -> Spec:
    """A channel for numbers from `low` to `high` in logarithms, its ticks powers of ten."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    ticks = [10.0**n for n in range(first, last + 1)]
    made = linear(f"{title}, logarithmic", low, high, values=ticks, **axis)
    return {**made, "scale": {**made["scale"], "type": "log"}}


def chosen(field: str, options: dict[str, Any]) -> Spec:
    """A channel whose values are named, each with what it looks like; they have no legend."""
    scale = {"domain": [*options], "range": [*options.values()]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def tips(**fields: str) -> Spec:
    """The channel of what is said when a mark is pointed at: fields by their titles."""
    return {"tooltip": [{"field": field, "title": title} for title, field in fields.items()]}


def spread(places: Sequence[float], most: float) -> list[float]:
    """Places of texts, moved as little as keeps them apart, from 0 to `most` if they fit there."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = [*places]
    floor = 0.0
    for i in order:
        floor = found[i] = max(found[i], floor)
        floor += APART
    ceiling = most
    for i in reversed(order):
        ceiling = found[i] = min(found[i], ceiling)
        ceiling -= APART
    return found


def spread_log(
    values: Sequence[float], low: float, high: float, height: float, above: Sequence[float]
) -> list[float]:
    """Where texts stand on a logarithmic axis, spread, as values on that axis.

    Args:
        values: what the texts are of, from `low` to `high`, over so many pixels of height.
        above: pixels by which each text stands above its value.
    """
    scale = height / math.log10(high / low)
    wanted = zip(values, above, strict=True)
    places = [scale * math.log10(value / low) + up for value, up in wanted]
    return [float(low * 10 ** (place / scale)) for place in spread(places, height)]


def every(of: Sequence[Any], most: int) -> tuple[list[Any], str]:
    """At most so many, evenly apart, the first and the last among them, and what to say of that."""
    if len(of) <= most:
        return [*of], ""
    step = -(-(len(of) - 1) // (most - 1))
    return [*of[:-1:step], of[-1]], f", of every {step} passes one"
