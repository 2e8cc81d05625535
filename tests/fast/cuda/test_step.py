"""Whole decode steps: recorded, fused, and run on this CPU from the GPU's own source.

Beside them runs the model's own code on the stand-in for CuPy. No GPU code runs here.
"""

import numpy as np
import pytest
from emulator import Emulator, built
from gpu import stand_in  # noqa: F401
from helpers import numbers

from counting import Counted, Ledger, category
from minigpt.models.architectures import build
from minigpt.models.gpt2_config import GPT2Config

CAPACITY = 40


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return built(tmp_path_factory.mktemp("kernels"))


def on_gpu(config, seed=0):
    """Weights as `device.Cuda.hold` puts them on a GPU, in float16, and their ledger."""
    from minigpt.inference.device import place

    make, ledger, weights, device = numbers(seed, config.vocab_size), Ledger(), {}, place("cuda", "float16")
    for key, shape in config.shapes().items():
        way, array = config.layout(key, len(shape)), make(shape, np.float32)
        if way:
            array = (array * 2 * shape[way == "rows"] ** -0.5).astype(np.float16)
        if way == "columns":
            held = device.put(np.ascontiguousarray(array.T), True).T
        else:
            held = device.put(array, bool(way))
        with category("weights"):
            weights[key] = Counted(held, ledger)
    return weights, ledger


class Subject:
    """A model by its code, and fast."""

    def __init__(self, config, kernels):
        from minigpt.fast.cuda.step import Fast

        self.weights, self.ledger = on_gpu(config)
        self.model = build(config, self.weights)
        self.fast = Fast(self.model, self.weights, kernels)

    def passes(self, run, lengths, seed=1):
        """Logits on the host, and what each pass is recorded to have cost."""
        make, cache = numbers(seed, self.model.config.vocab_size), self.model.new_cache(1, CAPACITY)
        found = []
        for T in lengths:
            before = self.ledger.snapshot()
            logits = run(make((1, T), int), cache)
            counts = self.ledger.snapshot() - before
            cost = dict(counts), list(counts), counts.cost
            found.append((logits.data.get()[0, 0], cost))
            del logits
        return found, cache


GPT2 = GPT2Config(311, CAPACITY, 64, 2, 4)


def test_gpt2(cupy, library):
    subject = Subject(GPT2, Emulator(library))
    code, _ = subject.passes(subject.model, [5, 1, 1, 1])
    fast, cache = subject.passes(subject.fast, [5, 1, 1, 1])
    step = subject.fast.step(cache)
    print([(job.structure, job["meets"]) for job in step.jobs])
    for (a, counts), (b, same) in zip(code, fast, strict=True):
        print(np.linalg.norm(a - b) / np.linalg.norm(a))
        assert same == counts
    assert 0
