"""Checkpoints in Hugging Face layout, from a folder, the hub or the package: safetensors only.

Tensors stored in the dtype asked for are memory-mapped; others are read and converted one by one,
so that no weight is held twice.
"""

import json
import mmap
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from counting import Counted, Ledger, category
from minigpt.architectures import Config, Model, build, read
from minigpt.errors import InputError
from minigpt.hub import find
from minigpt.tokenizer import read_tokenizer

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}

# Buffers that old checkpoints carry beside the parameters: the causal mask and its fill value.
_BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class LanguageModel:
    """A model with what turns text into its tokens, and the ledger that its arrays share."""

    name: str
    model: Model
    tokenizer: Tokenizer
    ledger: Ledger

    @property
    def config(self) -> Config:
        return self.model.config


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies in a file."""

    file: Path
    mapped: mmap.mmap  # the whole file, one for all its tensors
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


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
        dtype: of weights, cache and activations, "float32" or "float16".
        device: "cpu" or "cuda".
        revision: branch, tag or commit on the hub.
        progress: called with the bytes loaded so far and the bytes in all.

    Raises:
        InputError: the model cannot be found, is of no known architecture, or its files are not
            whole.
    """
    from minigpt.device import place

    to_device = place(device)
    if dtype not in ("float32", "float16"):
        raise InputError(f"unknown dtype {dtype!r}: float32 or float16")
    checkpoint = find(str(model), revision)
    config = read(checkpoint.config)
    tokenizer = read_tokenizer(checkpoint.tokenizer, config.vocab_size)
    stored: dict[str, _Stored] = {}
    for file in checkpoint.tensors:
        for key, tensor in _index(file):
            if key in stored:
                raise InputError(f"{file}: {key} is stored twice, first in {stored[key].file}")
            stored[key] = tensor
    config, stored = _fit(config, stored, checkpoint.config)
    ledger = Ledger()
    weights = {}
    with category("weights"):
        for key, array in _read(stored, np.dtype(dtype), progress):
            weights[key] = Counted(to_device(array), ledger)
    return LanguageModel(checkpoint.name, build(config, weights), tokenizer, ledger)


def _index(file: Path) -> Iterator[tuple[str, _Stored]]:
    """The tensors of a safetensors file and their keys, without a `transformer.` prefix."""
    try:
        with safe_open(file, framework="np"):  # checks the header and that the file is whole
            pass
        with file.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        begin = 8 + int.from_bytes(mapped[:8], "little")
        header: dict[str, Any] = json.loads(mapped[8:begin])
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{file} is not a whole safetensors file ({error}): get it again"
        ) from None
    header.pop("__metadata__", None)
    for key, entry in header.items():
        key = key.removeprefix("transformer.")
        if _BUFFERS.fullmatch(key):
            continue
        if entry["dtype"] not in DTYPES:
            known = ", ".join(DTYPES)
            raise InputError(f"{file}: {key} is stored as {entry['dtype']}; known are {known}")
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
        yield key, _Stored(file, mapped, dtype, shape, begin + entry["data_offsets"][0])


def _fit(
    config: Config, stored: dict[str, _Stored], origin: Path
) -> tuple[Config, dict[str, _Stored]]:
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


def _same(a: _Stored, b: _Stored) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype) and np.array_equal(_map(a), _map(b))


def _map(tensor: _Stored) -> np.ndarray:
    flat = np.frombuffer(tensor.mapped, tensor.dtype, tensor.count, tensor.offset)
    return flat.reshape(tensor.shape)


def _read(
    stored: dict[str, _Stored], dtype: np.dtype, progress: Progress | None
) -> Iterator[tuple[str, np.ndarray]]:
    total, done = sum(tensor.nbytes for tensor in stored.values()), 0
    for key, tensor in stored.items():
        if tensor.dtype == dtype:
            array = _map(tensor)
            if not array.flags.aligned:
                array = array.copy()  # a product would copy it each time
        else:
            flat = np.fromfile(tensor.file, tensor.dtype, tensor.count, offset=tensor.offset)
            with np.errstate(over="ignore"):  # infinities show in the logits
                array = flat.astype(dtype).reshape(tensor.shape)
        yield key, array
        done += tensor.nbytes
        if progress:
            progress(done, total)
