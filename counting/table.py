"""A run as tables for a terminal; the form of all tables, and of figures in prose."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rich.console import Group, JustifyMethod
from rich.table import Table

from counting.counts import Counts, grouped
from counting.views import flops, matmul

PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P"}  # of 1000**n


def report(
    counts: Counts,
    live: Mapping[str, int],
    peak: Mapping[str, int],
    component: Callable[[str], str],
    real: Mapping[str, int] | None = None,
    beside: Mapping[str, Counts] = MappingProxyType({}),
) -> Group:
    """What a run cost: FLOP by component and by kind, bytes by category.

    Args:
        counts: what was counted.
        live, peak: bytes by category.
        component: path -> the component it belongs to.
        real: live bytes by another witness.
        beside: what else was counted, by name; not in the total.
    """
    held = memory(counts, live, peak, real)
    return Group(components(counts, component, beside), "", kinds(counts), "", held)


def components(
    counts: Counts,
    component: Callable[[str], str],
    beside: Mapping[str, Counts] = MappingProxyType({}),
) -> Table:
    made = table("component", "FLOP", "share", "2mnp", "bytes read")
    total = flops(counts) or 1

    def row(name: str, part: Counts, shared: bool = True, **style: Any) -> None:
        n, read = flops(part), sum(part.bytes_read.values())
        share = f"{n / total:.1%}" if shared else ""
        made.add_row(name, f"{n:,}", share, f"{matmul(part):,}", f"{read:,}", **style)

    for name, part in counts.by(component).items():
        row(name, part)
    made.add_section()
    row("total", counts, style="bold")
    for name, part in beside.items():
        row(name, part, shared=False)
    return made


def kinds(counts: Counts) -> Table:
    made = table("operation", "count")
    for kind, n in counts.cost.by_kind().items():
        made.add_row(kind, f"{n:,}")
    return made


def memory(
    counts: Counts,
    live: Mapping[str, int],
    peak: Mapping[str, int],
    real: Mapping[str, int] | None = None,
) -> Table:
    """Bytes by category; `real` are the live ones by another witness, in its own categories."""
    columns = ("allocated",) if real is not None else ()
    made = table("memory", "bytes read", "bytes written", "live", *columns, "peak")
    for name in live:
        moved = counts.bytes_read[name], counts.bytes_written[name]
        held = (live[name],) if real is None else (live[name], real.get(name, 0))
        if any(cells := (*moved, *held, peak[name])):  # else there is nothing of that category
            made.add_row(name, *map(grouped, cells))
    for name, n in (real or {}).items():
        if name not in live:
            made.add_row(name, "", "", "", f"{n:,}", "")
    return made


def table(first: str, *columns: str, justify: JustifyMethod = "right") -> Table:
    """A table without lines, still empty: its first column is left-justified, others as said.

    Without a heading for the first column there is none for any.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(first))
    made.add_column(first)
    for column in columns:
        made.add_column(column, justify=justify)
    return made


def si(number: Any, form: str = ".3g") -> str:
    """A number with its SI prefix, for a unit to follow: `3.11 G`.

    Args:
        form: of its digits, as for `format`.
    """
    power = 0
    while abs(float(format(number, form))) >= 1000 and power + 1 in PREFIXES:
        number, power = number / 1000, power + 1
    while 0 < abs(float(format(number, form))) < 1 and power - 1 in PREFIXES:
        number, power = number * 1000, power - 1
    return f"{number:{form}} {PREFIXES[power]}" if number else "0 "
