"""Published formulas beside execution, over the length of the context."""

import html
import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from minigpt.errors import InputError
from minigpt.formulas.claims import Claim, hold, rows_of
from minigpt.formulas.published import Published
from minigpt.models.architectures import PRESETS
from minigpt.models.config import Config
from minigpt.views.panel import Panel

BESIDE = "gpt2-xl"  # the article's, shown with whatever ran
FIRST = "kipply", "2*P"  # the formula that is chosen at first: known to most
POINTS = 17
_LINE = 50  # letters on a line, on a narrow screen


def formulas_panel(model: str, config: Config) -> Panel:
    """What is published of the FLOP of a token, and what execution gives, at 1 to all positions.

    Args:
        model: the name of `config`.
    """
    charts, text, tables = list[dict[str, Any]](), [_TEXT], list[str]()
    for name, one in {model: config, BESIDE: PRESETS[BESIDE]}.items():
        try:
            claims = _held(name, one)
        except InputError as error:
            text.append(f"<p>{html.escape(str(error))}.</p>")
            continue
        charts.append(_chart(name, claims))
        tables.append(_table(name, claims))
    return Panel("formulas", "Published formulas", "".join(text), tuple(charts), "".join(tables))


_TEXT = """\
<p>What is published of the FLOP of a token, held against execution, in the convention and for the
pass of its source: training is three forward passes, or four where activations are recomputed.
The gap between the lines is what is missing or too much.</p>
"""


def _held(model: str, config: Config) -> dict[str, list[Claim]]:
    """By the name of a formula, what it says and what execution gives, at growing lengths."""
    rows = [row for row in rows_of(config) if row.of == "flop" and not row.part and row.per == "1"]
    last = config.n_positions - 1
    lengths = sorted({1 + last * i // (POINTS - 1) for i in range(POINTS)})
    claims = hold(config, model, [(1, n - 1) for n in lengths], rows)
    return {_name(row): [*of] for row, of in groupby(claims, lambda claim: claim.published)}


def _name(row: Published) -> str:
    training = "" if row.mode == "forward" else f" ({row.mode})"
    return f"{row.source}, {row.where}{training}"


def _of_a_token(claim: Claim, flop: Any) -> float:
    return float(flop / (claim.n if claim.published.scope == "sequence" else 1))


def _table(model: str, claims: dict[str, list[Claim]]) -> str:
    lines = "".join(_line(name, of[0], of[-1]) for name, of in claims.items())
    longest = next(iter(claims.values()))[-1].n
    heads = ("formula", "at 1 token", f"at {longest:,}", "difference from execution")
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    return (
        f"<details><summary>All formulas, of {html.escape(model)}</summary>"
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></details>"
    )


def _line(name: str, first: Claim, last: Claim) -> str:
    off = [f"{claim.deviation:+.2f} %" for claim in (first, last)]
    reasons = "<br>".join(map(html.escape, first.reasons)) or "none"
    cells = "".join(f"<td>{cell}</td>" for cell in (*off, reasons))
    return f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>'


def _chart(model: str, claims: dict[str, list[Claim]]) -> dict[str, Any]:
    points = [point for name, of in claims.items() for point in _points(name, of)]
    gaps = [{"formula": name, "gap": _gap(of)} for name, of in claims.items()]
    first = next(
        name
        for name, of in claims.items()
        if (of[0].published.source, of[0].published.formula) == FIRST
    )
    n: dict[str, Any] = {"field": "n", "type": "quantitative", "title": "tokens of context"}
    n |= {"scale": {"nice": False}}
    flop: dict[str, Any] = {"type": "quantitative", "title": "FLOP a token"}
    flop |= {"scale": {"zero": False}, "axis": {"format": "~s"}}
    both = {"field": "who", "type": "nominal", "title": None}
    dashes = {"domain": ["execution", "published"], "range": [[1, 0], [6, 4]]}
    chosen = {"filter": "datum.formula == formula"}
    return {
        "width": "container",
        "height": 260,
        "title": model,
        "params": [
            {
                "name": "formula",
                "value": first,
                "bind": {"input": "select", "options": [*claims], "name": "formula "},
            }
        ],
        "data": {"values": points},
        "transform": [chosen],
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.25},
                "encoding": {
                    "x": n,
                    "y": {"field": "published", **flop},
                    "y2": {"field": "execution"},
                },
            },
            {
                "transform": [{"fold": ["published", "execution"], "as": ["who", "flop"]}],
                "mark": {"type": "line"},
                "encoding": {
                    "x": n,
                    "y": {"field": "flop", **flop},
                    "strokeDash": {
                        **both,
                        "scale": dashes,
                        "legend": {"orient": "top", "symbolType": "stroke", "symbolSize": 600},
                    },
                    "tooltip": [
                        {"field": "n", "title": "tokens", "format": ","},
                        {"field": "who"},
                        {"field": "flop", "title": "FLOP a token", "format": ",.0f"},
                    ],
                },
            },
            {
                "data": {"values": gaps},
                "transform": [chosen],
                "mark": {"type": "text", "align": "left", "baseline": "top"}
                | {"lineBreak": "\n", "lineHeight": 15, "dx": -45},
                "encoding": {
                    "x": {"value": 0},
                    "y": {"value": 310},
                    "text": {"field": "gap"},
                    "description": {"field": "gap"},
                },
            },
        ],
    }


def _points(name: str, of: list[Claim]) -> Iterator[dict[str, Any]]:
    for claim in of:
        said, executed = (_of_a_token(claim, flop) for flop in (claim.value, claim.executed))
        yield {"formula": name, "n": claim.n, "published": said, "execution": executed}


def _gap(of: list[Claim]) -> str:
    """How far it is off, and which terms are, in lines."""
    last = of[-1]
    ends = [f"{claim.deviation:+.2f} % at {claim.n:,}" for claim in (of[0], last)]
    executed = f"execution: {last.executed_form}"
    said = [", ".join(ends), executed, *(last.reasons or ("no difference",))]
    return "\n".join(line for text in said for line in textwrap.wrap(text, _LINE))
