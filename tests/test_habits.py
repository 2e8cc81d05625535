"""Format, lint and types of the whole checkout."""

import importlib.util
import subprocess
import sys

import pytest
from checkpoints import ROOT


@pytest.mark.parametrize(
    "command", ["ruff check", "ruff format --check --diff", "mypy"], ids=lambda c: c.split(" --")[0]
)
def test_habits(command):
    tool, *options = command.split()
    if not importlib.util.find_spec(tool):
        pytest.skip(f"{tool} is not installed: .[test]")
    result = subprocess.run(
        [sys.executable, "-m", tool, *options], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
