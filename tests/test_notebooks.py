"""The notebooks: each runs from the top, states its claims, and shows what is stored in it."""

import re
import sys
from pathlib import Path

import nbformat
import notebooks
import pytest
from checkpoints import ROOT

FILES = sorted(notebooks.FOLDER.glob("*.ipynb"))
MOST = 250_000  # bytes of a file, pictures and all

pytestmark = pytest.mark.once


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def printed(notebook):
    """What each cell printed."""
    return [
        "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
        for cell in cells(notebook, "code")
    ]


def shown(notebook):
    """The kinds of what each cell showed: pictures, tables."""
    return [
        [sorted(out.data) for out in cell.outputs if "data" in out]
        for cell in cells(notebook, "code")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # those of Jupyter's own packages
def test_a_notebook_runs_and_what_it_shows_is_stored(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored, run = nbformat.read(path, as_version=4), notebooks.executed(path)
    assert printed(run) == printed(stored)
    assert shown(run) == shown(stored)
    assert not [
        out.text
        for cell in cells(run, "code")
        for out in cell.outputs
        if out.get("name") == "stderr"
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_is_short_says_what_it_does_and_claims_what_it_shows(path):
    text, notebook = path.read_text(encoding="utf-8"), nbformat.read(path, as_version=4)
    assert len(text) < MOST
    assert not re.search(r"/home/|/Users/|/tmp/|\\\\Users|ipykernel_\d", text)
    assert not [place for place in (ROOT, Path.home(), sys.prefix) if f"{place}/" in text]
    code = cells(notebook, "code")
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert len(code) <= 12
    assert len(cells(notebook, "markdown")) >= len(code) / 2
    assert sum("assert " in cell.source for cell in code) >= len(code) / 2
    assert any("image/png" in kinds for cell in shown(notebook) for kinds in cell)


def test_every_notebook_is_named_in_the_documents():
    said = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert len(FILES) == 5
    assert all(f"(notebooks/{path.name})" in said for path in FILES)
