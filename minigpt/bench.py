"""Benchmarks: ratios of things run in turn in one process, never single times."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from counting import Counted, Ledger, category
from minigpt.config import GPT2_SIZES
from minigpt.errors import InputError
from minigpt.gpt2 import GPT2


@dataclass(frozen=True)
class Overhead:
    """What counting adds to a decoded token, from pairs of one bare and one counted step."""

    model: str
    keys: int
    pairs: int
    bare_ms: float
    counted_ms: float
    percent: float  # median over the pairs of counted / bare - 1
    percent_quartiles: tuple[float, float]
    operations: int  # recorded in one step

    as_dict = asdict


def overhead(model: str = "gpt2", pairs: int = 40, keys: int = 128) -> Overhead:
    """The same decode step bare and counted, in turn, on the same random weights.

    The counted step includes what `generate` does for a record: snapshot, difference, totals.

    Args:
        model: a GPT-2 size, "gpt2" to "gpt2-xl".
        pairs: how many pairs to time.
        keys: tokens in the cache when the step begins.

    Raises:
        InputError: the model is unknown, or keys do not fit its context.
    """
    if model not in GPT2_SIZES:
        raise InputError(f"unknown model {model!r}: {', '.join(GPT2_SIZES)}")
    config = GPT2_SIZES[model]
    if pairs < 1 or not 1 <= keys < config.n_positions:
        raise InputError(f"pairs must be at least 1, keys from 1 to {config.n_positions - 1}")
    rng = np.random.default_rng(0)
    weights = {
        key: rng.standard_normal(shape, np.float32) * np.float32(0.02)
        for key, shape in config.shapes().items()
    }
    ledger = Ledger()
    with category("weights"):
        counted_weights = {key: Counted(array, ledger) for key, array in weights.items()}
    bare, counted = GPT2(config, weights), GPT2(config, counted_weights)
    step_bare, step_counted = _step(bare, keys), _step(counted, keys)
    before = ledger.snapshot()

    def counted_and_recorded() -> int:
        nonlocal before
        step_counted()
        after = ledger.snapshot()
        counts, before = after - before, after
        return int(counts.total("calls"))

    step_bare()
    operations = counted_and_recorded()
    times: dict[Callable[[], object], list[float]] = {step_bare: [], counted_and_recorded: []}
    for pair in range(pairs):
        for step in list(times)[:: 1 if pair % 2 else -1]:
            began = time.perf_counter()
            step()
            times[step].append(time.perf_counter() - began)
    a, b = times[step_bare], times[counted_and_recorded]
    percents = sorted(100 * (y / x - 1) for x, y in zip(a, b, strict=True))
    return Overhead(
        model=model,
        keys=keys,
        pairs=pairs,
        bare_ms=1000 * statistics.median(a),
        counted_ms=1000 * statistics.median(b),
        percent=statistics.median(percents),
        percent_quartiles=(percents[pairs // 4], percents[3 * pairs // 4]),
        operations=operations,
    )


def _step(model: GPT2, keys: int) -> Callable[[], object]:
    """A decode step that leaves its cache as it was."""
    cache = model.new_cache(1, keys + 1)
    for layer in cache.layers:
        layer.k[:] = 0.01
        layer.v[:] = 0.01
    token = np.array([[7]])

    def step() -> object:
        for layer in cache.layers:
            layer.length = keys
        return model(token, cache)

    return step
