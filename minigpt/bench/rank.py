"""One of several processes that share a model: `mpiexec -n P python -m minigpt.bench.rank JOB`.

The first prints one JSON array, what each found. Each draws its part of the weights itself.
"""

import json
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from counting import Counted, Ledger, category
from counting.ledger import CATEGORIES
from minigpt.errors import InputError
from minigpt.inference.rank import of_rank
from minigpt.models.architectures import configuration
from minigpt.models.ops import Array
from minigpt.models.shard import Shard
from minigpt.parallel.communicators import MPI, Communicator
from minigpt.parallel.divide import build_part, divided
from minigpt.parallel.processes import watched

WARM = 3  # passes before those that are timed


class Job(NamedTuple):
    """What to run.

    Attributes:
        values: of the config.json.
        processes: that are to share it.
        keys: tokens in the cache before each pass, the same in all.
        passes: of one token, to be timed.
    """

    values: dict[str, Any]
    processes: int
    keys: int
    passes: int


class Found(NamedTuple):
    """What one process found.

    Attributes:
        counts: of a pass, see `of_rank`.
        pass_s: seconds of each pass, not counted while it runs.
        exchange_s: seconds of each that the ring's exchanges took.
    """

    counts: dict[str, Any]
    pass_s: list[float]
    exchange_s: list[float]


class TimedRing:
    """A device's place in a ring, with the seconds of its exchanges: to wait is part of them."""

    def __init__(self, ring: Communicator) -> None:
        self.ring, self.rank, self.size, self.seconds = ring, ring.rank, ring.size, 0.0

    def exchange(self, x: Any, width: int, distance: int = 1) -> Any:
        began = time.perf_counter()
        received = self.ring.exchange(x, width, distance)
        self.seconds += time.perf_counter() - began
        return received


def work(job: Job, ring: Communicator) -> Found:
    """Runs a device's part of a job: a pass that is counted, then passes that are timed.

    Raises:
        InputError: mpiexec started other processes than were asked for.
    """
    if ring.size != job.processes:
        what = f"mpiexec started {job.processes} processes, and MPI knows of {ring.size}"
        raise InputError(f"{what}: mpiexec is of another MPI than mpi4py's")
    config, timed = configuration(job.values, Path("the model")), TimedRing(ring)
    part = divided(config, ring.rank, ring.size)
    drawn = {key: draw(n, shape) for n, (key, shape) in enumerate(part.shapes().items())}
    ledger = Ledger((*CATEGORIES, "wire"))

    def step(weights: dict[str, Any]) -> Any:
        model = build_part(config, part, weights, timed)
        cache = model.new_cache(1, job.keys + 1)
        for layer in cache.layers:
            for name in layer.HOLDS:
                getattr(layer, name)[...] = 0.01

        def one() -> None:
            for layer in cache.layers:
                layer.length = job.keys
            model(np.array([[7 % config.vocab_size]]), cache, "last")

        return one

    with category("weights"):
        weights = {key: Counted(array, ledger) for key, array in drawn.items()}
    counted = step(weights)
    before = ledger.snapshot()
    counted()
    counts = of_rank(ledger.snapshot() - before, ledger.live_bytes, ledger.peak_bytes)
    bare, passes, exchanges = step(drawn), [], []
    for _ in range(WARM + job.passes):
        timed.seconds, began = 0.0, time.perf_counter()
        bare()
        passes.append(time.perf_counter() - began)
        exchanges.append(timed.seconds)
    return Found(counts, passes[WARM:], exchanges[WARM:])


def draw(number: int, shape: tuple[Any, ...]) -> Array:
    """A part of a tensor, normally distributed: the same on all devices that have the same part.

    Args:
        number: of the tensor.
        shape: of what is divided, a Shard.
    """
    pieces = [size.pieces if isinstance(size, Shard) else ((0, size),) for size in shape]
    rng = np.random.default_rng([number, *chain.from_iterable(chain.from_iterable(pieces))])
    values = rng.standard_normal(shape, np.float32)
    values *= 0.02
    return values


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    watched()
    try:
        ring = MPI()
        with ring.together():
            found = ring.everyone(work(job, ring))
            if ring.rank == 0:
                print(json.dumps(found), flush=True)
    except InputError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
