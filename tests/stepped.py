"""Steppers that follow a script, and tiny models to step through."""

from pathlib import Path

import numpy as np
from helpers import numbers

import minigpt
from counting import Counted, Ledger, category
from minigpt.inference.load import LanguageModel
from minigpt.inference.sample import Sampling
from minigpt.models.architectures import build
from minigpt.stepping.stepper import ModelStepper

SHORT = {"max_new_tokens": 3, "seed": 1}
SAMPLING = Sampling(**SHORT)
MODELS = Path(minigpt.__file__).parent / "models"  # the clone, or where it was installed to
ROOMS = {
    str(MODELS / f"{room}.py")
    for room in (
        "cache",
        "decoder",
        "delta",
        "experts",
        "gpt2",
        "latent",
        "model",
        "ops",
        "parts",
        "reach",
        "rope",
        "routing",
    )
}
OPS, PARTS = MODELS / "ops.py", MODELS / "parts.py"
LINEAR, VARIANCE, NORM = (
    1 + file.read_text().splitlines().index(line)
    for file, line in (
        (PARTS, "        return x @ self.weight + self.bias"),
        (OPS, "    variance = (centred * centred).mean(axis=-1, keepdims=True)  # (..., 1)"),
        (OPS, "    return centred / np.sqrt(variance + epsilon) * weight + bias"),
    )
)


class Scripted(ModelStepper):
    """A stepper that does what `script(self, frame)` says at each stop, and remembers where."""

    def __init__(self, script, **options):
        super().__init__(**options)
        self.script, self.seen = script, []

    def stopped(self, frame, event, value):
        self.seen.append(self.state(frame, event))
        if event != "end":
            self.script(self, frame)


def columns(counts):
    return {name: counts.total(name) for name in counts.columns}


def small(case, seed=0):
    """A language model without a tokenizer, of a case."""
    ledger, make = Ledger(), numbers(seed, case.config.vocab_size)
    with category("weights"):
        shapes = case.config.shapes().items()
        weights = {key: Counted(make(s, np.float32), ledger) for key, s in shapes}
    model = build(case.config, weights)
    return LanguageModel("small", model, model, None, ledger, None, "float32")


def tokens_of(case, seed=0):
    return numbers(seed, case.config.vocab_size)((case.batch, case.chunks[0]), int)
