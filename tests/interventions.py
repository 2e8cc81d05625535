"""Small models of every family, passes over them, and a function that changes what they compute."""

import families
import numpy as np
from helpers import Case, numbers

from counting import Counted


def drawn(name, seed):
    """A small model of a family, and passes over it: a prompt, then tokens."""
    rng = np.random.default_rng(seed)
    config = families.read(name, families.small(name))
    prompt, batch = int(rng.integers(2, 9)), int(rng.integers(1, 3))
    chunks = (prompt, *rng.choice([1, 1, 2, 3], size=rng.integers(1, 4)).tolist())
    return Case(config, batch, chunks, sum(chunks) + int(rng.integers(0, 3))), rng


def weights(case, seed):
    make = numbers(seed, case.config.vocab_size)
    return {key: make(shape, np.float32) for key, shape in case.config.shapes().items()}


def passes(model, case, rows):
    """The logits of each pass, as bare arrays."""
    cache, found, at = model.new_cache(case.batch, case.capacity), [], 0
    for T in case.chunks:
        found.append(bare(model(rows[:, at : at + T], cache, "all")).copy())
        at += T
    return found


def bare(x):
    return x.data if type(x) is Counted else x


def same(some, others):
    return all(np.array_equal(x, y) for x, y in zip(some, others, strict=True))


def moved(seed):
    """A function that makes other numbers of an array, the same of the same."""

    def function(value):
        noise = np.random.default_rng(seed).standard_normal(value.shape)
        return (0.5 * bare(value) + noise).astype(value.dtype)

    return function


def rows_of(case, rng):
    return rng.integers(case.config.vocab_size, size=(case.batch, sum(case.chunks)))
