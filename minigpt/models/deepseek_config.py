"""Configurations of DeepSeek V3 and R1: their fields are the keys of a Hugging Face config.json."""

from dataclasses import dataclass, fields, replace
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
    size_or_none,
    sizes,
    switches,
)
from minigpt.models.rope import UNSCALED, Scaling, YarnScaling, read_rope


@dataclass(frozen=True)
class DeepseekConfig(Config):
    """The sizes of a DeepSeek V3, without the layer that predicts a second token."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of the feed-forward of dense layers
    moe_intermediate_size: int  # of each expert
    num_hidden_layers: int
    num_attention_heads: int
    q_lora_rank: int | None  # width of compressed queries; None does not compress them
    kv_lora_rank: int  # width of compressed keys and values
    qk_nope_head_dim: int  # of a head's queries and keys, without position
    qk_rope_head_dim: int  # and with, one such key for all heads
    v_head_dim: int
    n_routed_experts: int
    n_shared_experts: int  # that every token meets
    num_experts_per_tok: int
    n_group: int  # groups of experts
    topk_group: int  # of which a token may choose from so many
    first_k_dense_replace: int  # layers before the first with experts
    max_position_embeddings: int
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = True
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: Scaling = UNSCALED
    attention_bias: bool = False

    @property
    def n_positions(self) -> int:
        return self.max_position_embeddings

    @property
    def layers(self) -> int:
        return self.num_hidden_layers

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def kv_heads(self) -> int:
        return 1

    @property
    def latent_cache(self) -> bool:
        return True

    @property
    def experts(self) -> Self:
        return self

    @property
    def expert_layers(self) -> int:
        """The number of layers that have experts."""
        return max(0, self.num_hidden_layers - self.first_k_dense_replace)

    @property
    def expert_parameters(self) -> int:
        """The number of parameters of a routed expert."""
        return 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def frequencies(self) -> list[float]:
        """Radians a position by which each pair of a rotary key turns."""
        return self.rope_scaling.stretch(self.rope_theta, self.qk_rope_head_dim)

    def short(self) -> Self:
        few = self.first_k_dense_replace + 2
        return replace(self, num_hidden_layers=min(few, self.num_hidden_layers))

    def layout(self, key: str, ndim: int) -> str | None:
        if key.endswith("kv_b_proj.weight"):
            return None  # cut in two before it multiplies
        return super().layout(key, ndim)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, self.hidden_size)
        }
        attention, mlp, moe = self._attention(), self._feed_forward(), self._experts()
        for i in range(self.num_hidden_layers):
            block = {**attention, **(mlp if i < self.first_k_dense_replace else moe)}
            shapes |= {f"model.layers.{i}.{key}": shape for key, shape in block.items()}
        shapes["model.norm.weight"] = (self.hidden_size,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, self.hidden_size)
        return shapes

    def _attention(self) -> dict[str, tuple[int, ...]]:
        C, H, R = self.hidden_size, self.num_attention_heads, self.kv_lora_rank
        P, E, D = self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim
        shapes: dict[str, tuple[int, ...]]
        if self.q_lora_rank is None:
            shapes = {"q_proj.weight": (H * (P + E), C)}
        else:
            shapes = {
                "q_a_proj.weight": (self.q_lora_rank, C),
                "q_a_layernorm.weight": (self.q_lora_rank,),
                "q_b_proj.weight": (H * (P + E), self.q_lora_rank),
            }
        shapes |= {
            "kv_a_proj_with_mqa.weight": (R + E, C),
            "kv_a_layernorm.weight": (R,),
            "kv_b_proj.weight": (H * (P + D), R),
            "o_proj.weight": (C, H * D),
        }
        if self.attention_bias:
            biased = shapes.keys() & {
                "q_a_proj.weight",
                "kv_a_proj_with_mqa.weight",
                "o_proj.weight",
            }
            shapes |= {key.replace("weight", "bias"): shapes[key][:1] for key in biased}
        return {f"self_attn.{key}": shape for key, shape in shapes.items()} | {
            "input_layernorm.weight": (C,),
            "post_attention_layernorm.weight": (C,),
        }

    def _feed_forward(self, path: str = "mlp", width: int | None = None) -> dict[str, Any]:
        C, F = self.hidden_size, width or self.intermediate_size
        return {
            f"{path}.gate_proj.weight": (F, C),
            f"{path}.up_proj.weight": (F, C),
            f"{path}.down_proj.weight": (C, F),
        }

    def _experts(self) -> dict[str, tuple[int, ...]]:
        shapes = {
            "mlp.gate.weight": (self.n_routed_experts, self.hidden_size),
            "mlp.gate.e_score_correction_bias": (self.n_routed_experts,),
        }
        for expert in range(self.n_routed_experts):
            shapes |= self._feed_forward(f"mlp.experts.{expert}", self.moe_intermediate_size)
        width = self.n_shared_experts * self.moe_intermediate_size
        return shapes | self._feed_forward("mlp.shared_experts", width)


_V3 = DeepseekConfig(
    vocab_size=129280,
    hidden_size=7168,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    num_hidden_layers=61,
    num_attention_heads=128,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_routed_experts=256,
    n_shared_experts=1,
    num_experts_per_tok=8,
    n_group=8,
    topk_group=4,
    first_k_dense_replace=3,
    max_position_embeddings=163840,
    rope_scaling=YarnScaling(40.0, 4096, 32.0, 1.0, mscale=1.0, mscale_all_dim=1.0),
    eos_token_id=1,
)

DEEPSEEK_SIZES = {"deepseek-v3": _V3, "deepseek-r1": _V3}  # R1 is V3, trained further

# What a DeepSeek config.json may also say, and the only values that this model computes.
_FIXED = {
    "hidden_act": ("silu",),
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "moe_layer_freq": (1,),
    "rope_interleave": (True,),
}


def deepseek_config(values: Values, source: Any) -> DeepseekConfig:
    """The configuration that a config.json of model type "deepseek_v3" holds.

    Args:
        values: what the file says.
        source: its path, for errors.

    Raises:
        InputError: it has values that cannot be, or that this model does not compute.
    """
    values = {k: v for k, v in values.items() if v is not None}  # null is the default
    fixed(values, _FIXED, source)
    names = [f.name for f in fields(DeepseekConfig) if f.type is int]
    names.remove("first_k_dense_replace")
    given: dict[str, Any] = dict(sizes(values, names, source))
    sizes(values, ("num_hidden_layers", "n_routed_experts"), source, most=MANY)
    given |= sizes(values, ["first_k_dense_replace"], source, least=0)
    given["q_lora_rank"] = size_or_none(values, "q_lora_rank", source)
    given |= numbers(values, ["routed_scaling_factor"], source, 0)
    given |= numbers(values, ["rms_norm_eps"], source, 0, 1)
    truths = ("norm_topk_prob", "attention_bias", "tie_word_embeddings")
    given |= switches(values, truths, source)
    theta, scaling = read_rope(values, source)
    config = DeepseekConfig(
        **given,
        rope_theta=theta,
        rope_scaling=scaling,
        eos_token_id=end_tokens(values, source),
    )
    divides(config, "n_routed_experts", "n_group", source)
    _possible(config, source)
    return config


def _possible(config: DeepseekConfig, source: Any) -> None:
    group = config.n_routed_experts // config.n_group
    if group < 2:
        raise InputError(f"{source}: a group of experts has {group}; routing looks at its best two")
    if config.topk_group > config.n_group:
        raise InputError(f"{source}: topk_group {config.topk_group} of n_group {config.n_group}")
    if config.num_experts_per_tok > config.topk_group * group:
        raise InputError(
            f"{source}: num_experts_per_tok is {config.num_experts_per_tok}, but a token may "
            f"choose from {config.topk_group * group} experts"
        )
    if config.qk_rope_head_dim % 2:
        raise InputError(
            f"{source}: qk_rope_head_dim {config.qk_rope_head_dim} is odd; pairs need it even"
        )
