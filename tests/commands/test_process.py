"""A command's streams: what cannot be said beside changes nothing, and nothing is read for ever."""

import os
import random
import subprocess
import sys
import time

import pytest
from checkpoints import PROMPT, SHORT, complaint, environment, minigpt

GENERATE = "generate", PROMPT, *SHORT


def streams(here, *args, stdout=subprocess.PIPE):
    """Runs a command whose standard error is on a full disk, and its standard output if asked."""
    with open("/dev/full", "wb") as full:
        out = full if stdout == "full" else stdout
        return minigpt(*args, cwd=here, capture_output=False, stdout=out, stderr=full)


@pytest.mark.parametrize("options", [(), ("--json",), ("--dtype", "int8")], ids=str)
def test_a_full_standard_error_loses_what_is_said_there_alone(here, options):
    beside = minigpt(*GENERATE, *options, cwd=here)
    result = streams(here, *GENERATE, *options)
    assert (result.returncode, beside.returncode) == (0, 0)
    if options != ("--json",):  # which tells times
        assert result.stdout == beside.stdout != b""


@pytest.mark.parametrize("args", [("count", "nosuch"), ("nosuch",), ("generate", "a", "--seed=x")])
def test_what_is_wrong_is_status_2_though_nobody_can_be_told(here, args):
    assert streams(here, *args).returncode == 2


@pytest.mark.parametrize("args", [("count", "gpt2"), ("gpus",), GENERATE], ids=lambda args: args[0])
def test_full_streams_are_status_2(here, args):
    assert streams(here, *args, stdout="full").returncode == 2


def test_a_prompt_that_does_not_end_is_refused(here):
    with open("/dev/zero", "rb") as endless:
        result = minigpt("generate", "-", cwd=here, input=None, stdin=endless)
    assert complaint(result) == "minigpt: the prompt has more than 268,435,456 bytes"


SAYING = """
import sys
from minigpt.commands.process import _open_streams
_open_streams()
for n in map(int, sys.argv[1:]):
    print(f"{n:0{n}}", file=sys.stderr)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_standard_error_that_does_not_wait_gets_all_that_is_said(seed):
    """As one has that is shared with a program of Node's; its reader is slow."""
    rng = random.Random(seed)
    lengths = [str(rng.randint(1, 99_999)) for _ in range(30)]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        [sys.executable, "-c", SAYING, *lengths], env=environment(), stderr=writer
    ) as process:
        os.close(writer)
        with open(reader, "rb") as said:
            time.sleep(rng.uniform(0, 1))
            lines = [line.decode() for line in said]
        assert process.wait(timeout=300) == 0
    assert lines == [f"{int(n):0{n}}\n" for n in lengths]
