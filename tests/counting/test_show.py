"""How an array shows itself: in any debugger, past the ledger."""

import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from counting import Counted, Ledger, ShapeArray, category, scalars, scope, show


def counted(data, ledger=None):
    return Counted(data, ledger or Ledger())


def test_it_leads_with_what_one_wants_to_know():
    ledger = Ledger()
    with category("weights"):
        w = counted(np.ones((3, 2), np.float32), ledger)
    with scope("layer"):
        y = counted(np.arange(6, dtype=np.float32).reshape(2, 3), ledger) @ w
    assert repr(w) == ("Counted((3, 2) float32, 24 B of weights; 1 1 1 1 1 1, min 1 mean 1 max 1)")
    assert repr(y) == (
        "Counted((2, 2) float32, 16 B of activations at layer by matmul: 24 FLOP {'fma': 12}; "
        "3 3 12 12, min 3 mean 7.5 max 12)"
    )


def test_it_warns_of_what_is_not_finite():
    x = np.array([1, np.nan, np.inf, -np.inf, 3], np.float32)
    shown = repr(counted(x))
    assert "min 1 mean 2 max 3" in shown
    assert "WARNING: 1 NaN, WARNING: 2 inf" in shown
    assert "WARNING" not in repr(counted(x[:1]))
    assert repr(counted(x[1:2])).endswith("; nan, WARNING: 1 NaN)")


def test_it_says_how_much_of_a_large_array_it_looked_at():
    x = np.zeros(3 * show.SAMPLE, np.float32)
    x[::3] = 7
    assert "0 of every 3th" not in repr(counted(x))
    assert "min 7 mean 7 max 7 of every 3th" in repr(counted(x))


HELD = {
    "numbers": np.full((2, 2), 2.5),
    "shapes": ShapeArray((2, 2)),
    "whole numbers": np.full((2, 2), 3),
    "truths": np.eye(2, dtype=bool),
    "one": np.array(1.5),
    "none": np.zeros((0, 3)),
    "half": np.full((2, 2), 60000, np.float16),  # their sum is not a half
    "strided": np.ones((4, 4))[::2, ::2],
}


@pytest.mark.parametrize("name", HELD)
def test_it_shows_every_kind_and_records_nothing(name):
    x = counted(HELD[name])
    before, peak = x.ledger.snapshot(), x.ledger.peak_bytes
    assert repr(x).startswith(f"Counted({x.shape} {x.dtype}, {x.nbytes} B of activations")
    assert str(x.shape) in x._repr_html_()
    assert dict(x.ledger.snapshot() - before) == {}
    assert x.ledger.peak_bytes == peak


def test_symbols_and_scalars_are_shown_and_count_nothing():
    n = pytest.importorskip("sympy").Symbol("n", positive=True, integer=True)
    assert repr(counted(ShapeArray((n, 2)))) == "Counted((n, 2) float32, 8*n B of activations)"
    tally = Counter()
    x = counted(scalars(np.array([[1.0, 2.0]]), tally))
    assert "; 1 2, min 1 mean 1.5 max 2)" in repr(x)
    assert x._repr_html_().count("<td") == 2
    assert tally == Counter()


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.cells = [], 0

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.cells += tag == "td"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@given(hnp.arrays(st.sampled_from(("f4", "f8", "i4", "?")), hnp.array_shapes(max_side=40)))
def test_a_picture_has_the_means_of_all_of_an_array(x):
    lines = show.heat(x, rows=8, columns=20)
    assert 2 <= len(lines) <= 9
    assert all(len(line) == len(lines[0]) <= 20 for line in lines[:-1])
    cells = show.grid(x, 8, 20)
    assert cells.shape == (len(lines) - 1, len(lines[0]))
    finite = np.isfinite(x.astype(float))
    assert np.isfinite(cells).any() == finite.any()
    if cells.size == x.size and finite.all():
        assert np.array_equal(cells.ravel(), x.astype(float).ravel())
    page = Cells()
    page.feed(counted(x)._repr_html_())
    assert page.open == []
    assert page.cells == show.grid(x, 16, 48).size


def test_a_picture_is_darkest_where_the_largest_are():
    assert show.heat(np.array([[0.0, 1.0], [np.nan, 0.5]])) == [" @", "?=", "0 ' ' to 1 '@'"]
    assert show.heat(np.full((1, 3), np.nan)) == ["???", "nothing is finite"]
    assert show.heat(ShapeArray((2, 2))) == []
    assert show.heat(np.zeros((40, 4)), rows=8)[-1].endswith("each the mean of up to 5 x 1")


def test_it_imports_nothing_that_is_not_there_already():
    loaded = "import sys, counting; assert not {'pdb', 'rich', 'sympy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", loaded], check=True)
