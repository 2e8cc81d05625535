"""The benchmarks of `minigpt bench`: each engine in turn, on one checkpoint, in fresh processes."""

import json
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

from minigpt.bench.engines import ENGINES, Entry, agreeing, threads
from minigpt.bench.report import Row, cliffs, compared, floor_bytes, table
from minigpt.bench.rounds import Measured, bandwidth, interleaved, start
from minigpt.bench.subject import Subject, subject
from minigpt.bench.worker import Job, Outcome
from minigpt.commands.terminal import console
from minigpt.errors import InputError
from minigpt.schema import SCHEMA

SWEEP = (1, 2, 4, 8, 16, 32, 64)


class Result(NamedTuple):
    """What a benchmark found: its rows, the runs that they are made of, what is to be said."""

    rows: list[Row]
    measured: Measured
    notes: list[str]

    def document(self) -> dict[str, object]:
        """The result as a JSON object."""
        rows = [row.record() for row in self.rows]
        return {"schema": SCHEMA, "rows": rows, "bandwidth_gb_s": self.measured.bandwidth / 1e9}


def measure(
    phase: str,
    model: str,
    chosen: Sequence[Entry],
    rounds: int,
    lengths: Sequence[int],
    new_tokens: int = 1,
) -> Result:
    """One phase of engines at some precisions, `rounds` fresh processes of each.

    Each entry is started once before, unmeasured: copies are made, code is compiled, files are in
    the page cache. One that fails then is left out and named.

    Args:
        phase: "decode" (after a prompt), "prefill" (warm), or "load": from the start of the
            process to the first token.
        model: see `bench.subject`.
        chosen: see `entries`.
        lengths: of prompts; several for a prefill only.
        new_tokens: generated after the prompt; at least 2 for a decode.

    Raises:
        InputError: an option cannot be used, or no engine runs.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1")
    about = subject(model)
    _check_lengths(about, lengths, new_tokens, least=2 if phase == "decode" else 1)
    job = Job(
        engine="",
        dtype="",
        folder=str(about.folder),
        threads=threads(),
        vocabulary=about.config.vocab_size,
        rows=tuple(lengths),
        new=new_tokens,
        warm=phase == "prefill",
    )
    with Console(stderr=True).status("") as status:

        def run(entry: Entry) -> tuple[Outcome, float]:
            status.update(f"{phase} of {about.name}: {entry.engine} {entry.dtype}")
            return start(job._replace(engine=entry.engine, dtype=entry.dtype))

        def second_start(entry: Entry) -> tuple[Outcome, float]:
            run(entry)  # others have been in the page cache since the last
            return run(entry)

        present, notes = _started(chosen, job)
        timed = second_start if phase == "load" else run
        measured = interleaved(present, rounds, timed, lambda: bandwidth(threads()))
    rows = compared([row for entry in present for row in _rows(phase, about, entry, job, measured)])
    return Result(rows, measured, notes + _about_runs(measured))


def _check_lengths(about: Subject, lengths: Sequence[int], new: int, least: int) -> None:
    if new < least:
        raise InputError(f"new tokens are {new}; there must be at least {least}")
    context = about.config.n_positions
    for length in lengths:
        if length < 1 or length + new > context:
            raise InputError(
                f"{length} prompt tokens and {new} new ones: there must be at least 1, and at most "
                f"{context} together, the context of {about.name}"
            )


def _started(chosen: Sequence[Entry], job: Job) -> tuple[list[Entry], list[str]]:
    """Those of the entries that start, and what is to be said of the others."""
    present, notes = [], []
    for entry in chosen:
        try:
            start(job._replace(engine=entry.engine, dtype=entry.dtype, rows=(1,), new=1))
            present.append(entry)
        except InputError as error:
            notes.append(f"left out: {error}")
    if not present:
        raise InputError("; ".join(notes))
    return present, notes


def _rows(phase: str, about: Subject, entry: Entry, job: Job, measured: Measured) -> list[Row]:
    """The rows of an entry: one for each length of its prompts."""
    runs = [run for run in measured.runs if run.entry == entry]
    peaks = [run.outcome.peak_bytes for run in runs if run.outcome.peak_bytes]
    rows = []
    for length in job.rows:
        tokens, past, name = 1, 0, phase
        if phase == "decode":
            seconds = [statistics.median(run.outcome.between_s) for run in runs]
            past = length + job.new // 2
        elif phase == "load":
            seconds = [run.answer_s for run in runs]
        else:
            seconds = [run.outcome.prompt_s[str(length)] for run in runs]
            tokens = length
            name = phase if len(job.rows) == 1 else f"{phase}-{length}"
        floor = floor_bytes(about.config, entry.dtype, tokens, past) / measured.bandwidth
        times = tuple(1000 * s / tokens for s in seconds)
        rows.append(
            Row(entry, about.name, name, times, 1000 * floor / tokens, max(peaks, default=None))
        )
    return rows


def _about_runs(measured: Measured) -> list[str]:
    notes = []
    if measured.repeated:
        notes.append(
            f"{measured.repeated} runs were repeated: the memory was slower or faster then"
        )
    if measured.outside:
        notes.append(f"{measured.outside} such runs count all the same: their engine has no others")
    return notes


def show(result: Result, as_json: bool, *more: str) -> None:
    """Prints a result: its table, then its notes; with `as_json` the last line is the document."""
    out = console()
    out.print(table(result.rows))
    lines = [f"memory {result.measured.bandwidth / 1e9:.1f} GB/s, {threads()} threads"]
    missing = [e for e in ENGINES.values() if not e.installed]
    lines += [f"not installed: {e.name} ({' '.join(e.packages.values())})" for e in missing]
    for line in (*lines, *result.notes, *more):
        out.print(line, highlight=False, markup=False)
    if as_json:
        print(json.dumps(result.document()))


def cliff_lines(result: Result) -> list[str]:
    """What a sweep of prefills says: where more rows cost more than the same rows in parts."""
    lines = []
    for entry in dict.fromkeys(row.entry for row in result.rows):
        times = {}
        for row in result.rows:
            if row.entry == entry:
                rows = int(row.phase.rpartition("-")[2])
                times[rows] = rows * row.ms
        found = [f"{n} rows {factor:.2f} times" for n, factor in cliffs(times).items()]
        what = f"a cliff: {', '.join(found)} what fewer take" if found else "no cliff"
        lines.append(f"{entry.engine} {entry.dtype}: {what}")
    return lines


def agreement(result: Result) -> list[str]:
    """How far the greedy tokens of each engine are those of the first, and its versions."""
    said = {run.entry: run.outcome.tokens for run in result.measured.runs}
    first = result.rows[0].entry
    lines = []
    for entry, tokens in said.items():
        same = agreeing(tokens, said[first])
        versions = ENGINES[entry.engine].versions
        lines.append(
            f"{entry.engine} {entry.dtype}: first {same} of {len(tokens)} greedy tokens as "
            f"{' '.join(first)}" + (f"; {versions}" if versions else "")
        )
    return lines
