"""`minigpt step`, as a person at a terminal meets it."""

import re
import sys
from contextlib import contextmanager

import pexpect
import pytest
from checkpoints import (
    MINIGPT,
    ROOT,
    checkpoint,
    complaint,
    ends_at_once,
    environment,
    minigpt,
)

from minigpt import generate, load
from minigpt.stepping.debugger import Debugger

PROMPT = "To be, or not to be"
SHORT = "--max-new-tokens", "4", "--seed", "1"
OPS = ROOT / "minigpt" / "ops.py"
LINEAR = 1 + OPS.read_text().splitlines().index("        return x @ self.weight + self.bias")
STEP = r"\(step\) "
OWN = {"layer", "op", "token", "at", "stop", "ledger", "mem", "kv", "cost", "look", "lens"}
OWN |= {"attn", "back", "source"}


@pytest.fixture(scope="module")
def said():
    """What the shipped model says with SHORT, without stepping."""
    return PROMPT + "".join(s.text for s in generate(load(), PROMPT, max_new_tokens=4, seed=1))


class Session(pexpect.spawn):
    def __call__(self, line):
        """What a command answers, up to the next prompt, and that prompt."""
        self.sendline(line)
        self.expect(STEP)
        answer = re.sub(r"\x1b\[\??[\d;]*[a-zA-Z]", "", self.before).replace("\r\n", "\n")
        body, _, prompt = answer.removeprefix(line).strip("\n").rpartition("\n")
        return body.strip("\n"), prompt


@contextmanager
def session(folder, *options):
    env = environment(HOME=str(folder), TERM="dumb", PYTHONPATH=str(ROOT))
    command = [*MINIGPT, "step", PROMPT, *SHORT, *options]
    child = Session(
        command[0], command[1:], env=env, cwd=str(folder), encoding="utf-8", timeout=60,
        dimensions=(40, 160),
    )  # fmt: skip
    try:
        child.expect(STEP)
        yield child
    finally:
        child.close(force=True)


def ends(child):
    """The status that a session ends with, and the last that it says."""
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus is None
    return child.exitstatus, child.before.replace("\r\n", "\n").removeprefix("c\n")


def test_a_session(tmp_path, said):
    """Softmax of the second token: shape, cost, lens, cache, attention; back; and the text."""
    with session(tmp_path, "--at", "h.3.attn.softmax", "--token", "2") as step:
        assert "-> pattern = softmax(scores, mask)" in step.before
        at_first = re.search(r"(h\.3\.attn\.softmax #(\d+) \S+ MFLOP \S+ MB )$", step.before)
        number = int(at_first[2])
        assert step("p scores.shape")[0] == "(1, 8, 1, 8)"
        shown = step("p scores")[0]
        assert shown.startswith("Counted((1, 8, 1, 8) float32, 256 B of activations at h.3.attn.qk")
        assert "0 of 304 FLOP, = B*H*T*(5*N + 5*T - 2)" in step("cost")[0]
        assert step("n")[1].startswith(f"h.3.attn.softmax #{number + 6} ")
        cost = step("cost")[0]
        assert re.search(r"since the last stop +6 operations +304 FLOP", cost)
        assert "h.3.attn.softmax: 304 of 304 FLOP, = B*H*T*(5*N + 5*T - 2)" in cost
        assert re.search(r"layer h\.3 +21 operations +400,242 FLOP", cost)

        lens = step("lens 3")[0].splitlines()
        assert lens[0] == "if the model ended with x of h.3:"
        assert all(re.fullmatch(r" +\d+\.\d% '.+'", line) for line in lens[1:])
        assert len(lens) == 4

        held = step("kv")[0].splitlines()
        assert held[3] == f"layer   3      8 of 10 positions {16384:13,} of 20,480 B"
        assert held[4] == f"layer   4      7 of 10 positions {14336:13,} of 20,480 B"
        assert step("kv 3")[0] == held[3]

        heads = step("attn")[0].splitlines()
        assert len(heads) == 8
        assert all(re.fullmatch(r" +head \d \|.{8}\| +\d+% at \d '.+'", line) for line in heads)
        assert len(step("attn 2")[0].splitlines()) == 1

        answer, prompt = step("back")
        assert prompt.startswith(f"h.3.attn.softmax #{number + 5} ")
        assert f"operation {number + 5}: sum, 56 FLOP, 32 B allocated" in answer
        assert "-> return e / e.sum(axis=-1, keepdims=True)" in answer
        answer, prompt = step("back 5")
        assert f"operation {number}: multiply" in answer
        assert prompt == at_first[1].replace("softmax", "qk")
        step.sendline("c")
        status, rest = ends(step)
    assert status == 0
    assert rest.startswith(f"{said}\n")


def test_without_a_stop_the_text_is_the_same(tmp_path, said):
    with session(tmp_path) as step:
        assert "T, N = tokens.shape[1], cache.length" in step.before
        step.sendline("c")
        assert ends(step) == (0, f"{said}\n4 tokens, 1,244 operations\n")


def test_every_command_has_help_and_completes(tmp_path):
    assert {name[3:] for name in dir(Debugger) if name.startswith("do_")} >= OWN
    with session(tmp_path, "--at", "h.0.attn") as step:
        listed = step("help")[0].split()
        for command in OWN:
            assert command in listed
            assert step(f"help {command}")[0].split("\n")[0].split()[0] == command
        for typed, completed in {
            "at h.3.attn.soft": "max",
            "ledger h.3.attn.soft": "max",
            "stop wh": "en",
            "stop when al": "loc>",
            "look self.c_at": "tn",
            "ker": "",
        }.items():
            step.send(f"{typed}\t")
            if completed:
                step.expect_exact(completed)
            step.sendcontrol("u")


def test_what_is_wrong_at_the_prompt_is_one_line(tmp_path, said):
    with session(tmp_path, "--at", "h.0.attn", "--token", "2") as step:
        for typed, answer in {
            "at h.0.atn": "*** no path matches 'h.0.atn': perhaps h.0.attn or ",
            "at": "*** at needs a path: ",
            "stop": "*** stop needs a condition: ",
            "stop when flops": "*** 'flops' is no condition: ",
            "token 2": "*** there is no token 2 to run to: this is token 2 of 4",
            "token 5": "*** there is no token 5 to run to: this is token 2 of 4",
            "token x": "*** 'x' is no whole number from 1",
            "op 0": "*** '0' is no whole number from 1",
            "back 99999": "*** there are ",
            "kv 6": "*** there is no layer 6: they are 0 to 5",
            "kv x": "*** 'x' is no whole number from 0",
            "attn": "*** there is no pattern here: ",
            "ledger zzz": "*** nothing was counted at 'zzz' yet",
            "look": "*** look needs an array: ",
            "look zzz": "*** NameError: ",
            "look 3": "*** 3 has no numbers to look at",
            "source zzz": "*** NameError: ",
        }.items():
            body, prompt = step(typed)
            assert body.startswith(answer), typed
            assert "\n" not in body, typed
            assert prompt.startswith("h.0.attn #")
        step.sendline("c")
        assert ends(step)[1].startswith(said)


def test_the_other_commands(tmp_path):
    with session(tmp_path, "--at", "h.2.mlp") as step:
        assert step("layer")[1].startswith("h.3 #")
        assert step("op")[1].startswith("h.3.ln_1 #")
        assert step("op 3")[0].count("  in  ") >= 1
        assert "-> x = self.c_fc(x)" in step("at h.*.mlp")[0]
        picture = step("look x")[0].splitlines()
        assert picture[0].startswith("x: Counted((1, 7, 256) float32")
        assert [len(line) for line in picture[1:-1]] == [128] * 7
        assert picture[-1].endswith("each the mean of up to 1 x 2")
        assert "  ->\t        x = self.c_fc(x)" in step("source")[0]
        assert "class MLP" in step("source type(self)")[0]
        ledger = step("ledger")[0]
        assert re.search(r"^attn\.softmax +\d", ledger, re.M)
        assert re.search(r"^h\.3\.attn\.softmax divide +\d", step("ledger h.3.attn")[0], re.M)
        assert re.search(r"^kv_cache +\d[\d,]* +\d[\d,]* +122,880 +122,880$", step("mem")[0], re.M)
        assert re.search(r"operation \d+: matmul, 3,670,016 FLOP", step("stop when flops>3e6")[0])
        answer, prompt = step("token")
        assert "tokens.shape[1], cache.length" in answer
        assert prompt.startswith("(top) #")
        frames = step("w")[0]
        assert "counting" not in frames
        assert "module.py" not in frames
        assert step("run")[1].startswith("(top) #12 0 FLOP ")


def test_pdb_is_all_there(tmp_path, said):
    (tmp_path / ".pdbrc").write_text("alias sh p %1.shape\n")
    with session(tmp_path, "--at", "h.0.attn") as step:
        assert step("sh x")[0] == "(1, 7, 256)"
        assert "Breakpoint 1 at" in step(f"b {OPS}:{LINEAR}")[0]
        assert step("c")[1].startswith("h.0.attn.c_attn #")
        assert step("u")[0].endswith("qkv = self.c_attn(x)  # (B, T, 3C)")
        assert step("!answer = x.data.sum() * 0")[0] == ""
        assert step("cl 1")[0].startswith("Deleted breakpoint 1")
        assert "--Return--" in step("r")[0]
        step.sendline("c")
        assert ends(step)[1].startswith(said)


def press_ctrl_c(step, until):
    """And Enter, if it is not heard: at the moment that a prompt comes, Python's `input` may sleep
    through it (a bare `input()` with readline loses one in forty so), and wakes with a key."""
    step.sendintr()
    if step.expect([until, pexpect.TIMEOUT], timeout=5) != 0:
        step.send("\n")
        step.expect(until)


@pytest.mark.parametrize("typed", ["q\n", "\x04", "\x03", "p x\x03"], ids=repr)
def test_leaving(tmp_path, typed):
    with session(tmp_path) as step:
        step.send(typed.removesuffix("\x03"))
        if "\x03" in typed:
            press_ctrl_c(step, pexpect.EOF)
        else:
            step.expect(pexpect.EOF)
        rest = step.before
        step.close()
    assert step.exitstatus == (130 if "\x03" in typed else 0)
    assert "Traceback" not in rest


def test_ctrl_c_stops_a_model_that_runs(tmp_path, said):
    with session(tmp_path, "--max-new-tokens", "200") as step:
        step.sendline("stop when flops>1e12")
        step.expect_exact("\n")
        press_ctrl_c(step, STEP)
        assert re.search(r"#\d+ \S+ .?FLOP", step.before)
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
        (["--max-new-tokens", "0"], "max_new_tokens is 0; it must be at least 1"),
        (["--model", "no/such/model"], "no/such/model"),
        (["--temperature", "-1"], "temperature is -1.0; it must be 0 or more"),
    ],
)
def test_bad_input(tmp_path, options, said):
    result = minigpt("step", PROMPT, *SHORT, *options, cwd=tmp_path)
    assert said in complaint(result)


def test_a_text_that_ends_before_the_first_stop(tmp_path):
    model = checkpoint(tmp_path / "model", ends_at_once())
    options = "--model", str(model), "--token", "3", "--max-new-tokens", "4"
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
        assert b"InputError: no path of shakespeare matches" in result.stderr
        assert result.stderr.splitlines()[-1].startswith(b"minigpt: no path of shakespeare matches")
    result = minigpt("step", "--pdb", cwd=tmp_path)  # how it is called is no error of the program
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


def test_a_breakpoint_in_the_model_is_this_debugger(tmp_path):
    program = (
        "import sys, minigpt.cli; from minigpt import gpt2; old = gpt2.MLP.forward\n"
        "def forward(self, x):\n    breakpoint()\n    return old(self, x)\n"
        "gpt2.MLP.forward = forward\nsys.argv = ['minigpt', *sys.argv[1:]]\nminigpt.cli.main()\n"
    )
    (tmp_path / "program.py").write_text(program)
    env = environment(HOME=str(tmp_path), TERM="dumb", PYTHONPATH=str(ROOT))
    command = [str(tmp_path / "program.py"), "step", PROMPT, *SHORT, "--token", "2"]
    child = Session(
        sys.executable, command, env=env, encoding="utf-8", timeout=60,
        dimensions=(40, 160),
    )  # fmt: skip
    child.expect(STEP)
    assert "program.py(4)forward()" in child.before  # of the first token's pass, before --token
    assert child("lens 1")[0].startswith("if the model ended with x of h.0:")
    child.sendline("q")
    assert ends(child)[0] == 0
