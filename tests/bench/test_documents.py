"""The tables of `minigpt bench` in the documents are what they are made of."""

import json
import re

from checkpoints import ROOT
from documents import DOCUMENTS

from minigpt.bench import scaling
from minigpt.bench.report import markdown

TABLE = markdown(json.loads((ROOT / "docs" / "speed.json").read_text()))
ROW = re.compile(r"^\| \S+ \| (?:decode|prefill|start) .*$", re.M)


def test_the_table_of_all_figures_is_that_of_its_document():
    assert f"\n{TABLE}\n" in (ROOT / "docs" / "speed.md").read_text()


def test_no_document_has_other_rows():
    rows = ROW.findall(TABLE)
    assert rows
    for path in DOCUMENTS:
        assert {*ROW.findall(path.read_text())} <= {*rows}, path.name


def test_the_table_of_processes_is_that_of_its_document():
    document = json.loads((ROOT / "docs" / "scaling.json").read_text())
    assert f"\n{scaling.markdown(document)}\n" in (ROOT / "docs" / "parallel.md").read_text()
