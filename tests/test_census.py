"""What the models call has rows in COSTS, and every row a shape rule."""

import numpy as np
import pytest
from families import read, tiny
from helpers import SMALL, Case, opened, run

from counting import COSTS, ShapeArray
from counting.shapes import SHAPES
from minigpt.models.families.windows import gpt_oss

GPT_OSS = gpt_oss(
    vocab_size=7,
    hidden_size=6,
    intermediate_size=5,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=2,
    num_local_experts=3,
    num_experts_per_tok=2,
    sliding_window=2,
    max_position_embeddings=9,
)
QWEN3_NEXT = read("qwen3_next", tiny("qwen3_next"))
CASES = (*SMALL.values(), Case(GPT_OSS, 2, (3, 1), 5), Case(QWEN3_NEXT, 2, (3, 1), 5))


@pytest.fixture
def called(monkeypatch):
    """The names of the operations that all models together call."""
    seen = set()

    def spied(name):
        method = getattr(ShapeArray, name)

        def spy(*args):
            seen.add(name.strip("_"))  # __getitem__ is operator.getitem
            return method(*args)

        return spy

    for name in ("__getitem__", "reshape", "swapaxes", "transpose"):  # views leave no row
        monkeypatch.setattr(ShapeArray, name, spied(name))
    with opened():
        for case in CASES:
            seen |= {operation for _, operation in run(case, ShapeArray).counts}
    return seen


def test_every_call_of_a_model_has_a_row(called):
    assert called <= {function.__name__ for function in COSTS}


def test_every_row_of_costs_has_a_shape_rule():
    ufuncs = {f for f in COSTS if isinstance(f, np.ufunc)}  # one rule serves them all
    assert set(SHAPES) | ufuncs == set(COSTS)
