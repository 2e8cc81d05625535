"""Model configurations: their fields are the keys of a Hugging Face config.json."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from minigpt.errors import InputError


@dataclass(frozen=True)
class GPT2Config:
    """The sizes of a GPT-2. For a symbolic run they are SymPy expressions, `n_embd = H * D`."""

    vocab_size: Any = 50257
    n_positions: Any = 1024
    n_embd: Any = 768
    n_layer: Any = 12
    n_head: Any = 12
    n_inner: Any = None  # width of the feed-forward layer; None is 4 * n_embd
    layer_norm_epsilon: float = 1e-5
    eos_token_id: int | None = 50256
    tie_word_embeddings: bool = True

    @property
    def head_dim(self) -> Any:
        return self.n_embd // self.n_head

    @property
    def ffn_dim(self) -> Any:
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def shapes(self) -> dict[str, tuple[Any, ...]]:
        """The shape of every tensor of a checkpoint, by its key."""
        C, F = self.n_embd, self.ffn_dim
        shapes: dict[str, tuple[Any, ...]] = {
            "wte.weight": (self.vocab_size, C),
            "wpe.weight": (self.n_positions, C),
        }
        for i in range(self.n_layer):
            block: dict[str, tuple[Any, ...]] = {
                "ln_1.weight": (C,),
                "ln_1.bias": (C,),
                "attn.c_attn.weight": (C, 3 * C),
                "attn.c_attn.bias": (3 * C,),
                "attn.c_proj.weight": (C, C),
                "attn.c_proj.bias": (C,),
                "ln_2.weight": (C,),
                "ln_2.bias": (C,),
                "mlp.c_fc.weight": (C, F),
                "mlp.c_fc.bias": (F,),
                "mlp.c_proj.weight": (F, C),
                "mlp.c_proj.bias": (C,),
            }
            shapes |= {f"h.{i}.{key}": shape for key, shape in block.items()}
        shapes |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, C)
        return shapes

    @property
    def parameters(self) -> Any:
        """The number of parameters; a tied head counts once."""
        total = 0
        for shape in self.shapes().values():
            count = 1
            for dim in shape:
                count *= dim
            total += count
        return total


GPT2_SIZES = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
}

# What a GPT-2 config.json may also say, and the only values that this model computes.
_FIXED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def read_config(path: Path) -> GPT2Config:
    """The configuration in a config.json.

    Raises:
        InputError: it is unreadable, of another architecture, or has values that cannot be.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict) or values.get("model_type") != "gpt2":
        found = values.get("model_type") if isinstance(values, dict) else values
        raise InputError(
            f"{path} is not a GPT-2 configuration: model_type is {found!r}, not 'gpt2'"
        )
    for key, allowed in _FIXED.items():
        if values.get(key, allowed[0]) not in allowed:
            raise InputError(f"{path}: {key} is {values[key]!r}; only {allowed[0]!r} is supported")
    given = {f.name: values[f.name] for f in fields(GPT2Config) if f.name in values}
    config = GPT2Config(**given)
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"):
        size = getattr(config, name)
        if name == "n_inner" and size is None:
            continue
        most = 10_000 if name == "n_layer" else 2**31 - 1
        if type(size) is not int or not 0 < size <= most:
            raise InputError(f"{path}: {name} is {size!r}; it must be a number from 1 to {most}")
    if config.n_embd % config.n_head:
        raise InputError(
            f"{path}: n_embd {config.n_embd} does not divide into n_head {config.n_head} heads"
        )
    if type(config.tie_word_embeddings) is not bool:
        raise InputError(
            f"{path}: tie_word_embeddings is {config.tie_word_embeddings!r}, not true or false"
        )
    epsilon, end = config.layer_norm_epsilon, config.eos_token_id
    if type(epsilon) not in (int, float) or not 0 <= epsilon < 1:
        raise InputError(f"{path}: layer_norm_epsilon is {epsilon!r}; it must be from 0 to 1")
    if end is not None and (type(end) is not int or end < 0):  # one past the vocabulary never comes
        raise InputError(f"{path}: eos_token_id is {end!r}, not the number of a token")
    return config
