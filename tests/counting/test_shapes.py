"""A ShapeArray answers with the shape and dtype that NumPy gives on real arrays, or it refuses."""

import operator
from random import Random
from typing import Any

import numpy as np
import pytest
import sympy
from calls import BY_DATA, call, calls
from helpers import array, held
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import COSTS, ShapeArray, trace
from counting.cost import size

REFUSALS = (TypeError, ValueError, IndexError)


def shape_only(x):
    return ShapeArray(x.shape, x.dtype)


def looks(x):
    """The shape and dtype of a result, or of each; None for a write in place."""
    if x is None or type(x) is tuple:
        return x and [*map(looks, x)]
    return x.shape, x.dtype


@pytest.mark.parametrize("function", COSTS, ids=lambda function: function.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_a_shape_rule_is_numpys(function, data):
    args, options = data.draw(calls(function))
    shapes = held((args, options), shape_only)
    try:
        real = call(function, *held(args, np.copy), **held(options, np.copy))
    except TypeError:  # a dtype that NumPy does not take
        with pytest.raises(TypeError):
            call(function, *shapes[0], **shapes[1])
        return
    if function in BY_DATA:
        with pytest.raises(TypeError, match="no data"):
            call(function, *shapes[0], **shapes[1])
    else:
        assert looks(call(function, *shapes[0], **shapes[1])) == looks(real)


METHODS = {
    "reshape": ((-1, 2), ((4, 3),)),
    "swapaxes": ((0, -1),),
    "transpose": ((), (2, 0, 1)),
    "copy": ((),),
    "sum": ((), (1,)),
    "max": ((), (-1,)),
    "mean": ((), (0,)),
}


@pytest.mark.parametrize(("name", "args"), [(n, a) for n, calls in METHODS.items() for a in calls])
def test_a_method_is_numpys(name, args):
    x = array((2, 3, 2))
    assert looks(getattr(shape_only(x), name)(*args)) == looks(getattr(x, name)(*args))


def test_size_bytes_and_transpose_are_numpys():
    x = array((2, 3), "f2")
    shape = shape_only(x)
    assert (shape.ndim, shape.size, shape.nbytes) == (x.ndim, x.size, x.nbytes)
    assert looks(shape.T) == looks(x.T)


x, cube, whole = array((2, 3)), array((2, 3, 4)), array((3,), "i4")

MISFITS = {
    "sum of 3 and 4": (np.add, x, array((4,))),
    "where of 3 and 4": (np.where, x > 2, x, array((4,))),
    "product of 3 and 2": (np.matmul, x, x),
    "stacks of 2 and 3": (np.matmul, array((2, 3, 4)), array((3, 4, 2))),
    "sum over no axis of it": (np.sum, x, 2),
    "max over no axis of it": (np.max, x, -3),
    "swap of no axis of it": (np.swapaxes, x, 0, 2),
    "transpose of too few axes": (np.transpose, cube, (1, 0)),
    "transpose of one axis twice": (np.transpose, x, (0, 0)),
    "reshape to another size": (np.reshape, x, (4,)),
    "reshape of 6 by 4": (np.reshape, x, (4, -1)),
    "reshape with two unknowns": (np.reshape, x, (6, -1, -1)),
    "reshape to negative sizes": (np.reshape, x, (-2, -3)),
    "write of 3 into 2": (np.copyto, array((2,)), array((3,))),
    "write of a matrix into a row": (np.copyto, array((3,)), x),
    "write of floats into ints": (np.copyto, whole, array((3,))),
    "places of another dimension": (np.take_along_axis, x, array((2,), int), 1),
    "places that are no whole numbers": (np.take_along_axis, x, x, 1),
    "row 2 of 2": (operator.getitem, x, 2),
    "row -3 of 2": (operator.getitem, x, (-3, 0)),
    "three indices of two": (operator.getitem, x, (0, 0, 0)),
    "row 1.0": (operator.getitem, x, 1.0),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_numpy_refuses_is_refused(misfit):
    function, *args = MISFITS[misfit]
    with pytest.raises(REFUSALS):
        function(*args)
    with pytest.raises(REFUSALS):
        function(*held(args, shape_only))


UNUSUAL = {
    "take without an axis": (lambda x: np.take(x, array((4,), int)), x),
    "take along the last axis": (lambda x: np.take(x, array((4,), int) - 1, axis=-1), x),
    "rows by a mask": (lambda x: x[np.array([True, False])], x),
    "index by True": (lambda x: x[True], x),
    "slice by NumPy's ints": (lambda x: x[np.int64(0) : np.int64(9)], x),
    "lower triangle of a row": (np.tril, whole),
    "truth and truth": (lambda x: x + True, x > 2),
    "a product with a vector": (lambda x: x @ array((3,)), x),
    "sum over two axes": (lambda x: np.sum(x, axis=(0, 1)), x),
    "sum in another dtype": (lambda x: np.sum(x, dtype=np.float64), x),
    "running sum of a matrix": (np.cumsum, x),
    "reshape to a number": (lambda x: np.reshape(x, 6), x),
    "like of a number": (lambda x: np.ones_like(x, shape=3), x),
    "a list": (lambda x: np.add(x, [1, 2, 3]), x),
    "accumulate": (np.add.accumulate, x),
    "concatenate": (lambda x: np.concatenate([x, x]), x),
}


@pytest.mark.parametrize("call", UNUSUAL)
def test_an_unusual_call_is_numpys_or_refused(call):
    function, argument = UNUSUAL[call]
    try:
        shape = function(shape_only(argument))
    except REFUSALS:
        return
    assert looks(shape) == looks(function(argument))


def test_a_shape_gives_no_numbers():
    with pytest.raises(TypeError, match="no data"):
        np.asarray(ShapeArray((3,)))
    with pytest.raises(TypeError, match=r"numpy\.sort of shapes alone is not known: give it data"):
        np.sort(ShapeArray((3,)))


B, N, T = sympy.symbols("B N T", integer=True, positive=True)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (ShapeArray((B, T))[:, -1:], (B, 1)),
        (ShapeArray((B, N + T))[:, N:], (B, T)),
        (ShapeArray((B, N + T))[0, N : N + T, None], (T, 1)),
        (ShapeArray((B, T)) + ShapeArray((T,)), (B, T)),
        (ShapeArray((B, 1, T)) @ ShapeArray((T, N)), (B, 1, N)),
        (ShapeArray((B, 6 * T)).reshape(B, -1, 2), (B, 3 * T, 2)),
    ],
    ids=str,
)
def test_dimensions_may_be_symbols(shape, expected):
    assert shape.shape == expected


def test_symbols_that_differ_do_not_fit():
    with pytest.raises(ValueError, match="broadcast"):
        ShapeArray((B,)) + ShapeArray((T,))
    with pytest.raises(ValueError, match="fit"):
        ShapeArray((B, T)) @ ShapeArray((N, B))


def drawn_index(rng: Random, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Whole numbers, arrays and lists of them, masks, slices, None and an ellipsis."""
    fit = rng.choice(((), (3,), (2, 1), (2, 3)))
    parts: list[Any] = []
    axis, cut = 0, rng.choice((*range(len(shape)), None))
    while axis < len(shape):
        n = shape[axis]
        if axis == cut:
            parts.append(...)
            axis, cut = rng.randrange(axis, len(shape) + 1), None
            continue
        places = np.array([rng.randrange(n) for _ in range(size(fit))]).reshape(fit)
        mask = np.arange(n) < 3
        kinds = [slice(None), slice(1, None), slice(None, -1), rng.randrange(n), places]
        kinds += [places.tolist()] * (fit == (3,)) + [mask] * (fit in ((), (3,)))
        parts.append(rng.choice(kinds))
        axis += 1
        parts += [None] * (rng.random() < 0.2)
    return tuple(parts)


@pytest.mark.parametrize("seed", range(300))
def test_what_an_index_chooses_of_symbols_is_what_it_chooses_of_numbers(seed):
    rng = Random(seed)
    shape = tuple(rng.sample(range(4, 9), rng.randint(1, 4)))
    letters = sympy.symbols(f"n:{len(shape)}", integer=True, positive=True)
    named = tuple(rng.choice(pair) for pair in zip(shape, letters, strict=True))
    index = drawn_index(rng, shape)
    found = ShapeArray(named)[index].shape
    numbers = dict(zip(letters, shape, strict=True))
    assert [sympy.sympify(n).subs(numbers) for n in found] == [*np.empty(shape)[index].shape]


@pytest.mark.parametrize("loop", [list, len, reversed, sum, np.lexsort, lambda x: list(x.flat)])
def test_a_loop_over_a_symbol_is_refused(loop):
    n = sympy.Symbol("n", integer=True, positive=True)
    trace(loop, (3, 2))
    with pytest.raises(TypeError, match="is no number") as refused:
        trace(loop, (n, 2))
    assert "n stood for sizes" in refused.value.__notes__[0]
