"""A float32 model stays one: NumPy 2's scalars are strong, one would double every activation."""

import numpy as np
import pytest
from helpers import SMALL, cases, numbers, opened, run
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.models.gpt2 import GPT2


def made(case, seed):
    """The dtypes of all that the operations of a float32 run made, those in composites too."""
    with opened():
        ledger = run(case, numbers(seed, case.config.vocab_size)).logits[0].ledger
    return {charge.result.dtype.name for charge in ledger.charges.values() if charge.result}


@settings(max_examples=50)
@given(cases(), st.integers(0, 2**32 - 1))
def test_no_operation_of_a_float32_run_makes_float64(case, seed):
    assert made(case, seed) == {"float32", "bool"}


@pytest.mark.parametrize("architecture", SMALL)
def test_nor_does_one_of_another_architecture(architecture):
    assert made(SMALL[architecture], 0) <= {"float32", "bool", "int64"}


@settings(max_examples=50)
@given(cases(), st.integers(0, 2**32 - 1))
def test_counting_changes_no_bit_of_the_logits(case, seed):
    make = numbers(seed, case.config.vocab_size)
    weights = {key: make(shape, np.float32) for key, shape in case.config.shapes().items()}
    model = GPT2(case.config, weights)
    cache = model.new_cache(case.batch, case.capacity)
    bare = [model(make((case.batch, T), int), cache, case.logits) for T in case.chunks]
    counted = run(case, numbers(seed, case.config.vocab_size)).logits
    for a, b in zip(bare, counted, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert a.tobytes() == b.data.tobytes()
