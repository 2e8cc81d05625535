"""Accesses out of bounds, races and barriers that not all reach, by compute-sanitizer."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gpu_visit.stages import Result
from gpu_visit.visit import MARGIN, Visit

TOOLS = ("memcheck", "racecheck", "synccheck")


def sanitizer(visit: Visit) -> Iterator[Result]:
    """The fast step and the reference on a tiny model, under each tool."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        row = ("compute-sanitizer", "not run", "there is no compute-sanitizer")
        yield {"missing": "compute-sanitizer", "rows": [row]}
        return
    for tool in TOOLS:
        for stage in ("jobs", "counted"):
            what, left = f"{tool}, {stage}", visit.ends - time.monotonic() - MARGIN
            said = _said([program, "--tool", tool], stage, visit, left)
            yield {what: said, "rows": [(what, said, "a tiny model")]}


def _said(tool: list[str], stage: str, visit: Visit, left: float) -> str:
    """The last word of a tool: its summary of errors."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*tool, sys.executable, str(Path(sys.argv[0]).resolve())]
        command += ["--only", stage, "--tiny", "--out", folder]
        command += ["--dry-run"] if visit.dry else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(left, 0))
        except subprocess.TimeoutExpired:
            return f"ran past {left:.0f} s"
    lines = (done.stdout + done.stderr).splitlines()
    words = [line.strip("= ") for line in lines if line.startswith("=========")]
    return (words or lines or [f"ended with status {done.returncode}"])[-1]
