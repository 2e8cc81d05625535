"""Copies of a checkpoint in the formats of the peers, each made once and kept beside the others."""

import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.checkpoint.hub import find
from minigpt.checkpoint.quantised import made_whole
from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.fast.packing import settle, stamp
from minigpt.models.architectures import read
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.families import llama as families
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.rope import Rope, frequencies, rotary_parameters
from minigpt.storage.files import written_whole
from minigpt.storage.private import PrivateFolder, unusable

_NAMES = {  # of modules, by what they are in a block or outside
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}


def converted(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The copy of a checkpoint called `name`; `make(path)` writes it if there is none."""
    tensors = sorted(folder.glob("*.safetensors"))
    settle(tensors)
    about = [str(folder.resolve()), *((f.name, stamp(f.stat())) for f in tensors)]
    key = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    try:
        with PrivateFolder("bench") as kept:
            path = kept.path / f"{folder.name}-{key}" / name
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                with written_whole(path) as part:
                    make(part)
    except OSError as error:
        raise InputError(unusable(error)) from None
    return path


def gguf_file(folder: Path, dtype: str) -> Path:
    """A GPT-2 or Llama as llama.cpp reads it: matrices in `dtype` (int8 is its q8_0), the rest
    float32.

    Raises:
        InputError: it is another architecture.
    """
    return converted(folder, f"{dtype}.gguf", lambda path: _write_gguf(folder, dtype, path))


def _write_gguf(folder: Path, dtype: str, path: Path) -> None:
    gguf: Any = import_module("gguf")
    checkpoint = find(str(folder))
    config = read(checkpoint.config)
    llama = isinstance(config, DecoderConfig) and config.family is families.llama
    if not (llama or isinstance(config, GPT2Config)):
        raise InputError(f"{folder}: llama.cpp is measured on GPT-2 and Llama only")
    types = gguf.GGMLQuantizationType
    type_ = {"float32": types.F32, "bfloat16": types.BF16, "int8": types.Q8_0}[dtype]
    writer = gguf.GGUFWriter(path, "llama" if llama else "gpt2", use_temp_file=False)
    (_say_llama if llama else _say_gpt2)(writer, config)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    shapes = config.shapes()
    found = chain.from_iterable(map(tensors, checkpoint.tensors.values()))
    for key, tensor in made_whole(found, checkpoint.values("config.json").given):
        key = key.removeprefix("transformer.")
        if key not in shapes:
            continue  # old checkpoints carry masks, some a copy of the table as the head
        array = tensor.read(np.dtype(np.float32))
        way = config.layout(key, array.ndim)
        if way == "columns":
            array = array.T  # stored (in, out); its products want (out, in)
        heads = _turned_heads(config, key) if llama else None
        if heads:
            array = _side_by_side(array, heads)
        array = np.ascontiguousarray(array)
        if way:
            quantised = gguf.quants.quantize(array, type_)
            writer.add_tensor(_gguf_name(key), quantised, raw_dtype=type_)
        else:
            writer.add_tensor(_gguf_name(key), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _say_gpt2(writer: Any, config: Any) -> None:
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _say_llama(writer: Any, config: Any) -> None:
    """Sizes, and how far each pair is slowed down where a Llama is scaled to a longer context.

    Raises:
        InputError: its rotary positions are scaled in a way that this does not say.
    """
    rope: Rope = config.blocks[0]["mixer"]["rope"]
    if rope.scale != 1.0:
        raise InputError("llama.cpp is measured on Llamas whose cosines are not scaled")
    _, K, G, D = config.blocks[0]["mixer"]["heads"]
    theta = rotary_parameters(config.family.values(config.given, config.source))
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(K * G)
    writer.add_head_count_kv(K)
    writer.add_key_length(D)
    writer.add_value_length(D)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(rope.width)
    writer.add_rope_freq_base(theta.rope_theta)
    plain = np.array(frequencies(theta.rope_theta, rope.width))
    slowed = (plain / np.array(rope.frequencies)).astype(np.float32)
    if (slowed != 1).any():
        writer.add_tensor("rope_freqs.weight", slowed)


def _turned_heads(config: Any, key: str) -> int | None:
    """How many heads a tensor makes that turn with the position, if it makes any."""
    _, K, G, _ = config.blocks[0]["mixer"]["heads"]
    if ".q_proj." in key:
        return int(K * G)
    return int(K) if ".k_proj." in key else None


def _side_by_side(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows in another order, as llama.cpp stores them: the two of a pair side by side."""
    pairs = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _gguf_name(key: str) -> str:
    module, _, kind = key.removeprefix("model.").rpartition(".")
    block, _, rest = module.partition(".")
    if block not in ("h", "layers"):
        return f"{_NAMES[module]}.{kind}"
    layer, _, part = rest.partition(".")
    return f"blk.{layer}.{_NAMES[part]}.{kind}"


def ctranslate2_folder(folder: Path, dtype: str) -> Path:
    """A model as CTranslate2 reads it, by its own converter from transformers."""

    def make(path: Path) -> None:
        converters: Any = import_module("ctranslate2.converters")
        converters.TransformersConverter(str(folder)).convert(str(path), quantization=dtype)
        about = path / "config.json"
        said = json.loads(about.read_text(encoding="utf-8"))
        # It writes null where a tokenizer has no such token, and refuses to read that.
        said |= {key: "" for key in said if key.endswith("_token") and said[key] is None}
        about.write_text(json.dumps(said), encoding="utf-8")

    return converted(folder, f"ctranslate2-{dtype}", make)
