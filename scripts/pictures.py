"""Draws the pictures of the README: what a command says in a terminal, as SVG."""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
WIDTH = 100

PICTURES = {
    "generate": 'minigpt generate "To be, or not to be" --seed 1',
    "formulas": "minigpt formulas gpt2 | head -29",
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


if __name__ == "__main__":
    for name, command in PICTURES.items():
        (ROOT / "docs" / "pictures" / f"{name}.svg").write_text(picture(command, said(command)))
