"""Models in kernels: by their code, and replayed; bare, and counted. And in plain NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import numbers

from counting import Counted, Ledger, category
from counting.composite import fused
from minigpt.fast.fused import fused_kernels
from minigpt.fast.kernels.machine import here
from minigpt.fast.packed import PackedMatrix, narrowed
from minigpt.fast.replay import Replayed
from minigpt.models.architectures import build


@dataclass
class Subject:
    """A model in kernels, by its code and replayed, bare and counted, on the same arrays."""

    code: Any
    replayed: Any
    ledger: Ledger | None


@dataclass
class InKernels:
    """A model whose code runs with fused kernels in the place of composites."""

    model: Any

    def __call__(self, *given):
        with fused(fused_kernels(here())):
            return self.model(*given)

    def new_cache(self, *sizes):
        return self.model.new_cache(*sizes)


def subject(config, dtype, counts, seed=0):
    """A model of random weights on this machine's kernels."""
    weights, ledger = _weights(config, dtype, counts, seed, here())
    model = build(config, weights)
    return Subject(InKernels(model), Replayed(model, weights, here()), ledger)


def plain(config, dtype, counts=True, seed=0):
    """The same model in NumPy alone."""
    weights, ledger = _weights(config, dtype, counts, seed, None)
    return Subject(build(config, weights), None, ledger)


def _weights(config, dtype, counts, seed, machine):
    make, ledger, weights = numbers(seed, config.vocab_size), Ledger(), {}
    for key, shape in config.shapes().items():
        way, array = config.layout(key, len(shape)), make(shape, np.float32)
        if way:
            array *= 2 * shape[way == "rows"] ** -0.5  # sums are as large as what is summed up
            rows, scale = narrowed(
                np.ascontiguousarray(array.T) if way == "columns" else array, dtype
            )
            array = PackedMatrix(rows, scale, way == "columns", machine)
        with category("weights"):
            weights[key] = Counted(array, ledger) if counts else array
    return weights, ledger if counts else None


def taken(run, given, ledger):
    """What a pass gives, and what it is recorded to have cost."""
    if ledger is None:
        return run(*given), None
    before = ledger.snapshot()
    logits = run(*given).data
    counts = ledger.snapshot() - before
    return logits, (dict(counts), list(counts), counts.cost, ledger.live_bytes, ledger.peak_bytes)
