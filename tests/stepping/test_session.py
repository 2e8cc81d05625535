"""`minigpt step`, as a person at a terminal meets it."""

import re
import subprocess
import sys
import time
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

from counting.stepping.debugger import si
from counting.views import flops
from minigpt import generate, load
from minigpt.stepping.debugger import Debugger

PROMPT = "To be, or not to be"
SHORT = "--max-new-tokens", "4", "--seed", "1"
OPS = ROOT / "minigpt" / "models" / "ops.py"
LINEAR = 1 + OPS.read_text().splitlines().index("        return x @ self.weight + self.bias")
STEP = r"\(step\) "
OWN = {"layer", "op", "token", "at", "stop", "ledger", "mem", "kv", "cost", "look", "lens"}
OWN |= {"attn", "back", "source", "run"}


@pytest.fixture(scope="module")
def said():
    """What the shipped model says with SHORT, without stepping."""
    return PROMPT + "".join(s.text for s in generate(load(), PROMPT, max_new_tokens=4, seed=1))


def operations(prompt):
    """How many the prompt says there were."""
    return int(re.search(r"#(\d+) \S+ .?FLOP", prompt)[1])


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
    """Its own come first, each with a line, and are none of pdb's; a line of help fits a screen."""
    assert {name[3:] for name in dir(Debugger) if name.startswith("do_")} >= OWN
    with session(tmp_path, "--at", "h.0.attn") as step:
        own, pdbs = (part.splitlines() for part in step("help")[0].split("Of pdb:"))
        assert own[0] == "Stepping through what is counted (help COMMAND says more):"
        assert {line.split()[0] for line in own[1:] if line} == OWN
        assert all(re.fullmatch(r"  \S.{15}[A-Z\"].+\.", line) for line in own[1:] if line)
        assert max(map(len, own)) <= 100
        listed = {name for line in pdbs for name in line.split()}
        assert listed >= {"step", "next", "b", "condition", "interact", "until"}
        assert not listed & OWN
        for command in sorted(OWN | {"step", "p"}):
            assert step(f"help {command}")[0].split("\n")[0].startswith(command[0])
            assert command in step(f"help {command}")[0].split("\n")[0].replace("(", "")
        assert "N operations further" in step("help op")[0]
        assert "numbered from 1, as --token" in step("help token")[0]
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
            "layer abc": "*** layer takes no argument: at PATH runs to 'abc'",
            "run abc": "*** run takes no argument",
            "token 2": "*** there is no token 2 to run to: this is token 2 of 4",
            "token 5": "*** there is no token 5 to run to: this is token 2 of 4",
            "token x": "*** 'x' is no whole number from 1: token N runs to the pass that gives",
            "op 0": "*** '0' is no whole number from 1: op N runs N operations further",
            "op 2.5": "*** '2.5' is no whole number from 1: op N runs N operations further",
            "back x": "*** 'x' is no whole number from 1: back N goes N operations back",
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


@pytest.mark.parametrize("way", [["op 6"], ["n", "op 6"], ["s"] * 9 + ["op 3"], ["token", "op"]])
def test_memory_after_back_is_what_it_was(tmp_path, way):
    with session(tmp_path) as step:
        for line in way:
            prompt = step(line)[1]
        memory = step("mem")[0]
        assert re.search(r"^kv_cache.* 122,880 +122,880$", memory, re.M)
        for back, on in [("back", "op"), ("back 3", "op 3"), ("back", "op"), ("back 2", "op 2")]:
            step(back)
            assert step(on)[1] == prompt
            assert step("mem")[0] == memory
        on = operations(step("s")[1]) - operations(prompt) + 1
        step(f"back {on}")
        assert step("op")[1] == prompt
        assert step("mem")[0] == memory


def test_back_goes_past_breakpoints(tmp_path):
    with session(tmp_path) as step:
        step(f"b {OPS}:{LINEAR}")
        step(f"tbreak {OPS}:{LINEAR + 2}, 1 / 0")
        stopped = [step("c")[1] for _ in range(4)]
        assert operations(step(f"back {operations(stopped[3]) - 20}")[1]) == 20
        assert [step("c")[1] for _ in range(4)] == stopped
        assert "breakpoint already hit 8 times" in step("b")[0]


def test_what_never_comes_ends_at_the_prompt(tmp_path, said):
    with session(tmp_path) as step:
        for line in ("stop when flops>1e12", "op 99999", "at h.0.ln_1", "token 4"):
            step(line)
            while "(end)" not in (prompt := step(line if line != "token 4" else "layer")[1]):
                pass
            assert prompt == "(end) #1244 97.9 MFLOP 20.4 MB "
            assert step("p cache.length, logits.shape")[0] == "(10, (1, 1, 1024))"
            assert "all layers: 122,880 of 122,880 B filled" in step("kv")[0]
            assert step("op")[0] == "*** the text has ended: back, run, c or q"
            assert step("back")[1].startswith("ln_f #1243 ")
            step("run")
        answer, prompt = step("stop when flops>1e12")
        assert answer.startswith(
            "the text ended after 4 tokens and did not come to 'stop when flops>1e12': "
            "back, run, c or q\n"
        )
        step.sendline("c")
        assert ends(step) == (0, f"{said}\n4 tokens, 1,244 operations\n")


@pytest.mark.parametrize("condition", ["flops>1e6", "alloc>1e4", "inf"])
def test_the_conditions_that_help_names_come_true(tmp_path, condition):
    with session(tmp_path) as step:
        assert condition in step("help stop")[0]
        answer, prompt = step(f"stop when {condition}")
        assert answer.startswith("operation ")
        assert "(end)" not in prompt


def test_any_numpy_works_at_the_prompt(tmp_path, said):
    with session(tmp_path, "--at", "h.3.attn.softmax") as step:
        ledger = step("ledger")[0], step("mem")[0]
        for expression, answer in {
            "(scores > 0).shape": "(1, 8, 7, 7)",
            "bool(scores[scores > 0].min() > 0)": "True",
            "float(scores.std()) == float(np.asarray(scores).std())": "True",
            "type(scores == scores)": "<class 'counting.array.Counted'>",
            "float(np.percentile(scores, 5)) == float(np.percentile(scores.data, 5))": "True",
            "int(scores[0, 0].argmax()) == int(scores.data[0, 0].argmax())": "True",
            "f'{scores[0, 0, 0, 0] * 0:.2f}'[-4:]": "'0.00'",
            "bool(np.isnan(scores).any()), bool(scores[0, 0, 0, 0] == 0)": "(False, False)",
        }.items():
            assert step(f"p {expression}")[0] == answer
        step("!big = scores > scores.mean()")
        assert (step("ledger")[0], step("mem")[0]) == ledger
        step.sendline("c")
        assert ends(step)[1].startswith(said)


PROGRAM = """
import counting, minigpt
from minigpt.models import gpt2
lm = minigpt.load()
def program():
    for step in minigpt.generate(lm, "To be", max_new_tokens=2, seed=1):
        print("token", step.token)
"""


@contextmanager
def script(folder, lines, **env):
    """A session with a program of one's own."""
    (folder / "program.py").write_text(PROGRAM + lines)
    env = environment(HOME=str(folder), TERM="dumb", PYTHONPATH=str(ROOT), **env)
    child = Session(
        sys.executable, ["program.py"], env=env, cwd=str(folder), encoding="utf-8", timeout=60,
        dimensions=(40, 160),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.close(force=True)


def test_quit_in_stop_at_ends_the_program_without_a_traceback(tmp_path):
    lines = "with counting.stop_at('h.*.attn.qk'):\n    program()\nprint('not reached')\n"
    for typed in ("q\n", "\x04"):
        with script(tmp_path, lines) as step:
            step.expect(STEP)
            assert step("c")[1].startswith("h.1.attn.qk #")
            step.send(typed)
            status, rest = ends(step)
        assert status == 0
        assert "Traceback" not in rest
        assert "not reached" not in rest


def test_a_breakpoint_shows_the_figures_of_the_ledger(tmp_path):
    """In a script after a run, and in a model's own code: what was counted before is there."""
    lines = "program()\nbreakpoint()\nprint(sum(lm.ledger.live_bytes.values()))\n"
    with script(tmp_path, lines, PYTHONBREAKPOINT="minigpt.step") as step:
        step.expect(STEP)
        assert "program.py(10)<module>()" in step.before
        lm = load()
        assert len(list(generate(lm, "To be", max_new_tokens=2, seed=1))) == 2
        counts = lm.ledger.snapshot()
        assert f"(top) #{counts.total('calls')} {si(flops(counts))}FLOP 20.3 MB " in step.before
        assert re.search(rf"^total +{flops(counts):,} +100.0%", step("ledger")[0], re.M)
        assert re.search(r"^weights +\d[\d,]{6,} +0 +20,267,008 +20,267,008$", step("mem")[0], re.M)
        step.sendline("q")
        status, rest = ends(step)
        assert (status, "Traceback" in rest) == (0, False)
    lines = (
        "class MLP(gpt2.MLP):\n    def forward(self, x):\n        y = super().forward(x)\n"
        "        breakpoint()\n        return y\n"
        "gpt2.MLP = MLP\nlm = minigpt.load()\nprogram()\n"
    )
    with script(tmp_path, lines, PYTHONBREAKPOINT="minigpt.step") as step:
        step.expect(STEP)
        assert re.search(r"h\.0\.mlp #\d\d 3\.\d+ MFLOP", step.before)
        assert re.search(r"^h\.0\.mlp: ([\d,]+) of \1 FLOP", step("cost")[0], re.M)
        for _ in range(6):
            step("c")
        assert re.search(r"^h\.0\.mlp: ([\d,]+) of \1 FLOP", step("cost")[0], re.M)
        step.sendline("q")
        assert ends(step)[0] == 0


def test_a_breakpoint_in_the_files_of_the_clone_is_hit(tmp_path, said):
    gpt2 = (ROOT / "minigpt" / "models" / "gpt2.py").read_text().splitlines()
    line = 1 + gpt2.index("        qkv = self.c_attn(x)  # (B, T, 3C)")
    env = environment(HOME=str(tmp_path), TERM="dumb", PYTHONPATH=str(ROOT))
    child = Session(
        MINIGPT[0], [*MINIGPT[1:], "step", PROMPT, *SHORT], env=env, cwd=str(ROOT),
        encoding="utf-8", timeout=60, dimensions=(40, 160),
    )  # fmt: skip
    child.expect(STEP)
    assert child(f"b minigpt/models/gpt2.py:{line}")[0].startswith("Breakpoint 1 at ")
    assert "-> qkv = self.c_attn(x)" in child("c")[0]
    child("cl 1")
    assert child("b gelu")[0].startswith("Breakpoint 2 at ")  # a composite, by its name
    assert "ops.py" in child("c")[0]
    child.sendline("q")
    assert ends(child)[0] == 0


def test_pdbs_other_commands_do_what_they_say(tmp_path, said):
    with session(tmp_path, "--at", "h.1.attn") as step:
        assert step("display x.std()")[0].startswith("display x.std(): ")
        assert "display" not in step("n")[0]
        step("n")
        assert step("!x = x * 2")[0] == ""
        assert "[old: " in step("n")[0]
        assert step("undisplay x.std()")[0] == ""
        assert step("display")[0] == "nothing is displayed here"
        assert "-> with scope" in step("until")[0]
        assert "-> y = attention" in step("until 49")[0]
        assert "-> heads = qkv.reshape" in step("jump 45")[0]
        step("run")
        step("at h.1.attn")
        assert "-> x = x + self.attn" in step("u")[0]
        cost = step("cost")[0]
        assert re.search(r"^h\.1 +9 operations", cost, re.M)
        step("d")
        assert "Breakpoint 1" in step(f"b {OPS}:{LINEAR}, x.std() > 0")[0]
        assert "ignore next 2" in step("ignore 1 2")[0]
        assert step("c")[1].startswith("h.1.mlp.c_fc #")  # past c_attn and c_proj
        step.sendline("commands 1")
        for line in ("silent", "p x.shape", "op 2"):
            step.expect(r"\(com\) ")
            step.sendline(line)
        step.expect(STEP)
        answer, prompt = step("c")
        assert answer.startswith("(1, 7, 1024)\noperation ")
        assert prompt.startswith("h.1.mlp.c_proj #")
        step("cl 1")
        first = step("op")[1]
        assert step("")[1] != first  # Enter: the same again
        assert step("restart")[1].startswith("(top) #12 0 FLOP")
        step.sendline("interact")
        step.expect(">>> ")
        step.sendline("float(tokens.sum()) > 0")
        step.expect_exact("True")
        step.send("\x04")
        step.expect(STEP)
        step.sendline("c")
        assert ends(step)[1].startswith(said)


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
    env = environment(HOME=str(tmp_path), PYTHONPATH=str(ROOT))
    result = subprocess.run(
        command, cwd=tmp_path, env=env, input=b"p self.path\nq\n", capture_output=True, timeout=60
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


def test_a_breakpoint_in_the_model_is_this_debugger(tmp_path):
    program = (
        "import sys, minigpt.cli; from minigpt.models import gpt2; old = gpt2.MLP.forward\n"
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
    assert child("c")[1].startswith("h.1.mlp #")
    number = operations(child("op 5")[1])
    assert operations(child("back 2")[1]) == number - 2  # past two calls of `breakpoint`
    assert child("c")[1].startswith("h.2.mlp #")
    child.sendline("q")
    assert ends(child)[0] == 0
