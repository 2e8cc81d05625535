"""Published counts beside executed ones: the script prints a row for each."""

import importlib.util

from checkpoints import ROOT


def test_every_row_has_both_counts(capsys, monkeypatch):
    path = ROOT / "scripts" / "executed.py"
    spec = importlib.util.spec_from_file_location("executed", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    few = [call for call in script.calls(6) if call[0].startswith(("solve", "chol", "fft", "sort"))]
    monkeypatch.setattr(script, "calls", lambda n: few)
    rows = [*script.rows()]
    assert len(rows) == len(few) == 5
    assert all(row.published > 0 and row.executed > 0 for row in rows)
    linear = [row for row in rows if row.call.startswith(("solve", "cholesky"))]
    assert len(linear) == 2
    assert all(row.published / 2 < row.executed < 4 * row.published for row in linear)
    monkeypatch.setattr(script, "rows", lambda: rows)
    script.main()
    said = capsys.readouterr().out
    assert said.splitlines()[0].split()[:2] == ["call", "published"]
    assert all(f"{row.executed:,}" in said for row in rows)
