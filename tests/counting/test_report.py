"""What was counted, as a table, as CSV and for pandas: each holds what the ledger holds."""

import csv
import io
import sys

import numpy as np
import pytest
import sympy

from counting import Counted, Ledger, category, counted, scope, trace
from counting.composite import composite
from counting.known import known_by

N = sympy.Symbol("n", integer=True, positive=True)


def ran():
    """A ledger in which products, sums and a sort of known sizes ran."""
    ledger = Ledger()
    with category("weights"):
        w = Counted(np.ones((3, 4)), ledger)
    x = Counted(np.arange(3.0), ledger)
    with scope("layer"):
        y = x @ w
        with scope("act"):
            np.exp(y)
    y.sort()
    return ledger


def lines(report):
    """The rows of a printed table, each cut where its columns end."""
    table = str(report).split("\n\n")[0].splitlines()
    names = [name for name in table[0].split("  ") if name]
    ends = [table[0].index(name.strip()) + len(name.strip()) for name in names]
    starts = [table[0].index(name.strip()) for name in names]
    texts = ("path", "operation", "known by")

    def cells(line):
        found = {}
        for i, name in enumerate(names):
            left = starts[i] if name.strip() in texts and name.strip() != "known by" else 0
            before = ends[i - 1] if i and name.strip() not in texts[:2] else left
            after = starts[i + 1] if name.strip() in texts[:2] else ends[i]
            found[name.strip()] = line[before:after].strip()
        return found

    return [cells(line) for line in table[1:]]


def test_a_table_has_a_row_for_each_path_and_operation_and_a_total():
    product, exp, _, total = lines(ran().report())
    assert product == {
        "path": "layer", "operation": "matmul", "calls": "1", "FLOP": "24", "fma": "12",
        "exp": "", "cmp": "", "bytes read": "120", "bytes written": "32", "known by": "executed",
    }  # fmt: skip
    assert (exp["path"], exp["operation"], exp["FLOP"]) == ("layer.act", "exp", "4")
    sort = 4 * 2 - 4 + 1
    assert total["path"] == "total"
    assert total["FLOP"] == str(24 + 4 + sort)
    assert (total["calls"], total["fma"], total["exp"], total["cmp"]) == ("3", "12", "4", "5")
    assert total["bytes read"] == str(120 + 32 + 32)


def test_without_scopes_there_is_no_column_of_paths():
    x = Counted(np.ones(3), Ledger())
    x + x
    (row, total) = lines(x.ledger.report())
    assert "path" not in row
    assert (row["operation"], total["operation"]) == ("add", "total")


def test_print_and_a_prompt_show_the_same_table(capsys):
    report = ran().report()
    print(report)
    assert capsys.readouterr().out == f"{report}\n" == f"{report!r}\n"
    assert all(line == line.rstrip() for line in str(report).splitlines())


def test_names_that_look_like_markup_are_shown_as_they_are():
    x = Counted(np.ones(3), Ledger())
    with scope("h[0].[bold]"):
        x + x
    assert lines(x.ledger.report())[0]["path"] == "h[0].[bold]"


def test_a_report_stays_what_it_was():
    ledger = ran()
    report, before = ledger.report(), str(ledger.report())
    Counted(np.ones(3), ledger) + 1.0
    assert str(report) == before != str(ledger.report())


def test_memory_is_listed_by_category():
    shown = str(ran().report()).split("\n\n")[-1].splitlines()
    assert shown[0].split() == ["memory", "bytes", "read", "bytes", "written", "live", "peak"]
    assert shown[1].split() == ["weights", "96", "0", "0", "96"]
    assert shown[2].split() == ["activations", "88", "96", "0", "88"]


def test_integers_and_truth_values_are_no_flop():
    k = Counted(np.arange(6), Ledger())
    np.invert((k + k) * 2 > 5)
    np.equal(k, 5)
    report = k.ledger.report()
    total = lines(report)[-1]
    assert (total["FLOP"], total["int"], total["logic"]) == ("", "24", "6")
    assert "on integers, int, and on truth values, logic, are no FLOP" in str(report)


def apart(ledger):
    """The line about what was not executed."""
    return [line for line in str(ledger.report()).splitlines() if line.startswith("not executed")]


def test_what_is_not_executed_is_said_with_what_it_adds_up_to():
    def program(x):
        np.sort(x, axis=0)
        x @ x
        np.sort(x, axis=1)
        return np.linalg.inv(x)

    _, ledger = counted(program)(np.eye(4))
    sort = 2 * 4 * (4 * 2 - 4 + 1)
    inverse = ledger.snapshot().where("*", "inv").cost.flops
    assert apart(ledger) == [
        f"not executed, of the total: {sort} FLOP at most, a bound (sort); "
        f"{inverse} FLOP as published (inv)"
    ]
    known = {row["operation"]: row["known by"] for row in lines(ledger.report())}
    assert (known["sort"], known["inv"], known["matmul"]) == ("bound", "published", "executed")


def test_a_bound_on_integers_is_no_flop_either():
    _, ledger = counted(np.sort)(np.arange(4))
    assert apart(ledger) == ["not executed, of the total: 5 int at most, a bound (sort)"]


def test_nothing_is_said_where_all_is_executed():
    _, ledger = counted(lambda x: x @ x)(np.eye(4))
    assert not apart(ledger)


@composite
def ranks(x):
    return np.sort(x * 2.0 + 1.0, axis=-1) - x


@composite
def sort(x):
    """No row of NumPy's, for all its name."""
    return x + x


def test_a_bound_inside_of_a_composite_stays_a_bound():
    x = Counted(np.ones((2, 4)), Ledger())
    ranks(x)
    assert apart(x.ledger) == ["not executed, of the total: 10 FLOP at most, a bound (sort)"]
    assert x.ledger.snapshot().where("*", "ranks").cost == {"add": 16, "mul": 8}


def test_a_composite_called_like_a_row_is_not_taken_for_it():
    x = Counted(np.ones((2, 4)), Ledger())
    sort(x)
    assert not apart(x.ledger)
    assert x.ledger.snapshot().cost == {"add": 8}


def test_of_random_numbers_the_bytes_alone_are_known_and_it_says_so():
    _, ledger = counted(lambda: np.random.default_rng(0).normal(size=5) + 1.0)()
    (row, *_) = lines(ledger.report())
    assert (row["operation"], row["FLOP"], row["bytes written"]) == ("random.normal", "", "40")
    assert row["known by"] == known_by("random.choice") == "bytes alone"
    said = "random numbers: their bytes alone are counted"
    assert said in str(ledger.report())
    assert said not in str(ran().report())


def test_a_part_of_a_run_has_a_report_too():
    ledger = ran()
    (row, total) = lines(ledger.snapshot().where("layer.act").report())
    assert row["FLOP"] == total["FLOP"] == "4"
    before = ledger.snapshot()
    Counted(np.ones(3), ledger) + 1.0
    assert lines((ledger.snapshot() - before).report())[-1]["FLOP"] == "3"


@pytest.mark.parametrize("seed", range(4))
def test_operations_have_names_that_numpy_has_too(seed):
    """What it calls by other names in C: parts of `linalg` and `fft`."""
    rng = np.random.default_rng(seed)
    n, m = rng.choice(range(2, 9), 2, replace=False)  # odd and even, wide and tall
    square, x = rng.random((n, n)) + 9 * np.eye(n), rng.random((m, n))
    line = rng.random(n)
    calls = [
        *(("fft", np.fft.fft, line), ("fft", np.fft.fft2, x), ("irfft", np.fft.hfft, line)),
        *(("rfft", np.fft.rfft, line), ("rfft", np.fft.rfft2, x)),
        ("cholesky", np.linalg.cholesky, square @ square.T),
        *(("qr", np.linalg.qr, x, mode) for mode in ("reduced", "complete", "r")),
        *(("eigh", np.linalg.eigh, square), ("eigvalsh", np.linalg.eigvalsh, square, "U")),
        *(("svd", np.linalg.svd, x, full) for full in (True, False)),
        *(("svd", np.linalg.pinv, x), ("lstsq", np.linalg.lstsq, x, np.ones(m))),
        *(("solve", np.linalg.solve, square, b) for b in (line, x.T)),
    ]
    for name, function, *given in calls:
        rows = lines(counted(function)(*given)[1].report())
        published = {row["operation"] for row in rows if row["known by"] == "published"}
        assert published - {"fft", "ifft"} <= {name}
        assert name in published


def test_where_nothing_was_counted_it_says_so():
    ledger = Ledger()
    assert str(ledger.report()) == "nothing was counted"
    assert "nothing was counted" in ledger.report()._repr_html_()
    x = Counted(np.ones(4), ledger)
    assert not ledger.snapshot()
    said, memory = str(ledger.report()).split("\n\n")
    assert said == "nothing was counted"
    assert memory.splitlines()[1].split() == ["activations", "0", "0", "32", "32"]
    x + x
    assert "nothing" not in f"{ledger.report()} {ledger.report()._repr_html_()}"


def test_symbols_are_shown_as_algebra():
    (product, _, total) = lines(trace(lambda a: np.exp(a @ a), (N, N)).report())
    assert product["FLOP"] == "2*n**3"
    assert sympy.sympify(total["FLOP"], {"n": N}) == 2 * N**3 + N**2


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_every_column_of_every_row(tmp_path):
    ledger, file = ran(), io.StringIO()
    ledger.to_csv(file)
    rows = table(file.getvalue())
    counts = ledger.snapshot()
    assert [(row["path"], row["operation"]) for row in rows] == list(counts)
    for row, key in zip(rows, counts, strict=True):
        part = counts.where(*key)
        assert int(row["flops"]) == part.cost.flops
        assert row["known_by"] == known_by(key[1])
        for column in counts.columns:
            name = column if isinstance(column, str) else "_".join(column)
            assert int(row[name]) == part.total(column)
    ledger.to_csv(tmp_path / "run.csv")
    ledger.snapshot().to_csv(str(tmp_path / "counts.csv"))
    for name in ("run.csv", "counts.csv"):
        assert table((tmp_path / name).read_text()) == rows


def test_numbers_of_any_size_are_written_out():
    file = io.StringIO()
    counts = trace(lambda a: a @ a, (2**25, 2**25))
    counts.to_csv(file)
    (row,) = table(file.getvalue())
    assert int(row["fma"]) == 2**75


def frame(counts):
    pytest.importorskip("pandas", reason="pandas is not installed: .[test]")
    return counts.to_pandas()


def test_a_frame_has_named_columns_of_whole_numbers():
    ledger = ran()
    made = frame(ledger)
    assert list(zip(made["path"], made["operation"], strict=True)) == list(ledger.snapshot())
    assert made["flops"].dtype == made["read_weights"].dtype == np.int64
    assert made["flops"].sum() == ledger.snapshot().cost.flops
    assert dict(made.groupby("path")["exp"].sum())["layer.act"] == 4
    assert set(made["known_by"]) == {"executed", "bound"}


@pytest.mark.parametrize("n", [3 * 2**19, 2**21])  # the sum alone needs more than 64 bits, or all
def test_no_sum_of_a_frame_overflows(n):
    def twice(a):
        with scope("once"):
            np.exp(a @ a)
        with scope("again"):
            a @ a

    counts = trace(twice, (n, n))
    largest = max(counts.where(*key).cost.flops for key in counts)
    assert (largest < 2**63) == (n < 2**21)
    made = frame(counts)
    assert made["flops"].sum() == counts.cost.flops > 2**63
    assert made["exp"].dtype == np.int64


def test_symbols_stay_what_they_are_in_a_frame():
    made = frame(trace(lambda a: a @ a, (N, N)))
    assert made["fma"].dtype == object
    assert made["fma"][0] == N**3
    assert made["calls"].dtype == np.int64


def test_without_pandas_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^to_pandas needs pandas: pip install pandas$"):
        ran().to_pandas()


def test_an_array_without_a_ledger_has_one_of_its_own():
    x, y = Counted(np.ones(3)), Counted(np.ones(3))
    assert (x + 1.0).ledger is x.ledger is not y.ledger
    assert x.ledger.snapshot().cost == {"add": 3}
    assert y.ledger.live_bytes["activations"] == 24
    with pytest.raises(ValueError, match="two ledgers"):
        x + y
