"""Checkpoints of a model at its true size with random values, in Hugging Face layout.

Text that one generates is noise; what it costs is not.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from minigpt.checkpoint.dtypes import CODES, NUMPY
from minigpt.checkpoint.files import CONFIG, SINGLE, TOKENIZER, filled
from minigpt.checkpoint.tensors import Progress
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.storage.files import reason
from minigpt.storage.reading import text

FILES = CONFIG, TOKENIZER, SINGLE
END_OF_TEXT = "<|endoftext|>"


def write_checkpoint(
    config: Config,
    folder: Path,
    dtype: str = "float32",
    seed: int = 0,
    merges: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Puts a model into `folder`, whole or not at all: files of the names `FILES`.

    Args:
        dtype: that the tensors are stored in, "float32", "bfloat16" or "float16".
        merges: see `make_tokenizer`.

    Raises:
        InputError: it cannot be written, or has files of another model.
    """
    try:
        with filled(folder, FILES) as part:
            _write_tensors(config, part / SINGLE, dtype, seed, progress)
            tokenizer = make_tokenizer(config.vocab_size, merges).to_str(pretty=True)
            (part / TOKENIZER).write_text(tokenizer, encoding="utf-8")
            (part / CONFIG).write_text(json.dumps(config.values(), indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {reason(error)}") from None


def _write_tensors(config: Config, path: Path, dtype: str, seed: int, progress: Progress) -> None:
    """All tensors of `config`, one by one, with normally distributed values, as initialised."""
    itemsize, offset, header = NUMPY[dtype].itemsize, 0, {}
    for key, shape in config.shapes().items():
        end = offset + int(np.prod(shape)) * itemsize
        header[key] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for key, shape in config.shapes().items():
            values = 0.02 * rng.standard_normal(shape, np.float32)
            if len(shape) == 1 and key.endswith("weight"):  # of a norm
                values += 1
            values.astype(NUMPY[dtype], copy=False).tofile(file)
            progress(header[key]["data_offsets"][1], offset)


def make_tokenizer(vocab_size: int, merges: Path | None = None) -> Tokenizer:
    """A byte-level BPE with exactly `vocab_size` tokens.

    With GPT-2's own merges (its vocab.bpe) ids are GPT-2's; without, the 256 bytes come first and
    fillers that no text contains make up the rest.
    """
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs: list[Any] = []
    if merges:
        lines = text(merges).splitlines()
        pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    tokens = (symbols + ["".join(pair) for pair in pairs])[: vocab_size - 1]
    tokens += [f"<|filler{i}|>" for i in range(len(tokens), vocab_size - 1)] + [END_OF_TEXT]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [p for p in pairs if "".join(p) in vocabulary]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer
