"""The prompt of `minigpt step`, as a person at a terminal meets it."""

import re

import pytest
from checkpoints import MINIGPT, PROMPT, ROOT, environment, home
from sessions import LINEAR, PARTS, SHORT, STEP, Session, ends, operations, session

from minigpt.stepping.debugger import Debugger

OWN = {"layer", "op", "token", "at", "stop", "ledger", "mem", "kv", "cost", "look", "lens"}
OWN |= {"attn", "back", "source", "run", "executed"}


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
            "layer 9": "*** layer takes no argument: it runs to the next; at h.3 runs to one by",
            "mem x": "*** mem takes no argument: ledger PATH tells the bytes of a part",
            "cost x": "*** cost takes no argument: ledger PATH tells what a part has cost",
            "executed x": "*** executed takes no argument: it is of the operation that has run",
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
        assert "Breakpoint 1 at" in step(f"b {PARTS}:{LINEAR}")[0]
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
        step(f"b {PARTS}:{LINEAR}")
        step(f"tbreak {PARTS}:{LINEAR + 2}, 1 / 0")
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
        step("!big = (scores > scores.mean()).data")  # a counted one that is kept is alive
        assert (step("ledger")[0], step("mem")[0]) == ledger
        step.sendline("c")
        assert ends(step)[1].startswith(said)


def test_a_breakpoint_in_the_files_of_the_clone_is_hit(tmp_path, said):
    gpt2 = (ROOT / "minigpt" / "models" / "gpt2.py").read_text().splitlines()
    line = 1 + gpt2.index("        qkv = self.c_attn(x)  # (B, T, 3C)")
    env = environment(HOME=home(tmp_path), TERM="dumb", PYTHONPATH=str(ROOT))
    child = Session(
        MINIGPT[0], [*MINIGPT[1:], "step", PROMPT, *SHORT], env=env, cwd=str(ROOT),
        encoding="utf-8", timeout=300, dimensions=(40, 160),
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
    code = (ROOT / "minigpt" / "models" / "gpt2.py").read_text().splitlines()
    attend, back = (
        next(number for number, line in enumerate(code, 1) if line.strip().startswith(start))
        for start in ("y = attention", "heads = qkv.reshape")
    )
    with session(tmp_path, "--at", "h.1.attn") as step:
        assert step("display x.std()")[0].startswith("display x.std(): ")
        assert "display" not in step("n")[0]
        step("n")
        assert step("!x = x * 2")[0] == ""
        assert "[old: " in step("n")[0]
        assert step("undisplay x.std()")[0] == ""
        assert step("display")[0] == "nothing is displayed here"
        assert "-> with scope" in step("until")[0]
        assert "-> y = attention" in step(f"until {attend}")[0]
        assert "-> heads = qkv.reshape" in step(f"jump {back}")[0]
        step("run")
        step("at h.1.attn")
        assert "-> x = x + self.attn" in step("u")[0]
        cost = step("cost")[0]
        assert re.search(r"^h\.1 +9 operations", cost, re.M)
        step("d")
        assert "Breakpoint 1" in step(f"b {PARTS}:{LINEAR}, x.std() > 0")[0]
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
