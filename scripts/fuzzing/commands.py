"""Command lines, in this process: status 0, 1 or 2, and of 2 one line that says why."""

import io
import json
import os
import sys
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import typer

from fuzzing.mutators import NUMBERS, TEXTS, text
from minigpt import cli

typer.main.get_command = cache(typer.main.get_command)  # else each line builds all commands anew

OFTEN = ("generate", "count", "plan", "gpus", "report", "download", "cache", "step")
SELDOM = ("formulas", "verify")  # take seconds each
SLOW = ("measure_cpu", "trace_allocator", "machine")  # options that do
NAMES = ("gpt2", "shakespeare", "llama-3.2-1b", "deepseek-v2-lite", "owner/name", "h100")
NAMES += ("float16", "int8", "float32", "cpu", "all", "last", "component", "h.0.attn", "*", "x.csv")
SHAPES: dict[str, str] = {
    "prompt": "To be", "model": "shakespeare", "max_new_tokens": "2", "gpu": "h100",
    "gpu_file": "gpu.json", "recording": "run.jsonl", "log": "log.jsonl", "record": "rec.jsonl",
    "dtype": "float32", "at": "h.0.attn", "to": "x.csv",
}  # fmt: skip


def word(rng: Random, name: str) -> str:
    """A value of an option."""
    what = rng.random()
    if what < 0.45 and name in SHAPES:
        return SHAPES[name]
    if what < 0.6:
        return rng.choice(NAMES)
    if what < 0.8:
        return str(rng.choice(NUMBERS))
    found = rng.choice(TEXTS) if what < 0.93 else text(rng, rng.choice(NAMES))
    return found.replace("\0", "").encode(errors="replace").decode()


def draw(rng: Random) -> bytes:
    """The words of a command, as JSON."""
    name = rng.choice(SELDOM if rng.random() < 0.002 else OFTEN)
    command = COMMANDS[name]
    words = [name]
    for param in command.params:
        argument = param.param_type_name == "argument"
        usual = 0.02 if param.name in SLOW else 0.25
        if rng.random() < (0.95 if argument or param.required else usual):
            if not argument:
                words.append(rng.choice(param.opts))
            if argument or not getattr(param, "is_flag", False):
                assert param.name
                words.append(word(rng, param.name))
    if rng.random() < 0.05:
        words.insert(rng.randint(0, len(words)), word(rng, ""))
    return json.dumps(words).encode()


class Stream(io.TextIOWrapper):
    """What is written, kept."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def run(made: bytes, folder: Path) -> None:
    """Runs a command in a folder. Raises AssertionError if it ends as it should not."""
    words = json.loads(made)
    here = folder / "a" / "b" / "c"
    here.mkdir(parents=True, exist_ok=True)
    before: Any = sys.argv, sys.stdin, sys.stdout, sys.stderr, os.getcwd()
    out, err = Stream(), Stream()
    sys.argv, sys.stdin, sys.stdout, sys.stderr = ["minigpt", *words], Stream(), out, err
    os.chdir(here)
    try:
        cli.main()
        status: Any = 0
    except SystemExit as error:
        status = error.code or 0
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr, cwd = before
        os.chdir(cwd)
    said = err.text()
    if status not in (0, 1, 2):
        raise AssertionError(f"status {status}: {said[:300]}")
    if "Traceback" in said or (status == 2 and said.count("\n") != 1 and out.text() == ""):
        raise AssertionError(f"status {status}, {said.count(chr(10))} lines: {said[:300]}")


COMMANDS = {
    name: command
    for name, command in typer.main.get_command(cli.app).commands.items()  # type: ignore[attr-defined]
    if name in (*OFTEN, *SELDOM)
}
