"""A run as tables for a terminal."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rich.console import Group
from rich.table import Table

from counting.counts import Counts
from counting.views import flops, matmul


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
    table = _table("component", "FLOP", "share", "2mnp", "bytes read")
    total = flops(counts) or 1

    def row(name: str, part: Counts, shared: bool = True, **style: Any) -> None:
        n, read = flops(part), sum(part.bytes_read.values())
        share = f"{n / total:.1%}" if shared else ""
        table.add_row(name, f"{n:,}", share, f"{matmul(part):,}", f"{read:,}", **style)

    for name, part in counts.by(component).items():
        row(name, part)
    table.add_section()
    row("total", counts, style="bold")
    for name, part in beside.items():
        row(name, part, shared=False)
    return table


def kinds(counts: Counts) -> Table:
    table = _table("operation", "count")
    for kind, n in counts.cost.by_kind().items():
        table.add_row(kind, f"{n:,}")
    return table


def memory(
    counts: Counts,
    live: Mapping[str, int],
    peak: Mapping[str, int],
    real: Mapping[str, int] | None = None,
) -> Table:
    """Bytes by category; `real` are the live ones by another witness, in its own categories."""
    columns = ("allocated",) if real is not None else ()
    table = _table("memory", "bytes read", "bytes written", "live", *columns, "peak")
    for name in live:
        moved = counts.bytes_read[name], counts.bytes_written[name]
        held = (live[name],) if real is None else (live[name], real.get(name, 0))
        table.add_row(name, *(f"{n:,}" for n in (*moved, *held, peak[name])))
    for name, n in (real or {}).items():
        if name not in live:
            table.add_row(name, "", "", "", f"{n:,}", "")
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
