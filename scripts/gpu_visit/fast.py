"""The fast step, where this checkout has one: a kernel that replays the jobs of a decode step."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from counting import Counted, category
from gpu_visit.stages import Result, Row, tried
from gpu_visit.visit import Run, Visit, relative, spread
from minigpt.fast.cublas_array import CublasArray
from minigpt.inference.device import to_host
from minigpt.models.gpt2 import GPT2

NAME = "the fast step"


def engine(visit: Visit) -> "tuple[Engine | None, list[Row]]":
    """A visit's model with the fast step; None and a row that says why, where it does not run."""
    if rows := absent():
        return None, rows
    if visit.dry or not visit.peers:
        why = "the stand-in runs no kernel" if visit.dry else "this process is for the reference"
        return None, [(NAME, "not run", why)]
    return tried(NAME, lambda: Engine(visit, kernels(visit)))


def absent() -> list[Row]:
    """A row that says why, where there is no fast step."""
    try:
        from minigpt.fast.cuda import launch, step  # noqa: F401
    except ImportError as error:
        return [(NAME, "not run", f"this checkout has none: {error}")]
    return []


def kernels(visit: Visit) -> Any:
    """What launches jobs: on the GPU, or in a dry run on this CPU, by g++ from the same source."""
    if not visit.dry:
        from minigpt.fast.cuda.launch import Compiled

        return Compiled()
    from emulator import Emulator, built  # beside the stand-in for CuPy

    return Emulator(built(), blocks=6)


class Engine:
    """A model whose decode steps run as one kernel.

    Args:
        visit: whose model it is.
        launched_by: what launches jobs, see `kernels`.

    Attributes:
        model: by its code, of weights that lie as the kernel reads them.
        forward: runs a pass as it does.

    Raises:
        ValueError: a step is not known to the kernel, and would run by the model's code.
    """

    def __init__(self, visit: Visit, launched_by: Any) -> None:
        from minigpt.fast.cuda.step import Fast

        self.visit = visit
        with category("weights"):
            weights = {key: Counted(_turned(visit, key), visit.ledger) for key in visit.weights}
        self.model = GPT2(visit.config, weights)
        self.forward = Fast(self.model, weights, launched_by)
        self.token, self.cache = visit.tokens(1), self.model.new_cache(1, visit.config.n_positions)
        visit.fill(self.cache)

    def step(self, keys: int) -> Any:
        """The recorded step that looks at `keys` keys, itself among them; it has not run."""
        for layer in self.cache.layers:
            layer.length = keys - 1
        step = self.forward.step(self.cache)
        if step is None:
            raise ValueError("the step is run by the model's own code")
        return step

    def at(self, keys: int) -> Any:
        """The same, run once: token and position lie on the GPU then."""
        step = self.step(keys)
        self.forward(self.token, self.cache)
        return step

    def called(self, keys: int) -> Run:
        """As it is called: a launch, and what is charged for it."""
        self.at(keys)

        def run() -> Any:
            for layer in self.cache.layers:
                layer.length = keys - 1
            return self.forward(self.token, self.cache)

        return run

    def launched(self, keys: int) -> Run:
        """The kernel alone."""
        step = self.at(keys)
        return lambda: step.launch(keys - 1)

    def graph(self, keys: int) -> Run:
        """A launch for each phase, as a captured graph."""
        return self.at(keys).graph().launch


def _turned(visit: Visit, key: str) -> Any:
    """A weight with its rows, (out, in), one after another."""
    array = visit.weights[key].data
    if visit.config.layout(key, array.ndim) != "columns":
        return array
    return CublasArray(array.data.T.copy(order="C").T)


def jobs(visit: Visit) -> Iterator[Result]:
    """A step at half of all keys, layer by layer against the model's code, and each phase alone."""
    fast, rows = engine(visit)
    yield {"rows": rows}
    if fast:
        yield _layers(fast, visit.keys[1])
        yield _phases(fast, visit.keys[1])


def _layers(fast: Engine, keys: int) -> Result:
    """What each layer caches, which is all that it gets from those before, and the logits."""
    found = []
    fast.at(keys)
    for forward in (fast.model, fast.forward):
        for layer in fast.cache.layers:
            layer.length = keys - 1
            for held in (layer.k, layer.v):
                held[:, :, keys - 1 : keys] = np.nan  # nobody may rely on what is in it
        logits = to_host(forward(fast.token, fast.cache).data)
        cached = [
            to_host(held.data[:, :, keys - 1 : keys]).astype(np.float32)
            for layer in fast.cache.layers
            for held in (layer.k, layer.v)
        ]
        found.append([*cached, logits])
    names = [f"h.{i} {what}" for i in range(len(fast.cache.layers)) for what in "kv"]
    errors = {
        name: relative(ours, reference)
        for name, reference, ours in zip([*names, "logits"], *found, strict=True)
    }
    wrong = [name for name, error in errors.items() if not error < 1e-2]
    first = f"FIRST WRONG: {wrong[0]}, {errors[wrong[0]]:.2e}" if wrong else "all are right"
    row = (f"{NAME}: keys and values of layers, logits", f"worst {max(errors.values()):.2e}", first)
    return {"layers": errors, "rows": [row]}


def _phases(fast: Engine, keys: int) -> Result:
    """Seconds of jobs between two meetings of all blocks, launched alone, by what they are."""
    step, stopwatch = fast.at(keys), fast.visit.device.stopwatch
    times: dict[str, list[float]] = defaultdict(list)
    moved: dict[str, int] = {}
    for first, count in step.phases:
        jobs = step.jobs[first : first + count]
        name = ", ".join(_named(job) for job in jobs)
        moved[name] = sum(2 * job["K"] * job["N"] for job in jobs if job.structure == "Product")
        for _ in range(3):
            stop = stopwatch()
            step.launch(keys - 1, first, count)
            times[name].append(stop())
    rows: list[Row] = []
    found: Result = {}
    for name, seconds in times.items():
        found[name] = {**spread(seconds), "weight_bytes": moved[name]}
        s = found[name]["median_s"]
        rate = f"{moved[name] / s / 1e9:,.0f} GB/s of weights"
        rows.append((f"{len(seconds) // 3} x {name}", f"{1e6 * s:.1f} µs alone", rate))
    return {"phases": found, "rows": rows}


def _named(job: Any) -> str:
    """A job by its structure, a product with its sizes."""
    return f"Product {job['K']} x {job['N']}" if job.structure == "Product" else job.structure
