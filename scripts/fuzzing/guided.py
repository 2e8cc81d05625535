"""Inputs that grow by what code the ones before them reached: libFuzzer's search, by atheris."""

import os
import random
from collections.abc import Callable
from typing import Any

import atheris

MOST = 1 << 16  # bytes of an input


def instrument() -> None:
    """Has each branch of the program noted; before anything else imports it."""
    with atheris.instrument_imports(include=["minigpt"]):
        import fuzzing.kinds  # noqa: F401


def grow(kind: Any, seed: str, number: int, one: Callable[[int, bytes], bool]) -> None:
    """Tries inputs without end, and ends the process.

    Half of them are drawn as the kind draws them, the others are changed octet by octet: the first
    reach what stands behind a parser, the second the parser.

    Args:
        number: the number of the first.
        one: tries an input of a number, and gives whether this process is done.
    """
    rng = random.Random(seed)
    numbers = iter(range(number, 1 << 63))

    def other(made: bytes, most: int, _: int) -> bytes:
        return kind.draw(rng)[:most] if rng.random() < 0.5 else atheris.Mutate(made, most)

    def run(made: bytes) -> None:
        if one(next(numbers), made):
            os._exit(0)

    options = [f"-seed={rng.randrange(1, 1 << 31)}", f"-max_len={MOST}", "-len_control=0"]
    without = ["-timeout=0", "-rss_limit_mb=0", "-verbosity=0"]  # these are for the worker to see
    atheris.Setup(["fuzz", *options, *without], run, custom_mutator=other)
    atheris.Fuzz()
