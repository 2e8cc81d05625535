"""The fast step, where this checkout has one: made for a visit, and its jobs each alone.

What is asked of `minigpt.fast.cuda`: `FastStep(model, graph=False)` runs a pass as the model does
(`minigpt.inference.device.Forward`), its decode steps in one launch or as a graph of a launch for
each job; `alone(token, cache)` gives each job of a step as (name, run, result, expected): `run`
launches it, `result` reads what it wrote, `expected` is what NumPy makes of what it read.
"""

from collections.abc import Iterator
from typing import Any

import cupy

from gpu_visit.stages import Result, Row, tried
from gpu_visit.visit import Visit

NONE = ("the fast step", "not run", "this checkout has no minigpt/fast/cuda with a FastStep")


def engine(visit: Visit, graph: bool = False) -> tuple[Any, list[Row]]:
    """The fast step of a visit's model; None and a row that says why, where there is none."""
    try:
        from minigpt.fast.cuda import FastStep
    except ImportError:
        return None, [NONE]
    what = "the fast step as a graph" if graph else "the fast step"
    return tried(what, lambda: FastStep(visit.model, graph=graph))


def jobs(visit: Visit) -> Iterator[Result]:
    """Each job of a step at half of all keys, alone, against NumPy; how long it takes."""
    from gpu_visit.truth import relative

    step, rows = engine(visit)
    yield {"rows": rows}
    if step is None:
        return
    keys = visit.keys[1]
    cache = visit.model.new_cache(1, keys)
    visit.model(visit.tokens(keys - 1), cache)
    for name, run, result, expected in step.alone(visit.tokens(1), cache):
        run()
        error = relative(cupy.asnumpy(result()), expected)
        stop = visit.device.stopwatch()
        run()
        seconds = stop()
        found = {"relative_error": error, "seconds": seconds}
        row = (f"job {name}", f"relative error {error:.2e}", f"{1e6 * seconds:.1f} µs alone")
        yield {name: found, "rows": [row]}
