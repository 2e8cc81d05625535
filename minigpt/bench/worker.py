"""One engine in a process of its own: `python -m minigpt.bench.worker JOB`, JOB a JSON object.

It prints one JSON array, the Outcome; whatever else the engine prints goes to standard error.
"""

import json
import os
import statistics
import sys
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from counting.process_memory import resident
from minigpt.bench.engines import ENGINES, Generate
from minigpt.errors import InputError


class Case(NamedTuple):
    """Prompts to run together: `batch` of them, each of `length` tokens."""

    length: int
    batch: int = 1


class Job(NamedTuple):
    """What to run.

    Attributes:
        folder: the checkpoint.
        cases: to run one after the other.
        new: tokens to generate after each prompt.
        warm: run each case once before it is timed, and then several times.
    """

    engine: str
    dtype: str
    folder: str
    threads: int
    vocabulary: int
    cases: tuple[Case, ...]
    new: int = 1
    warm: bool = False


class Timed(NamedTuple):
    """What came of a case.

    Attributes:
        prompt_s: seconds from the prompts to their first tokens, the median.
        between_s: seconds between the steps that give the others.
        tokens: those generated after each prompt.
    """

    prompt_s: float
    between_s: list[float]
    tokens: list[list[int]]


class Outcome(NamedTuple):
    """What came of a job: of each case, and the most memory that was resident, where it is known.

    Mapped files are in it.
    """

    cases: list[Timed]
    peak_bytes: int | None


def work(job: Job) -> Outcome:
    """Loads the engine and runs the job."""
    module, _, function = ENGINES[job.engine].load.partition(":")
    load = getattr(import_module(module), function)
    context = max(case.length for case in job.cases) + job.new
    batch = max(case.batch for case in job.cases)
    generate: Generate = load(Path(job.folder), job.dtype, job.threads, context, batch)
    cases = [_timed(generate, job, case) for case in job.cases]
    memory = resident()  # of this process; getrusage's peak would include its parent's
    return Outcome(cases, memory.peak if memory else None)


def _timed(generate: Generate, job: Job, case: Case) -> Timed:
    # Any tokens do, but not one over and over: its row would stay in the cache.
    prompts = [
        [(7 + 7919 * i + 104729 * k) % job.vocabulary for i in range(case.length)]
        for k in range(case.batch)
    ]
    repeats = max(3, 64 // case.length) if job.warm else 1
    firsts = []
    for _ in range(job.warm + repeats):
        marks = [time.perf_counter()]
        tokens = generate(prompts, job.new, lambda: marks.append(time.perf_counter()))  # noqa: B023
        firsts.append(marks[1] - marks[0])
    between = [b - a for a, b in pairwise(marks[1:])]
    return Timed(statistics.median(firsts[-repeats:]), between, tokens)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    given: dict[str, Any] = json.loads(sys.argv[1])
    try:
        outcome = work(Job(**given | {"cases": tuple(Case(*case) for case in given["cases"])}))
    except InputError as error:
        sys.exit(f"{error}")
    print(json.dumps(outcome), file=answers, flush=True)


if __name__ == "__main__":
    main()
