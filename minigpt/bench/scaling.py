"""Time per token of processes that share a model: of one that grows with them, or as it is."""

import json
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from counting import table as tables
from counting.views import matmul
from minigpt.bench.rank import Found, Job
from minigpt.bench.rounds import answer, bandwidth, pools
from minigpt.checkpoint.resolve import resolve
from minigpt.commands.terminal import console, doing
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.planning.devices import Split, on_devices
from minigpt.planning.forward import Pass
from minigpt.planning.hardware import memory_here, processor_name, threads
from minigpt.schema import SCHEMA

Runs = list[list[Found]]  # of each round, what each process found


def scaling(
    model: str, processes: Sequence[int], rounds: int, passes: int, keys: int, strong: bool = False
) -> dict[str, Any]:
    """Decode passes of several processes, one thread and one part of the weights in each.

    In each round each number of processes runs once, in every other one the other way round.

    Args:
        model: see `resolve`; its weights are drawn.
        processes: numbers of them, a row for each, and for one alone.
        passes: to be timed in a run.
        keys: tokens in the cache.
        strong: whether they share the model itself; else it grows with them, see `grown`.

    Returns:
        The JSON object of `minigpt bench scaling`.

    Raises:
        InputError: a number cannot be, the model cannot be divided so or does not grow so, there is
            no room for it, or MPI is missing or failed.
    """
    for what, number in (("rounds", rounds), ("passes", passes)):
        if number < 1:
            raise InputError(f"{what} is {number}; it must be at least 1")
    shared = _shared(model, sorted({1, *processes}), keys, strong)
    jobs = {P: Job(one.values(), P, keys, passes) for P, one in shared.items()}
    load = os.getloadavg()[0]
    runs, speeds = _run(jobs, rounds)
    return {
        "schema": SCHEMA,
        "model": model,
        "scaling": "strong" if strong else "weak",
        "keys": keys,
        "rounds": rounds,
        "passes": passes,
        "rows": [_row(one, runs[P], runs[1], strong) for P, one in shared.items()],
        "bandwidth_gb_s": {str(n): statistics.median(found) for n, found in speeds.items()},
        "processor": processor_name(),
        "cores": threads(),
        "load_before": load,
    }


def _shared(model: str, processes: Sequence[int], keys: int, strong: bool) -> dict[int, Config]:
    """What each number of processes is to share, once it is known that it can."""
    config, sizes = resolve(model), Pass(N=keys, logits="last", dtype="float32")
    [alone] = on_devices(config, sizes, Split())
    most, told_by = memory_here()
    shared = {}
    for P in processes:
        Split(P).check(config)
        shared[P] = config if strong else grown(config, P)
        devices = on_devices(shared[P], sizes, Split(P))
        share = matmul(alone.counts), alone.parameters
        alike = all((matmul(device.counts), device.parameters) == share for device in devices)
        chosen = P > 1 and config.experts  # by tokens, so that devices have more or less to do
        if not strong and (chosen or not alike):
            raise InputError(
                f"of {P} times the heads, feed-forward columns and vocabulary of {model}, each of "
                f"{P} processes has another share than one alone: take a dense model whose heads "
                "have a width of their own, or --strong"
            )
        needed = sum(device.held["weights"] for device in devices)
        if needed > most > 0:
            room = f"more than {most:,}, {told_by}"
            raise InputError(f"with {P} of them the weights take {needed:,} bytes, {room}")
    return shared


def grown(config: Config, times: int) -> Config:
    """The same model with so many times the heads, feed-forward columns and vocabulary.

    Its layers and widths, of a head too, stay. A GPT-2 stays as it is: its heads are its width.
    """
    if not isinstance(config, DecoderConfig):
        return config
    c = config.family.values(config.given, config.source)
    grow = ["num_attention_heads", "intermediate_size", "vocab_size"]
    grow += ["num_key_value_heads"] * c.takes("num_key_value_heads")
    values = {c.spelled(name): times * n for name in grow if (n := getattr(c, name))}
    return config.but(**values, head_dim=c.head_dim or config.width // c.num_attention_heads)


def _run(jobs: Mapping[int, Job], rounds: int) -> tuple[dict[int, Runs], dict[int, list[float]]]:
    """The runs by number of processes; the GB/s of each round by number of threads that read."""
    here = str(Path(sys.executable).parent)
    launcher = shutil.which("mpiexec", path=here) or shutil.which("mpiexec")
    if not launcher or not find_spec("mpi4py"):
        missing = "mpi4py" if launcher else "mpiexec"
        how = "pip install -e '.[parallel]' in the clone"
        raise InputError(f"several processes need MPI: {how} (there is no {missing})")
    runs: dict[int, Runs] = {P: [] for P in jobs}
    speeds: dict[int, list[float]] = {min(P, threads()): [] for P in jobs}
    with doing("") as say:
        for turn in range(rounds):
            for P in list(jobs)[:: -1 if turn % 2 else 1]:
                say(f"round {turn + 1} of {rounds}: mpiexec -n {P}")
                rank = [sys.executable, "-m", "minigpt.bench.rank", json.dumps(jobs[P]._asdict())]
                ranks, _ = answer([launcher, "-n", str(P), *rank], pools(1), f"mpiexec -n {P}")
                runs[P].append([Found(*found) for found in ranks])
            for n, found in speeds.items():
                found.append(bandwidth(n) / 1e9)
    return runs, speeds


def _row(config: Config, runs: Runs, alone: Runs, strong: bool) -> dict[str, Any]:
    """What a number of processes did, each at most, and how long it took them.

    Args:
        config: of the model that they share.
        alone: the runs of one process.
    """
    counts = [found.counts for found in runs[-1]]
    ms, exchange = ([time(run) for run in runs] for time in (_pass_ms, _exchange_ms))
    best = len(counts) if strong else 1  # how many times as fast as one, if nothing were lost
    efficiency = [_pass_ms(one) / (best * took) for one, took in zip(alone, ms, strict=True)]
    held = sum(rank["live_bytes"]["weights"] for rank in counts)
    return {
        "processes": len(counts),
        "matmul_flops": max(rank["matmul_flops"] for rank in counts),
        "weight_bytes_read": max(rank["bytes_read"]["weights"] for rank in counts),
        "bytes_sent": max(sum(rank["bytes_sent"].values()) for rank in counts),
        "weight_bytes_replicated": held - 4 * config.parameters,
        "ms_per_token": statistics.median(ms),
        "ms_range": [min(ms), max(ms)],
        "exchange_ms": statistics.median(exchange),
        "efficiency": statistics.median(efficiency),
        "efficiency_range": [min(efficiency), max(efficiency)],
        "ranks": counts,
    }


def _pass_ms(run: Sequence[Found]) -> float:
    """Of a run's passes the median, each as long as the slowest process says."""
    passes = zip(*(found.pass_s for found in run), strict=True)
    return 1000 * statistics.median(map(max, passes))


def _exchange_ms(run: Sequence[Found]) -> float:
    """Of a run's passes the median, of each the mean of what the processes say."""
    passes = zip(*(found.exchange_s for found in run), strict=True)
    return 1000 * statistics.median(map(statistics.fmean, passes))


HEAD = ["processes", "a core", "2mnp each", "weights read each, B", "sent each, B", "ms/token"]
HEAD += ["min-max", "in exchanges, ms", "efficiency", "min-max"]


def _cells(document: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a document as they are printed, under `HEAD`."""
    cells = []
    for row in document["rows"]:
        P, cores = row["processes"], document["cores"]
        turns = ", in turns" if cores < P else ""
        counted = (f"{row[key]:,}" for key in ("matmul_flops", "weight_bytes_read", "bytes_sent"))
        times = f"{row['ms_per_token']:.1f}", _range(row["ms_range"], ".1f")
        efficiency = f"{row['efficiency']:.2f}", _range(row["efficiency_range"], ".2f")
        exchange = f"{row['exchange_ms']:.1f}"
        cells.append([f"{P}", f"{P / cores:g}{turns}", *counted, *times, exchange, *efficiency])
    return cells


def _range(ends: Sequence[float], form: str) -> str:
    return "-".join(format(end, form) for end in ends)


def notes(document: Mapping[str, Any]) -> list[str]:
    """What the figures of a document are of, and what they do not show."""
    model, cores, rows = document["model"], document["cores"], document["rows"]
    P, replicated = rows[-1]["processes"], rows[-1]["weight_bytes_replicated"]
    several = f"weights that several have, {replicated:,} bytes more than once of {P}"
    if document["scaling"] == "weak":
        one, each = (_beside(row) for row in (rows[0], rows[-1]))
        ratio = "t(1) / t(P)"
        found = [
            f"P processes share {model} with P times its heads, feed-forward columns and "
            "vocabulary: products and weights of each stay the same, as counted; what grows is "
            f"bytes sent, FLOP of each beside its products, {one:,} of one alone and {each:,} of "
            f"{P}, and {several}"
        ]
    else:
        ratio = "t(1) / (P t(P))"
        found = [f"P processes share {model} as it is; what is not divided is {several}"]
    found.append(
        f"medians of {document['rounds']} rounds of {document['passes']} passes each, after "
        f"{document['keys']} tokens; efficiency is {ratio} in the same round; exchanges are the "
        "mean of the processes, and to wait for the others is part of them"
    )
    speeds = {int(n): speed for n, speed in document["bandwidth_gb_s"].items()}
    if (n := max(speeds)) > 1:
        found.append(
            f"memory is read at {speeds[1]:.1f} GB/s by one core and {speeds[n]:.1f} by {n}: where "
            f"no more than that counts, efficiency is {speeds[n] / n / speeds[1]:.2f}"
        )
    if cores < P:
        found.append(
            f"more than {cores} processes take turns on {cores} cores, and MPI waits by asking "
            "again and again: such rows show that they run, and no scaling; at best efficiency "
            f"would be {cores / P:.2f} of {P}"
        )
    found.append(
        "all are on one machine and share its memory: no network is in these times; its load "
        f"average of the minute before was {document['load_before']:.1f}"
    )
    return found


def _beside(row: Mapping[str, Any]) -> int:
    """FLOP that are no products, the most of any process."""
    return max(rank["flops"] - rank["matmul_flops"] for rank in row["ranks"])


def markdown(document: Mapping[str, Any]) -> str:
    """A document as a table in Markdown, after the machine; its notes are lines below."""
    cells = [HEAD, ["---"] * len(HEAD), *_cells(document)]
    lines = [f"{document['processor']}, {document['cores']} cores.", ""]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([*lines, "", *(f"- {note}." for note in notes(document))])


def show(document: Mapping[str, Any], as_json: bool, as_markdown: bool) -> None:
    """Prints a document: its table and its notes, and with `as_json` itself as the last line."""
    if as_markdown:
        print(markdown(document))
    else:
        made = tables.table(*HEAD)
        for row in _cells(document):
            made.add_row(*row)
        out = console()
        out.print(made)
        for note in notes(document):
            out.print(note, highlight=False)
    if as_json:
        print(json.dumps(document))
