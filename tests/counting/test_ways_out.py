"""No value leaves the count in silence: the tables of docs/ways-out.md, line by line."""

import array
import copy
import io
import json
import math
import pickle
import random
import re
import struct

import numpy as np
import pytest
from checkpoints import ROOT
from helpers import array as numbers

from counting import Counted, Ledger, Uncounted, uncounted

ROWS = re.findall(
    r"^\| `(.+?)` \| (refused|counted|said) \| (.+?) \|$",
    (ROOT / "docs" / "ways-out.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
REFUSALS = (TypeError, ValueError, AttributeError, struct.error)


class Own(np.ndarray):
    """Operators of a subclass may mean anything."""


def names():
    made_of = np.array([1.0, 2.0, 3.0])
    return {
        "x": Counted(made_of, Ledger()),
        "a": np.zeros(3),
        "made_of": made_of,
        "objects": np.zeros(3, object),
        "rows": np.array([2, 0, 1]),
        "Own": Own,
        "np": np,
        **{m.__name__: m for m in (array, copy, io, json, math, pickle, random, struct)},
    }


def do(code, given):
    """Runs a line; the value, if it is an expression."""
    try:
        return eval(code, given)
    except SyntaxError:
        exec(code, given)


def rows(outcome):
    return [pytest.param(code, third, id=code) for code, said, third in ROWS if said == outcome]


@pytest.mark.parametrize(("code", "instead"), rows("refused"))
def test_a_way_out_is_refused_and_another_works(code, instead):
    given = names()
    x, a = given["x"], given["a"]
    with pytest.raises(REFUSALS) as refusal:
        do(code, given)
    assert (a.tolist(), x.data.tolist()) == ([0, 0, 0], [1, 2, 3])
    assert {name for _, name in x.ledger.snapshot()} <= {
        "copy",
        "equal",
        "greater",
        "less",
    }  # elements read
    assert do(instead.strip("`"), names()) is not NotImplemented
    error = refusal.value
    if isinstance(error, Uncounted):
        assert re.search(r"x\.|x\[|np\.array|counting\.uncounted\(\)", str(error)), error


@pytest.mark.parametrize(("code", "because"), rows("counted"))
def test_what_comes_out_is_counted_on(code, because):
    given = names()
    result = do(code, given)
    assert given["x"].ledger.snapshot().total("calls") > 0
    assert result is None or type(result) in (Counted, list)
    assert type(given["objects"][0]) in (int, Counted)


@pytest.mark.parametrize(("code", "because"), rows("said"))
def test_what_is_said_records_nothing(code, because):
    given = names()
    do(code, given)
    assert given["x"].ledger.snapshot() == {}


def test_every_row_of_the_tables_is_read():
    text = (ROOT / "docs" / "ways-out.md").read_text(encoding="utf-8")
    assert len(ROWS) == len(re.findall(r"^\| `", text, re.MULTILINE)) > 60


# Refusals of single calls.

UNKNOWN = {
    "greatest common divisor": lambda x: np.gcd(x.astype(int), 2),
    "least common multiple": lambda x: np.lcm(x.astype(int), 2),
    "sums of parts": lambda x: np.add.reduceat(x, np.array([0])),
    "bits": lambda x: np.packbits(x > 2),
}


@pytest.fixture
def x():
    return Counted(numbers((2, 3)), Ledger())


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operation_without_a_row_names_what_counts_it_and_what_does_not(x, name):
    with pytest.raises(Uncounted, match=r"has no row .* `with counting\.uncounted\(\):`") as error:
        UNKNOWN[name](x)
    assert ("counting.register" in str(error.value)) == (name != "sums of parts")  # a method
    with uncounted():
        assert np.array_equal(UNKNOWN[name](x), UNKNOWN[name](x.data))


OPTIONS = {
    "choose": lambda x: (x > 2).astype(int).choose([x, x], out=np.zeros(x.shape)),
    "put": lambda x: x.put([0, 99], [1.0, 2.0], mode="clip"),
    "einsum": lambda x: np.einsum("ij->j", x, out=np.zeros(3)),
    "add.at": lambda x: np.add.at(x, (x.argmin(0), x.argmin(0)), 1.0),
    "matmul": lambda x: np.matmul(x, x, axes=[(1, 0), (0, 1), (0, 1)]),
    "divmod": lambda x: np.divmod(x, 2.0, out=(np.zeros(x.shape), np.zeros(x.shape))),
    "var": lambda x: np.var(x, out=np.zeros(())),
    "unravel_index": lambda x: np.unravel_index(x.astype(int), (99, 99), order="F")[0],
    "bool": lambda x: bool(x[0, 0]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_refused_runs_out_of_the_count_as_its_error_says(x, name):
    given = x.data.copy()
    with pytest.raises(Uncounted, match=r"run it in `with counting\.uncounted\(\):`"):
        OPTIONS[name](x)
    assert np.array_equal(given, x.data)
    with uncounted():
        found = OPTIONS[name](x)
    expected = OPTIONS[name](given)
    assert np.array_equal(given, x.data)  # where it writes, what NumPy writes
    assert found is expected or np.array_equal(found, expected)


UNPRICED = {
    "an output": lambda x: np.add(x, x, out=x.data),
    "a mean in another dtype by position": lambda x: np.mean(x, 0, np.float64, None, False, True),
    "a product along other axes": lambda x: np.matmul(x, x, axes=[(1, 0), (0, 1), (0, 1)]),
    "an array by name": lambda x: np.sum(a=x),
    "a list of texts": lambda x: np.add(x, ["a", "b", "c"]),
    "a counted array of a counted array": lambda x: Counted(x, x.ledger) + 1,
    "more arguments than there are": lambda x: np.tril(x, 0, 1),
    "sums by an order of searching": lambda x: x.searchsorted(x, sorter=x),
    "a join into an output": lambda x: np.concatenate([x, x], out=x),
    "a join in another dtype": lambda x: np.stack([x, x], dtype="f8"),
}


@pytest.mark.parametrize("name", UNPRICED)
def test_a_call_that_its_row_does_not_price_is_refused(x, name):
    with pytest.raises(TypeError):  # Uncounted is one
        UNPRICED[name](x)
    assert x.ledger.snapshot() == {}
