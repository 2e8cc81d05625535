"""Configurations of Llama models: their fields are the keys of a Hugging Face config.json."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

from minigpt.models.config import MANY, Config, Shapes, Values
from minigpt.models.rope import UNSCALED, Llama3Scaling, Scaling, read_rope


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(Config):
    """What configurations of Llama and its relatives have in common."""

    hidden_size: Any
    intermediate_size: Any  # of the feed-forward of dense layers
    num_hidden_layers: Any
    num_attention_heads: Any
    max_position_embeddings: Any
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: Scaling = UNSCALED
    attention_bias: bool = False

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
    @abstractmethod
    def rope_dim(self) -> Any:
        """Numbers of a head that turn with the position: an even number."""

    @property
    def rope_interleave(self) -> bool:
        """Whether the two of a pair that turns are stored side by side."""
        return False

    @property
    def frequencies(self) -> list[float]:
        """Radians a position by which each pair turns; none if their number is a symbol."""
        if not isinstance(self.rope_dim, int):
            return []
        return self.rope_scaling.stretch(self.rope_theta, self.rope_dim)

    def short(self) -> Self:
        return replace(self, num_hidden_layers=min(2, self.num_hidden_layers))

    @abstractmethod
    def blocks(self) -> list[Shapes]:
        """The shapes of the tensors of each block, by their keys in it."""

    def swiglu(self, path: str, width: Any) -> Shapes:
        """The shapes of a feed-forward layer of some width."""
        C = self.hidden_size
        ways = {"gate_proj": (width, C), "up_proj": (width, C), "down_proj": (C, width)}
        return {f"{path}.{name}.weight": shape for name, shape in ways.items()}

    def shapes(self) -> Shapes:
        table = (self.vocab_size, self.hidden_size)
        norm = (self.hidden_size,)
        norms = {"input_layernorm.weight": norm, "post_attention_layernorm.weight": norm}
        shapes: Shapes = {"model.embed_tokens.weight": table}
        for i, block in enumerate(self.blocks()):
            tensors = (block | norms).items()
            shapes |= {f"model.layers.{i}.{key}": shape for key, shape in tensors}
        shapes["model.norm.weight"] = norm
        return shapes if self.tie_word_embeddings else shapes | {"lm_head.weight": table}


def biases(weights: Shapes) -> Shapes:
    """The shapes of the biases of projections, by those of their weights."""
    return {key.replace("weight", "bias"): shape[:1] for key, shape in weights.items()}


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """The sizes of a Llama. For a symbolic run they are SymPy expressions.

    There `num_attention_heads = K * G`, and `head_dim` is an even symbol: it goes in pairs.
    """

    num_key_value_heads: Any
    head_dim: Any
    mlp_bias: bool = False

    @property
    def kv_heads(self) -> Any:
        return self.num_key_value_heads

    @property
    def rope_dim(self) -> Any:
        return self.head_dim

    def blocks(self) -> list[Shapes]:
        C = self.hidden_size
        Q = self.num_attention_heads * self.head_dim
        KV = self.num_key_value_heads * self.head_dim
        attention = {
            "self_attn.q_proj.weight": (Q, C),
            "self_attn.k_proj.weight": (KV, C),
            "self_attn.v_proj.weight": (KV, C),
            "self_attn.o_proj.weight": (C, Q),
        }
        mlp = self.swiglu("mlp", self.intermediate_size)
        block = attention | mlp
        block |= biases(attention) if self.attention_bias else {}
        block |= biases(mlp) if self.mlp_bias else {}
        return [block] * self.num_hidden_layers


def _llama_3(
    width: int, feed_forward: int, layers: int, heads: int, factor: float = 8.0, tied: bool = False
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=width // heads,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=Llama3Scaling(factor, 1.0, 4.0, 8192),
        eos_token_id=128001,
        tie_word_embeddings=tied,
    )


LLAMA_SIZES = {
    "llama-3.2-1b": _llama_3(2048, 8192, 16, 32, factor=32.0, tied=True),
    "llama-3.1-8b": _llama_3(4096, 14336, 32, 32),
    "llama-3.1-70b": _llama_3(8192, 28672, 80, 64),
    "llama-3.1-405b": _llama_3(16384, 53248, 126, 128),
}


def decoder_values(values: Values) -> dict[str, Any]:
    """Those that are fields of `DecoderConfig`.

    Raises:
        InputError: one cannot be.
    """
    theta, scaling = read_rope(values)
    return {
        **values.sizes("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"),
        **values.sizes("max_position_embeddings"),
        **values.sizes("num_hidden_layers", most=MANY),
        **values.numbers("rms_norm_eps", least=0, below=1),
        **values.switches("attention_bias", "tie_word_embeddings"),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "eos_token_id": values.end_tokens(),
    }


def llama_config(values: Values) -> LlamaConfig:
    """The configuration in a config.json of model type "llama".

    Raises:
        InputError: it has values that cannot be, or that this model does not compute.
    """
    values = values.without_null()
    values.require({"hidden_act": ("silu",)})
    given = decoder_values(values)
    heads = given["num_attention_heads"]
    defaults = {"num_key_value_heads": heads, "head_dim": given["hidden_size"] // heads}
    given |= values.over(defaults).sizes(*defaults) | values.switches("mlp_bias")
    config = LlamaConfig(**given)
    values.require_multiple(config, "num_attention_heads", "num_key_value_heads")
    if "head_dim" not in values.given:
        values.require_multiple(config, "hidden_size", "num_attention_heads")
    if config.head_dim % 2:
        raise values.error(f"head_dim {config.head_dim} is odd; rotary pairs need it even")
    return config
