"""Runs of drawn models, recorded and written as views, beside what their ledgers counted."""

from pathlib import Path
from typing import Any, NamedTuple

from recordings import drawn, recorded

from counting import Counts
from minigpt.commands.report import run
from minigpt.inference.load import LanguageModel
from minigpt.recording.read import Recording
from minigpt.views.options import ViewOptions


class Ran(NamedTuple):
    """A recorded run.

    Attributes:
        counts: what the ledger counted meanwhile.
        peak: bytes by category, by the ledger.
    """

    recording: Recording
    lm: LanguageModel
    counts: Counts
    peak: dict[str, int]


def ran(seed, ops, folder) -> Ran:
    """A run of a drawn model, its operations recorded or not."""
    lm, prompts, new = drawn(seed, folder)
    before = lm.ledger.snapshot()
    _, recording = recorded(lm, prompts, folder / "run.jsonl", ops, max_new_tokens=new)
    return Ran(recording, lm, lm.ledger.snapshot() - before, lm.ledger.peak_bytes)


def written(recording: Recording, ending: str, **options: Any) -> Path:
    """The file that `minigpt report --to` writes of a recording."""
    path = recording.path.with_name(f"view{ending}")
    run(recording.path, [path], ViewOptions(**options))
    return path


def cut(recording: Recording, lines: int) -> Path:
    """A recording of the first lines of another."""
    path = recording.path.with_name("cut.jsonl")
    whole = recording.path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(whole[:lines]), encoding="utf-8")
    return path
