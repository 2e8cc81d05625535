"""What the models call == the rows of COSTS == the shape rules: no gap and no dead row."""

import numpy as np
import pytest
from helpers import SMALL, opened, run

from counting import COSTS, ShapeArray
from counting.shapes import SHAPES
from minigpt.models.architectures import ARCHITECTURES

BEYOND = set()  # operations for programs that are no model


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
        for case in SMALL.values():
            seen |= {operation for _, operation in run(case, ShapeArray).counts}
    return seen


def test_every_row_of_costs_is_called_by_a_model_and_every_call_has_a_row(called):
    assert not called & BEYOND
    assert called | BEYOND == {function.__name__ for function in COSTS}


def test_every_row_of_costs_has_a_shape_rule():
    ufuncs = {f for f in COSTS if isinstance(f, np.ufunc)}  # one rule serves them all
    assert set(SHAPES) | ufuncs == set(COSTS)


def test_every_architecture_is_in_the_census():
    assert {type(case.config) for case in SMALL.values()} == {row.config for row in ARCHITECTURES}
