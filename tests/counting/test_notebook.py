"""How counts look in a notebook: whole numbers, bars that are their shares, escaped text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import sympy

from counting import Counted, Ledger, category, counted, scope, trace
from counting.notebook import COLOURS, stack, text


def parsed(html):
    """It as a tree, which only whole HTML is that closes what it opens."""
    assert not re.search(r"<script|src=|href=|url\(|https?:", html)
    return ElementTree.fromstring(f"<div>{html}</div>")


def cells(html, table=0):
    """The rows of a table: of each cell its text, and the share that its bar shows, or None."""
    found = []
    for row in [*parsed(html).iter("table")][table].find("tbody"):
        bars = [re.search(r"59 ([\d.e-]+)%", cell.get("style")) for cell in row]
        shares = [bar and float(bar[1]) / 100 for bar in bars]
        found.append([(cell.text or "", share) for cell, share in zip(row, shares, strict=True)])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_report_shows_every_row_and_each_bar_is_a_share_of_the_total(seed):
    rng = np.random.default_rng(seed)
    n, m = map(int, rng.integers(1, 60, 2))

    def program(a):
        with scope("products"):
            b = a @ a.T
        for _ in range(m):
            b = np.exp(b * 0.0)
        return np.sort(b)

    ledger = counted(program)(rng.standard_normal((n, m)))[1]
    frame = ledger.to_pandas()
    frame["read"] = frame.filter(regex="^read_").sum(axis=1)
    frame["written"] = frame.filter(regex="^written_").sum(axis=1)
    total, *rows = cells(ledger._repr_html_())
    assert [cell for cell, _ in total[2:6]] == [
        f"{frame[name].sum():,}" for name in ("calls", "flops", "read", "written")
    ]
    assert len(rows) == len(frame)
    for row, (_, wanted) in zip(rows, frame.iterrows(), strict=True):
        assert [row[i][0] for i in (0, 1, 6)] == [wanted.path, wanted.operation, wanted.known_by]
        for cell, name in zip(row[3:6], ("flops", "read", "written"), strict=True):
            assert cell[0] == f"{wanted[name]:,}"
            share = wanted[name] / max(1, frame[name].sum())
            assert (cell[1] or 0) == pytest.approx(share, abs=1e-3)
    assert "a bound (sort)" in ledger._repr_html_()
    assert cells(ledger._repr_html_(), 1)[0][2][0] == f"{ledger.peak_bytes['activations']:,}"


def test_counts_of_a_part_and_ledgers_look_as_their_reports_do():
    ledger = counted(lambda a: np.exp(a @ a))(np.ones((3, 3)))[1]
    assert ledger._repr_html_() == ledger.report()._repr_html_()
    part = ledger.snapshot().where("*", "exp")
    assert [row[1][0] for row in cells(part._repr_html_())] == ["", "exp"]


def test_symbols_have_no_bars():
    n = sympy.symbols("n", integer=True, positive=True)
    rows = cells(trace(np.matmul, (n, n), (n, n))._repr_html_())
    assert [cell for cell, _ in rows[0][3:6]] == ["2*n**3", "8*n**2", "4*n**2"]
    assert all(share is None for row in rows for _, share in row)


def test_text_is_escaped():
    ledger = Ledger(["activations", "<b>"])
    with scope("<script>alert(1)</script>"), category("<b>"):
        Counted(np.ones(3), ledger) + 1.0
    html = ledger._repr_html_()
    assert cells(html)[1][0][0] == "<script>alert(1)</script>"
    assert "<script" not in html
    assert parsed(text("a < b & c")).find("div").text == "a < b & c"


@pytest.mark.parametrize("seed", range(3))
def test_a_stack_has_its_parts_beside_one_another(seed):
    rng = np.random.default_rng(seed)
    parts = {f"part {i}": int(rng.integers(0, 2) * rng.integers(1, 10**9)) for i in range(5)}
    parts["part 0"] = 7
    whole = sum(parts.values()) + int(rng.integers(0, 10**9))
    *drawn, frame = parsed(stack(parts, whole)).iter("rect")
    there = [name for name, n in parts.items() if n]
    assert [rect.find("title").text for rect in drawn] == [f"{n} {parts[n]:,} B" for n in there]
    assert frame.get("fill") == "none"
    at = 0.0
    for rect, name in zip(drawn, there, strict=True):
        assert float(rect.get("x")[:-1]) == pytest.approx(at, abs=0.002)
        at += 100 * parts[name] / whole
        assert rect.get("fill") == COLOURS[[*parts].index(name)]
    assert at <= 100 + 1e-9
