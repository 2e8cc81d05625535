"""Arguments of what counting makes public: what cannot be is named where it is given."""

import random
import re
from collections import Counter

import numpy as np
import pytest
import sympy
from fuzzing import instrument

import counting
from counting import (
    Cost,
    Counted,
    Counts,
    Ledger,
    Scalar,
    ShapeArray,
    category,
    counted,
    executed,
    interval,
    observing,
    register,
    scalars,
    scope,
    stop_at,
    trace,
    uncounted,
)


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")


HUGE = 10**5000  # of more digits than Python prints
FEW = (object(), Unspeakable(), b"ab", 2 + 3j, 3.5, -1, ..., [None], float("nan"))
NEVER = (  # no argument is one of these
    *(*FEW, {1, 2}, np.float64("nan"), [[1, 2], [3]], np, sympy.nan, np.array([1.5, 2])),
)
LEDGER = (*NEVER, HUGE, "a", "", [], {}, (), True, Ledger, Counted(np.ones(2)))
NO_FUNCTION = (*(x for x in NEVER if not callable(x)), HUGE, "a", [], {})
FUNCTION = (*NO_FUNCTION, None)
LINE = (*NEVER, None, HUGE, [], {}, True, "a\nb", "\ud800", "a\0", "\u2028")
COUNT = (*NEVER, "a", "", None, [], {}, sympy.Rational(1, 2), "3", -HUGE)


def inside(block):
    with block:
        return Counted(np.ones(3)) + 1


def plus_one(x):
    return x + 1


def seven(out, x):
    return Cost(add=7)


TALLY = (*NEVER, None, HUGE, "a", {}, [])
SNAPSHOT = Ledger().snapshot()
CALLS = {  # what is called with an argument, by its name, and what that cannot be
    "Counted, data|asarray": (Counted, (*FEW, np, HUGE, "a", None, Counted(np.ones(2)))),
    "Counted, ledger": (lambda x: Counted(np.ones(3), x), LEDGER),
    "Ledger, categor": (
        Ledger,
        (*NEVER[:8], *NEVER[9:], 3, "weights", None, ["a\nb"], np.ones(())),
    ),
    "Cost, exp": (lambda x: Cost(exp=x), COUNT),
    "Cost, counts": (Cost, (*NEVER, HUGE, "exp", None, ["exp"])),
    "Cost, kind": (Cost, ({"*": 5}, {3: 5}, {"expo": 1})),
    "Cost, times": (lambda x: Cost(exp=3) * x, COUNT),
    "Counts, columns": (lambda x: Counts(x, {}), (*NEVER, "a", {}, [], None, 3)),
    "Counts, rows": (lambda x: Counts(Ledger().columns, x), (*FEW, {"a": 3}, "a", None, HUGE)),
    "total, column": (SNAPSHOT.total, (*NEVER, "x", "", [], None, ("read", "x"))),
    "where, path": (SNAPSHOT.where, LINE),
    "where, operation": (lambda x: SNAPSHOT.where("*", x), LINE),
    "by, group": (SNAPSHOT.by, FUNCTION),
    "scope, name": (scope, LINE),
    "category, name": (category, LINE),
    "interval, ledger": (lambda x: inside(interval(x)), (*LEDGER, None)),
    "interval, thread": (
        lambda x: inside(interval(Ledger(), x)),
        (*NEVER, -HUGE, 0, "a", "", [], {}, True),
    ),
    "observing, ledger": (lambda x: inside(observing(x, print)), (*LEDGER[:-2], None)),
    "observing, observer": (lambda x: inside(observing(Ledger(), x)), FUNCTION),
    "uncounted, ledger": (lambda x: inside(uncounted(x)), LEDGER),
    "stop_at, glob": (lambda x: inside(stop_at(x)), LINE),
    "stop_at, ledger": (lambda x: inside(stop_at("h", x)), LEDGER),
    "counted, function": (counted, FUNCTION),
    "trace, function": (lambda x: trace(x, (2, 3)), FUNCTION),
    "trace, dimension": (lambda x: trace(np.exp, x), (*FEW, (3, -1), (3, 0.5), None, np)),
    "trace, dtype": (lambda x: trace(np.exp, (3,), dtype=x), ("x", 3, -1, 3.5, ..., 2j, [None])),
    "ShapeArray, dtype": (lambda x: ShapeArray((3,), x), ("x", 3, -1, 3.5, ..., 2j, [None])),
    "register, function": (lambda x: register(x, seven, np.ones(3)), FUNCTION),
    "register, rule": (lambda x: register(plus_one, x, np.ones(3)), FUNCTION),
    "register, shape": (lambda x: register(plus_one, seven, np.ones(3), x), NO_FUNCTION),
    "Scalar, value": (lambda x: Scalar(x, Counter()), ("a", "3", None, [], object(), 2j, np)),
    "Scalar, tally": (lambda x: Scalar(1, x), TALLY),
    "scalars, values": (lambda x: scalars(x, Counter()), ("a", 3, None, [], object(), np)),
    "scalars, tally": (lambda x: scalars(np.ones(3), x), TALLY),
    "executed, function": (executed, FUNCTION),
    "executed, arrays": (
        lambda x: executed(len, "ab", arrays=x),
        (*FEW, {"a": 3}, {3: np.ones(3)}, {"a": [1]}, {"a\nb": np.ones(3)}),
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_argument_that_cannot_be_is_named(call):
    if call.startswith("executed"):
        pytest.importorskip("capstone")
    run, wrong = CALLS[call]
    name = call.split(", ")[1]
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=rf"\b(?:{name})") as error:
            run(value)
        said = str(error.value)
        assert len(said) < 1000
        assert "\n" not in said


@pytest.mark.parametrize("seed", range(3))
def test_what_is_added_to_or_taken_from_counts_must_be_such(seed):
    rng = random.Random(seed)
    for value in rng.sample([*NEVER, None, 3, "a", Ledger()], 8):
        for run in (
            lambda x: Cost(exp=3) + x,
            lambda x: x + Cost(exp=3),
            lambda x: SNAPSHOT - x,
            lambda x: x - SNAPSHOT,
        ):
            with pytest.raises(TypeError):
                run(value)


def test_a_snapshot_before_less_one_after_is_negative():
    ledger = Ledger()
    before = ledger.snapshot()
    x = Counted(np.ones(3), ledger)
    x * 2
    after = ledger.snapshot()
    assert (before - after).cost["mul"] == -(after - before).cost["mul"] == -3


@pytest.mark.parametrize("seed", range(3))
def test_counts_of_numpy_and_of_sympy_are_counts(seed):
    rng = random.Random(seed)
    n = rng.randint(1, 2**30)
    whole = rng.choice((np.int32, np.int64, np.uint32, sympy.Integer))
    cost = Cost(exp=whole(n)) * whole(2)
    assert cost == Cost(exp=2 * n)
    assert type(cost["exp"]) is int
    m = sympy.Symbol("m", integer=True, positive=True)
    assert (Cost(exp=n * m) * m)["exp"] == n * m**2


def test_a_rule_may_count_in_numbers_of_numpy():
    made = register(
        lambda x: x + 1, lambda out, x: Cost(exp=np.int32(2147483647)), example=np.ones(3)
    )
    x = Counted(np.ones(3))
    made(x)
    assert x.ledger.snapshot().cost["exp"] == 2147483647


@pytest.mark.parametrize("index", [np, (np, 0), object(), {}, iter("a")], ids=range(5))
def test_an_index_that_cannot_be_is_numpys_own_error(index):
    x = np.ones((3, 3))
    with pytest.raises(IndexError) as ours:
        Counted(x)[index]
    with pytest.raises(IndexError) as numpys:
        x[index]
    assert str(ours.value) == str(numpys.value)


def test_a_size_alone_is_a_shape():
    assert trace(np.exp, 3).cost == trace(np.exp, (3,)).cost == Cost(exp=3)


def test_all_that_is_public_and_takes_arguments_is_called_by_the_fuzzer():
    called = {re.match(r"\w+", name)[0] for name in instrument.FUNCTIONS}
    rest = {"COSTS", "KINDS", "NotItsTurn", "Uncounted"}
    assert called == {*counting.__all__} - rest
