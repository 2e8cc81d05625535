"""What a counted array does: the law of bytes, memory, places, and everything it refuses."""

import copy
import gc
from collections import Counter

import numpy as np
import pytest
from calls import BY_DATA, call, calls
from helpers import SMALL, array, held, run
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import (
    COSTS,
    Counted,
    Ledger,
    ShapeArray,
    Uncounted,
    category,
    observing,
    scalars,
    scope,
)
from counting.form import IN_PLACE


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def x(ledger):
    return Counted(array((2, 3)), ledger)  # float32, 24 bytes


def since(ledger, before):
    """What was recorded since: column -> amount, zeros left out."""
    counts = ledger.snapshot() - before
    return {column: counts.total(column) for column in counts.columns if counts.total(column)}


# Results and prices.


def several(results):
    """The results of a call, which may be one."""
    return results if type(results) is tuple else (results,)


@pytest.mark.parametrize("function", COSTS, ids=lambda function: function.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_a_counted_call_gives_numpys_result(function, data):
    drawn = data.draw(calls(function))
    ledger = Ledger()  # one: what is remembered of numbers must not serve shapes
    numbers = held(drawn, lambda a: Counted(a.copy(), ledger))
    shapes = held(drawn, lambda a: Counted(ShapeArray(a.shape, a.dtype), ledger))
    try:
        bare = held(drawn[0], np.copy)
        results = [call(function, *bare, **held(drawn[1], np.copy))]
    except TypeError:  # a dtype that NumPy does not take
        for args, options in (numbers, shapes):
            with pytest.raises(TypeError):
                call(function, *args, **options)
        return
    results.append(call(function, *numbers[0], **numbers[1]))
    if function in BY_DATA:
        with pytest.raises(TypeError, match="no data"):
            call(function, *shapes[0], **shapes[1])
        shapes, results = numbers, [*results, results[1]]
    else:
        results.append(call(function, *shapes[0], **shapes[1]))
    if function in IN_PLACE:
        results = [args[0] for args in (bare, numbers[0], shapes[0])]
    for real, number, shape in zip(*map(several, results), strict=True):
        for x in (number, shape, number.data, shape.data):
            assert (x.shape, x.dtype, x.nbytes) == (real.shape, real.dtype, real.nbytes)
        nan = real.dtype.kind in "fc"
        assert function is np.empty_like or np.array_equal(number.data, real, equal_nan=nan)


def test_operators_and_methods_are_the_functions_of_numpy(ledger, x):
    a, b = x.data, array((3,)) + 1
    assert np.array_equal((x + b).data, a + b)
    assert np.array_equal((b - x).data, b - a)
    assert np.array_equal((b / x).data, b / a)
    assert np.array_equal((2 - x).data, 2 - a)
    assert np.array_equal((2 / x).data, 2 / a)
    assert np.array_equal((a @ x.T).data, a @ a.T)
    assert np.array_equal(x.mean(axis=1, keepdims=True).data, a.mean(axis=1, keepdims=True))
    assert np.array_equal(x.max(axis=0).data, a.max(axis=0))
    assert [np.array_equal(row.data, b) for row, b in zip(x, a, strict=True)] == [True, True]
    assert (x.ndim, x.size, len(x), x.ledger) == (2, 6, 2, ledger)


PRICED = {
    "x + 1": lambda x: x + 1,
    "x + 2": lambda x: x + 2,
    "x + 1.0": lambda x: x + 1.0,
    "x + row": lambda x: x + array((4,), "i4"),
    "x + array": lambda x: x + array((3, 4), "f8"),
    "x + number": lambda x: x + np.float64(1),
    "sum": lambda x: x.sum(),
    "sum 0": lambda x: x.sum(0),
    "sum 1": lambda x: x.sum(1),
    "np.sum 0": lambda x: np.sum(x, 0),
    "np.sum 1": lambda x: np.sum(x, 1),
    "np.sum axis=0": lambda x: np.sum(x, axis=0),
    "np.sum axis=1": lambda x: np.sum(x, axis=1),
    "np.sum axis=1 keepdims": lambda x: np.sum(x, axis=1, keepdims=True),
    "where 1": lambda x: np.where(array((4,), bool), x, 1),
    "where 1.0": lambda x: np.where(array((4,), bool), x, 1.0),
    "where True": lambda x: np.where(array((4,), bool), x, True),
    "take 1": lambda x: np.take(x, array((3,), int), axis=1),
    "take 0": lambda x: np.take(x, array((3,), int), axis=0),
    "ones bool": lambda x: np.ones_like(x, bool),
    "ones": lambda x: np.ones_like(x, shape=(7,)),
    "tril 1": lambda x: np.tril(x, 1),
}


@given(st.lists(st.sampled_from(sorted(PRICED)), max_size=40), st.sampled_from(("i4", "f4")))
def test_a_price_does_not_depend_on_what_was_priced_before(names, dtype):
    def price(x, name):
        before = x.ledger.snapshot()
        result = PRICED[name](x)
        return result.shape, result.dtype, since(x.ledger, before)

    x = Counted(array((3, 4), dtype), Ledger())
    for name in names:
        assert price(x, name) == price(Counted(x.data, Ledger()), name)


def test_prices_forgotten_are_found_again(monkeypatch):
    remembered = run(SMALL["gpt2"], ShapeArray)
    monkeypatch.setattr("counting.pricing.CACHED", 2)
    assert run(SMALL["gpt2"], ShapeArray).record == remembered.record


# The law of bytes.

ROWS, FIRST = np.array([2, 0, 2, 1, 2]), np.array([[0], [0]])

LAW = {  # x and its mask are (2, 3), float32 and bool; call -> bytes read, bytes written
    "each operand is read, the result is written": (lambda x: x + x.data, 24 + 24, 24),
    "a broadcast operand is read at its own size": (lambda x: x + x.data[0], 24 + 12, 24),
    "a number is not read": (lambda x: 2 * x, 24, 24),
    "a function reads and writes": (np.exp, 24, 24),
    "a product reads each factor once": (lambda x: x @ array((3, 4)), 24 + 48, 32),
    "a sum writes less than it reads": (lambda x: x.sum(axis=1), 24, 8),
    "a choice reads its mask": (lambda x: np.where(x.data > 2, x, 0.0), 6 + 24, 24),
    "a gather reads what it gathers": (lambda x: x.T[ROWS], 5 * 8 + 5 * 8, 5 * 8),
    "a gather by column, too": (lambda x: np.take_along_axis(x, FIRST, axis=1), 16 + 8, 8),
    "a copy reads and writes": (lambda x: x.copy(), 24, 24),
    "a view is read at its own size": (lambda x: x[:, :2] + 1.0, 16, 16),
    "ones are only written": (lambda x: np.ones_like(x), 0, 24),
    "memory reserved is not written": (lambda x: np.empty_like(x), 0, 0),
}


@pytest.mark.parametrize("claim", LAW)
def test_bytes(ledger, x, claim):
    function, read, written = LAW[claim]
    before = ledger.snapshot()
    function(x)
    counts = ledger.snapshot() - before
    assert sum(counts.bytes_read.values()) == read
    assert sum(counts.bytes_written.values()) == written


VIEWS = {
    "reshape": lambda x: x.reshape(3, -1),
    "np.reshape": lambda x: np.reshape(x, (6, 1)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "transpose": lambda x: x.transpose(),
    "T": lambda x: x.T,
    "a row": lambda x: x[0],
    "a slice": lambda x: x[..., ::-2],
    "a new axis": lambda x: x[:, None],
    "a view of a view": lambda x: x.T[1:].T,
    "nothing": lambda x: x[:0],
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("hold", [np.asarray, lambda a: ShapeArray(a.shape, a.dtype)])
def test_a_view_moves_nothing(ledger, hold, name):
    with category("weights"):
        x = Counted(hold(array((2, 3))), ledger)
    live = ledger.live_bytes
    view = VIEWS[name](x)
    assert ledger.snapshot() == {}
    assert ledger.live_bytes == live
    assert view.base is x
    assert view.spec.category == "weights"


def test_where_numpy_has_to_copy_to_reshape_the_copy_is_counted(ledger, x):
    assert np.array_equal(x.T.reshape(6).data, x.data.T.reshape(6))
    assert ledger.snapshot().total("calls") == 1
    assert ledger.snapshot().bytes_written["activations"] == x.nbytes
    assert x.T.reshape(6).base.spec.nbytes == x.nbytes
    assert np.array_equal(x.reshape(3, 2, order="F").data, x.data.reshape(3, 2, order="F"))


def test_a_reshape_is_a_copy_though_that_of_its_like_was_none(ledger, x):
    y = Counted(array((3, 2)), ledger)
    assert y.reshape(6).base is y
    assert x.T.reshape(6).base is not x  # a (3, 2), too, and not side by side


def test_a_write_in_place_is_charged_to_its_destination(ledger, x):
    with category("kv_cache"):
        cache = Counted(np.zeros((4, 3), np.float32), ledger)
    cache[1:3] = x
    counts = ledger.snapshot()
    assert counts.bytes_read == {"weights": 0, "kv_cache": 0, "state": 0, "activations": 24}
    assert counts.bytes_written == {"weights": 0, "kv_cache": 24, "state": 0, "activations": 0}
    assert np.array_equal(cache.data[1:3], x.data)
    assert not cache.data[[0, 3]].any()


def test_a_number_written_in_place_is_read_from_nowhere(ledger, x):
    x[0] = 7.0
    assert since(ledger, Ledger().snapshot()) == {
        "calls": 1,
        ("written", "activations"): 12,
    }
    assert (x.data[0] == 7).all()


@pytest.mark.parametrize("index", [np.array([0, 1]), np.int64(1)], ids=["array", "int64"])
def test_a_write_by_a_gather_arrives_or_is_refused(x, index):
    try:
        x[index] = 7.0
    except (Uncounted, TypeError):
        return
    assert (x.data[index] == 7).all()


def test_one_number_of_a_vector_can_be_written(ledger):
    x = Counted(array((3,)), ledger)
    x[1] = 7.0
    assert x.data[1] == 7


def test_results_take_the_category_of_the_place_and_views_that_of_their_base(x):
    with category("kv_cache"):
        assert (x + 1).spec.category == "kv_cache"
        assert x[0].spec.category == "activations"
    assert (x + 1).spec.category == "activations"


def test_an_unknown_category_is_an_error_that_names_those_known(ledger):
    with category("weight"), pytest.raises(ValueError, match=r"'weight'.*weights, kv_cache"):
        Counted(array((3,)), ledger)
    assert ledger.live_bytes == dict.fromkeys(ledger.live_bytes, 0)


def test_a_ledger_can_have_categories_of_its_own():
    ledger = Ledger(["activations", "optimiser"])
    with category("optimiser"):
        Counted(array((3,)), ledger) + 1.0
    assert ledger.snapshot().bytes_written == {"activations": 0, "optimiser": 12}


# Memory.


def test_bytes_live_until_the_last_view_is_gone(ledger):
    x = Counted(array((2, 3)), ledger)
    row, part = x[0], x.T[1:].T
    assert ledger.live_bytes["activations"] == 24
    del x, row
    assert ledger.live_bytes["activations"] == 24
    del part
    assert ledger.live_bytes["activations"] == 0
    assert ledger.peak_bytes["activations"] == 24


def test_the_peak_holds_operands_and_result_together(ledger, x):
    for _ in range(3):
        y = x + 1.0  # the new result is there before the old one goes
    assert ledger.live_bytes["activations"] == 48
    assert ledger.peak_bytes["activations"] == 72
    del y


def test_what_is_gone_makes_room_for_what_comes(ledger, x):
    x + 1.0
    y = Counted(x.data, ledger)
    assert ledger.peak_bytes["activations"] == 48
    del y


def test_live_and_peak_are_kept_by_category(ledger, x):
    with category("weights"):
        weight = Counted(array((4,)), ledger)
    assert ledger.live_bytes == {"weights": 16, "kv_cache": 0, "state": 0, "activations": 24}
    del weight, x
    assert ledger.peak_bytes["weights"] == 16


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_copy_by_python_is_refused_or_keeps_the_account(ledger, x, copier):
    try:
        twin = copier(x)
    except (Uncounted, TypeError):
        return
    live = ledger.live_bytes["activations"]
    del twin
    assert ledger.live_bytes["activations"] == 24 <= live


def test_garbage_may_be_collected_at_any_moment(ledger, x):
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(100):
            with scope("cycle"):
                cycle = [x + 1.0, Counted(array((2,)), ledger)]
            cycle.append(cycle)
            del cycle
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert ledger.live_bytes["activations"] == 24
    assert {key: row[0] for key, row in ledger.snapshot().items()} == {("cycle", "add"): 100}


# Refusals.


def test_values_leave_as_a_counted_copy(ledger, x):
    before = ledger.snapshot()
    assert x.tolist() == x.data.tolist()
    moved = {("read", "activations"): 24, ("written", "activations"): 24}
    assert since(ledger, before) == {"calls": 1, **moved}
    assert ledger.live_bytes["activations"] == 24


def test_arrays_of_two_ledgers_do_not_meet(x):
    other = Counted(array((2, 3)), Ledger())
    with pytest.raises(ValueError, match="two ledgers"):
        x + other
    with pytest.raises(ValueError, match="two ledgers"):
        np.where(x, 1.0, other)
    with pytest.raises(ValueError, match="two ledgers"):
        x[0] = other[0]


def test_a_refusal_records_nothing(ledger, x):
    for refused in (lambda: x + array((4,)), lambda: np.gcd(x, x), lambda: x @ x):
        with pytest.raises((ValueError, Uncounted)):
            refused()
    assert ledger.snapshot() == {}
    assert ledger.live_bytes["activations"] == 24


# Observers.


def test_observers_hear_until_each_of_them_ends(ledger, x):
    """As generators may end them, in any order."""
    heard = {"a": 0, "b": 0}

    def listening(name):
        def hear(*operation):
            heard[name] += 1

        with observing(ledger, hear):
            yield

    a, b = listening("a"), listening("b")
    next(a), next(b)
    x + 1
    list(a)
    x + 1
    list(b)
    x + 1
    assert heard == {"a": 0, "b": 2}
    assert ledger.observer is None
    assert ledger.hot is ledger.charges


# Scalars.


def test_scalars_can_be_summed_to_one_and_taken_one_by_one(ledger):
    tally = Counter()
    x = Counted(scalars(array((3,), "f8"), tally), ledger)
    assert float((x.sum() + x[0]).data) == pytest.approx(array((3,), "f8").sum() + x.data[0].value)
    assert ledger.snapshot().cost == tally == {"add": 3}
