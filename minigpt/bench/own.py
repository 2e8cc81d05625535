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


def bare(folder: Path, dtype: str, threads: int, context: int, batch: int) -> Generate:
    return _generating(uncounted(load(folder, dtype=dtype)), lambda logits: logits)


def counted(folder: Path, dtype: str, threads: int, context: int, batch: int) -> Generate:
    lm = load(folder, dtype=dtype)
    record = recorder(lm.ledger)

    def recorded(logits: Any) -> np.ndarray:
        record()
        return logits.data

    return _generating(lm, recorded)


def _generating(lm: LanguageModel, taken: Callable[[Any], np.ndarray]) -> Generate:
    def generate(prompts: list[list[int]], new: int, mark: Callable[[], None]) -> list[list[int]]:
        fed = np.array(prompts)
        cache = lm.model.new_cache(len(fed), fed.shape[1] + new - 1)
        tokens = []
        for _ in range(new):
            logits = taken(lm.forward(fed, cache))  # (B, 1, V)
            fed = logits.argmax(-1)
            tokens.append(fed)
            mark()
        return np.concatenate(tokens, 1).tolist()

    return generate
