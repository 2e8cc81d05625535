"""The table of costs against numbers that really execute each function and count."""

from collections import Counter

import numpy as np
import pytest
import sympy
from calls import FLOATS, WHOLE, calls
from helpers import as_scalars, held
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counting import COSTS, KINDS, Cost, Scalar, scalars
from counting.calls import JOINS
from counting.cost import executed
from counting.dtypes import arithmetic
from counting.form import IN_PLACE
from counting.textbook import ON_SCALARS

counts = st.fixed_dictionaries({}, optional={kind: st.integers(0, 9) for kind in KINDS})


@pytest.mark.parametrize("function", COSTS, ids=lambda function: function.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_a_row_is_what_executing_it_takes(function, data):
    args, options = data.draw(calls(function, FLOATS, masks=True))
    assume(not (function is np.where and isinstance(args[2], np.ndarray)))
    tally = Counter()
    hold = scalars if function in WHOLE else as_scalars
    scalar_args, scalar_options = held((args, options), lambda x: hold(x, tally))
    result = ON_SCALARS.get(function, function)(*scalar_args, **scalar_options)
    out = args[0] if function in IN_PLACE else result[0] if type(result) is tuple else result
    args = args[0] if function in JOINS else args
    shapes = [np.shape(x) for x in args if isinstance(x, np.ndarray)]
    cost = COSTS[function](np.shape(out), *shapes, **options)
    given = [np.asarray(x).dtype for x in args]
    if function in WHOLE:  # truth values may be made whole numbers first
        given.append(function(*args).dtype)
    assert executed(cost, arithmetic(given)) == tally


def test_a_sum_of_nothing_executes_nothing():
    assert COSTS[np.sum]((3,), (3, 0)) == Cost()
    assert COSTS[np.cumsum]((0,), (0,)) == COSTS[np.cumsum]((3, 0), (3, 0), axis=1) == Cost()


def test_a_running_sum_goes_along_an_axis_or_through_all():
    assert COSTS[np.cumsum]((2, 3), (2, 3), axis=-1) == Cost(add=4)
    assert COSTS[np.cumsum]((2, 3), (2, 3), axis=0) == Cost(add=3)
    assert COSTS[np.cumsum]((6,), (2, 3)) == Cost(add=5)


def test_a_matrix_product_is_multiply_adds_onto_zero():
    m, n, p = sympy.symbols("m n p", integer=True, positive=True)
    assert COSTS[np.matmul]((m, p), (m, n), (n, p)) == {"fma": m * n * p}


@pytest.mark.parametrize(
    ("operation", "kind", "value"),
    [
        (lambda a: a - 1, "add", 3.0),
        (lambda a: 1 - a, "add", -3.0),
        (lambda a: 1 + a, "add", 5.0),
        (lambda a: 2 * a, "mul", 8.0),
        (lambda a: a / 2, "div", 2.0),
        (lambda a: 2 / a, "div", 0.5),
        (lambda a: a.sqrt(), "sqrt", 2.0),
        (lambda a: a.fma(a, a), "fma", 20.0),
        (lambda a: a < 5, "cmp", True),
        (lambda a: a >= 5, "cmp", False),
    ],
)
def test_a_scalar_counts_each_operation_once_as_itself(operation, kind, value):
    tally = Counter()
    assert float(operation(Scalar(4, tally))) == value
    assert tally == {kind: 1}


@given(counts, counts, st.integers(0, 5))
def test_costs_add_and_repeat_kind_by_kind(a, b, times):
    assert Cost(a) + Cost(b) == {k: n for k, n in (Counter(a) + Counter(b)).items() if n}
    assert Cost(a) * times == {k: n * times for k, n in a.items() if n * times}


def test_a_cost_knows_its_kinds():
    assert Cost(mul=0, add=2) == {"add": 2}
    assert repr(Cost(mul=3, add=2)) == "Cost(mul=3, add=2)"
    with pytest.raises(ValueError, match="hash"):
        Cost(hash=1)


def test_nothing_changes_a_cost():
    given = {"mul": 3}
    cost = Cost(given)
    with pytest.raises(TypeError):
        cost["hash"] = 1
    with pytest.raises(TypeError):
        cost |= {"hash": 1}
    with pytest.raises(TypeError):
        del cost["mul"]
    with pytest.raises(AttributeError):
        cost.update(hash=1)
    given["hash"] = 1
    assert cost == Cost(mul=3) == {"mul": 3}
