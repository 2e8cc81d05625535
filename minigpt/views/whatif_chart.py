"""The chart of `whatif`: inputs, what follows from them by `plan` and `roofline`, and the numbers.

A Vega-Lite specification that draws nothing but text and bars: its transforms evaluate the terms
of the model that is chosen, and lay a number, with its name, on each line.
"""

import math
from collections.abc import Sequence
from typing import Any

from minigpt.planning.accelerators import BITS, GPUS, Accelerator
from minigpt.planning.plan import OVERHEAD, OVERHEAD_RANGE, PROMPT

DTYPES = ("float16", "bfloat16", "float32")
WEIGHTS = ("as dtype", "int8", "int4")
LINE = 22  # pixels
_WIDTH = {"expr": "min(width, 420)"}  # of the lines: a number is not to stand far from its name

Row = tuple[str, str, str]  # its field, its name on the page, how its value is written

ROWS: dict[str, list[Row]] = {
    "Sizes": [
        ("context", "context, tokens", "whole"),
        ("sequences", "batch, sequences", "whole"),
        ("prompt", "prompt, tokens", "whole"),
    ],
    "Work": [
        ("flops", "FLOP of a step", "whole"),
        ("matmul_flops", "2mnp of a step", "whole"),
        ("prompt_flops", "FLOP of the prompt", "whole"),
        ("prompt_matmul_flops", "2mnp of the prompt", "whole"),
    ],
    "Memory, bytes": [
        ("weights", "weights", "bytes"),
        ("kv", "KV cache", "bytes"),
        ("activations", "activations", "bytes"),
        ("overhead", "runtime, assumed", "bytes"),
        ("needed", "needed", "bytes"),
        ("available", "available", "bytes"),
        ("spare", "spare", "whole"),
        ("fits", "fits", "word"),
    ],
    "Time of a step": [
        ("weights_moved", "weights read, bytes", "whole"),
        ("kv_moved", "cache read and written", "whole"),
        ("floor_s", "at least", "time"),
        ("estimate_s", "about", "time"),
        ("binds", "bound by, about", "word"),
        ("at_most", "tokens/s at most", "rate"),
        ("about", "tokens/s about", "rate"),
    ],
}

LETTERS = {  # as in `formulas.sized`: how the inputs, and the experts met, give them
    "n": "min(models[model].limit, round(pow(2, context)))",
    "B": "batch",
    "p": f"min(n, {PROMPT})",
    "routed": "models[model].experts",  # E would be Euler's number
    "chosen": "models[model].met",
    "met_B": "routed * (1 - pow(1 - chosen / routed, B))",
    "met_p": "routed * (1 - pow(1 - chosen / routed, p))",
    # Python's round: a half goes to the even one
    "U": "met_B % 1 == 0.5 ? 2 * round(met_B / 2) : round(met_B)",
    "U_p": "met_p % 1 == 0.5 ? 2 * round(met_p / 2) : round(met_p)",
    "s": "ceil(B * chosen / U)",
    "q": "ceil(p * chosen / U_p)",
    "bits": "widths[dtype]",
    "held": f"weights == '{WEIGHTS[0]}' ? bits : widths[weights]",
    "here": "hardware[gpu]",
}

TERM = " * ".join(
    [
        "datum.times",
        *(f"(datum.{letter} ? {letter} : 1)" for letter in "nBpUsq"),
        "(datum.p > 1 ? p : 1)",
        *(f"(datum.{x}_window ? min({x}, datum.{x}_window) : 1)" for x in "np"),
    ]
)


def _ways(matmul: str, weights: str, kv: str) -> str:
    """The floor of a step whose products, weights and cache are those of such a figure."""
    return (
        f"max(datum.{matmul} / here.fastest[min(bits, held)],"
        f" max(0, floor(datum.{weights} * held / bits) + B * datum.{kv} - here.cache)"
        " / here.bandwidth)"
    )


_FLOORS = [
    _ways("matmul_flops", "weights_once", "kv_cache"),
    _ways("expanded_matmul_flops", "expanded_weights_once", "expanded_kv_cache"),
]
_OF_THE_FIRST = _ways("expanded_matmul_flops", "weights_once", "kv_cache")

PLAN = {  # of the figures, in the order in which one takes of another; as `plan` and `roofline`
    "context": "n",
    "sequences": "B",
    "prompt": "p",
    "weights": "ceil(models[model].parameters * held / 8)",
    "kv": "B * datum.kv_cache",
    "overhead": str(OVERHEAD),
    "needed": "datum.weights + datum.kv + datum.activations + datum.overhead",
    "available": "here.memory",
    "spare": "datum.available - datum.needed",
    "fits": f"datum.spare >= {max(0, OVERHEAD_RANGE[1] - OVERHEAD)} ? 'yes' : "
    f"datum.spare + {max(0, OVERHEAD - OVERHEAD_RANGE[0])} >= 0 ? 'may fit' : 'no'",
    "weights_moved": "floor(datum.weights_read * held / bits)",
    "products": "n > 1 ? datum.matmul_flops : min(datum.matmul_flops, datum.expanded_matmul_flops)",
    "arithmetic_s": "datum.products / here.rates[dtype]",
    "memory_s": "(datum.weights_moved + datum.kv_moved) / here.bandwidth",
    "estimate_s": "max(datum.arithmetic_s, datum.memory_s)",
    "binds": "datum.memory_s == datum.estimate_s ? 'memory' : 'arithmetic'",
    "floor_s": f"min({', '.join(_FLOORS)}, n > 1 ? {_FLOORS[0]} : {_OF_THE_FIRST})",
    "at_most": "B / datum.floor_s",
    "about": "B / datum.estimate_s",
}

# As Python's `.3g`: figures behind the point without zeros at the end; small ones with an exponent.
_SHORT = (
    "(datum.x >= 999.5 ? format(datum.even, ',.0f') : datum.x >= 1e-4 ? format(datum.even, '.3~r')"
    " : replace(format(datum.even, '.2~e'), 'e-', 'e-0'))"
)
WRITTEN = {
    "x": "datum.how == 'time' && datum.value < 0.9995 ? 1000 * datum.value : datum.value",
    # What lies in the middle between two goes to the even one, as in Python; JavaScript goes up.
    "unit": "datum.how == 'rate' || datum.x >= 999.5 ? 1 : pow(10, 2 - floor(log(datum.x) / LN10))",
    "units": "datum.x * datum.unit",
    "even": "datum.units % 1 == 0.5 && floor(datum.units) % 2 == 0 ? "
    "floor(datum.units) / datum.unit : datum.x",
    "text": "datum.how == 'word' ? datum.value : "
    "datum.how == 'rate' ? format(datum.even, ',.0f') : "
    f"datum.how == 'time' ? {_SHORT} + (datum.value < 0.9995 ? ' ms' : ' s') : "
    "(datum.value < 0 ? '-' : '') + format(abs(datum.value), ',d')",
    "missing": "datum.timed && !here.rates[dtype]",
    "shown": "datum.missing ? 'no rate for ' + dtype : datum.text",
    "said": "datum.name + ': ' + datum.shown",
}


def chart(
    models: dict[str, dict[str, Any]],
    terms: Sequence[dict[str, Any]],
    first: dict[str, Any],
    most: int,
) -> dict[str, Any]:
    """The specification.

    Args:
        models: what it knows of each beside its terms, see `whatif`.
        terms: of all figures of all models.
        first: what stands in the inputs at first.
        most: sequences that can be asked for.
    """
    lines = max(one["letters"].count("\n") for one in models.values()) + 1
    rows, heads, height = _laid_out()
    named = {"type": "text", "align": "left", "baseline": "middle"}
    number = {"type": "text", "align": "right", "baseline": "middle"}
    at = {"y": {"field": "y", "type": "quantitative", "scale": None, "axis": None}}
    lies = {"field": "bar_y", "type": "quantitative", "scale": None, "axis": None}
    left, right = {"x": {"value": 0}}, {"x": {"value": _WIDTH}}
    scale = {"zero": True, "nice": False, "range": [0, _WIDTH]}
    length = {"field": "value", "type": "quantitative", "axis": None, "scale": scale}
    kept = [field for of in ROWS.values() for field, _, _ in of]
    return {
        "width": "container",
        "height": height + LINE * (lines + 1),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "view": {"stroke": None},
        "params": [*_inputs(models, first, most), *_known(models)],
        "data": {"values": [*terms]},
        "transform": [
            {"filter": "datum.model == model && datum.bits == bits"},
            {"calculate": TERM, "as": "amount"},
            _total("sum", "amount", "figure", "piece"),
            _total("max", "amount", "figure"),
            {"pivot": "figure", "value": "amount"},
            *({"calculate": made, "as": name} for name, made in PLAN.items()),
            {"fold": kept, "as": ["field", "value"]},
            {
                "lookup": "field",
                "from": {
                    "data": {"values": rows},
                    "key": "field",
                    "fields": ["name", "how", "y", "bar_y", "timed"],
                },
            },
            *({"calculate": made, "as": name} for name, made in WRITTEN.items()),
        ],
        "layer": [
            {
                "transform": [{"filter": "datum.how == 'bytes'"}],
                "mark": {"type": "rule", "strokeWidth": 3, "aria": False},
                "encoding": {"x": length, "x2": {"value": 0}, "y": lies},
            },
            {
                "mark": {**named, "aria": False},
                "encoding": {**left, **at, "text": {"field": "name"}},
            },
            {
                "mark": number,
                "encoding": {
                    **right,
                    **at,
                    "text": {"field": "shown"},
                    "description": {"field": "said"},
                },
            },
            {
                "data": {"values": heads},
                "mark": {**named, "fontWeight": "bold"},
                "encoding": {
                    **left,
                    **at,
                    "text": {"field": "name"},
                    "description": {"field": "name"},
                },
            },
            {
                "data": {"values": [{"y": height + LINE}]},
                "transform": [{"calculate": "models[model].letters", "as": "letters"}],
                "mark": {**named, "baseline": "top", "lineBreak": "\n", "lineHeight": LINE - 4},
                "encoding": {
                    **left,
                    **at,
                    "text": {"field": "letters"},
                    "description": {"field": "letters"},
                },
            },
        ],
    }


def _total(op: str, field: str, *by: str) -> dict[str, Any]:
    return {"aggregate": [{"op": op, "field": field, "as": field}], "groupby": [*by]}


def _inputs(models: Any, first: dict[str, Any], most: int) -> list[dict[str, Any]]:
    longest = math.ceil(math.log2(max(one["limit"] for one in models.values())))
    selects = {
        "model": ("model", [*models]),
        "dtype": ("dtype", DTYPES),
        "weights": ("weights dtype", WEIGHTS),
        "gpu": ("GPU", [*GPUS]),
    }
    ranges = {"context": ("context, 2 to the", longest, 0.125), "batch": ("batch", most, 1)}
    bound: dict[str, dict[str, Any]] = {
        name: {"input": "range", "min": min(step, 1) - step if step < 1 else 1, "max": top}
        | {"step": step, "name": f"{label} "}
        for name, (label, top, step) in ranges.items()
    }
    bound |= {
        name: {"input": "select", "options": [*options], "name": f"{label} "}
        for name, (label, options) in selects.items()
    }
    order = ("model", "context", "batch", "dtype", "weights", "gpu")
    return [{"name": name, "value": first[name], "bind": bound[name]} for name in order]


def _known(models: Any) -> list[dict[str, Any]]:
    values = {
        "models": models,
        "hardware": {name: _rates(gpu) for name, gpu in GPUS.items()},
        "widths": BITS,
    }
    known: list[dict[str, Any]] = [{"name": name, "value": v} for name, v in values.items()]
    return known + [{"name": name, "expr": made} for name, made in LETTERS.items()]


def _rates(gpu: Accelerator) -> dict[str, Any]:
    widths = sorted({*BITS.values()} - {BITS["float64"]})
    return {
        "memory": gpu.memory,
        "bandwidth": gpu.bandwidth,
        "cache": gpu.cache,
        "rates": {name: gpu.flops.get(f"{name}/float32") for name in DTYPES},
        "fastest": {str(bits): gpu.flops[gpu.fastest(bits)] for bits in widths},
    }


def _laid_out() -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """The lines of numbers, the headings over them, and how high they are together, in pixels."""
    rows: list[dict[str, Any]] = []
    heads, y = [], LINE // 2
    for head, of in ROWS.items():
        heads.append({"name": head, "y": y})
        for field, name, how in of:
            y += LINE
            timed = field in ("floor_s", "estimate_s", "binds", "at_most", "about")
            rows.append(
                {"field": field, "name": name, "how": how, "y": y, "bar_y": y + LINE // 2 - 2}
                | {"timed": timed}
            )
        y += LINE * 3 // 2
    return rows, heads, y - LINE
