"""Configurations of Llama models: their fields are the keys of a Hugging Face config.json."""

from dataclasses import dataclass, replace
from typing import Any, Self

from minigpt.errors import InputError
from minigpt.models.config import (
    MANY,
    Config,
    Values,
    divides,
    end_tokens,
    fixed,
    numbers,
    sizes,
    switches,
)
from minigpt.models.rope import UNSCALED, Llama3Scaling, Scaling, read_rope


@dataclass(frozen=True)
class LlamaConfig(Config):
    """The sizes of a Llama. For a symbolic run they are SymPy expressions.

    There `num_attention_heads = K * G`, and `head_dim` is an even symbol: it goes in pairs.
    """

    vocab_size: Any
    hidden_size: Any
    intermediate_size: Any
    num_hidden_layers: Any
    num_attention_heads: Any
    num_key_value_heads: Any
    head_dim: Any
    max_position_embeddings: Any
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    rope_scaling: Scaling = UNSCALED
    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def n_positions(self) -> Any:
        return self.max_position_embeddings

    @property
    def layers(self) -> Any:
        return self.num_hidden_layers

    @property
    def width(self) -> Any:
        return self.hidden_size

    @property
    def kv_heads(self) -> Any:
        return self.num_key_value_heads

    @property
    def frequencies(self) -> list[float]:
        """Radians a position by which each pair of a head turns; none if D is a symbol."""
        if not isinstance(self.head_dim, int):
            return []
        return self.rope_scaling.stretch(self.rope_theta, self.head_dim)

    def short(self) -> Self:
        return replace(self, num_hidden_layers=min(2, self.num_hidden_layers))

    def shapes(self) -> dict[str, tuple[Any, ...]]:
        C, F = self.hidden_size, self.intermediate_size
        Q = self.num_attention_heads * self.head_dim
        KV = self.num_key_value_heads * self.head_dim
        block: dict[str, tuple[Any, ...]] = {
            "self_attn.q_proj.weight": (Q, C),
            "self_attn.k_proj.weight": (KV, C),
            "self_attn.v_proj.weight": (KV, C),
            "self_attn.o_proj.weight": (C, Q),
            "mlp.gate_proj.weight": (F, C),
            "mlp.up_proj.weight": (F, C),
            "mlp.down_proj.weight": (C, F),
            "input_layernorm.weight": (C,),
            "post_attention_layernorm.weight": (C,),
        }
        for part, has_bias in (("self_attn", self.attention_bias), ("mlp", self.mlp_bias)):
            if has_bias:
                block |= {
                    key.replace("weight", "bias"): shape[:1]
                    for key, shape in block.items()
                    if key.startswith(part)
                }
        shapes: dict[str, tuple[Any, ...]] = {"model.embed_tokens.weight": (self.vocab_size, C)}
        for i in range(self.num_hidden_layers):
            shapes |= {f"model.layers.{i}.{key}": shape for key, shape in block.items()}
        shapes["model.norm.weight"] = (C,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, C)
        return shapes


def _llama_3(factor: float, **sizes: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128256,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rope_scaling=Llama3Scaling(factor, 1.0, 4.0, 8192),
        eos_token_id=128001,
        **sizes,
    )


LLAMA_SIZES = {
    "llama-3.2-1b": _llama_3(
        factor=32.0,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        head_dim=64,
        tie_word_embeddings=True,
    ),
    "llama-3.1-8b": _llama_3(
        factor=8.0,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        head_dim=128,
    ),
    "llama-3.1-70b": _llama_3(
        factor=8.0,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        head_dim=128,
    ),
    "llama-3.1-405b": _llama_3(
        factor=8.0,
        hidden_size=16384,
        intermediate_size=53248,
        num_hidden_layers=126,
        num_attention_heads=128,
        head_dim=128,
    ),
}


def llama_config(values: Values, source: Any) -> LlamaConfig:
    """The configuration that a config.json of model type "llama" holds.

    Args:
        values: what the file says.
        source: its path, for errors.

    Raises:
        InputError: it has values that cannot be, or that this model does not compute.
    """
    fixed(values, {"hidden_act": ("silu",)}, source)
    values = {k: v for k, v in values.items() if v is not None}  # null is the default
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "max_position_embeddings",
    )
    given: dict[str, Any] = dict(sizes(values, names, source))
    given |= sizes(values, ["num_hidden_layers"], source, most=MANY)
    heads, width = given["num_attention_heads"], given["hidden_size"]
    defaults = {"num_key_value_heads": heads, "head_dim": width // heads}
    given |= sizes({**defaults, **values}, defaults, source)
    given |= {"rms_norm_eps": 1e-6, **numbers(values, ["rms_norm_eps"], source, 0, 1)}
    given |= switches(values, ("attention_bias", "mlp_bias", "tie_word_embeddings"), source)
    theta, scaling = read_rope(values, source)
    config = LlamaConfig(
        **given,
        rope_theta=theta,
        rope_scaling=scaling,
        eos_token_id=end_tokens(values, source),
    )
    divides(config, "num_attention_heads", "num_key_value_heads", source)
    if "head_dim" not in values:
        divides(config, "hidden_size", "num_attention_heads", source)
    if config.head_dim % 2:
        raise InputError(f"{source}: head_dim {config.head_dim} is odd; rotary pairs need it even")
    return config
