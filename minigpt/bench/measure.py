"""The benchmarks of `minigpt bench`: each engine in turn, on one checkpoint, in fresh processes."""

import json
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from minigpt.bench.engines import ENGINES, Entry, agreeing
from minigpt.bench.report import Row, cliffs, compared, floor_bytes, markdown, table
from minigpt.bench.rounds import Measured, bandwidth, interleaved, start
from minigpt.bench.subject import Subject, subject
from minigpt.bench.worker import Case, Job, Outcome
from minigpt.commands.terminal import console, doing
from minigpt.errors import InputError
from minigpt.planning.hardware import processor_name, threads
from minigpt.schema import SCHEMA

SWEEP = (1, 2, 4, 8, 16, 32, 64)
MOST = 256  # sequences together


class Result(NamedTuple):
    """What a benchmark found: its rows, the runs that they are made of, what failed and why."""

    rows: list[Row]
    measured: Measured
    left_out: list[str]

    @property
    def notes(self) -> list[str]:
        """What is to be said of the runs."""
        notes = list(self.left_out)
        if self.measured.repeated:
            notes.append(
                f"{self.measured.repeated} runs were repeated: the memory was slower or faster then"
            )
        if self.measured.outside:
            notes.append(
                f"{self.measured.outside} such runs count all the same: their engine has no others"
            )
        return notes

    def document(self) -> dict[str, Any]:
        """The result as a JSON object, with the machine that it is of."""
        engines = dict.fromkeys(row.entry.engine for row in self.rows)
        return {
            "schema": SCHEMA,
            "rows": [row.record() for row in self.rows],
            "bandwidth_gb_s": self.measured.bandwidth / 1e9,
            "processor": processor_name(),
            "cores": threads(),
            "versions": {name: ENGINES[name].versions for name in engines},
            "notes": self.notes,
        }


def measure(
    phase: str,
    model: str,
    chosen: Sequence[Entry],
    rounds: int,
    cases: Sequence[Case],
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
        cases: prompts of several lengths for a prefill only, several at once for a decode only.
        new_tokens: generated after each prompt; at least 2 for a decode.

    Raises:
        InputError: an option cannot be used, or no engine runs.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; it must be at least 1")
    about = subject(model)
    _check_sizes(about, cases, new_tokens, least=2 if phase == "decode" else 1)
    job = Job(
        engine="",
        dtype="",
        folder=str(about.folder),
        threads=threads(),
        vocabulary=about.config.vocab_size,
        cases=tuple(cases),
        new=new_tokens,
        warm=phase == "prefill",
    )
    with doing("") as say:

        def run(entry: Entry) -> tuple[Outcome, float]:
            say(f"{phase} of {about.name}: {entry.engine} {entry.dtype}")
            return start(job._replace(engine=entry.engine, dtype=entry.dtype))

        def second_start(entry: Entry) -> tuple[Outcome, float]:
            run(entry)  # others have been in the page cache since the last
            return run(entry)

        present, left_out = _started(chosen, job)
        timed = second_start if phase == "load" else run
        measured = interleaved(present, rounds, timed, lambda: bandwidth(threads()))
    rows = compared([row for entry in present for row in _rows(phase, about, entry, job, measured)])
    return Result(rows, measured, left_out)


def _check_sizes(about: Subject, cases: Sequence[Case], new: int, least: int) -> None:
    if new < least:
        raise InputError(f"new tokens are {new}; there must be at least {least}")
    context = about.config.n_positions
    for length, batch in cases:
        if not 1 <= batch <= MOST:
            raise InputError(f"the batch is {batch}; it must be from 1 to {MOST}")
        if length < 1 or length + new > context:
            raise InputError(
                f"{length} prompt tokens and {new} new ones: there must be at least 1, and at most "
                f"{context} together, the context of {about.name}"
            )


def _started(chosen: Sequence[Entry], job: Job) -> tuple[list[Entry], list[str]]:
    """Those of the entries that start, and what is to be said of the others."""
    present, left_out = [], []
    for entry in chosen:
        try:
            start(job._replace(engine=entry.engine, dtype=entry.dtype, cases=(Case(1),), new=1))
            present.append(entry)
        except InputError as error:
            left_out.append(f"left out: {error}")
    if not present:
        raise InputError("; ".join(left_out))
    return present, left_out


def _rows(phase: str, about: Subject, entry: Entry, job: Job, measured: Measured) -> list[Row]:
    """The rows of an entry: one for each case."""
    runs = [run for run in measured.runs if run.entry == entry]
    peak = max((run.outcome.peak_bytes for run in runs if run.outcome.peak_bytes), default=None)
    rows = []
    for at, (length, batch) in enumerate(job.cases):
        timed = [run.outcome.cases[at] for run in runs]
        new, past, name = 1, 0, phase
        if phase == "decode":
            seconds = [statistics.median(case.between_s) for case in timed]
            past = length + job.new // 2
            name = phase if batch == 1 else f"{phase}-{batch}"
        elif phase == "load":
            seconds = [run.answer_s for run in runs]
        else:
            seconds = [case.prompt_s for case in timed]
            new = length
            name = phase if len(job.cases) == 1 else f"{phase}-{length}"
        tokens = new * batch
        floor = floor_bytes(about.config, entry.dtype, new, past, batch) / measured.bandwidth
        times = tuple(1000 * s / tokens for s in seconds)
        rows.append(Row(entry, about.name, name, times, 1000 * floor / tokens, peak, tokens))
    return rows


def show(result: Result, as_json: bool, *more: str, as_markdown: bool = False) -> None:
    """Prints a result: its table, then its notes, and `more` unless that is Markdown.

    With `as_json` the last line is the document.
    """
    if as_markdown:
        print(markdown(result.document()))
    else:
        _show(result, *more)
    if as_json:
        print(json.dumps(result.document()))


def _show(result: Result, *more: str) -> None:
    out = console()
    out.print(table(result.rows))
    lines = [f"memory {result.measured.bandwidth / 1e9:.1f} GB/s, {threads()} threads"]
    missing = [e for e in ENGINES.values() if not e.installed]
    lines += [f"not installed: {e.name} ({' '.join(e.packages.values())})" for e in missing]
    for line in (*lines, *result.notes, *more):
        out.print(line, highlight=False)


def cliff_lines(result: Result) -> list[str]:
    """Of each engine, which passes cost more than the same rows, or sequences, in smaller ones."""
    lines = []
    for entry in dict.fromkeys(row.entry for row in result.rows):
        times = {row.tokens: row.tokens * row.ms for row in result.rows if row.entry == entry}
        found = [f"{n} rows {factor:.2f} times" for n, factor in cliffs(times).items()]
        what = f"a cliff: {', '.join(found)} what fewer take" if found else "no cliff"
        lines.append(f"{entry.engine} {entry.dtype}: {what}")
    return lines


def agreement(result: Result) -> list[str]:
    """How far the greedy tokens of each engine are those of the first, and its versions."""
    runs = result.measured.runs
    said = {run.entry: [s for case in run.outcome.cases for s in case.tokens] for run in runs}
    first, *others = dict.fromkeys(row.entry for row in result.rows)
    lines = []
    for entry in (first, *others):
        sequences = said[entry]
        same, of = agreeing(sequences, said[first]), sum(map(len, sequences))
        versions = ENGINES[entry.engine].versions
        lines.append(
            f"{entry.engine} {entry.dtype}: {same} of {of} greedy tokens before one that differs "
            f"from {' '.join(first)}" + (f"; {versions}" if versions else "")
        )
    return lines
