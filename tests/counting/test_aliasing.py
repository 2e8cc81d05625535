"""Where NumPy copies, counted arrays copy; where it gives a view, they give a view."""

import operator
import random
from collections import Counter

import numpy as np
import pytest
from differential import check
from helpers import DRAWN, array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from counting import Counted, Ledger, ShapeArray, Uncounted, scalars


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_a_drawn_program_does_the_same_to_every_kind_of_array(seed):
    DRAWN["programs on plain, counted and shape-only arrays and on scalars agree"] += 1
    check(seed)


def swapped(x):
    x[0], x[1] = x[1], x[0]


def rotated(x):
    first = x[0]
    for i in range(len(x) - 1):
        x[i] = x[i + 1]
    x[-1] = first


def kept(x):
    """Each element is kept while its place is written."""
    before = [x[i] for i in range(len(x))]
    x[...] = x.dtype.type(0)
    for i, value in enumerate(reversed(before)):
        x[i] = value


def unpacked(x):
    a, b, *rest = x
    x[...] = x.dtype.type(0)
    x[0], x[1], x[2:] = b, a, rest[0]


PROGRAMS = {
    "swap": swapped,
    "rotate": rotated,
    "reverse": kept,
    "unpack": unpacked,
    "shuffle": lambda x: random.Random(1).shuffle(x),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?", "c16"])
def test_an_element_does_not_follow_what_is_written_later(program, dtype):
    plain = np.arange(5).astype(dtype)
    x = Counted(plain.copy(), Ledger())
    PROGRAMS[program](plain)
    PROGRAMS[program](x)
    assert np.array_equal(x.data, plain)


def test_nor_does_one_that_counts_itself():
    x = Counted(scalars(np.arange(5.0), Counter()), Ledger())
    rotated(x)
    assert [v.value for v in x.data] == [1, 2, 3, 4, 0]


HOLDS = [np.asarray, lambda a: ShapeArray(a.shape, a.dtype), lambda a: scalars(a, Counter())]


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("index", [0, -1, np.int64(1), (1,), (np.int32(0),)])
def test_an_element_is_a_copy_and_priced_as_one(hold, index):
    x = Counted(hold(array((3,), "f8")), Ledger())
    value = x[index]
    assert (value.shape, value.base, value.charge.operation) == ((), None, "copy")
    (row,) = x.ledger.snapshot().values()
    moved = {c: row[i] for c, i in x.ledger.columns.items() if row[i]}
    assert moved == {"calls": 1, ("read", "activations"): 8, ("written", "activations"): 8}
    assert x.ledger.live_bytes["activations"] == 24 + 8


def test_so_is_each_element_that_a_loop_comes_by():
    x = Counted(array((3,), "f8"), Ledger())
    assert [value.base for value in x] == [None] * 3
    assert x.ledger.snapshot().bytes_read["activations"] == 24


@given(st.data())
def test_an_index_gives_a_value_or_a_view_as_numpy_has_it(data):
    plain = array(data.draw(hnp.array_shapes(max_dims=3, max_side=3)), "f8")
    x = Counted(plain.copy(), Ledger())
    index = data.draw(hnp.basic_indices(plain.shape, allow_newaxis=True))
    part, mine = plain[index], x[index]
    assert (mine.base is x) == isinstance(part, np.ndarray)
    assert np.array_equal(mine.data, part)
    if part.size:
        assert np.shares_memory(mine.data, x.data) == np.shares_memory(part, plain)


def test_an_element_of_no_dimensions_is_a_value_too():
    x = Counted(np.array(2.0), Ledger())
    value, window = x[()], x[...]
    x[...] = 3.0
    assert (float(value.data), float(window.data)) == (2.0, 3.0)
    assert (value.base, window.base) == (None, x)
    total = Counted(np.arange(3.0), x.ledger).sum()
    assert float(total[()].data) == 3.0


def test_an_element_with_fields_is_refused_and_its_fields_are_not():
    x = Counted(np.zeros(3, [("a", "f4"), ("b", "f8")]), Ledger())
    with pytest.raises(Uncounted, match=r"x\['a'\]"):
        x[0]  # of NumPy a window: what is written to x shows in it
    assert x["a"][0].base is None
    x["b"][1] = 7.0
    assert x.data["b"].tolist() == [0, 7, 0]


COPIES = {
    "an array of one": lambda x: x[np.array(1)],
    "a mask of another length": lambda x: x[np.ones(3, bool)],
}


@pytest.mark.parametrize("name", COPIES)
def test_what_numpy_copies_and_no_row_prices_is_refused(name):
    x = Counted(array((2, 3)), Ledger())
    with pytest.raises((Uncounted, IndexError)):
        COPIES[name](x)
    assert x.ledger.snapshot() == {}


def test_a_length_is_asked_of_arrays_that_have_one():
    x = Counted(np.array(2.0), Ledger())
    for asks in (len, list, operator.methodcaller("__iter__")):
        with pytest.raises(TypeError):
            asks(x)


LINES = st.tuples(st.booleans(), st.integers(0, 4), st.booleans())


@given(LINES, LINES)
def test_a_line_written_over_one_that_it_crosses_is_as_numpy_leaves_it(to, value):
    """NumPy copies as it goes there: x[:, 2] = x[1] is no permutation. Nothing may differ."""

    def line(x, column, number, backwards):
        part = x[:, number] if column else x[number]
        return part[::-1] if backwards else part

    plain = np.arange(25.0).reshape(5, 5)
    counted = Counted(plain.copy(), Ledger())
    for x in (plain, counted):
        line(x, *to)[...] = line(x, *value)
    assert counted.data.tolist() == plain.tolist()
