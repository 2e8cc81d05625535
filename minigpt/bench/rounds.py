"""Runs in fresh processes, in turn, with the memory's speed measured between them."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from minigpt.bench.engines import ENGINES, Entry
from minigpt.bench.worker import Job, Outcome, Timed
from minigpt.commands.signals import finishing
from minigpt.errors import InputError
from minigpt.planning.hardware import READ, reading

BAND = 0.15
"""A run counts if the memory's speed, before and after it, is this near to the median of all."""


class Run(NamedTuple):
    """One run of an entry.

    Attributes:
        answer_s: seconds from the start of its process to its answer.
        bandwidths: of the memory before and after it, in bytes a second.
    """

    entry: Entry
    outcome: Outcome
    answer_s: float
    bandwidths: tuple[float, float]


class Measured(NamedTuple):
    """The runs that count, how many were run again, and how many count though out of the band."""

    runs: list[Run]
    repeated: int
    outside: int

    @property
    def bandwidth(self) -> float:
        """The memory's bytes a second around them, the median."""
        return statistics.median(speed for run in self.runs for speed in run.bandwidths)


def interleaved(
    entries: Sequence[Entry],
    rounds: int,
    run: Callable[[Entry], tuple[Outcome, float]],
    probe: Callable[[], float],
) -> Measured:
    """`rounds` runs of each entry, one after the other in each round.

    The memory of a shared machine has slow and fast spells that show nowhere else. Runs that met
    another speed than most are run again, at most as many as there were; an entry that has no
    other keeps them.
    """
    waiting = list(entries) * rounds
    budget = len(waiting)
    runs: list[Run] = []
    repeated = 0
    before = probe()
    while waiting:
        entry = waiting.pop(0)
        result = run(entry)
        after = probe()
        runs.append(Run(entry, *result, (before, after)))
        before = after
        if not waiting:
            waiting = _missing(entries, rounds, _inside(runs))[: budget - repeated]
            repeated += len(waiting)
    inside = _inside(runs)
    outside = [run for run in runs if run.entry not in {kept.entry for kept in inside}]
    return Measured(inside + outside, repeated, len(outside))


def _inside(runs: Sequence[Run]) -> list[Run]:
    middle = statistics.median(speed for run in runs for speed in run.bandwidths)
    return [r for r in runs if all(abs(speed / middle - 1) <= BAND for speed in r.bandwidths)]


def _missing(entries: Sequence[Entry], rounds: int, runs: Sequence[Run]) -> list[Entry]:
    have = [run.entry for run in runs]
    return [entry for i in range(rounds) for entry in entries if have.count(entry) <= i]


def bandwidth(threads: int, nbytes: int = READ) -> float:
    """Bytes a second at which threads together read memory, the median of nine passes."""
    return nbytes / statistics.median(reading(threads, nbytes))


_POOLS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"


def start(job: Job) -> tuple[Outcome, float]:
    """Runs a job in a process of its own.

    Returns:
        What came of it, and the seconds from the start of the process to its answer.

    Raises:
        InputError: it failed, with the last line that it said.
    """
    command = [sys.executable, "-m", "minigpt.bench.worker", json.dumps(job._asdict())]
    more = pools(job.threads) | ENGINES[job.engine].environment
    (cases, peak_bytes), seconds = answer(command, more, f"{job.engine} {job.dtype}")
    return Outcome([Timed(*case) for case in cases], peak_bytes), seconds


def pools(threads: int) -> dict[str, str]:
    """What is set in the environment of a process that is to compute with so many threads."""
    return dict.fromkeys(_POOLS, str(threads))


def answer(command: Sequence[str], more: Mapping[str, str], name: str) -> tuple[Any, float]:
    """The line of JSON that a program answers with, and the seconds from its start to that.

    Args:
        more: of its environment.
        name: of what runs, for errors.

    Raises:
        InputError: it failed, with the last line that it said.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        began = time.perf_counter()
        with finishing() as asked:  # else it might have begun, and nobody know it
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, **more},
            )
        with process:
            try:
                if asked():
                    sys.exit(asked())
                line = process.stdout.readline() if process.stdout else ""
            except BaseException:  # nobody waits for the answer any more
                process.kill()
                raise
            seconds = time.perf_counter() - began
        if process.returncode or not line:
            said.seek(0)
            lines = said.read().split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise InputError(f"{name} failed ({process.returncode}): {last}")
    return json.loads(line), seconds
