"""What a stranger could hand in: what once failed, and a few drawn anew at each run."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoints import ROOT, cache_in, environment
from fuzzing import BYTES, NAMES

CORPUS = Path(__file__).parent / "corpus"
SEED = random.SystemRandom().randrange(10**6)
MOST = {"command": 30, "pack": 30}  # of others a hundred


def fuzz(tmp_path, *words):
    """The row of the table that `scripts/fuzz.py` prints, and all that it says."""
    command = [sys.executable, ROOT / "scripts" / "fuzz.py", "--found", tmp_path / "found", *words]
    cache = environment(XDG_CACHE_HOME=cache_in(tmp_path / "cache"))
    result = subprocess.run(command, cwd=ROOT, env=cache, capture_output=True, text=True)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    _, tried, _, faults, hangs, _ = said.splitlines()[-1].split()
    assert (faults, hangs) == ("0", "0")
    return int(tried)


@pytest.mark.parametrize("kind", NAMES)
def test_what_once_failed_does_not(tmp_path, kind):
    files = sorted(CORPUS.glob(f"{kind}-*"))
    if files:
        assert fuzz(tmp_path, *files) == len(files)


@pytest.mark.parametrize("kind", NAMES)
def test_whatever_is_handed_in_is_used_or_refused_in_a_line(tmp_path, kind):
    print(f"seed {SEED}")
    most = MOST.get(kind, 100)
    inputs = ("--inputs", str(most), "--minutes", "0.1")
    assert 0 < fuzz(tmp_path, "--kind", kind, "--seed", str(SEED), *inputs) <= most


@pytest.mark.parametrize("kind", BYTES)
def test_what_grows_by_what_it_reaches_is_used_or_refused_in_a_line(tmp_path, kind):
    pytest.importorskip("atheris", reason="atheris, which guides, is not installed")
    inputs = ("--inputs", "100", "--minutes", "0.1")
    assert 0 < fuzz(tmp_path, "--guided", "--kind", kind, "--seed", str(SEED), *inputs) <= 100


@pytest.mark.usefixtures("as_a_terminal_starts_it")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_asked_to_end_it_says_what_it_tried_and_leaves_no_process(tmp_path, number):
    command = [sys.executable, ROOT / "scripts" / "fuzz.py", "--kind", "gpu", "--minutes", "9"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        assert running.stdout.readline().startswith("seed")
        while not (found := children.read_text().split()):
            assert running.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        running.send_signal(number)
        said, beside = running.communicate(timeout=300)  # which every process has
    assert beside == ""
    if number == signal.SIGKILL:
        return  # nothing can be said then
    assert running.returncode == 128 + number
    assert re.search(r"^gpu +[\d,]+ ", said, re.MULTILINE)
    assert not any(Path(f"/proc/{child}").exists() for child in found)


SEVENS = """

def sevens(made, folder):
    if made[-1:] == b"7":
        raise ZeroDivisionError(made.hex())


KINDS["gpu"] = Kind(lambda rng: b"%d" % rng.randrange(10**6), sevens)
"""


@pytest.mark.parametrize("guided", [(), ("--guided",)], ids=["drawn", "guided"])
def test_of_many_inputs_each_that_failed_is_kept_and_fails_again(tmp_path, guided):
    if guided:
        pytest.importorskip("atheris", reason="atheris, which guides, is not installed")
    scripts = tmp_path / "scripts"
    shutil.copytree(ROOT / "scripts", scripts, ignore=shutil.ignore_patterns("results"))
    with (scripts / "fuzzing" / "kinds.py").open("a") as kinds:
        kinds.write(SEVENS)
    command = [sys.executable, scripts / "fuzz.py", "--kind", "gpu", "--inputs", "300", *guided]
    there = environment(PYTHONPATH=ROOT)
    result = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)
    said = [line for line in result.stderr.splitlines() if "ZeroDivisionError" in line]
    kept = {p.name: p.read_bytes().hex() for p in (tmp_path / "found").iterdir()}
    assert len(said) == len(kept) > 10
    for line in said:
        name, _, failed = line.split(": ")
        assert kept[name][:160] == failed  # as much of it is said


def test_a_fault_is_found_kept_and_found_again(tmp_path):
    wrong = tmp_path / "call-wrong"
    wrong.write_text("1 / 0")
    command = [sys.executable, ROOT / "scripts" / "fuzz.py", wrong]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert "call-wrong: ZeroDivisionError: division by zero" in result.stderr
