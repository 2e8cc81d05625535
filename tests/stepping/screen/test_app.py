"""`minigpt step --tui`: where keys go, and what the screen says."""

from pathlib import Path

import pytest
from checkpoints import PROMPT

pytest.importorskip("textual", reason="textual is not installed: .[tui]")

from screens import OPTIONS, play

from minigpt import generate, load
from minigpt.stepping.screen.layers import Layers
from minigpt.stepping.screen.panels import Memory

# Where it goes.


def test_keys_go_where_pdb_would():
    async def script(go):
        view = go.app.view
        assert (view.state.path, view.state.event, view.state.token) == ("h.1.attn", "line", 2)
        assert "h.1.attn · op " in go.shown
        line = view.state.line
        assert (await go("n")).state.line == line + 1
        view = await go("s")
        assert (view.state.path, Path(view.state.file).name) == ("h.1.attn.c_attn", "parts.py")
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
