"""The table of costs against numbers that really execute each function and count."""

import importlib.util
import itertools
from collections import Counter

import numpy as np
import pytest
import sympy
from calls import FLOATS, WHOLE, call, calls
from checkpoints import ROOT
from helpers import as_scalars, held
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counting import COSTS, KINDS, Cost, Scalar, scalars
from counting.calls import CALLS, JOINS, joined, spelled
from counting.cost import executed
from counting.costs import how_known
from counting.dtypes import arithmetic
from counting.form import IN_PLACE
from counting.primitives import count_nonzero
from counting.textbook import ON_SCALARS

counts = st.fixed_dictionaries({}, optional={kind: st.integers(0, 9) for kind in KINDS})


EXACT = (*WHOLE, np.ravel_multi_index, np.unravel_index, np.ndarray.nonzero, count_nonzero)
PUBLISHED = [f for f in COSTS if how_known(f) == "published"]


@pytest.mark.parametrize(
    "function", [f for f in COSTS if f not in PUBLISHED], ids=lambda function: function.__name__
)
@settings(max_examples=20)
@given(data=st.data())
def test_a_row_is_what_executing_it_takes(function, data):
    args, options = data.draw(calls(function, FLOATS, masks=True))
    assume(not (function is np.where and isinstance(args[2], np.ndarray)))
    tally = Counter()
    whole = function in EXACT or (function is np.bincount and not options)
    hold = scalars if whole else as_scalars
    scalar_args, scalar_options = held((args, options), lambda x: hold(x, tally))
    spelled_args, named = plainly(function, scalar_args, scalar_options)
    run = ON_SCALARS.get(function, function)
    result = call(joined(run) if function in JOINS else run, *spelled_args, **named)
    out = args[0] if function in IN_PLACE else result[0] if type(result) is tuple else result
    args, options = plainly(function, args, options)
    shapes = [np.shape(x) for x in args if isinstance(x, np.ndarray)]
    cost = COSTS[function](np.shape(out), *shapes, **options)
    given = [np.asarray(x).dtype for x in args]
    if function in (*WHOLE, count_nonzero):  # truth values may be made whole numbers first
        given.append(function(*args).dtype)
    took = executed(cost, arithmetic(given))
    if how_known(function) == "bound":
        assert all(tally[kind] <= took.get(kind, 0) for kind in tally)
    else:
        assert took == tally


def plainly(function, args, options):
    """The operands one by one, and options by name, as rules and algorithms take them."""
    if function in JOINS:
        return args[0], options
    if function in CALLS and not isinstance(function, np.ufunc):
        operands, named = spelled(function, args, options)
        return operands, named
    return args, options


@pytest.mark.parametrize("n", range(7))
def test_the_bound_of_sorting_is_what_the_worst_order_takes(n):
    worst = 0
    for order in itertools.permutations(range(n)):
        tally = Counter()
        ON_SCALARS[np.ndarray.sort](scalars(np.array(order, float), tally))
        worst = max(worst, tally["cmp"])
    assert COSTS[np.ndarray.sort]((n,), (n,)) == Cost(cmp=worst)


@pytest.mark.parametrize("n", range(1, 20))
def test_the_bound_of_searching_is_what_the_worst_place_takes(n):
    worst = 0
    for x in range(2 * n + 1):
        tally = Counter()
        line, key = scalars(2.0 * np.arange(n) + 1, tally), scalars(np.array([float(x)]), tally)
        ON_SCALARS[np.ndarray.searchsorted](line, key)
        worst = max(worst, tally["cmp"])
    assert COSTS[np.ndarray.searchsorted]((1,), (n,), (1,)) == Cost(cmp=worst)


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


NEW = np.lib.NumpyVersion(np.__version__) >= "2.4.0"


@pytest.mark.skipif(not NEW, reason="an older NumPy lacks some of the functions")
def test_the_document_of_the_table_is_the_table():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert operations().document() == text
    for known in ("executed", "bound", "published"):
        assert f"| {known} |" in text


def operations():
    spec = importlib.util.spec_from_file_location("operations", ROOT / "scripts" / "operations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
