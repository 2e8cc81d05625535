"""Models on the stand-in for CuPy: by their code, and fast, the kernels run on this CPU."""

import numpy as np
import pytest
from helpers import numbers

from counting import Counted, Ledger, category
from minigpt.models.architectures import build
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

pytest.importorskip("llvmlite")

CAPACITY = 34


def on_gpu(config, seed=0):
    """Weights as `device.Cuda.hold` puts them on a GPU, in float16, and their ledger."""
    from minigpt.inference.device import place

    make, ledger, weights, device = (
        numbers(seed, config.vocab_size),
        Ledger(),
        {},
        place("cuda", "float16"),
    )
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

    def __init__(self, config, kernels, batch=1):
        from minigpt.fast.cuda.step import Fast

        self.weights, self.ledger = on_gpu(config)
        self.model, self.batch = build(config, self.weights), batch
        self.fast = Fast(self.model, self.weights, kernels)

    def passes(self, run, lengths, seed=1):
        """Logits on the host, and what each pass is recorded to have cost."""
        make, cache = (
            numbers(seed, self.model.config.vocab_size),
            self.model.new_cache(self.batch, CAPACITY),
        )
        found = []
        for T in lengths:
            before = self.ledger.snapshot()
            logits = run(make((self.batch, T), int), cache)
            counts = self.ledger.snapshot() - before
            cost = dict(counts), list(counts), counts.cost
            found.append((logits.data.get()[:, 0], cost))
            del logits
        return found, cache


def assert_as_the_code(subject, lengths, within=2e-3):
    """Logits and caches as the model's own code has them, and each pass at the same price."""
    (code, there), (fast, here) = (
        subject.passes(run, lengths) for run in (subject.model, subject.fast)
    )
    for (a, price), (b, same) in zip(code, fast, strict=True):
        assert np.linalg.norm(a - b) < within * np.linalg.norm(a)
        assert same == price
    for one, other in zip(there.layers, here.layers, strict=True):
        for name in ("k", "v"):
            a, b = (getattr(x, name).data.data.get()[:, :, : sum(lengths)] for x in (one, other))
            assert np.linalg.norm(a - b) < within * np.linalg.norm(a)
    return here


def assert_waits(jobs):
    """Between two jobs that touch the same memory, unless both read it, is a wait."""
    for j, later in enumerate(jobs):
        for i, job in enumerate(jobs[:j]):
            apart = later.reading(job.writes) or later.writing([*job.reads, *job.writes])
            assert not apart or any(each["meets"] for each in jobs[i + 1 : j + 1])


GPT2 = GPT2Config(311, CAPACITY, 64, 2, 4)
LLAMA = llama(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    vocab_size=311,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=CAPACITY,
)
BIASED = llama(
    hidden_size=48,
    intermediate_size=72,
    num_hidden_layers=1,
    vocab_size=53,
    num_attention_heads=3,
    num_key_value_heads=1,
    max_position_embeddings=CAPACITY,
    attention_bias=True,
    mlp_bias=True,
    tie_word_embeddings=True,
)
MODELS = {"gpt2": GPT2, "llama": LLAMA, "biased llama": BIASED}
