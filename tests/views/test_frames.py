"""CSV and DataFrames of a recording: every number is there, and its columns add up."""

import csv
import sys

import pytest
from recordings import FAMILIES
from viewed import ran, written

from counting.views import flops
from minigpt import InputError
from minigpt.views.frames import to_pandas


@pytest.mark.parametrize("ops", [False, True])
@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_csv_has_a_row_for_each_operation_or_token(seed, ops, tmp_path):
    run = ran(seed, ops, tmp_path)
    lines = run.recording.operations if ops else run.recording.tokens
    with written(run.recording, ".csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert int(row["flops"]) == line["flops"]
        assert row["text" if not ops else "path"] == line["text" if not ops else "path"]
        for category in run.peak:
            read = int(row.get(f"bytes_read.{category}", 0))
            assert read == line["bytes_read"].get(category, 0)


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_dataframes_add_up_to_what_the_ledger_counted(seed, tmp_path):
    pandas = pytest.importorskip("pandas")
    run = ran(seed, True, tmp_path)
    recording = run.recording
    for frame in (to_pandas(recording.operations), to_pandas(recording.rows)):
        assert frame["flops"].dtype == "int64"
        assert frame["flops"].sum() == flops(run.counts)
        for name in ("read", "written"):
            of = run.counts.bytes_read if name == "read" else run.counts.bytes_written
            columns = [f"bytes_{name}.{category}" for category, n in of.items() if n]
            assert frame[columns].sum().sum() == sum(of.values())
        kinds = {kind: n for kind, n in run.counts.cost.items() if n}
        assert {kind: frame[f"kinds.{kind}"].sum() for kind in kinds} == kinds
    tokens = to_pandas(recording.tokens)
    assert [*tokens["token"]] == [one["token"] for one in recording.tokens]
    assert {"sample.flops", "live_bytes.kv_cache"} <= {*tokens.columns}
    operations = to_pandas(recording.operations)
    assert operations["pass"].dtype == "Int64"  # before the first pass there is none
    assert operations["pass"].isna().sum() == sum(
        line["pass"] is None for line in recording.operations
    )
    assert isinstance(operations, pandas.DataFrame)


def test_integers_of_any_size_stay_exact():
    pytest.importorskip("pandas")
    large = [{"flops": 2**62}, {"flops": 2**62 + 1}, {"flops": 3}]
    assert to_pandas(large)["flops"].sum() == 2**63 + 4
    assert to_pandas(large[1:])["flops"].dtype == "int64"


def test_without_pandas_a_line_says_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        to_pandas([])
