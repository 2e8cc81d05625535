"""What is remembered of one call serves another only if all that it was found from is the same."""

import numpy as np
import pytest
from calls import BY_DATA, call, calls
from helpers import array, held
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, ShapeArray, Uncounted
from counting.calls import CALLS
from counting.composite import composite

WHOLE = (int, np.int64, np.int32, np.uint8, np.array)


def since(ledger, before):
    """What was recorded since: column -> amount, zeros left out."""
    counts = ledger.snapshot() - before
    return {column: counts.total(column) for column in counts.columns if counts.total(column)}


def number(draw, n):
    """A whole number in any spelling."""
    return n if isinstance(n, bool) or n < 0 else draw(st.sampled_from(WHOLE[:4]))(n)


def spelling(draw, function, args, options):
    """A call in another spelling that NumPy takes."""
    call = CALLS[function]
    args, options = [*args], dict(options)
    for i in range(call.operands, len(args)):
        if type(args[i]) is int:
            args[i] = number(draw, args[i])
    for name, value in options.items():
        if name == "axis" and type(value) is int:
            options[name] = number(draw, value)
        elif name == "keepdims":
            options[name] = draw(st.sampled_from((bool, int, np.bool_)))(value)
        elif name == "shape":
            options[name] = tuple(number(draw, n) for n in value)
    for name in call.parameters[len(args) - call.operands :]:
        positional = name in options and name not in ("shape", "dtype", "keepdims")
        if not positional or draw(st.booleans()):
            break
        args.append(options.pop(name))
    return tuple(args), options


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_a_price_is_that_of_a_ledger_that_remembers_nothing(function, data):
    ledger = Ledger()
    for _ in range(4):
        args, options = data.draw(calls(function, ("f4",)))
        args, options = spelling(data.draw, function, args, options)

        def price(ledger, hold, args=args, options=options):
            operands, named = held((args, options), lambda a: Counted(hold(a), ledger))
            before = ledger.snapshot()
            result = call(function, *operands, **named)
            shown = result if result is not None else operands[0]
            shown = shown if type(shown) is tuple else (shown,)
            for one in shown:
                assert one.shape == one.data.shape
                assert one.dtype == one.data.dtype
            return [(one.shape, one.dtype) for one in shown], since(ledger, before)

        for hold in (np.copy, lambda a: ShapeArray(a.shape, a.dtype))[
            : 1 + (function not in BY_DATA)
        ]:
            assert price(ledger, hold) == price(Ledger(), hold)


def test_an_axis_by_position_is_part_of_a_price():
    x, places = Counted(np.arange(12.0).reshape(3, 4), Ledger()), np.array([0, 1])
    assert np.take(x, places, np.int64(0)).shape == (2, 4)
    assert np.take(x, places, np.int64(1)).shape == (3, 2)
    assert np.take(x, places, 1).sum().charge.cost == {"add": 5}


# Arrays that look alike.

NAMES = ("f4", "f8", "i4", "i8", "?", "c8")


@given(st.data())
def test_fields_of_one_shape_are_told_apart(data):
    dtypes = data.draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5))
    aligned = data.draw(st.booleans())
    fields = np.dtype([(f"f{i}", dtype) for i, dtype in enumerate(dtypes)], align=aligned)
    x = Counted(np.zeros(data.draw(st.integers(1, 4)), fields), Ledger())
    names = data.draw(st.lists(st.sampled_from(fields.names), max_size=8))
    for name in names:
        field = x[name]
        assert (field.shape, field.dtype) == (field.data.shape, field.data.dtype)
        assert field.nbytes == field.spec.nbytes == x.data[name].nbytes
        assert field.base is x
        rows = field[::-1]
        assert (rows.dtype, rows.spec.nbytes) == (field.dtype, field.nbytes)


LOOKS = {  # arrays (3, 4) of float64 that hold other bytes
    "its own": lambda: np.ones((3, 4)),
    "a row three times": lambda: np.broadcast_to(np.ones(4), (3, 4)),
    "one number": lambda: np.broadcast_to(np.ones(()), (3, 4)),
    "windows": lambda: np.lib.stride_tricks.sliding_window_view(np.ones(6), 4),
    "a part": lambda: np.ones((6, 4))[::2],
}
HELD = {"its own": 96, "a row three times": 32, "one number": 8, "windows": 48, "a part": 96}


@given(st.lists(st.tuples(st.sampled_from(sorted(LOOKS)), st.booleans()), max_size=10))
def test_arrays_that_share_memory_are_told_from_those_that_do_not(names):
    ledger = Ledger()
    one = Counted(np.ones((3, 4)), ledger)
    for name, bare in names:
        x = LOOKS[name]()
        before = ledger.snapshot()
        one + (x if bare else Counted(x, ledger))
        assert since(ledger, before)["read", "activations"] == 96 + HELD[name]


@composite
def scaled(x, by):
    return x * by if by else x + 1.0


@composite
def first(x, n):
    return x[:n] + 0.0


NUMBERS = (0, 0.0, -0.0, 1, 1.0, True, False, 2, None)


@given(st.lists(st.sampled_from(NUMBERS), max_size=8))
def test_numbers_that_a_composite_is_given_are_told_apart(numbers):
    x = Counted(np.ones((3,), "i4"), Ledger())
    for n in numbers:
        fresh = Counted(x.data, Ledger())
        for function in (scaled, first):
            if function is first and isinstance(n, float):
                continue
            mine, theirs = function(x, n), function(fresh, n)
            assert (
                (mine.shape, mine.dtype)
                == (theirs.shape, theirs.dtype)
                == (
                    mine.data.shape,
                    mine.data.dtype,
                )
            )
            assert mine.charge.cost == theirs.charge.cost


class Mutable:
    n = 1


@composite
def by_an_object(x, of):
    return x[: of.n] + 1.0


def test_what_cannot_be_normalised_is_not_remembered():
    x, of = Counted(np.ones(5), Ledger()), Mutable()
    for of.n in (1, 3, 2):
        y = by_an_object(x, of)
        assert (y.shape, y.charge.cost) == ((of.n,), {"add": of.n})


def test_symbols_of_one_type_are_told_apart():
    sympy = pytest.importorskip("sympy")
    whole, any_number = sympy.Symbol("n", integer=True), sympy.Symbol("y", real=True)
    x = Counted(ShapeArray((3,), "i4"), Ledger())
    assert (x + whole).dtype == np.int32
    assert (x + any_number).dtype == np.float64


def test_a_composite_that_gives_a_view_of_its_operand_is_refused():
    for hold in (np.copy, lambda a: ShapeArray(a.shape, a.dtype)):
        x = Counted(hold(array((2, 3))), Ledger())
        for function in (lambda x: x.T, lambda x: x, lambda x: x[0]):
            with pytest.raises(Uncounted, match="view"):
                composite(function)(x)
        assert x.ledger.snapshot() == {}
