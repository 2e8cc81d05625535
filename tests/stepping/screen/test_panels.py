"""What the screen looks like, and that its figures are those of the ledger.

The pictures of `snapshots` are made anew by UPDATE_SNAPSHOTS=1 pytest tests/stepping/screen.
"""

import os
import re
from pathlib import Path

import pytest
from checkpoints import PROMPT

from counting.table import si

pytest.importorskip("textual", reason="textual is not installed: .[tui]")

from screens import OPTIONS, play, text_of

from counting.views import flops
from minigpt import generate, load
from minigpt.stepping.screen.layers import Layers
from minigpt.stepping.screen.panels import Memory, Tensor, bars

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
SNAPSHOTS = Path(__file__).parent / "snapshots"


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


def test_bars():
    assert bars([0, 1, 2, 4], 9, 1) == [" ▂▄█"]
    assert bars([0, 1, 2, 4], 2, 2) == [" █", "▄█"]
    assert bars([], 5, 2) == bars([1], 5, 0) == []
