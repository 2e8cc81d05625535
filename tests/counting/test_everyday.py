"""Everyday calls of NumPy, and programs as strangers write them: counted, and what they give."""

import warnings
from inspect import isgeneratorfunction

import numpy as np
import pytest
import strangers
import strangers_by_hand as by_hand
from everyday import GROUPS, SINCE, evaluate, names
from strangers_given import SIZES, given

from counting import Cost, Counted, Ledger, Uncounted, counted, uncounted
from counting.names import made_in
from counting.program import Program, plain
from counting.twins import numpys

CALLS = [call for calls in GROUPS.values() for call in calls]
LATER = [name for name in SINCE if not hasattr(np, name.removeprefix("np."))]
HERE = [call for call in CALLS if not any(name in call for name in LATER)]
REFUSED = {  # and a way out
    "np.add.reduceat(x, [0, 2, 4])": "np.add.reduceat(x.data, [0, 2, 4])",
    "np.packbits(m)": "np.packbits(m.data)",
}


def same(a, b):
    """Whether values are NumPy's to the bit, and of its dtype."""
    if isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, np.ndarray | np.generic):
        nan = b.dtype.kind in "fc"
        return np.asarray(a).dtype == b.dtype and np.array_equal(a, b, equal_nan=nan)
    return a == b


def holds(x):
    return type(x) is Counted or (isinstance(x, tuple | list) and any(map(holds, x)))


COUNTING = numpys(np)


def run(call, module=COUNTING):
    """What a call gives of counted arrays, and their ledger."""
    ledger = Ledger()
    with made_in(ledger), warnings.catch_warnings():
        warnings.simplefilter("error")
        known = Program(ledger).meaning(names())
        return evaluate(call, {**known, "np": module}), ledger


@pytest.mark.parametrize("call", [call for call in HERE if call not in REFUSED])
def test_an_everyday_call_is_counted_and_gives_what_numpy_gives(call):
    result, ledger = run(call)
    assert same(plain(result), evaluate(call, names()))
    assert ledger.snapshot() or holds(result)  # a view is no operation


@pytest.mark.parametrize("call", REFUSED)
def test_what_is_refused_has_a_way_out_that_works(call):
    with pytest.raises(Uncounted, match=r"run it in `with counting\.uncounted\(\):`"):
        run(call)
    with uncounted():
        result, _ = run(call)
    assert same(result, evaluate(call, names()))
    result, _ = run(REFUSED[call], np)
    assert same(result, evaluate(call, names()))


def test_nearly_all_everyday_calls_are_counted():
    assert len(CALLS) - len(REFUSED) >= 250
    assert len({*CALLS}) == len(CALLS)


# Programs.


def close(a, b):
    if isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(close, a, b))
    return np.array_equal(a, b)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", SIZES)
def test_a_strangers_program_runs_as_it_stands_and_costs_what_its_lines_do(name, seed):
    program = getattr(strangers, name)
    expected = program(*given(name, seed))
    result, ledger = counted(program)(*given(name, seed))
    assert close(result, expected)
    steps = {"steps": expected[-1]} if name in by_hand.UNTIL else {}
    total, found = by_hand.TOTALS[name](**SIZES[name], **steps), ledger.snapshot().cost
    assert flop(found) == flop(total)
    for kind in ("int", "logic"):  # NumPy's own code has indices of its own to compute
        assert found.get(kind, 0) >= total.get(kind, 0)


def flop(cost):
    return Cost({kind: n for kind, n in cost.items() if kind not in ("int", "logic")})


def test_there_are_twelve_kinds_of_programs():
    assert len(SIZES) >= 12
    assert SIZES.keys() == by_hand.TOTALS.keys()
    assert not any(isgeneratorfunction(getattr(strangers, name)) for name in SIZES)
    with open(strangers.__file__, encoding="utf-8") as file:
        assert "counting" not in file.read()
