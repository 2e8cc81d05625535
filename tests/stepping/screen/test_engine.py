"""How the process that computes stops, whatever happens."""

import re
import signal
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint, tensors

pytest.importorskip("textual", reason="textual is not installed: .[tui]")

from screens import play
from textual.widgets import Input


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
