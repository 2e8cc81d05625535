"""Draws the pictures of the README: what commands say in a terminal, as SVG, and pages, as PNG.

Pages are drawn by chromium with chromedriver, and by selenium, which `.[test]` brings.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
WIDTH = 100

PICTURES = {
    "generate": 'minigpt generate "To be, or not to be" --seed 1',
    "formulas": "minigpt formulas gpt2 | head -29",
}


class Screen(NamedTuple):
    """A part of a page about a run.

    Attributes:
        options: of `generate`, beside the prompt.
        width: of the window, in pixels.
        first, last: the elements it reaches from and to.
    """

    options: str
    width: int
    theme: str
    first: str
    last: str


RUN = 'minigpt generate "To be, or not to be" --seed 1 --quiet --record {0}.jsonl {1}'
REPORT = "minigpt report {0}.jsonl --to {0}.html --gpu rtx-3060-12gb"
SCREENS = {
    "report": Screen("", 1280, "light", "header", "#components"),
    "report-phone": Screen("--ops", 390, "dark", "#memory", "#memory figure:nth-of-type(2)"),
}


def said(command: str) -> str:
    """What a command says on both streams, in a shell where `minigpt` is this clone's."""
    run = f'minigpt() {{ "{sys.executable}" -m minigpt "$@"; }}; {command}'
    result = subprocess.run(
        ["bash", "-c", run], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    return result.stdout.decode()


def picture(command: str, text: str, lines: int = 60) -> str:
    """An SVG of a terminal that shows a command and the first lines of what it said."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold green"))
    kept = text.rstrip().splitlines()
    console.print(Text("\n".join(kept[:lines])), soft_wrap=True)
    if len(kept) > lines:
        console.print(Text("…", style="dim"))
    return console.export_svg(title="minigpt", theme=MONOKAI, unique_id="minigpt")


def screen(name: str, shown: Screen) -> bytes:
    """A PNG of a part of the page about a run, which runs now."""
    from selenium import webdriver
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    for argument in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/{name}"
        said(f"{RUN.format(file, shown.options)} && {REPORT.format(file)}")
        with webdriver.Chrome(options, service) as browser:
            ask = browser.execute_cdp_cmd
            theme = {"name": "prefers-color-scheme", "value": shown.theme}
            ask("Emulation.setEmulatedMedia", {"features": [theme]})
            size = {"width": shown.width, "height": 900, "deviceScaleFactor": 1}
            ask("Emulation.setDeviceMetricsOverride", {**size, "mobile": shown.width < 500})
            browser.get(f"file://{file}.html")
            WebDriverWait(browser, 20).until(
                lambda one: one.execute_script(
                    "return [...document.querySelectorAll('.chart')].every(c => c.children.length)"
                )
            )
            top, bottom = browser.execute_script(
                "const box = a => document.querySelector(a).getBoundingClientRect();"
                "return [box(arguments[0]).top, box(arguments[1]).bottom]",
                *(shown.first, shown.last),
            )
            clip: dict[str, Any] = {"x": 0, "width": shown.width, "scale": 1}
            clip |= {"y": top - 16, "height": bottom - top + 32}
            whole = {"clip": clip, "captureBeyondViewport": True}
            return b64decode(ask("Page.captureScreenshot", whole)["data"])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name, command in PICTURES.items():
        (ROOT / "docs" / "pictures" / f"{name}.svg").write_text(picture(command, said(command)))
    for name, shown in SCREENS.items():
        (ROOT / "docs" / "pictures" / f"{name}.png").write_bytes(screen(name, shown))
