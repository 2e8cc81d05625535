"""Tables for a notebook: HTML with bars for the eye, readable on a light page and on a dark one.

All text is escaped, and nothing is loaded or runs. How a single array looks is in `show.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from counting.counts import Counts, grouped
from counting.known import known_by

COLOURS = ("#4c8bf5", "#e8833a", "#3aa76d", "#b565d9", "#c2493d")  # of middle brightness
HIGHEST = "24em"  # of a table; what is longer scrolls


class Bar(NamedTuple):
    """A number in a cell, and a bar behind it: the part of `whole` that it is."""

    number: Any
    whole: Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of text, numbers and bars; it scrolls if it is long."""
    head = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f"<div style='max-height:{HIGHEST};max-width:max-content;overflow:auto'>"
        f"<table style='color:inherit;margin:0'><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(x: Any) -> str:
    number, whole = x if isinstance(x, Bar) else (x, 0)
    left = isinstance(number, str)
    style = f"text-align:{'left' if left else 'right'};white-space:pre"
    if isinstance(number, int) and isinstance(whole, int) and whole:
        end = f"{100 * number / whole:.4g}%"
        style += f";background:linear-gradient(to left,{COLOURS[0]}59 {end},transparent {end})"
    return f"<td style='{style}'>{escape(number if left else grouped(number))}</td>"


def stack(parts: Mapping[str, int], whole: int, unit: str = "B") -> str:
    """Parts of a whole beside one another, and under them what each is; what is 0 is left out.

    Args:
        whole: what the width of the picture stands for, at least the sum of the parts.
    """
    at, drawn, said = 0.0, "", ""
    for colour, (name, n) in zip(COLOURS, parts.items(), strict=False):
        if n:
            width, label = 100 * n / whole, f"{escape(name)} {n:,} {unit}"
            drawn += (
                f"<rect x='{at:.3f}%' width='{width:.3f}%' height='100%' fill='{colour}'>"
                f"<title>{label}</title></rect>"
            )
            said += (
                "<span style='white-space:nowrap;margin-right:1em'>"
                f"<span style='color:{colour}'>■</span> {label}</span> "
            )
            at += width
    return (
        "<div style='max-width:40em'><svg width='100%' height='14' style='display:block'>"
        f"{drawn}<rect width='100%' height='100%' fill='none' stroke='currentColor' "
        f"stroke-opacity='0.5'/></svg>{said}</div>"
    )


def text(line: str, strong: bool = False) -> str:
    """A line of text."""
    return f"<div>{'<b>' if strong else ''}{escape(line)}{'</b>' if strong else ''}</div>"


def parts(first: str, named: Iterable[tuple[str, Counts]], whole: Counts) -> str:
    """A row for each part of what was counted: its calls, FLOP and bytes, beside those of all."""
    of = _figures(whole)
    rows = [[name, *map(Bar, _figures(part), of)] for name, part in named]
    return table([first, "FLOP", "bytes read", "bytes written"], [["total", *of], *rows])


def report(found: Any) -> str:
    """A `Report`: the total, then a row for each path and operation, then memory."""
    counts, of = found.counts, _figures(found.counts)
    rows: list[list[Any]] = [["total", "", counts.total("calls"), *of, ""]]
    for (path, operation), row in counts.items():
        part = Counts(counts.columns, {(path, operation): row})
        figures = map(Bar, _figures(part), of)
        rows.append([path, operation, part.total("calls"), *figures, known_by(operation)])
    columns = ("path", "operation", "calls", "FLOP", "bytes read", "bytes written", "known by")
    made = table(columns, rows) if counts else text("nothing was counted")
    made += "".join(map(text, found.notes()))
    if found.live and any(n != 0 for n in found.peak.values()):
        held = [[name, found.live[name], n] for name, n in found.peak.items() if n != 0]
        made += table(("memory", "live", "peak"), held)
    return made


def _figures(counts: Counts) -> tuple[Any, Any, Any]:
    read, written = sum(counts.bytes_read.values()), sum(counts.bytes_written.values())
    return counts.cost.flops, read, written
