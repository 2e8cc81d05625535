"""Someone at the keyboard of the screen, and the text that is on it."""

import asyncio
import re
import time
from html import unescape

from checkpoints import PROMPT
from textual.widgets import Input

from minigpt.commands.options import ModelOptions
from minigpt.inference.sample import Sampling
from minigpt.stepping.screen.app import Stepping
from minigpt.stepping.screen.engine import Engine
from minigpt.stepping.screen.panels import Tensor
from minigpt.stepping.stepper import Job

OPTIONS = {"max_new_tokens": 4, "temperature": 0.0, "top_k": None, "top_p": None, "seed": 1}
OPTIONS["ignore_eos"] = True
PATIENCE = 300  # seconds


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
