"""Processes of which one is killed: all end, and one line says which it was, and by what."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from ranks import mpiexec

from minigpt.errors import InputError
from minigpt.parallel.communicators import MPI

RING = """
import os, sys
import numpy as np
from minigpt.parallel.collectives import all_reduce
from minigpt.parallel.communicators import MPI
from minigpt.parallel.processes import watched

watched()
ring, folder = MPI(), sys.argv[1]
with open(f"{folder}/{ring.rank}", "w") as log:
    for step in range(10**9):
        total = all_reduce(np.full(50, step + ring.rank, "float32"), ring)
        print(int(total[0]), os.getpid(), file=log, flush=True)
"""


@pytest.fixture
def ring(tmp_path):
    program = tmp_path / "ring.py"
    program.write_text(RING)
    return program


def ended(folder, size):
    """Whether no rank is there any more; of each, that all lines of its log are whole."""
    logs = [(folder / str(rank)).read_text() for rank in range(size)]
    for log in logs:
        assert log.endswith("\n")
        assert all(len(line.split()) == 2 for line in log.splitlines())
    pids = {int(log.split()[-1]) for log in logs}
    deadline = time.monotonic() + 300
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


@pytest.mark.parametrize("seed", range(4))
def test_one_that_is_killed_ends_all_with_one_line(seed, ring, tmp_path):
    rng = random.Random(seed)
    size = rng.randint(2, 4)
    which = rng.randrange(size)
    number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
    command, env = mpiexec(size, ring, tmp_path)
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    running = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, **pipes, text=True)
    logs = [tmp_path / str(rank) for rank in range(size)]
    while running.poll() is None and not all(x.exists() and x.stat().st_size for x in logs):
        time.sleep(0.01)
    time.sleep(rng.random() / 2)
    os.kill(int(logs[which].read_text().split()[1]), number)
    killed = time.monotonic()
    out, err = running.communicate(timeout=120)
    took = time.monotonic() - killed
    print(json.dumps({"size": size, "rank": which, "seconds": round(took, 2)}))
    assert (running.returncode, out) == (128 + number, "")
    assert err == f"minigpt: rank {which} was ended by {number.name}\n"
    assert ended(tmp_path, size)


def test_where_all_goes_well_nothing_is_said(tmp_path):
    program = tmp_path / "well.py"
    program.write_text(
        "import sys\nfrom minigpt.parallel.communicators import MPI\n"
        "from minigpt.parallel.processes import watched\n"
        "watched()\nring = MPI()\nfound = ring.everyone(ring.rank)\n"
        "if ring.rank == 0:\n    print(found, sys.stdin.read())\n"  # no other has what is typed
    )
    command, env = mpiexec(3, program)
    ran = subprocess.run(
        command, env=env, input="told", capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[0, 1, 2] told\n", "")
    alone = subprocess.run(
        [sys.executable, program], env=env, input="told", capture_output=True, text=True
    )
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, "[0] told\n", "")


def test_without_mpi4py_a_line_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[parallel\]' in the clone"):
        MPI()
