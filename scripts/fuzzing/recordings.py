"""Recordings: lines that are each right, or not, and do not fit each other."""

import io
import json
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from random import Random

from fuzzing.mutators import encoded, tree
from minigpt import load
from minigpt.commands import diff, report
from minigpt.commands.report import VIEWS
from minigpt.errors import InputError
from minigpt.inference.generate import continuation
from minigpt.inference.sample import Sampling
from minigpt.recording.write import recording


@cache
def recorded(folder: Path) -> list[list[bytes]]:
    """The lines of two recordings of a model: of a batch, with operations, and of one without."""
    made, lm, sampling = [], load(folder), Sampling(max_new_tokens=3, seed=1)
    for prompts, ops in ((["ab", "cd"], True), (["ab"], False)):
        lines = list[bytes]()
        write = lambda line, lines=lines: lines.append(json.dumps(line).encode())  # noqa: E731
        with recording(write, lm, prompts, sampling, ops=ops) as record:
            for step in continuation(lm, prompts, sampling):
                record(step)
        made.append(lines)
    return made


def draw(rng: Random) -> bytes:
    """What is to be done with the lines of a recording: the seed of it."""
    return str(rng.getrandbits(64)).encode()


def run(made: bytes, folder: Path, model: Path) -> None:
    """Reports of a recording, views of it, slow ones seldom, and what differs from another.

    Args:
        made: the seed of what is done to a recording of `model`, or a recording.
        folder: for what is written.
    """
    file, other = folder / "run.jsonl", folder / "other.jsonl"
    rng = Random(made)
    if made.isdigit():
        lines = [*rng.choice(recorded(model))]
        for _ in range(rng.choice((1, 1, 2, 4))):
            _disturb(rng, lines)
        made = b"\n".join(lines) + b"\n"
    file.write_bytes(made)
    other.write_bytes(b"\n".join(recorded(model)[0]) + b"\n")
    quick = [".csv", ".folded", ".pftrace", ".pickle"]
    views = quick if rng.random() < 0.98 else [rng.choice([*VIEWS])]
    with redirect_stdout(io.StringIO()):
        with suppress(InputError):
            diff.run(str(file), str(other), {})
        for end in views:
            with suppress(InputError):
                report.run(file, [folder / f"view{end}"])
        report.run(file)  # may refuse it


def _disturb(rng: Random, lines: list[bytes]) -> None:
    """Changes a line, takes one out, says one twice, exchanges two, or cuts what follows."""
    if not lines:
        return
    at = rng.choice((0, len(lines) - 1, rng.randrange(len(lines)), rng.randrange(len(lines))))
    to, what = rng.randrange(len(lines)), rng.random()
    if what < 0.7:
        with suppress(ValueError):  # it is no JSON any more
            lines[at] = encoded(rng, tree(rng, json.loads(lines[at]), ("wire", "freed")))
    elif what < 0.8:
        del lines[at]
    elif what < 0.87:
        lines.insert(to, lines[at])
    elif what < 0.94:
        lines[at], lines[to] = lines[to], lines[at]
    else:
        del lines[at + 1 :]
