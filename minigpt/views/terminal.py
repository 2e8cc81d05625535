"""A recording as tables for a terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.table import Table

from counting import table
from counting.counts import grouped
from counting.table import si
from minigpt.models.paths import component
from minigpt.recording.read import Line, Recording


def tables(recording: Recording) -> Group:
    """The run in a line, its phases, its parts where it ended, its memory."""
    header, end = recording.header, recording.end
    machine = header["machine"]
    parts: list[Any] = [
        f"{header['model']}: {header['parameters']:,} parameters in {header['dtype']} on "
        f"{header['device']}, {header['context']} positions reserved",
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"NumPy {machine['numpy']}, minigpt {header['minigpt']}, seed {header['seed']}",
        *recording.notes,
        "",
        _phases(recording),
    ]
    if end:
        peak, live = end["peak_bytes"], end["live_bytes"]
        parts += ["", table.report(recording.counts(), live, peak, component)]
    return Group(*parts)


def _phases(recording: Recording) -> Table:
    made = table.table("phase", "passes", "tokens", "FLOP", "2mnp", "seconds", "tokens/s", "FLOP/s")
    for phase in ("prefill", "decode"):
        passes = [one for one in recording.passes if one["phase"] == phase]
        if passes:
            made.add_row(phase, *_cells(passes))
    return made


def _cells(passes: list[Line]) -> Iterator[str]:
    tokens = sum(one["batch"] * one["new_tokens"] for one in passes)
    flops, products = (sum(one[name] for one in passes) for name in ("flops", "matmul_flops"))
    seconds = sum(one["seconds"] for one in passes)
    yield from map(grouped, (len(passes), tokens, flops, products))
    yield f"{seconds:,.4f}"
    yield f"{tokens / seconds:,.1f}" if seconds else ""
    yield si(flops / seconds) if seconds else ""
