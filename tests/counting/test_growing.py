"""Prices that grow linearly: what is counted at a few sizes holds at every other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting import Counted, Ledger, scope
from counting.growing import Growing, Line, counted

SMALL = st.integers(-1000, 1000)
POINTS = st.lists(st.integers(0, 500), min_size=2, max_size=5, unique=True)


@given(points=POINTS, lines=st.lists(st.tuples(SMALL, SMALL), max_size=4), n=SMALL)
def test_a_line_goes_through_its_points(points, lines, n):
    at = lambda k: np.array([a + b * k for a, b in lines], int)  # noqa: E731
    line = Line([(k, at(k)) for k in points])
    assert line(n).tolist() == at(n).tolist()


@given(points=POINTS, where=st.data())
def test_numbers_that_do_not_grow_linearly_are_refused(points, where):
    """Whichever of three points is off, or what two say grows by no whole number."""
    values = {k: 3 * k + 1 for k in points}
    off = where.draw(st.sampled_from(points))
    values[off] += 1
    if len(points) == 2 and abs(points[0] - points[1]) == 1:
        return  # any two neighbours lie on a line
    with pytest.raises(ValueError, match="linearly"):
        Line([(k, np.array([0, v])) for k, v in values.items()])


def test_as_many_numbers_at_each_point():
    with pytest.raises(ValueError, match="as many"):
        Line([(0, np.zeros(2, int)), (1, np.zeros(3, int))])


def work(ledger, n, more=0):
    """Something whose temporaries, rows and result depend on n; and where they peak."""
    x, w = (Counted(np.ones(shape, np.float32), ledger) for shape in ((4, n), (n, 7)))

    def text():
        with scope("product"):
            y = x @ w
        with scope("wide"):
            for _ in range(1 + more):
                y = y + 1.0
        with scope("long"):
            return y * (x * x).sum(axis=1, keepdims=True)

    return text


@given(points=POINTS, n=st.integers(1, 600))
def test_what_it_costs_at_any_size_is_what_it_is_counted_to_cost_there(points, n):
    runs = [(k, counted(ledger := Ledger(), work(ledger, k))[0]) for k in (p + 1 for p in points)]
    ledger, closed = Ledger(), Ledger()
    opened = counted(ledger, work(ledger, n))
    work(closed, n)  # whose operands are gone again
    result, price = opened[1], Growing("work", runs)
    found, same = counted(closed, lambda: price.enter(closed, "long", n, result.data))
    assert dict(found.counts) == dict(opened[0].counts)
    assert list(found.counts) == list(opened[0].counts)
    assert found.counts.cost == opened[0].counts.cost
    assert same.charge.cost == opened[0].counts.cost
    assert (same.path, same.charge.operation) == ("long", "work")
    assert max(found.levels) == max(opened[0].levels)
    assert closed.live_bytes["activations"] == same.nbytes == result.nbytes


def test_other_operations_at_another_size_are_refused():
    runs = [(n, counted(ledger := Ledger(), work(ledger, n, more=n))[0]) for n in (1, 2)]
    with pytest.raises(ValueError, match="as many"):
        Growing("work", runs)
