"""What is priced is what is executed: floats, complex numbers, integers and truth values apart."""

from collections import Counter
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from calls import BY_DATA, call, calls
from helpers import held
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counting import COSTS, Counted, Ledger, ShapeArray, Uncounted, scalars, trace
from counting.calls import JOINS
from counting.cost import OUTSIDE, USUAL
from counting.rules import views
from counting.textbook import runner
from counting.views import VIEWS

# Arithmetic, against numbers that execute it.

EXECUTED = {
    "i8": (
        *(np.add, np.subtract, np.negative, np.multiply, np.matmul, np.equal, np.not_equal),
        *(np.maximum, np.minimum, np.sum, np.max, np.argmax, np.cumsum),
        *(np.divide, np.exp, np.tanh, np.sqrt, np.sin, np.cos),
        *(np.floor_divide, np.remainder, np.fmod, np.less, np.absolute, np.prod, np.min, np.any),
        *(np.hypot, np.log, np.square, np.logical_and, np.isnan, np.std),
    ),
    "?": (
        *(np.add, np.multiply, np.matmul, np.equal, np.not_equal),
        *(np.maximum, np.minimum, np.max, np.argmax),
    ),
    "c16": (
        *(np.add, np.subtract, np.negative, np.multiply, np.matmul, np.sum, np.cumsum, np.prod),
        *(np.divide, np.exp, np.absolute, np.conjugate, np.equal, np.not_equal),
    ),
}


@pytest.mark.parametrize(
    ("dtype", "function"),
    [(dtype, function) for dtype, functions in EXECUTED.items() for function in functions],
    ids=lambda x: getattr(x, "__name__", x),
)
@settings(max_examples=25)
@given(data=st.data())
def test_a_row_is_what_executing_it_takes(dtype, function, data):
    args, options = data.draw(calls(function, (dtype,)))
    assume(all(isinstance(x, np.ndarray) for x in args))
    tally, ledger = Counter(), Ledger()
    if dtype == "c16":
        args = tuple(np.asarray(x * (1 - 2j)) for x in args)
    one_by_one = runner(function)(*held(args, lambda x: scalars(x, tally)), **options)
    result = function(*held(args, lambda x: Counted(x, ledger)), **options)
    other = Ledger()
    shapes = held(args, lambda x: Counted(ShapeArray(x.shape, x.dtype), other))
    executed = {kind: n for kind, n in tally.items() if n}
    assert ledger.snapshot().cost == executed == function(*shapes, **options).charge.cost
    values = [getattr(v, "value", v) for v in np.asarray(one_by_one).flat]
    np.testing.assert_allclose(np.asarray(result.data).ravel(), values, rtol=1e-12)


def test_complex_products_are_those_of_the_textbook():
    z = np.ones((4, 4), np.complex64)
    for program, flop in ((lambda a: a * a, 96), (lambda a: a + a, 32), (lambda a: a @ a, 512)):
        ledger = Ledger()
        program(Counted(z, ledger))
        assert VIEWS["all"](ledger.snapshot()) == flop
    counts = trace(np.matmul, (2, 3), (3, 5), dtype=np.complex128)
    assert VIEWS["exact"](counts) == 2 * 5 * (8 * 3 - 2)  # n products of 6, n - 1 additions of 2
    assert VIEWS["macs"](counts) == 4 * 2 * 3 * 5


@pytest.mark.parametrize(
    "function", [np.log, np.sqrt, np.power, np.max, np.maximum, np.less, np.ptp]
)
def test_complex_numbers_are_refused_where_no_one_algorithm_is_theirs(function):
    z = Counted(np.ones(3, np.complex64), Ledger())
    with pytest.raises(Uncounted, match="complex"):
        function(*[z, z][: getattr(function, "nin", 1)])
    assert z.ledger.snapshot() == {}


def test_means_and_variances_of_complex_numbers_are_what_numpys_lines_do():
    z = np.array([1 + 2j, 3 - 1j, 2j])
    for function, cost in (
        (np.mean, {"add": 4 + 3, "mul": 6, "div": 2}),  # two sums, and a quotient by 3 + 0j
        (np.var, None),
    ):
        x = Counted(z, Ledger())
        assert np.array_equal(function(x).data, function(z))
        assert cost is None or x.ledger.snapshot().cost == cost
        assert x.ledger.snapshot().cost.flops > 0


MIXED = {
    "a whole number and a float": (lambda i, b, f: i + f, {"add": 3}),
    "whole numbers and 1.5": (lambda i, b, f: i * 1.5, {"mul": 3}),
    "whole numbers and 2": (lambda i, b, f: i * 2, {"int": 3}),
    "truth and whole numbers": (lambda i, b, f: b + i, {"int": 3}),
    "truth and truth": (lambda i, b, f: b * b, {"logic": 3}),
    "truth and 1": (lambda i, b, f: b + 1, {"int": 3}),
    "truth and a float": (lambda i, b, f: np.equal(b, f), {"cmp": 3}),
    "a sum of truth": (lambda i, b, f: b.sum(), {"int": 2}),
    "a mean of whole numbers": (lambda i, b, f: i.mean(), {"add": 2, "div": 1}),
    "a quotient of whole numbers": (lambda i, b, f: i / i, {"div": 3}),
    "whole numbers and 1j": (lambda i, b, f: i * 1j, {"mul": 12, "add": 6}),
    "floats and a complex array": (lambda i, b, f: f + np.ones(3, "c8"), {"add": 6}),
    "the place of the largest whole number": (lambda i, b, f: np.argmax(i), {"int": 2}),
    "the place of the largest float": (lambda i, b, f: np.argmax(f), {"cmp": 2}),
    "where truth is": (lambda i, b, f: np.where(b, i, f), {}),
}


@pytest.mark.parametrize("hold", [np.copy, lambda a: ShapeArray(a.shape, a.dtype)])
@pytest.mark.parametrize("name", MIXED)
def test_of_two_kinds_the_wider_is_executed(name, hold):
    function, cost = MIXED[name]
    ledger = Ledger()
    function(*(Counted(hold(np.ones(3, dtype)), ledger) for dtype in ("i8", "?", "f8")))
    assert ledger.snapshot().cost == cost


def test_kinds_outside_of_flop_are_in_no_view():
    counts = trace(np.matmul, (2, 3), (3, 4), dtype=np.int64)
    assert counts.cost == {"int": 48}
    assert {name: view(counts) for name, view in VIEWS.items()} == dict.fromkeys(VIEWS, 0)
    assert counts.cost.by_kind() == dict.fromkeys(USUAL, 0) | {"int": 48}
    assert trace(np.add, (3,), (3,)).cost.by_kind().keys().isdisjoint(OUTSIDE)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.longdouble])
def test_floats_of_every_width_are_floats(dtype):
    x = Counted(np.ones(3, dtype), Ledger())
    assert (x + x).charge.cost == {"add": 3}


# Views of empty products.


PRICED = [f for f, rule in COSTS.items() if rule is not views and f not in BY_DATA]


@pytest.mark.parametrize("function", PRICED, ids=lambda function: function.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_every_view_of_every_cost_is_at_least_zero(function, data):
    args, options = data.draw(calls(function, ("f4", "i8", "?", "c8")))
    flat = args[0] if function in JOINS else args
    if data.draw(st.booleans()):  # empty along one axis, wherever it has that length
        n = data.draw(st.sampled_from(sorted({n for x in flat for n in np.shape(x)} or {1})))
        shrunk = held(args, lambda x: np.empty([0 if m == n else m for m in x.shape], x.dtype))
        args = tuple(shrunk)
    ledger = Ledger()
    shapes, options = held((args, options), lambda x: Counted(ShapeArray(x.shape, x.dtype), ledger))
    try:
        call(function, *shapes, **options)
    except (TypeError, ValueError, IndexError):
        assume(False)
    counts = ledger.snapshot()
    assert all(n >= 0 for row in counts.values() for n in row)
    assert all(view(counts) >= 0 for view in VIEWS.values())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(3, 0, 4), (0, 2, 4), (3, 2, 0), (0, 0, 0)])
def test_a_product_of_nothing_is_nothing_in_every_convention(view, shape):
    m, n, p = shape
    assert VIEWS[view](trace(np.matmul, (m, n), (n, p))) == 0
    assert "n = 0" in VIEWS[view].__doc__ or view == "all"


# What is not counted.

REFUSED = {
    "text": lambda: np.array(["a", "b"]),
    "bytes": lambda: np.array([b"a"]),
    "text of any length": lambda: np.array(["a"], np.dtypes.StringDType()),
    "dates": lambda: np.array(["2025-01-01"], "M8[D]"),
    "durations": lambda: np.array([1], "m8[s]"),
    "raw memory": lambda: np.zeros(2, "V4"),
    "fields that are text": lambda: np.zeros(2, [("a", "f4"), ("b", "U3")]),
    "whole numbers as objects": lambda: np.array([1, 2], object),
    "fractions": lambda: np.array([Fraction(1, 2)], object),
    "decimals": lambda: np.array([Decimal(1)], object),
    "whole numbers that count": lambda: scalars(np.array([1]), Counter()),
    "a matrix": lambda: np.ones((2, 2)).view(np.matrix),
    "a masked array": lambda: np.ma.masked_array(np.ones(3), [0, 1, 0]),
    "records": lambda: np.zeros(2, [("a", "f4")]).view(np.recarray),
    "a subclass of one's own": lambda: np.ones(3).view(type("Own", (np.ndarray,), {})),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kind_is_refused_at_the_door(name):
    ledger = Ledger()
    with pytest.raises(Uncounted, match=r"count"):
        Counted(REFUSED[name](), ledger)
    assert ledger.live_bytes["activations"] == 0


@pytest.mark.parametrize("name", REFUSED)
def test_and_as_an_operand_on_either_side(name):
    given, x = REFUSED[name](), Counted(np.ones((2, 2)), Ledger())
    for meets in (
        lambda: x + given,
        lambda: given + x,
        lambda: given * x,
        lambda: np.where(x, given, 0.0),
        lambda: np.matmul(x, given),
        lambda: x.__setitem__(0, given),
        lambda: np.copyto(x, given),
    ):
        with pytest.raises(TypeError):
            meets()
    assert x.ledger.snapshot() == {}


@pytest.mark.parametrize("given", ["a", b"a", None, Fraction(1, 2), Decimal(1), ["a", "b"], {}])
def test_an_operand_that_is_no_number_is_refused(given):
    x = Counted(np.ones(2), Ledger())
    for meets in (lambda: x + given, lambda: given * x, lambda: np.where(x, x, given)):
        with pytest.raises(TypeError):
            meets()
    assert x.ledger.snapshot() == {}


@pytest.mark.parametrize("meets", [lambda x, n: x + n, lambda x, n: n * x])
def test_symbols_do_not_make_objects_of_numbers(meets):
    sympy = pytest.importorskip("sympy")
    x = Counted(np.ones(2), Ledger())
    with pytest.raises(Uncounted):
        meets(x, sympy.Symbol("n"))
    assert x.ledger.snapshot() == {}


def test_a_mapped_file_is_counted_as_the_array_it_is(tmp_path):
    np.ones(4).tofile(tmp_path / "x")
    x = Counted(np.memmap(tmp_path / "x", dtype=float), Ledger())
    assert (type(x.data), (x + 1.0).charge.cost) == (np.ndarray, {"add": 4})
    assert x[1:].base is x


def test_a_number_of_numpy_becomes_an_array_of_no_dimensions():
    x = Counted(np.float32(2), Ledger())
    x[...] = 3.0
    assert x.data == 3.0
