"""Checkpoints in Hugging Face layout, from a folder, the hub or the package: safetensors only.

Tensors stored in the dtype asked for are memory-mapped; others are read and converted one by one,
so that no weight is held twice.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from counting import Counted, Ledger, category
from minigpt.checkpoint.hub import find
from minigpt.checkpoint.tensors import Tensor, tensors
from minigpt.checkpoint.tokenizer import read_tokenizer
from minigpt.errors import InputError
from minigpt.fast.packed import DTYPES
from minigpt.inference.device import Device, Forward, place
from minigpt.models.architectures import build, read
from minigpt.models.config import Config
from minigpt.models.model import Model

# Buffers that old checkpoints carry beside the parameters: the causal mask and its fill value.
_BUFFERS = re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class LanguageModel:
    """A model with what turns text into its tokens.

    Attributes:
        name: as it was asked for.
        model: its text.
        forward: what runs a pass: as `model` does, maybe faster.
        ledger: that its arrays share: what passes did.
        device: where they are.
        dtype: of its matrices.
        files: that it was read from, and may be mapped.
        sampling: the ledger of drawing tokens, which is no part of a pass.
    """

    name: str
    model: Model
    forward: Forward
    tokenizer: Tokenizer
    ledger: Ledger
    device: Device
    dtype: str
    files: tuple[Path, ...] = ()
    sampling: Ledger = field(default_factory=Ledger)

    @property
    def config(self) -> Config:
        return self.model.config

    def __repr__(self) -> str:
        config = self.config
        return (
            f"LanguageModel({self.name!r}: {type(self.model).__name__}, {config.parameters:,} "
            f"parameters in {self.dtype} on {self.device.name}, {config.layers} layers, context "
            f"{config.n_positions:,}, vocabulary {config.vocab_size:,})"
        )


def load(
    model: str | Path = "shakespeare",
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """A model ready to run and to count: GPT-2, Llama 3 or DeepSeek V3.

    Args:
        model: "shakespeare" (comes with the package), a hub name ("gpt2-xl", "owner/name"), a
            folder, or a .safetensors file with its config.json and tokenizer.json beside it.
        dtype: of the matrices, "float32", "bfloat16", "float16" or "int8" (with a scale for each
            output); keys and values are of 16 bits where they are. All else is float32.
        device: "cpu" or "cuda".
        revision: branch, tag or commit on the hub.
        progress: called with the bytes loaded so far and the bytes in all.

    Raises:
        InputError: the model cannot be found, is of no known architecture, or its files are not
            whole.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: {', '.join(DTYPES)}")
    target = place(device, dtype)
    checkpoint = find(str(model), revision)
    config = read(checkpoint.config)
    tokenizer = read_tokenizer(checkpoint.tokenizer, config.vocab_size)
    stored: dict[str, Tensor] = {}
    for file in checkpoint.tensors:
        for key, tensor in tensors(file, ignored=_BUFFERS):
            key = key.removeprefix("transformer.")
            if key in stored:
                raise InputError(f"{file}: {key} is stored twice, first in {stored[key].file}")
            stored[key] = tensor
    config, stored = _fit(config, stored, checkpoint.config)
    target.require(config)
    ledger = Ledger()
    weights = {}
    with category("weights"):
        for key, array in target.hold(config, stored, dtype, progress):
            weights[key] = Counted(array, ledger)
    built = build(config, weights)
    forward = target.forward(built, weights)
    return LanguageModel(
        checkpoint.name, built, forward, tokenizer, ledger, target, dtype, checkpoint.files
    )


def _fit(
    config: Config, stored: dict[str, Tensor], origin: Path
) -> tuple[Config, dict[str, Tensor]]:
    """The configuration with its head tied or separate, as stored, and exactly its tensors.

    Raises:
        InputError: a tensor is missing, unexpected, or of another shape.
    """
    embedding = next(iter(config.shapes()))
    if "lm_head.weight" in stored and embedding in stored:
        tied = _same(stored["lm_head.weight"], stored[embedding])
        config = replace(config, tie_word_embeddings=tied)
        if tied:
            stored = {key: tensor for key, tensor in stored.items() if key != "lm_head.weight"}
    shapes = config.shapes()
    for key, shape in shapes.items():
        if key not in stored:
            raise InputError(f"the checkpoint has no tensor {key}, which {origin} asks for")
        found, file = stored[key].shape, stored[key].file
        if found != shape:
            raise InputError(f"{file}: {key} has shape {found}, but {origin} makes it {shape}")
    for key in stored:
        if key not in shapes:
            raise InputError(f"{stored[key].file}: unexpected tensor {key}, not part of {origin}")
    return config, stored


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype) and np.array_equal(a.map(), b.map())
