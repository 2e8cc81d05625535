"""One engine in a process of its own: `python -m minigpt.bench.worker JOB`, JOB a JSON object.

It prints one JSON object; whatever else the engine prints goes to standard error.
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

from minigpt.bench.engines import ENGINES, Generate
from minigpt.errors import InputError


class Job(NamedTuple):
    """What to run.

    Attributes:
        folder: the checkpoint.
        rows: lengths of prompts to run one after the other.
        new: tokens to generate after each.
        warm: run each prompt once before it is timed, and then several times.
    """

    engine: str
    dtype: str
    folder: str
    threads: int
    vocabulary: int
    rows: tuple[int, ...]
    new: int = 1
    warm: bool = False


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        prompt_s: seconds from a prompt of each length to its first token, the median.
        between_s: seconds between the tokens after the last prompt.
        tokens: those generated after the last prompt.
        peak_bytes: the most memory that was resident, mapped files included, where it is known.
    """

    prompt_s: dict[str, float]
    between_s: list[float]
    tokens: list[int]
    peak_bytes: int | None


def work(job: Job) -> Outcome:
    """Loads the engine and runs the job."""
    module, _, function = ENGINES[job.engine].load.partition(":")
    load = getattr(import_module(module), function)
    context = max(job.rows) + job.new
    generate: Generate = load(Path(job.folder), job.dtype, job.threads, context)
    prompt_s: dict[str, float] = {}
    between: list[float] = []
    tokens: list[int] = []
    for rows in job.rows:
        # Any tokens do, but not one over and over: its row would stay in the cache.
        prompt = [(7 + 7919 * i) % job.vocabulary for i in range(rows)]
        repeats = max(3, 64 // rows) if job.warm else 1
        firsts = []
        for _ in range(job.warm + repeats):
            marks = [time.perf_counter()]
            tokens = generate(prompt, job.new, lambda: marks.append(time.perf_counter()))  # noqa: B023
            firsts.append(marks[1] - marks[0])
            between = [b - a for a, b in pairwise(marks[1:])]
        prompt_s[str(rows)] = statistics.median(firsts[-repeats:])
    return Outcome(prompt_s, between, tokens, peak_bytes())


def peak_bytes() -> int | None:
    """The high-water mark of this process; getrusage's would include its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    given: dict[str, Any] = json.loads(sys.argv[1])
    try:
        outcome = work(Job(**given))
    except InputError as error:
        sys.exit(f"{error}")
    print(json.dumps(outcome._asdict()), file=answers, flush=True)


if __name__ == "__main__":
    main()
