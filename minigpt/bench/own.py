"""This program as an engine: bare, and counting as `generate` counts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from counting import Ledger
from minigpt.bench.engines import Generate
from minigpt.inference.load import LanguageModel, load
from minigpt.models.architectures import build


def uncounted(lm: LanguageModel) -> LanguageModel:
    """The same model on the same arrays, out of the count."""

    def weight(key: str) -> Any:
        part: Any = lm.model
        for name in key.split("."):
            part = part[int(name)] if name.isdecimal() else getattr(part, name)
        return part.data

    weights = {key: weight(key) for key in lm.config.shapes()}
    model = build(lm.config, weights)
    return replace(lm, model=model, forward=lm.device.forward(model, weights))


def recorder(ledger: Ledger) -> Callable[[], int]:
    """What `generate` does for the record of a pass: snapshot, difference, totals.

    Each call gives the number of operations since the one before.
    """
    before = ledger.snapshot()

    def record() -> int:
        nonlocal before
        after = ledger.snapshot()
        counts, before = after - before, after
        return int(counts.total("calls"))

    return record


def bare(folder: Path, dtype: str, threads: int, context: int) -> Generate:
    return _generating(uncounted(load(folder, dtype=dtype)), lambda logits: logits)


def counted(folder: Path, dtype: str, threads: int, context: int) -> Generate:
    lm = load(folder, dtype=dtype)
    record = recorder(lm.ledger)

    def recorded(logits: Any) -> np.ndarray:
        record()
        return logits.data

    return _generating(lm, recorded)


def _generating(lm: LanguageModel, taken: Callable[[Any], np.ndarray]) -> Generate:
    def generate(prompt: list[int], new: int, mark: Callable[[], None]) -> list[int]:
        cache = lm.model.new_cache(1, len(prompt) + new - 1)
        tokens: list[int] = []
        for _ in range(new):
            logits = taken(lm.forward(np.array([tokens[-1:] or prompt]), cache))  # (1, 1, V)
            tokens.append(int(logits[0, -1].argmax()))
            mark()
        return tokens

    return generate
