"""DeepSeek V2, V3 and R1 (DeepSeek-AI, 2024), and Kimi K2: latent attention, and experts."""

from typing import Any

from minigpt.models.decoder_config import family
from minigpt.models.description import Part, identity, part
from minigpt.models.experts import BalancedGroupRouter, Beside, GroupRouter, to_one_if_any
from minigpt.models.families.common import decoder, gated, layers, per_kind, pre_norm
from minigpt.models.families.experts import experts
from minigpt.models.latent import Latent, LatentAttention, ThroughLatent
from minigpt.models.parts import Projection
from minigpt.models.rope import read_rope, read_scaling, rotary_parameters
from minigpt.models.values import Values


def latent_attention(c: Values) -> Part:
    H, P, E, D = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
    c.unused("num_key_value_heads", "head_dim")  # said in every file, of no use with latents
    C, rank, bias, out = c.hidden_size, c.q_lora_rank, c.attention_bias, H * (P + E)
    direct = part(Projection, "q_proj", width=C, out=out)
    through = part(ThroughLatent, width=C, latent=rank, out=out, bias=bias)
    return part(
        LatentAttention,
        "self_attn",
        sizes=Latent(C, H, P, E, D, c.kv_lora_rank),
        queries=direct if rank is None else through,
        scale=(P + E) ** -0.5 * read_scaling(rotary_parameters(c)).softmax_factor,
        rope=read_rope(c, E, interleaved=True),
        bias=bias,
    )


def deepseek(c: Values, sparse: Part) -> Part:
    shared = gated(c, "shared_experts", c.n_shared_experts * c.moe_intermediate_size)
    first, dense = c.first_k_dense_replace, gated(c)
    both = part(Beside, "mlp", one=sparse, other=shared)
    feeds = [dense if i < first else both for i in layers(c)]
    mixer = latent_attention(c)
    return decoder(c, per_kind(lambda feed: pre_norm(c, mixer, feed), feeds))


@family(
    "deepseek_v2",
    keys={"n_routed_experts": "n_routed_experts num_experts"},
    first_k_dense_replace=0,
    norm_topk_prob=False,
    n_shared_experts=2,
    q_lora_rank=1536,
    routed_scaling_factor=1.0,
    topk_method="greedy",
)
def deepseek_v2(c: Values) -> Part:
    c.only(norm_topk_prob=False, moe_layer_freq=1, scoring_func="softmax")
    c.only(mlp_bias=False)
    how: dict[str, Any] = {"name": "", "factor": c.routed_scaling_factor}
    if c.topk_method == "group_limited_greedy":
        how |= {"router": GroupRouter, **grouping(c, least=1)}
    else:
        c.only(topk_method="greedy")
        c.unused("n_group", "topk_group")  # of no use to a greedy choice
    return deepseek(c, experts(c, c.n_routed_experts, c.moe_intermediate_size, **how))


def grouping(c: Values, least: int) -> dict[str, Any]:
    """Into how many groups experts fall, and how many of them a token may choose from.

    Raises:
        InputError: experts cannot be divided so, or a group has fewer than `least`.
    """
    E, groups, best, met = c.n_routed_experts, c.n_group, c.topk_group, c.num_experts_per_tok
    if all(isinstance(n, int) for n in (E, groups, best, met)):
        if E % groups:
            raise c.error(f"n_routed_experts {E} is not a multiple of n_group {groups}")
        if E // groups < least:
            raise c.error(f"a group of experts has {E // groups}; routing looks at its best two")
        if best > groups:
            raise c.error(f"topk_group {best} of n_group {groups}")
        if met > best * (E // groups):
            some = f"a token may choose from {best * (E // groups)} experts"
            raise c.error(f"num_experts_per_tok is {met}, but {some}")
    return {"groups": groups, "best": best}


V3: dict[str, Any] = {
    "first_k_dense_replace": 3,
    "n_group": 8,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "q_lora_rank": 1536,
    "routed_scaling_factor": 2.5,
    "topk_group": 4,
}


def v3(c: Values) -> Part:
    c.only(topk_method="noaux_tc", moe_layer_freq=1, scoring_func="sigmoid", rope_interleave=True)
    how: dict[str, Any] = {"name": "", "factor": c.routed_scaling_factor, **grouping(c, least=2)}
    how["share"] = to_one_if_any if c.norm_topk_prob else identity
    E, F = c.n_routed_experts, c.moe_intermediate_size
    return deepseek(c, experts(c, E, F, BalancedGroupRouter, **how))


ROUTED = {"n_routed_experts": "n_routed_experts num_local_experts"}
deepseek_v3 = family("deepseek_v3", ROUTED, **V3)(v3)
kimi_k2 = family("kimi_k2", ROUTED, **V3)(v3)
