"""SIGTERM and SIGHUP end a command as Ctrl-C does; what it wrote is whole, and nothing stays."""

import os
import random
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from threading import Thread

import pexpect
import pytest
from checkpoints import MINIGPT, PROMPT, SINGLE, checkpoint, environment, home, lines_of, tensors
from sessions import session

from counting.array import Counted
from minigpt.commands.signals import ending, finishing
from minigpt.fast.recorded import Recorded
from minigpt.recording.read import read

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
PATIENCE = 300  # seconds for a start on a machine that is busy


pytestmark = pytest.mark.usefixtures("as_a_terminal_starts_it")


def started(here, *args, **options):
    """A command that runs, and hears the signals of this test."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*MINIGPT, *args], cwd=here, env=environment(HOME=home(here)), bufsize=0,
        **pipes | options,
    )  # fmt: skip


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def handles(process, number):
    """Whether a process has a handler of its own for a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [mask] = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def children(process):
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in found.split()]


@BOTH
def test_a_generation_finishes_its_pass(here, number):
    args = ("generate", PROMPT, "--max-new-tokens", "240", "--ignore-eos")
    with started(here, *args, "--log", "log", "--record", "run.jsonl") as process:
        begun = b""
        while len(begun) < len(PROMPT) + 8:
            begun += process.stdout.read(8)
        process.send_signal(number)
        text, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert b"component" in said
    assert b"Traceback" not in said
    records, recording = lines_of(here / "log"), read(here / "run.jsonl")
    assert 0 < len(records) < 240
    assert (begun + text).decode() == PROMPT + "".join(r["text"] for r in records) + "\n"
    assert [token["token"] for token in recording.tokens] == [r["token"] for r in records]
    assert recording.end["tokens"] == len(records)
    assert not recording.notes


RUNS = {
    "verify": ("verify", "gpt2-xl"),
    "article": ("article",),
    "load": ("generate", "a", "--max-new-tokens", "1"),
}


EARLY = """
import os, signal, sys


class Early:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Early())
from minigpt.__main__ import main
main()
"""


@pytest.mark.parametrize("imported", ["minigpt.cli", "typer", "minigpt.commands.signals"])
def test_ctrl_c_while_the_command_is_imported_says_nothing(imported):
    ended = subprocess.run([sys.executable, "-c", EARLY, imported], capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


@linux
@BOTH
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("run", RUNS)
def test_other_commands_end_where_they_are(here, run, seed, number):
    with started(here, *RUNS[run]) as process:
        until(lambda: handles(process, number) or process.poll() is not None)
        time.sleep(seed * random.Random(seed).uniform(0, 0.4))
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode in (128 + number, seed and 0)  # it may have ended before
    assert b"Traceback" not in said


@linux
@BOTH
def test_a_benchmark_takes_its_processes_along(here, number):
    checkpoint(here / "m")
    sizes = ("--prompt-tokens", "4", "--new-tokens", "4", "--rounds", "99")
    with started(here, "bench", "decode", "./m", "--engine", "minigpt", *sizes) as process:
        until(lambda: children(process) or process.poll() is not None)
        [child, *_] = children(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    assert not Path(f"/proc/{child}").exists()


@linux
@BOTH
def test_a_download_leaves_no_part_behind(here, number):
    checkpoint(here / "m")
    with (here / "m" / "model.safetensors").open("r+b") as file:
        file.truncate(2**31)  # without blocks on the disk; to copy it takes its time
    with started(here, "download", "./m", "--to", "to") as process:
        until(lambda: [*here.rglob(".*.part/**/model.safetensors")] or process.poll() is not None)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    assert not [*here.rglob(".*.part")]
    assert not [*here.glob("to/*")]


@BOTH
@pytest.mark.parametrize("at", ["the prompt", "a run"])
def test_the_debugger_ends(here, number, at):
    with session(here, "--max-new-tokens", "200") as step:
        if at == "a run":
            step.sendline("stop when flops>1e18")
        time.sleep(0.5)  # what comes before readline waits is seen with the next key
        step.kill(number)
        step.expect(pexpect.EOF)
        step.close()
    assert (step.exitstatus, step.signalstatus) == (128 + number, None)
    assert "Traceback" not in step.before


def test_a_terminal_that_goes_ends_a_generation_whole(here):
    args = [*MINIGPT[1:], "generate", PROMPT, "--max-new-tokens", "240", "--ignore-eos"]
    child = pexpect.spawn(
        MINIGPT[0], [*args, "--record", "run.jsonl"], cwd=str(here), timeout=PATIENCE,
        env=environment(TERM="xterm", HOME=home(here)), dimensions=(24, 80), encoding="utf-8",
    )  # fmt: skip
    child.expect("token\xa03/240")
    os.close(child.fileno())  # as a terminal does that is closed
    _, status = os.waitpid(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    recording = read(here / "run.jsonl")
    assert 3 <= recording.end["tokens"] == len(recording.tokens) < 240


def test_what_nohup_ignores_stays_ignored(here):
    def ignored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    args = ("generate", PROMPT, "--max-new-tokens", "30", "--ignore-eos", "--log", "log", "--quiet")
    with started(here, *args, preexec_fn=ignored) as process:
        process.stdout.read(len(PROMPT) + 1)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert len(lines_of(here / "log")) == 30


# In this process.


@pytest.mark.parametrize("seed", range(6))
def test_the_second_signal_is_not_waited_for(seed):
    rng = random.Random(seed)
    asking = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.getsignal(number) for number in asking]
    first, second = rng.choice(asking), rng.choice(asking)
    with ending(), finishing() as status:
        assert status() == 0
        os.kill(os.getpid(), first)
        assert status() == 128 + first
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
        assert status() == 128 + first
    assert [signal.getsignal(number) for number in asking] == before


@BOTH
def test_handlers_are_as_they_were(number):
    before = signal.getsignal(number)
    with ending(), pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before


class Sends:
    """Sends a signal when it goes, from what swallows an exception."""

    def __init__(self, number, finalizer):
        self.number = None if finalizer else number
        self.finalizer = finalizer and weakref.ref(self, lambda _: os.kill(os.getpid(), number))

    def __del__(self):
        if self.number:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("finalizer", [False, True], ids=["__del__", "finalizer"])
@pytest.mark.parametrize("busy", [0, 0.1])
def test_a_signal_in_what_swallows_it_comes_again(number, finalizer, busy, monkeypatch):
    start = Thread.start  # on a busy machine it takes its time
    monkeypatch.setattr(Thread, "start", lambda thread: (start(thread), time.sleep(busy)))
    before, hook = signal.getsignal(number), sys.unraisablehook

    def run():
        sends = Sends(number, finalizer)
        reference = sends.finalizer  # one that is gone first calls nothing
        del sends
        until(lambda: reference == "called")

    with ending(), pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
        run()
    assert ended.type is (KeyboardInterrupt if number == signal.SIGINT else SystemExit)
    assert ended.type is KeyboardInterrupt or ended.value.code == 128 + number
    assert (signal.getsignal(number), sys.unraisablehook) == (before, hook)


@pytest.mark.parametrize("kind", [Counted, Recorded])
def test_an_array_that_a_signal_ended_before_it_was_whole_goes_without_a_word(kind, monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    object.__new__(kind)
    assert not said


# A file that is cut.

MAPPING = "from minigpt.fast import store; store.SMALL = store.READ = 0; "


@linux
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("fast", ["0", "1"])
def test_a_file_that_is_cut_while_it_is_read_is_named(here, monkeypatch, dtype, fast, seed):
    rng = random.Random(seed)
    monkeypatch.setenv("MINIGPT_FAST", fast)
    weights = tensors()
    weights["wpe.weight"] = weights["wpe.weight"].repeat(5000, 0)
    model = checkpoint(here / "m", weights, n_positions=80_000) / SINGLE
    command = [*MINIGPT[:2], MAPPING + MINIGPT[2], "generate", "ab", "--model", "m", "--quiet"]
    given = ("--dtype", dtype, "--max-new-tokens", "70000", "--ignore-eos", "--log", "log")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    env = environment(HOME=home(here))
    with subprocess.Popen([*command, *given], cwd=here, env=env, **pipes) as process:
        begun = b""
        while len(begun) < 3:
            begun += process.stdout.read(9)
        packs = [*(here / ".cache" / "minigpt" / "packed").glob("*.safetensors")]
        cut = rng.choice([model, *packs])
        os.truncate(cut, rng.choice([0, 1, 100]))
        _, said = process.communicate(timeout=PATIENCE)
    assert said.decode().strip() == (
        f"minigpt: {cut.resolve()} was made shorter while it is in use: start again"
    )
    assert process.returncode == 2
    assert lines_of(here / "log")
