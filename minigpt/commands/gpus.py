"""The `gpus` command: all hardware that plans know, and where its figures are from."""

import json
from pathlib import Path

from counting.table import table
from minigpt.commands.terminal import console
from minigpt.planning.hardware import catalogue, this_cpu
from minigpt.schema import SCHEMA


def run(as_json: bool = False, file: Path | None = None, measure_cpu: bool = False) -> None:
    """Prints all hardware: the `gpus` command.

    Args:
        file: describes one more, see `hardware.read`.
        measure_cpu: this machine too, which takes a second of all its processors.
    """
    known = catalogue(file)
    if measure_cpu:
        known = {**known, "cpu": this_cpu()}
    if as_json:
        listed = {name: one._asdict() for name, one in known.items()}
        print(json.dumps({"schema": SCHEMA, "gpus": listed}))
        return
    kinds = list(dict.fromkeys(kind for one in known.values() for kind in one.flops))
    kinds.sort(key=lambda kind: ("float64" in kind, "8" in kind, "4/" in kind))
    heads = ("GiB", "nominal\nGiB", "cache\nMiB", "GB/s", "link\nGB/s")
    rows = table("name", *heads, *map(_short, kinds))
    for name, one in known.items():
        sizes = (one.memory / 2**30, one.nominal_memory / 2**30, one.cache / 2**20)
        speeds = (one.bandwidth / 1e9, one.link_bandwidth / 1e9)
        rates = (one.flops.get(kind, 0) / 1e12 for kind in kinds)
        rows.add_row(name, *(f"{x:.4g}" if x else "-" for x in (*sizes, *speeds, *rates)))
    out = console()
    out.print(rows)
    out.print(
        "\nGiB: that a program can have; cache: the last before memory; dense peak TFLOP/s by "
        "type/accumulate type; link: one way, of the GPU; this machine: minigpt gpus --measure-cpu"
        "\n",
        style="dim",
    )
    for name, one in known.items():
        told = (
            f"{name}: {one.source}",
            one.link,
            one.memory_source and f"GiB: {one.memory_source}",
        )
        out.print("; ".join(filter(None, told)), style="dim")


def _short(kind: str) -> str:
    short = kind.replace("float", "fp").replace("bfp", "bf").replace("tfp", "tf")
    return short.replace("/", "\n/")
