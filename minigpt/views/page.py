"""A run as one page of HTML that fetches nothing: `minigpt report run.jsonl --to report.html`."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from counting.table import si
from minigpt.planning.accelerators import Accelerator
from minigpt.planning.hardware import find, this_cpu
from minigpt.recording.read import Recording
from minigpt.views.formulas_panel import formulas_panel
from minigpt.views.html import render, table
from minigpt.views.options import ViewOptions
from minigpt.views.panel import Panel
from minigpt.views.panels.cache import cache
from minigpt.views.panels.components import components
from minigpt.views.panels.memory import memory
from minigpt.views.panels.roofline import roofline
from minigpt.views.panels.tokens import tokens
from minigpt.views.roof import moved, recorded_here
from minigpt.views.whatif import whatif

EXACT = 2**53  # from here on a number of JavaScript is no longer each integer


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes the page about a run, with this machine measured if the run was on it."""
    cpu = this_cpu() if recorded_here(recording) else None
    gpu = None if options.gpu is None or (cpu and options.gpu == "cpu") else find(options.gpu)
    # A model's name may be any file's, also one whose bytes are no text.
    path.write_text(page(recording, gpu, cpu), encoding="utf-8", errors="replace")


def page(
    recording: Recording,
    gpu: Accelerator | None = None,
    cpu: Accelerator | None = None,
) -> str:
    """The page about a run, in one file that fetches nothing.

    Args:
        gpu: whose roof is drawn beside.
        cpu: the machine of the run, as `this_cpu` measures it.
    """
    header = recording.header
    panels = [
        tokens(recording),
        components(recording),
        memory(recording),
        cache(recording),
        roofline(recording, gpu, cpu),
        *_of_the_model(recording),
    ]
    own = files("minigpt.views")
    n = len(recording.tokens)
    return render(
        "page.html",
        title=f"{header['model']}: {n:,} {'token' if n == 1 else 'tokens'}",
        lead=_lead(recording),
        header=header,
        notes=recording.notes,
        totals=[*_totals(recording)],
        about=table("Configuration, machine and versions", ("what", "is"), _about(header)),
        panels=[_embedded(panel) for panel in panels],
        style=_text(own / "templates" / "page.css"),
        script=_text(own / "templates" / "page.js"),
        vega=_text(own / "vega" / "vega.js"),
        licence=(own / "vega" / "LICENSE").read_text(encoding="utf-8"),
    )


def _of_the_model(recording: Recording) -> Iterator[Panel]:
    """The panels about its closed forms, which hold for any run of it."""
    header, config = recording.header, recording.config
    batch = len(header["prompts"])
    yield whatif(header["model"], config, header["context"], batch, header["dtype"])
    yield formulas_panel(header["model"], config)


def _text(file: Any) -> Markup:
    return Markup(file.read_text(encoding="utf-8"))


def _embedded(panel: Panel) -> dict[str, Any]:
    """A panel as the template takes it: the title of a chart apart from its specification."""
    charts = []
    for spec in panel.charts:
        drawn = {key: value for key, value in spec.items() if key != "title"}
        charts.append({"title": spec.get("title"), "json": embedded(drawn)})
    parts = {"name": panel.name, "title": panel.title, "html": panel.html}
    return {**parts, "tables": panel.tables, "charts": charts}


def embedded(data: Any) -> Markup:
    """JSON that may stand in a script of a page, its integers from 2**53 on as strings."""
    text = json.dumps(_exact(data), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _exact(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _exact(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_exact(value) for value in data]
    if type(data) is int and abs(data) > EXACT:
        return str(data)
    return data


def _lead(recording: Recording) -> str:
    header = recording.header
    given = [len(prompt["tokens"]) for prompt in header["prompts"]]
    of = f"{len(given)} prompts of {given[0]:,} tokens" if given[1:] else f"{given[0]:,} tokens"
    return (
        f"{header['parameters']:,} parameters in {header['dtype']} on {header['device']}, after a "
        f"prompt of {of}."
    )


def _totals(recording: Recording) -> Iterator[tuple[str, str, str]]:
    """Name, rounded and exact figure of what the run took in all."""
    passes = recording.passes
    flops, nbytes = sum(one["flops"] for one in passes), sum(map(moved, passes))
    yield "FLOP", si(flops), f"{flops:,}"
    yield "read and written", f"{si(nbytes)}B", f"{nbytes:,} B"
    end = recording.end or (recording.tokens[-1] if recording.tokens else None)
    if end:
        peak = sum(end["peak_bytes"].values())
        yield "memory, at most", f"{si(peak, '.4g')}B", f"{peak:,} B, a sum of peaks"
    seconds = sum(one["seconds"] for one in passes)
    slowed = ", each operation recorded" if recording.header["ops"] else ""
    yield "time of passes", f"{si(seconds)}s", f"{len(passes):,} passes{slowed}"
    decoded = [one for one in passes if one["phase"] == "decode"]
    if decoded:
        speed = sum(one["batch"] for one in decoded) / sum(one["seconds"] for one in decoded)
        yield "decoded", f"{speed:,.0f} tokens/s", f"{len(decoded):,} decode passes"


def _about(header: dict[str, Any]) -> Iterator[tuple[str, str]]:
    apart = {"type", "config", "machine", "prompts", "live_bytes"}
    plain = {key: value for key, value in header.items() if key not in apart}
    for what, values in (("", plain), ("machine ", header["machine"])):
        yield from ((f"{what}{key}", _said(value)) for key, value in values.items())
    yield from ((f"config.{key}", _said(value)) for key, value in header["config"].items())


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
