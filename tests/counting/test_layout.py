"""Where elements lie is known of arrays without data: what NumPy copies is a copy there too."""

import numpy as np
import pytest
import sympy
from calls import BY_DATA, call, calls
from helpers import held
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import COSTS, Counted, Ledger, ShapeArray, trace
from counting.form import IN_PLACE
from counting.layout import UNKNOWN, alike, laid_out, of_axes, reshaped
from counting.primitives import choose, einsum, getitem
from counting.shapes import layout_of

UNSURE = (einsum, getitem, choose, np.take_along_axis, np.stack, np.concatenate)
UNSURE += (np.vstack, np.hstack, np.dstack, np.column_stack, np.empty_like, np.ones_like)
UNSURE += (np.inner, np.ndarray.searchsorted, np.ndarray.round)
UNSURE += (np.ravel_multi_index, np.unravel_index)


@st.composite
def odd(draw, x):
    """The numbers of an array where they lie in another way."""
    if x.ndim == 0:
        return x
    order = draw(st.permutations(range(x.ndim)))
    made = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    for axis in range(made.ndim):
        how = draw(st.sampled_from(("", "", "step", "back")))
        if how == "step":
            made = np.repeat(made, 2, axis).transpose(order).copy().transpose(np.argsort(order))
            made = made[(slice(None),) * axis + (slice(None, None, 2),)]
        elif how == "back":
            made = np.flip(np.flip(made, axis).copy(order="K"), axis)
    return made


@settings(max_examples=150)
@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_result_lies_as_numpy_lays_it(data, shape):
    operands = [data.draw(odd(np.zeros(shape))) for _ in range(data.draw(st.integers(1, 3)))]
    made = sum(operands[1:], operands[0] + 0.0) if len(operands) < 3 else np.where(*operands)
    if len(operands) == 2:
        made = np.add(*operands)
    assert alike(made.shape, [(x.shape, layout_of(x)) for x in operands]) == layout_of(made)


@settings(max_examples=150)
@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_reshape_is_a_view_or_a_copy_as_numpy_has_it(data, shape):
    x, left, new = data.draw(odd(np.zeros(shape))), int(np.prod(shape)), []
    while left > 1:
        new.append(data.draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
        left //= new[-1]
    made = x.reshape(new)
    is_view, layout = reshaped(x.shape, layout_of(x), tuple(new))
    assert is_view == np.shares_memory(made, x)
    if is_view:
        assert layout == layout_of(made)
    shapes = Counted(ShapeArray(x.shape, x.dtype, layout_of(x)), Ledger())
    numbers = Counted(x, Ledger())
    for counted in (shapes, numbers):
        counted.reshape(new)
    assert shapes.ledger.snapshot() == numbers.ledger.snapshot()


LAID = [
    f for f in COSTS if f not in (*BY_DATA, *IN_PLACE, np.ravel, np.lib.stride_tricks.as_strided)
]


@pytest.mark.parametrize("function", LAID, ids=lambda function: function.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_what_a_function_makes_lies_as_numpys_does(function, data):
    args, options = data.draw(calls(function, ("f4", "f8")))
    args = held(args, lambda x: data.draw(odd(x)))
    shapes = held((args, options), lambda x: ShapeArray(x.shape, x.dtype, laid_out(*_steps(x))))
    real = call(function, *args, **held(options, np.copy))
    made = call(function, *shapes[0], **shapes[1])
    for a, b in zip(*(x if type(x) is tuple else (x,) for x in (real, made)), strict=True):
        if b.layout is UNKNOWN and (function in UNSURE or isinstance(function, np.ufunc)):
            assert function in (getitem, einsum) or any(
                x.layout is not None for x in _arrays(shapes[0])
            )
        else:
            assert b.layout == layout_of(np.asarray(a))


def _steps(x):
    return x.shape, [step // x.itemsize for step in x.strides]


def _arrays(x):
    if isinstance(x, ShapeArray):
        return [x]
    return [a for part in x for a in _arrays(part)] if isinstance(x, tuple | list) else []


m, n = sympy.symbols("m n", integer=True, positive=True)


def test_symbols_lie_as_their_sizes_do():
    x = ShapeArray((m, n, 2), "f4")
    assert x.transpose(1, 0, 2).layout == (2, 2 * n, 1)
    assert (x.transpose(1, 0, 2) + 1).layout == (2, 2 * n, 1)
    assert (x.T + 1).T.layout is None
    copied = trace(lambda a: a.transpose(1, 0, 2).reshape(-1), (m, n, 2))
    assert copied.bytes_written["activations"] == 8 * m * n
    assert not trace(lambda a: (a.T + 1).T.reshape(-1), (m, n, 2)).where(operation="copy")


def test_where_it_is_not_known_a_reshape_that_may_copy_is_refused():
    x = ShapeArray((2, 3, 4), "f4", UNKNOWN)
    assert x.reshape(2, 3, 2, 2).layout is UNKNOWN
    assert x.reshape(1, 2, 3, 4, 1).shape == (1, 2, 3, 4, 1)
    with pytest.raises(TypeError, match=r"not known without data: write \.copy\(\)"):
        x.reshape(6, 4)
    assert of_axes(x.shape, UNKNOWN, (1, 0, 2)) is UNKNOWN
