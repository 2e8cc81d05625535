"""What a ledger holds: rows, their totals and differences, and the conventions that sum them."""

import ast

import numpy as np
import pytest
import sympy
from checkpoints import ROOT
from helpers import array
from hypothesis import given
from hypothesis import strategies as st

from counting import Counted, Ledger, category, interval, scope, trace
from counting.ledger import LONGEST
from counting.memory import Usage
from counting.views import VIEWS

m, n, p = sympy.symbols("m n p", integer=True, positive=True)


@pytest.fixture
def run():
    """Two layers, each a product (2, 3) @ (3, 4) and an addition; then one more addition."""
    ledger = Ledger()
    with category("weights"):
        weight = Counted(array((3, 4)), ledger)
    x = Counted(array((2, 3)), ledger)
    for layer in "01":
        with scope("h"), scope(layer), scope("mlp"):
            x @ weight + 1.0
    before = ledger.snapshot()
    x + x
    return ledger, before


def test_rows_are_kept_by_path_and_operation(run):
    _, counts = run
    assert list(counts) == [(f"h.{i}.mlp", name) for i in "01" for name in ("matmul", "add")]
    row = counts["h.0.mlp", "matmul"]
    given = {column: row[i] for column, i in counts.columns.items() if row[i]}
    assert given == {
        "calls": 1,
        "dots": 8,
        "fma": 24,
        ("read", "activations"): 24,
        ("read", "weights"): 48,
        ("written", "activations"): 32,
    }


def test_totals_sum_the_rows(run):
    _, counts = run
    assert counts.total("calls") == 4
    assert counts.cost == {"fma": 48, "add": 16}
    nothing = {"weights": 0, "kv_cache": 0, "state": 0}
    assert counts.bytes_read == nothing | {"weights": 96, "activations": 2 * (24 + 32)}
    assert counts.bytes_written == nothing | {"activations": 4 * 32}


def test_a_snapshot_stays_as_it_was(run):
    ledger, before = run
    assert ledger.snapshot().total("calls") == before.total("calls") + 1


def test_the_difference_of_two_snapshots_is_what_ran_between(run):
    ledger, before = run
    between = ledger.snapshot() - before
    assert list(between) == [("", "add")]
    assert between.cost == {"add": 6}
    assert len(before - before) == 0
    assert (before - before).total("calls") == 0


def test_the_difference_within_a_row_is_of_its_numbers(run):
    ledger, _ = run
    before = ledger.snapshot()
    Counted(array((5,)), ledger) + 1.0
    assert (ledger.snapshot() - before)["", "add"] == tuple(
        {"calls": 1, "add": 5, ("read", "activations"): 20, ("written", "activations"): 20}.get(
            c, 0
        )
        for c in ledger.columns
    )


def test_where_keeps_the_rows_that_match(run):
    _, counts = run
    assert list(counts.where("h.1.*")) == [("h.1.mlp", "matmul"), ("h.1.mlp", "add")]
    assert counts.where(operation="matmul").cost == {"fma": 48}
    assert counts.where("h.0.mlp", "add").cost == {"add": 8}
    assert len(counts.where("nowhere")) == 0


def test_a_difference_and_a_choice_of_rows_commute(run):
    ledger, before = run
    after = ledger.snapshot()
    for path, operation in (("*", "matmul"), ("h.*", "add"), ("", "*")):
        chosen = after.where(path, operation) - before.where(path, operation)
        assert chosen == (after - before).where(path, operation)
        assert chosen == after.where(path, operation) - before
        assert chosen.cost == (after.where(path, operation) - before).cost


def test_by_parts_the_rows_without_loss(run):
    _, counts = run
    layers = counts.by(lambda path: path.split(".")[1])
    assert list(layers) == ["0", "1"]
    assert layers["0"].cost + layers["1"].cost == counts.cost


@given(st.lists(st.sampled_from((np.exp, np.tanh, np.sqrt)), max_size=9), st.integers(0, 9))
def test_intervals_add_up(functions, cut):
    ledger = Ledger()
    marks = [ledger.snapshot()]
    for part in (functions[:cut], functions[cut:]):
        for function in part:
            function(Counted(array((3,)), ledger))
        marks.append(ledger.snapshot())
    start, middle, end = marks
    assert (middle - start).cost + (end - middle).cost == end.cost
    assert end.total("calls") == len(functions)


def test_they_show_what_one_wants_to_know(run):
    ledger, counts = run
    with category("weights"):
        kept = Counted(array((300, 4)), ledger)
    assert repr(counts) == (
        "Counts(112 FLOP in 4 calls: add=16, fma=48; 208 B read, 128 B written)"
    )
    assert repr(ledger) == (
        "Ledger(118 FLOP in 5 calls: add=22, fma=48; "
        f"B live: weights {kept.nbytes:,}, kv_cache 0, state 0, activations 0)"
    )
    whole = trace(np.add, (2, 3), (3,), dtype=np.int64)
    assert repr(whole).startswith("Counts(0 FLOP in 1 calls: int=6;")
    assert repr(Ledger().snapshot()) == "Counts(0 FLOP in 0 calls; 0 B read, 0 B written)"
    assert repr(trace(np.matmul, (m, n), (n, p))).startswith("Counts(2*m*n*p FLOP in 1 calls")


@pytest.mark.parametrize(
    ("view", "formula"),
    [
        ("macs", m * n * p),
        ("matmul", 2 * m * n * p),
        ("exact", m * p * (2 * n - 1)),
        ("all", 2 * m * n * p),
    ],
)
def test_the_views_of_a_matrix_product(view, formula):
    assert sympy.expand(VIEWS[view](trace(np.matmul, (m, n), (n, p))) - formula) == 0
    assert VIEWS[view](trace(np.matmul, (2, 3), (3, 4))) == formula.subs({m: 2, n: 3, p: 4})


def test_the_views_of_a_softmax():
    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    counts = trace(softmax, (m, n))
    cost = {"cmp": m * (n - 1), "add": m * n + m * (n - 1), "exp": m * n, "div": m * n}
    assert {kind: sympy.expand(number) for kind, number in counts.cost.items()} == {
        kind: sympy.expand(number) for kind, number in cost.items()
    }
    assert sympy.expand(VIEWS["all"](counts) - m * (5 * n - 2)) == 0
    assert VIEWS["exact"](counts) == VIEWS["all"](counts)
    assert VIEWS["matmul"](counts) == VIEWS["macs"](counts) == 0


CACHES = {"specs", "charges"}  # of a ledger, and no record: items come as they are asked for


def assigned(file):
    """The attributes that the code of a file sets, or items of which, of others than `self`."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    targets = [x for x in nodes if not isinstance(getattr(x, "ctx", ast.Load()), ast.Load)]
    items = {x.value for x in targets if isinstance(x, ast.Subscript)}
    changed = [x for x in (*targets, *items) if isinstance(x, ast.Attribute)]
    return {
        x.attr
        for x in changed
        if not (isinstance(x.value, ast.Name) and x.value.id == "self")
        and not (x in items and x.attr in CACHES)
    }


def test_nobody_else_sets_what_a_ledger_holds():
    own = ROOT / "counting" / "ledger.py"
    folders = (ROOT / name for name in ("counting", "minigpt", "scripts"))
    files = {file for folder in folders for file in folder.rglob("*.py")}
    state = {*vars(Ledger()), *Usage.__slots__}
    assert state & assigned(own)
    wrong = {str(file): state & assigned(file) for file in files - {own}}
    assert not {name: names for name, names in wrong.items() if names}


def test_items_of_what_a_ledger_holds_are_seen_to_be_set(tmp_path):
    file = tmp_path / "code.py"
    file.write_text("ledger.log[i] = c\ndel x.paths[:]\nledger.specs[k] = s\nself.a = y.b")
    assert assigned(file) == {"log", "paths"}


def test_intervals_that_end_in_another_order_hold_what_ran_while_each_was_the_last():
    ledger = Ledger()
    x = Counted(np.ones(4), ledger)
    first, second = interval(ledger), interval(ledger)
    before = first.__enter__()
    x + x
    later = second.__enter__()
    x * x
    first.__exit__(None, None, None)
    x / x
    second.__exit__(None, None, None)
    x + x
    assert before.counts.cost == {"add": 4}
    assert later.counts.cost == {"mul": 4, "div": 4}
    with interval(ledger) as found:
        x - x
    assert found.counts.cost == {"add": 4}
    assert not ledger.running


def set_first(x):
    x[0] = 1.0


@pytest.mark.parametrize(
    "once",
    [lambda x: x + x, lambda x: x.__iadd__(1.0), np.exp, lambda x: x.sum(), set_first],
    ids=["operator", "in place", "ufunc", "method", "element"],
)
def test_a_long_run_that_nobody_asks_about_keeps_no_log_of_itself(once):
    ledger = Ledger()
    x = Counted(np.zeros(3), ledger)
    for _ in range(LONGEST // 3 + 10):
        once(x)
    assert len(ledger.log) < LONGEST
    assert ledger.snapshot().total("calls") == LONGEST // 3 + 10
