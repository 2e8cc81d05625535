"""`minigpt step`, as a command: how it is left, interrupted, and called wrongly."""

import re
import subprocess
import sys
import time

import pexpect
import pytest
from checkpoints import (
    PROMPT,
    ROOT,
    checkpoint,
    complaint,
    ends_at_once,
    environment,
    home,
    minigpt,
)
from sessions import SHORT, STEP, ends, operations, session


def press_ctrl_c(step, until):
    """And Enter, if it is not heard: at the moment that a prompt comes, Python's `input` may sleep
    through it (a bare `input()` with readline loses one in forty so), and wakes with a key."""
    step.sendintr()
    if step.expect([until, pexpect.TIMEOUT], timeout=5) != 0:
        step.send("\n")
        step.expect(until)


@pytest.mark.parametrize("typed", ["q\n", "exit\n", "\x04"], ids=repr)
def test_leaving(tmp_path, typed):
    with session(tmp_path) as step:
        step.send(typed)
        status, rest = ends(step)
    assert status == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize("typed", ["", "p x", "!while True: pass\n"], ids=repr)
def test_ctrl_c_at_the_prompt_says_so_and_stays(tmp_path, said, typed):
    """In front of a line, in the midst of one, and while one computes."""
    with session(tmp_path) as step:
        for _ in range(2):
            step.send(typed)
            if typed.endswith("\n"):
                step.expect_exact("pass")
                time.sleep(0.2)
            press_ctrl_c(step, "KeyboardInterrupt")
            step.expect(STEP)
            assert step("p 6 * 7")[0] == "42"
        step.sendline("c")
        assert ends(step)[1].startswith(said)


def test_ctrl_c_stops_a_model_that_runs(tmp_path):
    with session(tmp_path, "--max-new-tokens", "200") as step:
        step.sendline("stop when flops>1e12")
        step.expect_exact("\n")
        time.sleep(0.3)  # it runs: before that the prompt would hear it
        press_ctrl_c(step, STEP)
        assert "--KeyboardInterrupt--" in step.before
        assert operations(step.before) > 12
        assert step("p 6 * 7")[0] == "42"
        step.sendline("q")
        assert ends(step)[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at", "h.9.attn"], "no path of shakespeare matches 'h.9.attn': perhaps h."),
        (["--at", "zzz"], "no path of shakespeare matches 'zzz': there are h.0, "),
        (["--token", "5"], "--token is 5; it must be from 1 to 4"),
        (["--token", "-1"], "--token is -1; it must be from 1 to 4"),
        (["--token", "x"], "Invalid value for '--token'"),
        (["--max-new-tokens", "0"], "max_new_tokens is 0; it must be a positive whole number"),
        (["--model", "no/such/model"], "no/such/model"),
        (["--temperature", "-1"], "temperature is -1.0; it must be a number from 0 to below 1e+30"),
    ],
)
def test_bad_input(tmp_path, options, said):
    result = minigpt("step", PROMPT, *SHORT, *options, cwd=tmp_path)
    assert said in complaint(result)


def test_a_text_that_ends_before_the_first_stop(tmp_path):
    model = checkpoint(tmp_path / "model", ends_at_once())
    options = "--model", str(model), "--token", "3", "--max-new-tokens", "4", "--temperature", "0"
    result = minigpt("step", "a", *options, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == b"minigpt: the text ended after 1 tokens, before --token 3\n"


def test_after_an_error(tmp_path):
    """--pdb, before the command or behind it, opens where the error was raised; then as always."""
    for words in (["--pdb", "step", PROMPT], ["step", PROMPT, "--pdb"]):
        given = b"p glob\nw\nq\n"
        result = minigpt(*words, "--at", "zzz", cwd=tmp_path, input=given)
        assert result.returncode == 2
        assert b"-> raise InputError(" in result.stdout
        assert b"(Pdb) 'zzz'\n" in result.stdout
        assert b"InputError: no path of shakespeare matches" in result.stdout
        [line] = result.stderr.splitlines()  # bad input is one line, here too
        assert line.startswith(b"minigpt: no path of shakespeare matches")
    result = minigpt("step", "--pdb", cwd=tmp_path)  # how it is called is no error of the program
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


def test_after_a_fault_of_the_program_its_traceback_is_shown(tmp_path):
    program = (
        "import sys, minigpt.cli; from minigpt.models import gpt2\n"
        "def forward(self, x):\n    return x[None].fault\n"
        "gpt2.MLP.forward = forward\nminigpt.cli.main()\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "program.py", "generate", PROMPT, *SHORT, "--pdb"]
    env = environment(HOME=home(tmp_path), PYTHONPATH=str(ROOT))
    result = subprocess.run(
        command, cwd=tmp_path, env=env, input=b"p self.path\nq\n", capture_output=True, timeout=300
    )
    assert b"(Pdb) 'h.0.mlp'\n" in result.stdout
    assert b"Traceback" in result.stderr
    assert result.returncode == 1


def test_a_text_whose_seed_was_drawn_can_be_stepped_through_again(tmp_path):
    options = "step", PROMPT, "--max-new-tokens", "6", "--temperature", "3"
    first = minigpt(*options, cwd=tmp_path, input=b"c\n")
    seed = re.search(r"drawn with (--seed \d+)\n$", first.stderr.decode())[1]
    again = minigpt(*options, *seed.split(), cwd=tmp_path, input=b"c\n")
    assert again.stdout == first.stdout
    assert b"drawn" not in again.stderr
