"""Copies of a checkpoint in the formats of the peers, each made once and kept beside the others."""

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.checkpoint.hub import find
from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.fast.packing import stamp
from minigpt.models.architectures import read
from minigpt.models.gpt2_config import GPT2Config
from minigpt.storage.files import written_whole
from minigpt.storage.private import PrivateFolder, unusable

_PARTS = {  # of a block
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_OUTSIDE = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}


def converted(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The copy of a checkpoint called `name`; `make(path)` writes it if there is none."""
    tensors = sorted(folder.glob("*.safetensors"))
    about = [str(folder.resolve()), *((f.name, stamp(f.stat())) for f in tensors)]
    key = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    try:
        with PrivateFolder("bench") as kept:
            path = kept.path / f"{folder.name}-{key}" / name
            if not path.exists():
                with written_whole(path) as part:
                    make(part)
    except OSError as error:
        raise InputError(unusable(error)) from None
    return path


def gguf_file(folder: Path, dtype: str) -> Path:
    """A GPT-2 as llama.cpp reads it: matrices in `dtype` (int8 is its q8_0), the rest float32.

    Raises:
        InputError: it is another architecture.
    """
    return converted(folder, f"{dtype}.gguf", lambda path: _write_gguf(folder, dtype, path))


def _write_gguf(folder: Path, dtype: str, path: Path) -> None:
    gguf: Any = import_module("gguf")
    checkpoint = find(str(folder))
    config = read(checkpoint.config)
    if not isinstance(config, GPT2Config):
        raise InputError(f"{folder} is no GPT-2, the only model that llama.cpp is measured on")
    types = gguf.GGMLQuantizationType
    type_ = {"float32": types.F32, "bfloat16": types.BF16, "int8": types.Q8_0}[dtype]
    writer = gguf.GGUFWriter(path, "gpt2", use_temp_file=False)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    shapes = config.shapes()
    for key, tensor in (found for file in checkpoint.tensors for found in tensors(file)):
        key = key.removeprefix("transformer.")
        if key not in shapes:
            continue  # old checkpoints carry masks, some a copy of the table as the head
        array = tensor.read(np.dtype(np.float32))
        if key.startswith("h.") and array.ndim == 2:
            array = array.T  # stored (in, out); its products want (out, in)
        if array.ndim == 2 and key != "wpe.weight":
            array = gguf.quants.quantize(np.ascontiguousarray(array), type_)
            writer.add_tensor(_gguf_name(key), array, raw_dtype=type_)
        else:
            writer.add_tensor(_gguf_name(key), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(key: str) -> str:
    module, _, kind = key.rpartition(".")
    if module == "lm_head":
        return f"output.{kind}"
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{kind}"
    _, layer, part = module.split(".", 2)
    return f"blk.{layer}.{_PARTS[part]}.{kind}"


def ctranslate2_folder(folder: Path, dtype: str) -> Path:
    """A model as CTranslate2 reads it, by its own converter from transformers."""

    def make(path: Path) -> None:
        converters: Any = import_module("ctranslate2.converters")
        converters.TransformersConverter(str(folder)).convert(str(path), quantization=dtype)

    return converted(folder, f"ctranslate2-{dtype}", make)
