"""CONTRIBUTING.md to the letter: its changes applied to a copy, its commands run there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import ROOT, environment
from documents import blocks, commands

PARTS = ("counting", "minigpt", "scripts", "tests", "weights", "pyproject.toml", "README.md")


def sections():
    """The blocks of each section that changes something, by its heading."""
    document = ROOT / "CONTRIBUTING.md"
    found, heading = {}, ""
    lines = document.read_text(encoding="utf-8").splitlines()
    for block in blocks(document):
        number = int(block.where.rpartition(":")[2])
        heading = next(line for line in lines[number - 1 :: -1] if line.startswith("## "))
        found.setdefault(heading.removeprefix("## "), []).append(block)
    return {name: found[name] for name in found if any(b.language == "diff" for b in found[name])}


def change(folder, name, diff):
    """Applies a block: lines that stay and that go, which stand once in the file, and new ones."""
    lines = [(line[0], line[1:]) for line in diff.splitlines()]
    old, new = (
        "".join(f"{line}\n" for sign, line in lines if sign != other) for other in ("+", "-")
    )
    file = folder / name
    text = file.read_text(encoding="utf-8") if old else ""
    assert old == "" or text.count(old) == 1, f"{name} has other lines than these: {old}"
    file.write_text(text.replace(old, new) if old else new, encoding="utf-8")


@pytest.mark.parametrize("section", sections())
def test_whoever_follows_it_gets_there(section, tmp_path):
    if section == "Add a kernel":
        pytest.importorskip("llvmlite", reason="llvmlite is not installed: .[fast]")
    for part in PARTS:
        whole, copy = ROOT / part, tmp_path / part
        shutil.copytree(whole, copy) if whole.is_dir() else shutil.copy(whole, copy)
    env = environment(PYTHONPATH=str(tmp_path), PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    for block in sections()[section]:
        if block.language == "diff":
            change(tmp_path, block.note, block.text)
            continue
        for command, _ in commands(block):
            program, _, rest = command.partition(" ")
            told = subprocess.run(
                f"{sys.executable} -m {program} {rest}",
                shell=True, cwd=tmp_path, env=env, capture_output=True, text=True,
            )  # fmt: skip
            assert told.returncode == 0, told.stdout + told.stderr
            assert program != "pytest" or re.search(r"\d+ passed", told.stdout)


def test_every_way_to_add_something_is_followed():
    assert [name.partition(" ")[0] for name in sections()] == ["Add"] * 5
