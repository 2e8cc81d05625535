"""Every ufunc of NumPy: counted or refused; outputs, operators in place, methods."""

import operator
from collections import Counter

import numpy as np
import pytest
from helpers import array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from counting import COSTS, Cost, Counted, Ledger, Scalar, ShapeArray, Uncounted, scalars, trace
from counting.costs import rule_of

UFUNCS = {f for f in vars(np).values() if isinstance(f, np.ufunc)}
NO_ROW = {  # why
    np.gcd: "Euclid's steps depend on the numbers",
    np.lcm: "so do those of the least common multiple",
    np.isnat: "dates are no numbers that are counted",
}
METHODS = (np.add, np.multiply, np.maximum, np.minimum, np.subtract, np.divide)


def test_every_ufunc_has_a_row_or_a_reason():
    assert UFUNCS - COSTS.keys() == NO_ROW.keys()
    x = Counted(array((3,), "i8"), Ledger())
    for ufunc in (np.gcd, np.lcm):
        with pytest.raises(Uncounted, match=r"counting\.register gives it one"):
            ufunc(x, x)


# Written into an array that there is.

IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow")


@pytest.mark.parametrize("name", IN_PLACE)
@given(shape=hnp.array_shapes(max_dims=3), number=st.booleans())
def test_an_operator_in_place_writes_into_its_array_and_makes_none(name, shape, number):
    bare, ledger = array(shape, "f8"), Ledger()
    x, other = Counted(bare.copy(), ledger), array(shape[-1:], "f8")
    y = 2.0 if number else Counted(other, ledger)
    live = ledger.live_bytes["activations"]
    kept = x
    apply = getattr(operator, name)
    x = apply(x, y)
    assert x is kept
    assert np.array_equal(x.data, apply(bare, 2.0 if number else other))
    assert ledger.peak_bytes["activations"] == ledger.live_bytes["activations"] == live
    counts = ledger.snapshot()
    assert counts.total(("written", "activations")) == bare.nbytes
    read = bare.nbytes + (0 if number else other.nbytes)
    assert counts.total(("read", "activations")) == read
    plain = Ledger()
    operands = Counted(bare, plain), 2.0 if number else Counted(other, plain)
    getattr(operator, name[1:] if name != "itruediv" else "truediv")(*operands)
    assert counts.cost == plain.snapshot().cost


def test_an_output_must_be_counted_and_fit():
    ledger = Ledger()
    x, whole = Counted(array((2, 3)), ledger), Counted(np.zeros((2, 3), int), ledger)
    total = Counted(np.zeros(3, "f4"), ledger)
    assert np.exp(x, out=x) is x
    assert np.sum(x, axis=0, out=total) is total
    assert np.array_equal(total.data, x.data.sum(axis=0))
    before = ledger.snapshot()
    with pytest.raises(Uncounted, match="plain array"):
        np.add(x, x, out=np.zeros((2, 3), "f4"))
    with pytest.raises(TypeError):
        np.add(x, x, out=whole)
    with pytest.raises(ValueError, match=r"broadcast|shape"):
        np.add(x, x, out=total)
    with pytest.raises(Uncounted, match="one output"):
        np.modf(x, out=(x, x))
    assert not ledger.snapshot() - before


# Powers, as NumPy has them.


@pytest.mark.parametrize("exponent", [2, 2.0, 0.5, -1, 1, 3, -2.0, 0])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "i8"])
def test_a_power_is_numpys_and_a_square_is_one_product(exponent, dtype):
    bare = array((4,), dtype)
    if dtype == "i8" and exponent == -1:
        return
    ledger = Ledger()
    x = Counted(bare, ledger)
    kinds = {2: "mul", 0.5: "sqrt", -1: "div", 3: "pow", -2.0: "pow", 0: "pow"}
    try:
        made = x**exponent
    except Uncounted:
        assert dtype == "c8"
        return
    assert np.array_equal(made.data, bare**exponent)
    assert made.dtype == (bare**exponent).dtype
    if dtype in ("f4", "f8"):
        assert ledger.snapshot().cost == (Cost({kinds[exponent]: 4}) if exponent != 1 else Cost())


# Methods.


@settings(max_examples=60)
@given(ufunc=st.sampled_from(METHODS), shape=hnp.array_shapes(max_dims=3), data=st.data())
def test_a_method_of_a_ufunc_costs_what_executing_it_takes(ufunc, shape, data):
    name = data.draw(st.sampled_from(("reduce", "accumulate", "outer", "at")))
    bare, tally, ledger = array(shape, "f8"), Counter(), Ledger()
    if name in ("reduce", "accumulate"):
        axis = data.draw(st.integers(-len(shape), len(shape) - 1))
        args, options = (), {"axis": axis} if data.draw(st.booleans()) else {}
        if name == "reduce" and ufunc in METHODS[:4] and data.draw(st.booleans()):
            options["axis"] = None
    elif name == "outer":
        args, options = (data.draw(st.just(2.0) | st.just(array((2,), "f8"))),), {}
    else:
        rows = data.draw(hnp.arrays(int, hnp.array_shapes(max_dims=2, max_side=3),
                                    elements=st.integers(0, shape[0] - 1)))  # fmt: skip
        args, options = (rows, 1.5), {}
    call = getattr(ufunc, name)
    x, held = Counted(bare.copy(), ledger), scalars(bare, tally)
    made, flat = call(x, *args, **options), None
    call(held, *(Scalar(x, tally) if type(x) is float else x for x in args), **options)
    expected = bare.copy()
    result = call(expected, *args, **options)
    assert np.array_equal(
        x.data if made is None else made.data, expected if made is None else result
    )
    assert ledger.snapshot().cost == tally
    flat = Ledger()
    call(Counted(ShapeArray(shape, "f8"), flat), *args, **options)
    assert dict(flat.snapshot()) == dict(ledger.snapshot())


def test_a_method_without_one_operation_for_each_pair_is_refused():
    assert rule_of(np.hypot.reduce) is rule_of(np.matmul.outer) is rule_of(np.add.reduceat) is None
    x = Counted(array((3,)), Ledger())
    with pytest.raises(Uncounted, match=r"numpy\.hypot\.reduce"):
        np.hypot.reduce(x)
    with pytest.raises(Uncounted, match=r"numpy\.add\.reduceat"):
        np.add.reduceat(x, [0, 1])


def test_methods_have_rows_of_their_own_name():
    counts = trace(lambda x: np.add.reduce(x) + np.maximum.accumulate(x, axis=1), (2, 3))
    assert [name for _, name in counts] == ["add.reduce", "maximum.accumulate", "add"]


# Complex numbers.


def test_complex_numbers_cost_what_the_textbook_does_with_them():
    costs = {
        abs: Cost(mul=2, add=1, sqrt=1),
        np.conjugate: Cost(add=1),
        np.negative: Cost(add=2),
        lambda z: z / z: Cost(mul=6, add=3, div=2),
        np.exp: Cost(exp=1, cos=1, sin=1, mul=2),
        lambda z: z == z: Cost(cmp=2),
    }
    for function, one in costs.items():
        ledger = Ledger()
        function(Counted(array((3,), "c8"), ledger))
        assert ledger.snapshot().cost == one * 3
    with pytest.raises(Uncounted, match="no one algorithm"):
        np.log(Counted(array((3,), "c8"), Ledger()))
