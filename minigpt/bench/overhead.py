"""What counting adds to a decoded token: a bare and a counted step on the same arrays, in turn."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigpt.bench.own import recorder, uncounted
from minigpt.bench.subject import subject
from minigpt.errors import InputError
from minigpt.inference.load import LanguageModel, load


class Overhead(NamedTuple):
    """What counting adds to a decoded token, from pairs of one bare and one counted step."""

    model: str
    dtype: str
    keys: int
    pairs: int
    bare_ms: float
    counted_ms: float
    percent: float  # median over the pairs of counted / bare - 1
    percent_quartiles: tuple[float, float]
    operations: int  # recorded in one step


def overhead(
    model: str = "gpt2", pairs: int = 40, keys: int = 128, dtype: str = "float32"
) -> Overhead:
    """Decode steps bare and counted, in turn, on the same weights.

    Each step has one more key than the one before, as in `generate`, so that some of its prices
    are new; the counted ones include what it does for a record: snapshot, difference, totals.

    Args:
        model: see `bench.subject`.
        pairs: how many pairs to time.
        keys: tokens in the cache when the first step begins.
        dtype: see `minigpt.load`.

    Raises:
        InputError: the model or the dtype is unknown, or the steps do not fit its context.
    """
    about = subject(model)
    most = about.config.n_positions - pairs - 1
    if pairs < 1 or not 1 <= keys <= most:
        raise InputError(f"pairs must be at least 1, keys from 1 to {most} with {pairs} pairs")
    lm = load(about.folder, dtype=dtype)
    step_bare = _step(uncounted(lm), keys, pairs)
    step_counted = _step(lm, keys, pairs)
    record = recorder(lm.ledger)

    def counted_and_recorded() -> int:
        step_counted()
        return record()

    step_bare()
    operations = counted_and_recorded()
    times = in_turn(step_bare, counted_and_recorded, pairs)
    return Overhead(
        model=model,
        dtype=dtype,
        keys=keys,
        pairs=pairs,
        bare_ms=times.first_ms,
        counted_ms=times.second_ms,
        percent=times.percent,
        percent_quartiles=times.percent_quartiles,
        operations=operations,
    )


class Times(NamedTuple):
    """Of two that run in turn: medians, and what the second takes more in pairs."""

    first_ms: float
    second_ms: float
    percent: float  # median over the pairs of second / first - 1
    percent_quartiles: tuple[float, float]


def in_turn(first: Callable[[], object], second: Callable[[], object], pairs: int) -> Times:
    """The times of both in pairs, of which every other begins with the second."""
    times: dict[Callable[[], object], list[float]] = {first: [], second: []}
    for pair in range(pairs):
        for step in list(times)[:: 1 if pair % 2 else -1]:
            began = time.perf_counter()
            step()
            times[step].append(time.perf_counter() - began)
    a, b = times[first], times[second]
    percents = sorted(100 * (y / x - 1) for x, y in zip(a, b, strict=True))
    return Times(
        first_ms=1000 * statistics.median(a),
        second_ms=1000 * statistics.median(b),
        percent=statistics.median(percents),
        percent_quartiles=(percents[pairs // 4], percents[3 * pairs // 4]),
    )


def _step(lm: LanguageModel, keys: int, pairs: int) -> Callable[[], object]:
    """One decode step after another, the first with `keys` in the cache."""
    cache = lm.model.new_cache(1, keys + pairs + 1)
    for layer in cache.layers:
        for name in layer.HOLDS:
            getattr(layer, name)[...] = 0.01
        layer.length = keys
    token = np.array([[7]])
    return lambda: lm.forward(token, cache)
