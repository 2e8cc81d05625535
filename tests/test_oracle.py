"""What is recorded is what happens: the same run on numbers, on shapes, on Scalars, on symbols."""

from collections import Counter
from functools import cache

import numpy as np
import sympy
from helpers import DRAWN, Case, cases, counting_scalars, numbers, run
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import ShapeArray
from minigpt.models.gpt2_config import GPT2Config

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=100)
@given(cases(), SEEDS)
def test_numbers_shapes_and_executed_scalars_give_one_record(case, seed):
    DRAWN["numbers, shapes and executed scalars agree"] += 1
    vocab, tally = case.config.vocab_size, Counter()
    for dtype in (np.float32, np.float64):
        real, shapes = run(case, numbers(seed, vocab), dtype), run(case, ShapeArray, dtype)
        assert real.record == shapes.record
    executed = run(case, counting_scalars(seed, vocab, tally), np.float64)
    assert executed.counts.cost == tally  # every + * / exp, really executed
    assert executed.record == shapes.record  # a Scalar is a pointer: 8 bytes, as a float64
    for a, b in zip(executed.logits, real.logits, strict=True):
        np.testing.assert_allclose(a.data.astype(float), b.data, rtol=1e-9, atol=1e-12)


SYMBOLS = sympy.symbols("B T N H D V F P capacity", integer=True, positive=True)


@cache
def formulas(layers, tied, logits):
    """The record of a run on symbols, as a function of the symbols' values."""
    B, T, N, H, D, V, F, P, capacity = SYMBOLS
    config = GPT2Config(V, P, H * D, layers, H, F, tie_word_embeddings=tied)
    rows, *memory = run(Case(config, B, (T,), capacity, logits, cached=N), ShapeArray).record
    exact = sympy.lambdify(SYMBOLS, [[*rows.values()], [[*m.values()] for m in memory]], "math")

    def record(*values):
        numbers, memories = exact(*values)
        return (
            dict(zip(rows, map(tuple, numbers), strict=True)),
            *(
                dict(zip(m, values, strict=True))
                for m, values in zip(memory, memories, strict=True)
            ),
        )

    return record


@settings(max_examples=100)
@given(
    st.tuples(st.sampled_from((1, 2)), st.booleans(), st.sampled_from(("last", "all"))),
    st.tuples(*[st.integers(1, 6) | st.integers(1, 10**6)] * 7),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_formulas_read_off_a_run_on_symbols_hold_for_every_size(model, sizes, cached, spare):
    DRAWN["formulas agree with runs on shapes"] += 1
    (layers, tied, logits), (B, T, H, D, V, F, more) = model, sizes
    capacity = cached + T + spare
    P = capacity + more
    config = GPT2Config(V, P, H * D, layers, H, F, tie_word_embeddings=tied)
    shapes = run(Case(config, B, (T,), capacity, logits, cached=cached), ShapeArray)
    symbolic = formulas(layers, tied, logits)(B, T, cached, H, D, V, F, P, capacity)
    assert symbolic == shapes.record
