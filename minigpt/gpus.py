"""The `gpus` command: all hardware that plans know, and where its figures are from."""

import json
from pathlib import Path

from minigpt.hardware import catalogue, this_cpu


def run(as_json: bool = False, file: Path | None = None) -> None:
    """Prints all hardware: the `gpus` command."""
    known = {**catalogue(file), "cpu": this_cpu()}
    if as_json:
        print(json.dumps({name: one._asdict() for name, one in known.items()}))
        return
    from rich.console import Console
    from rich.table import Table

    kinds = list(dict.fromkeys(kind for one in known.values() for kind in one.flops))
    kinds.sort(key=lambda kind: ("float64" in kind, "float8" in kind))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(("name", "GiB", "GB/s", "link\nGB/s", *map(_short, kinds))):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for name, one in known.items():
        figures = (one.memory / 2**30, one.bandwidth / 1e9, one.link_bandwidth / 1e9)
        rates = (one.flops.get(kind, 0) / 1e12 for kind in kinds)
        table.add_row(name, *(f"{x:.4g}" if x else "-" for x in (*figures, *rates)))
    console = Console(width=200, soft_wrap=True)  # a figure is never cut short
    console.print(table)
    console.print(
        "\ndense peak TFLOP/s by type/accumulate type; link: one way, of the GPU\n", style="dim"
    )
    for name, one in known.items():
        console.print(f"{name}: {one.source}{f'; {one.link}' if one.link else ''}", style="dim")


def _short(kind: str) -> str:
    short = kind.replace("float", "fp").replace("bfp", "bf").replace("tfp", "tf")
    return short.replace("/", "\n/")
