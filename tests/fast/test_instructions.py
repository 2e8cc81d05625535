"""What one decode step runs is what it ran, by kernel: figures that no other load moves.

`python scripts/instructions.py --renew` writes those that it is held against, after a change that
is meant to move them; the commit says why they moved.
"""

import json
import platform
import runpy

import pytest
from checkpoints import ROOT

pytest.importorskip("llvmlite")

import llvmlite
from llvmlite.binding import get_host_cpu_features

script = runpy.run_path(str(ROOT / "scripts" / "instructions.py"))
KEPT = json.loads(script["KEPT"].read_text())
STEPPED = {"instructions", "flops"}
WITHIN = 0.005  # more is slower; so much less is worth keeping

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64"
    or not all(get_host_cpu_features().get(name) for name in script["FEATURES"]),
    reason="the kernels that are counted need AVX2",
)


def moved(found, kept):
    """Lines about figures that are not within `WITHIN` of those that are kept."""
    lines = []
    for step, rows in kept.items():
        for kernel, row in rows.items():
            for what in STEPPED & row.keys():
                before, now = row[what], found[step][kernel][what]
                if abs(now - before) > WITHIN * before:
                    lines.append(f"{step}, {kernel}: {now:,} {what}, not {before:,}")
    return lines


def unstepped(steps):
    return {
        step: {
            kernel: {what: n for what, n in row.items() if what not in STEPPED}
            for kernel, row in rows.items()
        }
        for step, rows in steps.items()
    }


def test_jobs_tiles_and_bytes_of_a_step_are_those_that_are_kept():
    found = script["figures"](count=False)["steps"]
    assert found == unstepped(KEPT["steps"])


@pytest.mark.once
def test_instructions_and_flops_of_a_step_are_those_that_are_kept():
    pytest.importorskip("capstone")
    if llvmlite.__version__ != KEPT["llvmlite"]:
        pytest.skip(f"kept of llvmlite {KEPT['llvmlite']}, this is {llvmlite.__version__}")
    found = script["figures"](count=True)["steps"]
    assert not moved(found, KEPT["steps"])


@pytest.mark.parametrize(("now", "lines"), [(1004, 0), (996, 0), (1006, 1), (994, 1)])
def test_more_instructions_are_seen_and_fewer_too(now, lines):
    kept = {"gpt2 int8": {"gelu": {"jobs": 1, "instructions": 1000}, "cos": {"jobs": 1}}}
    found = {"gpt2 int8": {"gelu": {"jobs": 1, "instructions": now}, "cos": {"jobs": 1}}}
    assert len(moved(found, kept)) == lines
