"""Runs that are recorded: of small models of several families, at drawn sizes."""

import json

import numpy as np
from checkpoints import CONFIG, checkpoint
from families import small
from helpers import numbers

from minigpt import generate, load
from minigpt.inference.sample import Sampling
from minigpt.models.architectures import READERS
from minigpt.recording.read import read
from minigpt.recording.write import recording

FAMILIES = ("gpt2", "llama", "deepseek_v3", "mixtral", "gemma2", "qwen3_next")


def recorded(lm, prompts, file, ops=False, **options):
    """A generation, recorded to a file: its steps, and what is read of it."""
    sampling = Sampling(seed=1, ignore_eos=True, **options)
    with (
        file.open("w") as out,
        recording(
            lambda line: out.write(json.dumps(line) + "\n"), lm, prompts, sampling, ops=ops
        ) as record,
    ):
        steps = []
        for step in generate(lm, prompts, seed=1, ignore_eos=True, **options):
            record(step)
            steps.append(step)
    return steps, read(file)


def drawn(seed, folder):
    """A small model of a family, prompts of a batch, how many new tokens."""
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    values = {"model_type": family} | small(family) | {"vocab_size": CONFIG.vocab_size}
    shapes = READERS[values["model_type"]](values, "drawn").shapes()
    make = numbers(seed, CONFIG.vocab_size)
    weights = {key: make(shape, np.float32) for key, shape in shapes.items()}
    lm = load(checkpoint(folder / "model", weights, **values))
    length, batch = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    prompts = ["".join(rng.choice([*"abcdef"], length)) for _ in range(batch)]
    return lm, prompts, int(rng.integers(1, 7))
