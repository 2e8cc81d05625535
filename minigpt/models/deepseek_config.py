"""Configurations of DeepSeek V3 and R1: their fields are the keys of a Hugging Face config.json."""

from dataclasses import dataclass, fields, replace
from typing import Self

from minigpt.models.config import MANY, Shapes, Values
from minigpt.models.llama_config import DecoderConfig, biases, decoder_values
from minigpt.models.rope import YarnScaling


@dataclass(frozen=True, kw_only=True)
class DeepseekConfig(DecoderConfig):
    """The sizes of a DeepSeek V3, without the layer that predicts a second token."""

    moe_intermediate_size: int  # of each expert
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
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = True

    @property
    def kv_heads(self) -> int:
        return 1

    @property
    def rope_dim(self) -> int:
        return self.qk_rope_head_dim

    @property
    def rope_interleave(self) -> bool:
        return True

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

    def short(self) -> Self:
        few = self.first_k_dense_replace + 2
        return replace(self, num_hidden_layers=min(few, self.num_hidden_layers))

    def layout(self, key: str, ndim: int) -> str | None:
        if key.endswith("kv_b_proj.weight"):
            return None  # cut in two before it multiplies
        return super().layout(key, ndim)

    def blocks(self) -> list[Shapes]:
        dense = min(self.first_k_dense_replace, self.num_hidden_layers)
        attention = self._attention()
        mlp = attention | self.swiglu("mlp", self.intermediate_size)
        return [mlp] * dense + [attention | self._experts()] * (self.num_hidden_layers - dense)

    def _attention(self) -> Shapes:
        C, H, Q, R = self.hidden_size, self.num_attention_heads, self.q_lora_rank, self.kv_lora_rank
        P, E, D = self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim
        narrow: Shapes = {"kv_a_proj_with_mqa.weight": (R + E, C), "o_proj.weight": (C, H * D)}
        others: Shapes = {"kv_a_layernorm.weight": (R,), "kv_b_proj.weight": (H * (P + D), R)}
        if Q is None:
            others["q_proj.weight"] = (H * (P + E), C)
        else:
            narrow["q_a_proj.weight"] = (Q, C)
            others |= {"q_a_layernorm.weight": (Q,), "q_b_proj.weight": (H * (P + E), Q)}
        shapes = narrow | others | (biases(narrow) if self.attention_bias else {})
        return {f"self_attn.{key}": shape for key, shape in shapes.items()}

    def _experts(self) -> Shapes:
        shapes: Shapes = {
            "mlp.gate.weight": (self.n_routed_experts, self.hidden_size),
            "mlp.gate.e_score_correction_bias": (self.n_routed_experts,),
        }
        for expert in range(self.n_routed_experts):
            shapes |= self.swiglu(f"mlp.experts.{expert}", self.moe_intermediate_size)
        width = self.n_shared_experts * self.moe_intermediate_size
        return shapes | self.swiglu("mlp.shared_experts", width)


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
_COMPUTED = {
    "hidden_act": ("silu",),
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "moe_layer_freq": (1,),
    "rope_interleave": (True,),
}


def deepseek_config(values: Values) -> DeepseekConfig:
    """The configuration in a config.json of model type "deepseek_v3".

    Raises:
        InputError: it has values that cannot be, or that this model does not compute.
    """
    values = values.without_null()
    values.require(_COMPUTED)
    own = [f.name for f in fields(DeepseekConfig) if f.type is int]
    own.remove("first_k_dense_replace")
    given = decoder_values(values) | values.sizes(*own)
    given |= values.sizes("n_routed_experts", most=MANY)
    given |= values.sizes("first_k_dense_replace", least=0)
    given |= values.numbers("routed_scaling_factor", least=0) | values.switches("norm_topk_prob")
    given["q_lora_rank"] = values.size_or_none("q_lora_rank")
    config = DeepseekConfig(**given)
    values.require_multiple(config, "n_routed_experts", "n_group")
    group, met = config.n_routed_experts // config.n_group, config.num_experts_per_tok
    choice = config.topk_group * group
    if group < 2:
        raise values.error(f"a group of experts has {group}; routing looks at its best two")
    if config.topk_group > config.n_group:
        raise values.error(f"topk_group {config.topk_group} of n_group {config.n_group}")
    if met > choice:
        what = f"num_experts_per_tok is {met}, but a token may choose from {choice} experts"
        raise values.error(what)
    if config.rope_dim % 2:
        raise values.error(f"qk_rope_head_dim {config.rope_dim} is odd; pairs need it even")
    return config
