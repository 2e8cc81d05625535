"""`stop_at` and `breakpoint()`, in any program."""

import io
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from checkpoints import PROMPT, ROOT, environment, home
from helpers import SMALL
from sessions import SHORT, STEP, Session, ends, operations
from stepped import small, tokens_of

from counting import Counted, Ledger, ShapeArray, scope, stop_at
from counting.stepping.stepper import Stepper
from counting.table import si
from counting.views import flops
from minigpt import generate, load


def talk(monkeypatch, capsys, *lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return lambda: capsys.readouterr().out


def test_stop_at(monkeypatch, capsys):
    """It stops at each path that matches, on the line before; `continue` goes to the next."""
    lm = small(SMALL["gpt2"])
    said = talk(monkeypatch, capsys, "p q.shape", "c", "n", "p scores.shape", "cost", "c", "c")
    cache = lm.model.new_cache(2, 3)
    with stop_at("h.*.attn.qk"):
        lm.model(tokens_of(SMALL["gpt2"]), cache)
    out = said()
    assert out.count("-> scores = ") == 2
    assert "(2, 3, 3, 2)" in out
    assert "(2, 3, 3, 3)" in out
    assert "h.1.attn.qk                   2 operations             270 FLOP" in out
    assert sys.gettrace() is None or "stepping" not in repr(sys.gettrace())
    assert lm.ledger.observer is None


def test_stop_at_is_for_any_program(monkeypatch, capsys):
    said = talk(monkeypatch, capsys, "op", "p __operation__.output.shape", "s", "q")
    x = Counted(np.ones((3, 4), np.float32), Ledger())

    def program():
        with stop_at("layer.*"), scope("layer"):
            with scope("product"):
                y = x @ x.T
            np.exp(y)

    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code is None
    assert sys.gettrace() is None or "stepping" not in repr(sys.gettrace())
    out = said()
    assert "-> y = x @ x.T" in out
    assert "operation 1: matmul, 72 FLOP, 36 B allocated" in out
    assert "(3, 3)\n" in out
    assert "#1 72 FLOP 84 B (step) " in out


def test_shapes_are_stepped_through_too():
    seen = []

    class Shapes(Stepper):
        def stopped(self, frame, event, value):
            seen.append(repr(value.output))
            self.run_to_operation()

    stepper, ledger = Shapes(), Ledger()
    x = Counted(ShapeArray((3, 4)), ledger)
    stepper.observe(ledger)
    stepper.run_to_operation()
    with stepper.stepping():
        np.exp(x @ x.T)
    assert seen == [
        "Counted((3, 3) float32, 36 B of activations by matmul: 72 FLOP {'fma': 36})",
        "Counted((3, 3) float32, 36 B of activations by exp: 9 FLOP {'exp': 9})",
    ]


def test_a_breakpoint_in_a_model_opens_it(tmp_path):
    """PYTHONBREAKPOINT=minigpt.step, and a `breakpoint()` in somebody's own attention."""
    program = tmp_path / "program.py"
    program.write_text(
        "import minigpt\n"
        "from minigpt.models import gpt2\n"
        "class Attention(gpt2.Attention):\n"
        "    def forward(self, x, mask, cache):\n"
        "        breakpoint()\n"
        "        y = super().forward(x, mask, cache)\n"
        "        return y\n"
        "gpt2.Attention = Attention\n"
        "lm = minigpt.load()\n"
        "steps = minigpt.generate(lm, 'To be', max_new_tokens=1, seed=1)\n"
        "print([step.token for step in steps])\n"
    )
    commands = b"s\ns\nw\nat h.0.attn.softmax\nn\nattn\nlens 1\nkv 0\nback\ncost\nq\n"
    env = environment(PYTHONBREAKPOINT="minigpt.step", PYTHONPATH=str(ROOT))
    result = subprocess.run(
        [sys.executable, program], env=env, cwd=tmp_path, input=commands, capture_output=True
    )
    out = result.stdout.decode()
    assert f"> {program}(6)forward()" in out
    assert "> " + str(ROOT / "minigpt" / "models" / "gpt2.py") in out
    assert f"{os.sep}counting{os.sep}" not in out
    assert f"models{os.sep}module.py" not in out
    assert "head 7 |" in out
    assert "layer   0      2 of 2 positions" in out
    assert "going back needs minigpt step" in out
    assert "if the model ended with x of h.0:" in out
    assert (result.returncode, result.stderr) == (0, b"")


# At a terminal.

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
    env = environment(HOME=home(folder), TERM="dumb", PYTHONPATH=str(ROOT), **env)
    child = Session(
        sys.executable, ["program.py"], env=env, cwd=str(folder), encoding="utf-8", timeout=300,
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


def test_a_breakpoint_in_the_model_is_this_debugger(tmp_path):
    program = (
        "import sys, minigpt.cli; from minigpt.models import gpt2; old = gpt2.MLP.forward\n"
        "def forward(self, x):\n    breakpoint()\n    return old(self, x)\n"
        "gpt2.MLP.forward = forward\nsys.argv = ['minigpt', *sys.argv[1:]]\nminigpt.cli.main()\n"
    )
    (tmp_path / "program.py").write_text(program)
    env = environment(HOME=home(tmp_path), TERM="dumb", PYTHONPATH=str(ROOT))
    command = [str(tmp_path / "program.py"), "step", PROMPT, *SHORT, "--token", "2"]
    child = Session(
        sys.executable, command, env=env, encoding="utf-8", timeout=300,
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


def test_a_breakpoint_where_the_cache_is_made_opens_it(tmp_path):
    program = (
        "import minigpt; from minigpt.models.cache import LayerCache; old = LayerCache.__init__\n"
        "def make(self, *args):\n    breakpoint()\n    old(self, *args)\n"
        "lm = minigpt.load()\nLayerCache.__init__ = make\n"
        "print([s.token for s in minigpt.generate(lm, 'To be', max_new_tokens=1, seed=1)])\n"
    )
    (tmp_path / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment(HOME=home(tmp_path), PYTHONPATH=str(ROOT), PYTHONBREAKPOINT="minigpt.step"),
        input=b"p args[1]\nmem\n" + b"c\n" * 12,
        capture_output=True,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"(1, 8, 2, 32)" in result.stdout


def test_a_debugger_of_a_package_found_by_a_roundabout_path_stays_out_of_it(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import counting.array; from counting.stepping.frames import not_machinery\n"
        "file = counting.array.apply.__code__.co_filename\n"
        "print('/./' in file, not_machinery(file), not_machinery('program.py'))\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py"), f"{ROOT.parent}/./{ROOT.name}"]
    said = subprocess.run(command, capture_output=True, check=True).stdout
    assert said.split() == [b"True", b"False", b"True"]
