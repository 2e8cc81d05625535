"""Each job of the fast step launched alone, beside the NumPy line that it must equal."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import cupy
import numpy as np

from gpu_visit import fast
from gpu_visit.held import arrays
from gpu_visit.lines import NUMBERS, joined, line, within
from gpu_visit.stages import Result
from gpu_visit.visit import Visit, relative
from minigpt.fast.cuda.job import Job, entries, linked, table

MADE_OF = ("PLAIN", "LAYER_NORM", "RMS_NORM", "GATED", "PARTS")
ACTS = ("GELU", "GELU_EXACT", "SILU", "RELU")


class Launched(NamedTuple):
    """A job, where it stands, and its launch; its addresses are the GPU's."""

    place: str
    job: Job
    launch: Callable[[], None]


def alone(visit: Visit) -> Iterator[Result]:
    """All jobs of a step at half of all keys in order, then those that GPT-2 has no use for.

    Each is given what lies on the GPU then, and leaves its result where NaN was. Where that is
    wrong, what is right is put there for those that follow.
    """
    rows = fast.absent()
    if visit.dry and not shutil.which("g++"):
        rows = [(fast.NAME, "not run", "g++ would run its kernels here, and is missing")]
    if rows:
        yield {"rows": rows}
        return
    kernels, keys = fast.kernels(visit), visit.keys[1]
    kinds: dict[str, list[float]] = defaultdict(list)
    wrong = 0
    for place, job, launch in chain(_of_step(visit, kernels, keys), _others(visit, kernels, keys)):
        kind = _kind(job)
        try:
            error, most, where = _compared(job, launch)
        except Exception as broken:  # after an error of CUDA nothing more can be launched
            raise RuntimeError(f"FIRST TO BREAK: {place}, {kind}: {broken}") from broken
        kinds[kind].append(error)
        found: Result = {place: {"job": kind, "relative_error": error}, "rows": []}
        if not error <= within(job.structure, job.fields):
            said = f"{place}, {kind}: relative error {error:.2e}, at most {most:.2e} in {where}"
            found[place]["wrong"] = said
            found |= {} if wrong else {"error": f"FIRST WRONG: {said}"}
            wrong += 1
        yield found
    rows = [
        (f"{len(errors)} x {kind}", f"relative error {max(errors):.2e}", "alone, against NumPy")
        for kind, errors in kinds.items()
    ]
    yield {"wrong": wrong, "rows": rows}


def _of_step(visit: Visit, kernels: Any, keys: int) -> Iterator[Launched]:
    engine = fast.Engine(visit, kernels)
    step = engine.step(keys)
    step.begin(int(engine.token[0, 0]), keys - 1)
    for i, job in enumerate(step.placed(keys - 1)):
        yield Launched(f"job {i}", job, lambda i=i: step.launch(keys - 1, i, 1))


def _others(visit: Visit, kernels: Any, keys: int) -> Iterator[Launched]:
    """Jobs of other families, and those that are fused for GPT-2, at its sizes."""
    C, H, ring = visit.config.n_embd, visit.config.n_head, kernels.depth * kernels.threads * 16
    D, capacity = C // H, visit.config.n_positions
    x, gain, shift, y = (visit.rng.standard_normal((C,), dtype=np.float32) for _ in range(4))
    cache, done, state = (
        cupy.zeros(size, dtype)
        for size, dtype in ((C * capacity, np.float16), (1, np.uint32), (1, np.int64))
    )
    norm = {"rows": 1, "d": C, "x": x, "gain": gain, "y": y, "epsilon": 1e-5}
    one = {"length1": 1, "length2": 1, "length3": 1, "to4": 1, "a4": 1}
    add = {"code": NUMBERS["ADD"], "rows": 1, "d": C, "to": y, "a": x, "b": gain, "b4": 1}
    to = cache[(keys - 1) * D :]
    copy = {"code": NUMBERS["COPY"], "half": 1, "rows": H, "d": D, "to": to, "a": x}
    given = {
        "a norm": ("Norm", norm | {"shift": shift}),
        "a norm without a mean": ("Norm", norm),
        "a sum": ("Rows", add | one),
        "a copy into a cache": ("Rows", copy | one | {"to0": capacity * D, "a0": D}),
        "a position": ("Position", {"n": keys - 1, "y": y}),
    }
    for place, (structure, fields) in given.items():
        words = {k: v.data.ptr if isinstance(v, cupy.ndarray) else v for k, v in fields.items()}
        job = Job(structure, words)
        linked([job])
        numbers = table([job])
        jobs = cupy.asarray(entries(numbers, np.zeros_like(numbers)))

        def launch(jobs: Any = jobs) -> None:
            kernels.launch(jobs, (0, 1), done, state, ring, False)

        yield Launched(place, job, launch)


class Apart(NamedTuple):
    """How far a job is from its line: relative to the norm, and where one number is farthest."""

    error: float
    most: float
    where: str


def _compared(job: Job, launch: Callable[[], None]) -> Apart:
    """Launches a job, and compares what it left."""
    held = arrays(job)
    given = {name: value for name, value in job.fields.items() if value}
    right = line(job.structure, given | {name: own.array for name, own in held.items()})
    for name in right:
        poisoned = held[name].array[:, -1:] if name in ("k", "v") else held[name].array
        poisoned[...] = np.nan
        held[name].write()
    launch()
    found = []
    for name, expected in right.items():
        held[name].read()
        found.append(_apart(job, name, held[name].array, expected))
        if not found[-1].error <= within(job.structure, job.fields):
            held[name].array[...] = expected
            held[name].write()
    return max(found)


def _apart(job: Job, name: str, x: np.ndarray, expected: np.ndarray) -> Apart:
    if job.structure == "Attention" and name == "y":
        x, expected = joined(x), joined(expected)
    x, expected = x.astype(np.float32), expected.astype(np.float32)
    apart = np.nan_to_num(np.abs(x - expected), nan=np.inf)
    at = np.unravel_index(int(apart.argmax()), apart.shape)
    where = f"{name}[{', '.join(map(str, at))}], {x[at]:.6g} for {expected[at]:.6g}"
    return Apart(relative(x, expected), float(apart[at]), where)


def _kind(job: Job) -> str:
    """What a job is, a product with all that goes before and after it."""
    if job.structure != "Product":
        return job.structure
    before = next(name for name in MADE_OF if NUMBERS[name] == job["made_of"])
    acts = [name for name in ACTS if NUMBERS[name] == job["act"]]
    after = [name for name in ("bias", "residual") if job[name]]
    words = ", ".join(name.lower() for name in (before, *after[:1], *acts, *after[1:]))
    return f"Product {job['K']} x {job['N']} ({words})"
