"""How often the kernels really multiply and add, beside what the ledger charges for the same step.

The ledger is charged by the model's code, never by kernels. Where a kernel does more, here is what,
and how much: to the last multiplication.
"""

from math import log2

import numpy as np
import pytest
from emulator import NUMBERS, Emulator
from gpu import stand_in  # noqa: F401
from helpers import numbers
from steps import CAPACITY, MODELS, Subject

from counting.views import matmul

LANES = NUMBERS["LANES"]


def beyond(job, kernels):
    """What a job multiplies and adds beyond its products, by reason."""
    found, warps = {}, kernels.threads // LANES
    if job.structure == "Product":
        if job["made_of"] in (NUMBERS["LAYER_NORM"], NUMBERS["RMS_NORM"]):
            found["squares of a norm, in each block"] = kernels.blocks * job["K"]
        if job["made_of"] == NUMBERS["PARTS"]:
            found["splits joined, in each block"] = kernels.blocks * job["K"] * job["splits"] * 2
    if job.structure == "Attention":
        heads, S, D, units = job["heads"], job["S"], job["D"], job["heads"] * job["splits"]
        threads = D // 8  # that share a key
        found["sums of weights, in each thread of a key"] = heads * S * threads
        trees = units * kernels.threads * log2(LANES / threads) * 9
        found["the keys of a warp joined in a tree"] = trees
        found["warps joined"] = units * D * warps * 2
        if job["cos"]:
            found["queries turned, in each group of threads"] = units * kernels.threads * 8
            found["the newest key turned, by each head that reads it"] = heads * D
    return found


def products(job):
    """What the text says that a job multiplies and adds in products of matrices."""
    if job.structure == "Attention":
        return 2 * job["heads"] * job["S"] * job["D"]
    return job["K"] * job["N"] if job.structure == "Product" else 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("blocks", "threads"), [(1, 64), (4, 96)])
def test_what_kernels_multiply_beyond_the_ledger_has_a_name(cupy, library, model, blocks, threads):
    kernels = Emulator(library, blocks, threads)
    subject = Subject(MODELS[model], kernels)
    make, cache = numbers(1, MODELS[model].vocab_size), subject.model.new_cache(1, CAPACITY)
    subject.fast(make((1, 11), int), cache)
    kernels.counted()
    before = subject.ledger.snapshot()
    subject.fast(make((1, 1), int), cache)
    charged = subject.ledger.snapshot() - before
    multiplied, exponentials = kernels.counted()
    jobs = [at(job, cache.length) for job in subject.fast.step(cache).jobs]
    assert sum(map(products, jobs)) == matmul(charged) // 2
    extra = sum(sum(beyond(job, kernels).values()) for job in jobs)
    assert multiplied == matmul(charged) // 2 + extra
    # Each thread of a key takes one exponential for it, and one more for what it found before.
    attention = [job for job in jobs if job.structure == "Attention"]
    weights = sum(job["heads"] * job["S"] * job["D"] // 8 for job in attention)
    assert weights <= exponentials
    assert charged.cost.by_kind()["exp"] <= exponentials


def at(job, length):
    """A job as it is when so many keys are there."""
    if job.structure == "Attention":
        job.fields["S"] = length
    return job


def test_all_multiplications_are_counted(library):
    """Of a product whose sizes are known, and no more."""
    from emulator import job, poisoned

    kernels = Emulator(library, 2, 64)
    x, w, y = np.ones(72, np.float32), np.ones((9, 72), np.float16), poisoned(9)
    kernels.counted()
    kernels.run(job("Product", K=72, N=9, parts=1, x=x, w=w, y=y))
    assert kernels.counted() == [72 * 9, 0]
