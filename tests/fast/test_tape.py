"""What a tape is made of: rows that kernels go along, places, and what cannot be recorded."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigpt.fast.kernels.machine import here
from minigpt.fast.kernels.rows import FORMULAS
from minigpt.fast.recorded import Recorded
from minigpt.fast.tape import Tape, Unrecordable

COPIED = {"copy_bfloat16": ml_dtypes.bfloat16, "copy_float16": np.float16}


# Rows, wherever they lie.


@st.composite
def strided(draw, shape):
    """An array of float32 that broadcasts to `shape`, its last axis mostly in one piece."""
    lead = shape[draw(st.integers(0, len(shape) - 1)) :]
    own = [draw(st.sampled_from((n, 1))) for n in lead]
    order = draw(st.permutations(range(len(own) - 1)))
    room = [own[k] + draw(st.integers(0, 2)) for k in order]
    seed = draw(st.integers(0, 2**32 - 1))
    whole = np.random.default_rng(seed).standard_normal((*room, own[-1] + 3), np.float32)
    part = whole[..., : own[-1]].transpose(*np.argsort(order), len(order))
    part = part[tuple(map(slice, own))]
    return part[::-1] if draw(st.booleans()) else part


@settings(max_examples=150)
@given(data=st.data(), formula=st.sampled_from(list(FORMULAS)))
def test_rows(machine, data, formula):
    lead = data.draw(st.lists(st.integers(1, 4), max_size=3))
    shape = (*lead, data.draw(st.integers(1, 50)))
    operands = [data.draw(strided(shape)) for _ in range(FORMULAS[formula][1])]
    whole = np.zeros((2, *shape[:-1], shape[-1] + 1), COPIED.get(formula, np.float32))
    to = whole[1, ..., : shape[-1]]
    fitted = machine.move(formula, to, *operands)
    expected = np.zeros(shape, to.dtype)
    expected[...] = getattr(np, formula, np.positive)(*operands)
    assert fitted
    if formula in ("cos", "sin", "tanh"):
        np.testing.assert_allclose(to, expected, rtol=0, atol=2**-22)
    else:
        assert np.array_equal(to, expected)
    to[...] = 0
    assert not whole.any(), "nothing beside it was written"


def test_rows_that_no_kernel_goes_along(machine):
    to, x = np.zeros((2,) * 6, np.float32), np.ones((4,) * 6, np.float32)[(slice(2),) * 6]
    assert not machine.move("add", to, x, x)
    assert not machine.move("add", to[(0,) * 6 + (...,)], *[x[(0,) * 6 + (...,)]] * 2)
    assert not to.any()


# What cannot be recorded says so.


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x % 2.0,
        lambda x: x.max(axis=-1),
        lambda x: x.mean(axis=0, keepdims=True),
        lambda x: np.mean(x),
        lambda x: np.exp(x),
        lambda x: np.add(x, x, out=x),
        lambda x: x.tolist(),
        lambda x: bool(x),
        lambda x: len(x),
        lambda x: np.asarray(x),
        lambda x: np.tril(x),
        lambda x: np.sum(x),
        lambda x: x @ np.ones((32, 4), np.float32),
        lambda x: x.swapaxes(0, 1).reshape(-1),
        lambda x: x.__setitem__(0, np.ones(32)),
        lambda x: x + np.ones(32),
        lambda x: np.take(x, np.array([0]), axis=0),
        lambda x: x.__array_ufunc__(SimpleNamespace(__name__="add"), "__call__", x, x),
    ],
)
def test_what_no_kernel_does_is_not_recorded(function):
    tape = Tape(here())
    x = Recorded(np.ones((2, 32), np.float32), tape)
    with pytest.raises(Unrecordable):
        tape.record(lambda: function(x))


def test_slots_are_used_again_once_nobody_looks_at_them():
    tape = Tape(here())

    def function():
        x = Recorded(np.ones((2, 32), np.float32), tape)
        places = []
        for _ in range(4):
            x = x + x
            places.append(x.data.ctypes.data)
        view = x[:1]
        x = view + view
        return places, view, x

    _, (places, view, x) = tape.record(function)
    assert places[0] == places[2] != places[1] == places[3]
    assert x.data.ctypes.data != view.data.ctypes.data
    _, (same, *_) = tape.record(function)
    assert same == places
