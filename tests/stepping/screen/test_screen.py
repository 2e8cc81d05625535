"""`minigpt step --tui`: what the screen shows, and that it leaves cleanly whatever happens.

The pictures of `snapshots` are made anew by UPDATE_SNAPSHOTS=1 pytest tests/stepping/screen.
"""

import asyncio
import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pexpect
import pytest
from checkpoints import (
    CONFIG,
    MINIGPT,
    ROOT,
    checkpoint,
    complaint,
    environment,
    minigpt,
    tensors,
)

pytest.importorskip("textual", reason="textual is not installed: .[tui]")

from textual.widgets import Input

from counting.stepping.debugger import si
from counting.views import flops
from minigpt import generate, load
from minigpt.commands.options import ModelOptions
from minigpt.inference.sample import Sampling
from minigpt.stepping.screen.app import Stepping
from minigpt.stepping.screen.engine import Engine
from minigpt.stepping.screen.layers import Layers
from minigpt.stepping.screen.messages import Job
from minigpt.stepping.screen.panels import Memory, Tensor, bars

PROMPT = "To be, or not to be"
OPTIONS = {"max_new_tokens": 4, "temperature": 0.0, "top_k": None, "top_p": None, "seed": 1}
OPTIONS["ignore_eos"] = True
SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
SNAPSHOTS = Path(__file__).parent / "snapshots"
PATIENCE = 60  # seconds


class Player:
    """Someone at the keyboard, who waits until the screen stands still."""

    def __init__(self, app, pilot):
        self.app, self.pilot = app, pilot

    async def until(self, done):
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, f"the screen shows {text_of(self.svg())}"
            await self.pilot.pause(0.01)
        await self.pilot.pause()

    async def settle(self):
        app = self.app
        await self.until(
            lambda: (app.standing and app._asked == app.query_one(Tensor).cells) or app.ended
        )

    async def __call__(self, *keys):
        """Presses keys, one when the last is done; `:at h.1` is a command. Gives the view."""
        for key in keys:
            if key.startswith(":"):
                await self.pilot.press("colon")
                self.app.query_one(Input).value = key
                key = "enter"
            await self.pilot.press(key)
            await self.settle()
        return self.app.view

    @property
    def shown(self):
        return "\n".join(text_of(self.svg()))

    def svg(self):
        return self.app.export_screenshot(title="minigpt step --tui")


def play(script, model="shakespeare", size=(80, 24), at=None, token=None, **options):
    """Runs a script at a screen; the app, after it."""
    sampling = Sampling(**(OPTIONS | options))
    job = Job(PROMPT, ModelOptions(str(model)), sampling, at, token)
    engine = Engine(job)

    async def main():
        app = Stepping(engine, job)
        async with app.run_test(size=size) as pilot:
            player = Player(app, pilot)
            await player.settle()
            await script(player)
        return app

    try:
        return asyncio.run(main())
    finally:
        engine.close()


_TEXT = r'<text class="terminal-[^"]*-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>'


def text_of(svg):
    """The lines of text in a screenshot."""
    rows = {}
    for x, y, text in re.findall(_TEXT, svg):
        row = rows.setdefault(float(y), [])
        column = round(float(x) / 12.2)
        row += " " * (column - len(row))
        row[column:] = unescape(text).replace("\xa0", " ")
    return ["".join(rows[y]).rstrip() for y in sorted(rows)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = replace(CONFIG, n_positions=512)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return checkpoint(folder, tensors(config), n_positions=config.n_positions)


# Where it goes.


def test_keys_go_where_pdb_would():
    async def script(go):
        view = go.app.view
        assert (view.state.path, view.state.event, view.state.token) == ("h.1.attn", "line", 2)
        assert "h.1.attn · op " in go.shown
        line = view.state.line
        assert (await go("n")).state.line == line + 1
        view = await go("s")
        assert (view.state.path, Path(view.state.file).name) == ("h.1.attn.c_attn", "ops.py")
        assert (await go("r")).state.event == "return"
        number = go.app.view.state.number
        view = await go("o")
        assert (view.state.event, view.state.number) == ("operation", number + 1)
        view = await go("l")
        assert (view.state.path, view.state.event) == ("h.2", "line")
        assert (await go("t")).state.token == 3
        assert (await go(":at h.4.mlp")).state.path == "h.4.mlp"
        assert (await go(":op 3")).state.number == go.app.view.state.number
        await go("down")
        chosen = go.app.query_one(Layers).cursor_node.data
        assert (await go("enter")).state.path == chosen != "h.4.mlp"

    play(script, at="h.1.attn", token=2)


def test_back_is_where_it_was(tiny):
    async def script(go):
        first = go.app.view.state
        await go("o", "o", "o")
        seen = [go.app.view]
        for _ in range(4):
            seen.append(await go("o"))
        await go("t", ":back 1")
        for before in reversed(seen):
            view = await go(f":back {go.app.view.state.number - before.state.number}")
            assert view.state == before.state
            assert view.paths == before.paths
            assert view.made.mean == before.made.mean
            assert len(go.app.query_one(Memory).live) == view.state.number
        assert (await go(":run")).state == first

    play(script, tiny)


@pytest.mark.parametrize("model", ["shakespeare", "tiny"])
def test_the_text_is_that_without_stepping(model, request):
    where = request.getfixturevalue("tiny") if model == "tiny" else model
    said = PROMPT + "".join(step.text for step in generate(load(where), PROMPT, **OPTIONS))

    async def script(go):
        first = go.app.view.state
        await go("s", "o", "l", "b", "t", "c")
        assert go.app.ended.text == said
        assert "finished" in go.shown
        assert (await go(":run")).state == first
        await go("c")
        assert go.app.ended.text == said
        await go.pilot.press("q")

    assert play(script, where).return_value == 0


def test_figures_are_those_of_the_ledger():
    first, *_ = generate(load(), PROMPT, **OPTIONS)

    async def script(go):
        view = await go("t")
        assert view.state.flops == first.flops
        assert sum(view.paths.values()) == first.flops
        assert sum(flops for flops, *_ in view.components.values()) == first.flops
        assert sum(read for _, read, _ in view.components.values()) == sum(
            first.counts.bytes_read.values()
        )
        assert len(go.app.query_one(Memory).live) == view.state.number
        view = await go("o", "o", "o")
        assert go.app.query_one(Memory).live[-1] == view.state.live["activations"]
        assert sum(view.lines.values()) <= view.state.flops - first.flops

    play(script)


@pytest.mark.parametrize("keys", ["oooo", "nsol"])
def test_borders_tell_of_what_stands_between_them(keys):
    """And are those of a screen that is drawn anew."""

    async def script(go):
        for key in keys:
            view = await go(key)
            made, state = view.made, view.state
            first = go.svg()
            assert f"{made.operation} at {made.path}" in go.shown
            assert f"{Path(state.file).name}:{state.line} {state.function}" in go.shown
            assert f"after each of {state.number:,} operations" in go.shown
            go.app.refresh(layout=True)
            await go.pilot.pause()
            assert text_of(first) == text_of(go.svg())

    play(script, size=(120, 40), at="h.1")


def test_at_the_end_of_the_text_the_panels_tell_of_all_of_it():
    lm = load()
    list(generate(lm, PROMPT, **OPTIONS))
    total = lm.ledger.snapshot()

    async def script(go):
        await go("o", "c")
        assert go.app.ended.text
        assert f"ledger · {si(flops(total))}FLOP" in go.shown
        assert f"after each of {total.total('calls'):,} operations" in go.shown
        assert "the text has ended" in go.shown
        assert go.app.query_one(Layers)._below[""] == flops(total)

    play(script, size=(120, 40))


# What it says.


def test_commands_of_the_prompt_answer_on_the_screen():
    async def script(go):
        answers = {
            ":at h.99": "no path matches 'h.99'",
            ":stop when tired": "'tired' is no condition",
            ":kv 3": "layer   3",
            ":lens 2": "if the model ended with x of h.",
            ":p x.shape[1:]": "(7, 256)",
            ":ledger": "component",
            ":interact": "needs a terminal of its own",
            ":display x.shape": "display x.shape: (1, 7, 256)",
            ":nonsense": "NameError",
            "question_mark": "Ctrl-C   quit",
        }
        before = go.app.view.state
        for command, answer in answers.items():
            await go(command)
            await go.pilot.pause()
            assert answer in go.shown, command
            await go("escape")
            assert answer not in go.shown
        assert go.app.view.state == before  # nothing ran, nothing was charged

    play(script, at="h.1")


def test_what_is_displayed_is_shown_when_it_changes():
    async def script(go):
        await go(":display self.path")
        await go("escape", "n")
        assert "display" not in go.shown
        await go("l")
        assert "display self.path: 'h.2'  [old: 'h.1']" in go.shown

    play(script, at="h.1")


def test_what_never_comes_ends_where_the_text_ends(tiny):
    """And from there it goes back, again and again, to what it was."""

    async def script(go):
        first = await go(":op 7")
        for _ in range(3):
            view = await go(":stop when flops>1e12")
            assert (view.state.event, view.state.token) == ("end", 4)
            said = " ".join(go.shown.replace("│", " ").split())
            assert "did not come to 'stop when flops>1e12': back, run, c or q" in said
            await go("escape")
            number = view.state.number - first.state.number
            view = await go(f":back {number}")
            assert view.state == first.state
        await go(":layer", "c")
        assert go.app.ended.text

    play(script, tiny)


def test_what_is_not_finite_is_warned_of():
    async def script(go):
        view = await go(":stop when inf")
        assert view.state.path == "h.0.attn.softmax"
        assert "WARNING 168 inf" in go.shown

    play(script)


def test_a_key_too_early_or_too_late_does_no_harm(tiny):
    async def script(go):
        await go.pilot.press("c", "s", "s", "enter", "a", "escape", "escape")
        await go.until(lambda: go.app.ended)
        await go.pilot.press("s", "b", "o", "enter", "question_mark", "escape")

    assert play(script, tiny).ended.text


# How it stops.


def running(go):
    return go.app.query_one("#status").has_class("-running")


def test_escape_stops_what_runs(tiny):
    async def script(go):
        for _ in range(2):
            await go.pilot.press("c")
            await go.until(lambda: running(go))
            await go("escape")
            assert go.app.view.state.event == "operation"
        assert not go.app.ended

    play(script, tiny, max_new_tokens=450)


def test_ctrl_c_stops_what_runs_and_leaves_where_it_stands(tiny):
    async def script(go):
        await go.pilot.press("c")
        await go.until(lambda: running(go))
        await go("ctrl+c")
        assert go.app.view.state.event == "operation"
        assert go.app.return_value is None
        await go.pilot.press("ctrl+c")

    assert play(script, tiny, max_new_tokens=450).return_value == 130


def test_ctrl_c_once_more_leaves_what_does_not_stop(tiny):
    async def script(go):
        await go.pilot.press("colon")
        go.app.query_one(Input).value = "!while True: pass"
        await go.pilot.press("enter", "ctrl+c")
        assert go.app.return_value is None
        await go.pilot.press("ctrl+c")

    assert play(script, tiny).return_value == 130


@pytest.mark.parametrize("while_it", ["stands", "runs"])
def test_a_killed_process_is_one_line(tiny, while_it):
    async def script(go):
        if while_it == "runs":
            await go.pilot.press("c")
            await go.until(lambda: running(go))
        go.app.engine.process.kill()
        await go.until(lambda: go.app.ended)
        await go.pilot.press("s", "t", "b")
        await go.pilot.pause()
        assert go.shown.count("the process that computes was killed by SIGKILL") == 1
        assert "q leaves" in go.shown
        await go.pilot.press("q")

    app = play(script, tiny, max_new_tokens=450)
    assert (app.return_value, app.engine.process.exitcode) == (0, -signal.SIGKILL)


def test_a_crash_and_an_error_are_one_line(tiny, tmp_path):
    async def crash(go):
        await go.pilot.press("colon")
        go.app.query_one(Input).value = "!__import__('os')._exit(3)"
        await go.pilot.press("enter")
        await go.until(lambda: go.app.ended)
        await go.pilot.pause()
        assert "the process that computes left with exit status 3" in go.shown

    play(crash, tiny)
    config = replace(CONFIG, n_positions=512)
    broken = tensors(config)
    broken["ln_f.weight"][:] = np.nan

    async def error(go):
        await go("c")
        await go.pilot.pause()
        said = " ".join(go.shown.replace("│", " ").split())
        assert re.search("the logits of .* are not finite", said)

    assert play(
        error, checkpoint(tmp_path / "model", broken, n_positions=config.n_positions)
    ).ended.wrong


def test_what_cannot_begin_leaves_at_once(tiny):
    async def script(go):
        assert go.app.view is None

    app = play(script, tiny, at="h.7.nothing")
    assert (app.return_value, app.ended.wrong) == (2, True)
    assert "h.7.nothing" in app.ended.error


def test_resizing_draws_anew():
    async def script(go):
        for size in ((120, 40), (40, 10), (200, 60), (20, 5), (80, 24)):
            await go.pilot.resize_terminal(*size)
            await go.pilot.pause()
            await go.settle()
            room = go.app.query_one(Tensor).cells
            cells = go.app.view.made.cells
            if min(room) > 0:
                assert cells.shape <= room
            assert len(text_of(go.svg())) <= size[1]
        assert "h.2.mlp" in go.shown

    play(script, at="h.2.mlp")


# What it looks like.


@pytest.mark.parametrize("size", SIZES)
def test_the_screen_is_the_one_that_was_looked_at(size):
    """The text of the screen, exactly; the .svg is the same screen in colour, for people."""
    told, drawn = SNAPSHOTS / f"step_{size}.txt", SNAPSHOTS / f"step_{size}.svg"

    async def script(go):
        await go("n", "n", "n")
        svg = go.svg()
        if "UPDATE_SNAPSHOTS" in os.environ:
            told.write_text("\n".join(text_of(svg)) + "\n")
            drawn.write_text(svg)
        shown = text_of(svg)
        assert shown == told.read_text().splitlines()
        assert shown == text_of(drawn.read_text())
        width, height = SIZES[size]
        assert len(shown) == height
        assert max(map(len, shown)) <= width

    play(script, size=SIZES[size], at="h.3.attn.softmax", token=2)


def test_without_colour_all_is_grey(tiny, monkeypatch):
    """But for #c5c8c6, which the export takes for what has no colour."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(go):
        await go("o")
        used = re.findall(r"-r\d+ \{ fill: #(..)(..)(..)", go.svg().replace("#c5c8c6", "#c6c6c6"))
        assert len(used) > 3
        assert [rgb for rgb in used if len(set(rgb)) > 1] == []

    play(script, tiny)


def test_bars():
    assert bars([0, 1, 2, 4], 9, 1) == [" ▂▄█"]
    assert bars([0, 1, 2, 4], 2, 2) == [" █", "▄█"]
    assert bars([], 5, 2) == bars([1], 5, 0) == []


# The command itself.


@contextmanager
def terminal(folder, *options):
    env = environment(HOME=str(folder), TERM="xterm-256color", PYTHONPATH=str(ROOT))
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "step", PROMPT, "--tui", *options], env=env, cwd=str(folder),
        encoding="utf-8", timeout=PATIENCE, dimensions=(24, 80),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.close(force=True)


def children(pid):
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


LEAVE = {
    "q": (lambda child: child.send("q"), 0),
    "Ctrl-C": (lambda child: child.send("\x03"), 130),
    "SIGINT": (lambda child: child.kill(signal.SIGINT), 130),
    "SIGTERM": (lambda child: child.kill(signal.SIGTERM), 143),
}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("way", LEAVE)
def test_it_leaves_cleanly_and_takes_its_process_along(way, tmp_path):
    leave, status = LEAVE[way]
    with terminal(tmp_path, "--seed", "1") as child:
        child.expect("token 1/")
        workers = children(child.pid)
        assert workers
        leave(child)
        child.expect(re.escape("\x1b[?1049l"))  # back to the screen that was there before
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == status
        end = time.monotonic() + 10
        while not all(map(gone, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert all(map(gone, workers))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_the_process_ends_with_a_screen_that_was_killed(tmp_path):
    with terminal(tmp_path, "--seed", "1", "--max-new-tokens", "200") as child:
        child.expect("token 1/")
        workers = children(child.pid)
        child.send("c")
        child.expect("running")
        child.kill(signal.SIGKILL)
        end = time.monotonic() + 20
        while not all(map(gone, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert all(map(gone, workers))


def test_the_finished_text_is_printed(tmp_path):
    said = "".join(s.text for s in generate(load(), PROMPT, max_new_tokens=4, seed=1))
    with terminal(tmp_path, "--seed", "1", "--max-new-tokens", "4") as child:
        child.expect("token 1/")
        child.send("c")
        child.expect("finished")
        child.send("q")
        child.expect(re.escape("\x1b[?1049l"))
        child.expect(pexpect.EOF)
        assert (PROMPT + said).replace("\n", "\r\n") in child.before
        child.wait()
        assert child.exitstatus == 0


def test_the_seed_that_was_drawn_is_said_at_the_end(tmp_path):
    with terminal(tmp_path, "--max-new-tokens", "2") as child:
        child.expect("token 1/")
        child.send("c")
        child.expect("finished")
        child.send("q")
        child.expect(r"drawn with --seed \d+\r\n")
        child.expect(pexpect.EOF)


def test_what_is_wrong_is_one_line(tmp_path):
    with terminal(tmp_path, "--model", "nowhere/") as child:
        child.expect("minigpt: .*nowhere")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 2
    step = "step", PROMPT, "--tui"
    assert "--tui needs a terminal" in complaint(minigpt(*step, cwd=tmp_path))
    without = "import sys; sys.modules['textual'] = None; " + MINIGPT[2]
    code = [sys.executable, "-c", without, *step]
    child = pexpect.spawn(code[0], code[1:], cwd=str(tmp_path), encoding="utf-8", timeout=60)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 2
    assert child.before.strip() == (
        "minigpt: --tui needs textual: pip install -e '.[tui]' in the clone"
    )
