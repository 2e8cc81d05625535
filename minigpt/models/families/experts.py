"""Models whose feed-forwards are experts, by the names of Mixtral and of Qwen."""

from typing import Any

from minigpt.models.decoder_config import family
from minigpt.models.description import Part, identity, part
from minigpt.models.experts import Beside, Choice, Experts, Opened, Router, apart, to_one
from minigpt.models.families.common import (
    attention,
    decoder,
    gated,
    heads_norms,
    layers,
    per_kind,
    pre_norm,
    reach,
    whole_sizes,
)
from minigpt.models.families.llama import no_windows, qwen3_attention
from minigpt.models.reach import EVERYTHING
from minigpt.models.values import Values

MOST = 100_000  # experts of a model, four times as many as any has: they are listed one by one


def choice(c: Values, E: Any) -> Choice:
    """Of E experts.

    Raises:
        InputError: a token is to meet more than there are; or there are more than can be listed.
    """
    met, L = c.num_experts_per_tok, c.num_hidden_layers
    if isinstance(E, int) and isinstance(L, int) and E * L > MOST:
        raise c.error(f"{E} experts in each of {L} layers are more than {MOST}")
    if isinstance(E, int) and isinstance(met, int) and met > E:
        raise c.error(f"num_experts_per_tok is {met}, of {E} experts")
    return Choice(E, met)


LOCAL = {"num_experts": "num_local_experts num_experts"}


@family(
    "mixtral",
    keys=LOCAL,
    num_experts_per_tok=2,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    rope_theta=1e6,
)
def mixtral(c: Values) -> Part:
    of = choice(c, c.num_experts)
    expert = gated(c, "", names=("w1", "w3", "w2"))
    moe = part(
        Experts,
        "block_sparse_moe",
        router=part(Router, "gate", C=c.hidden_size, choice=of, share=to_one),
        experts=part(apart, "experts", count=of.n_routed_experts, each=expert),
    )
    mixer = attention(c, False, False, reach=reach(c.sliding_window))
    return decoder(c, [pre_norm(c, mixer, moe)] * c.num_hidden_layers)


def experts(c: Values, E: Any, F: Any, router: Any = Router, **how: Any) -> Part:
    """E of width F, by the names that Qwen, OLMoE and DeepSeek use."""
    usual: dict[str, Any] = {"choice": choice(c, E), "C": c.hidden_size}
    usual["share"] = to_one if c.norm_topk_prob else identity
    each = gated(c, "", F)
    return part(
        Experts,
        how.pop("name", "mlp"),
        router=part(router, "gate", **{**usual, **how}),
        experts=part(apart, "experts", count=E, each=each),
    )


MIXED: dict[str, Any] = {"decoder_sparse_step": 1, "mlp_only_layers": ()}


def mixed(c: Values, sparse: Part) -> list[Part]:
    """The feed-forward of each layer: some have one for all tokens, the others experts."""
    dense, exempt, step = gated(c), set(c.mlp_only_layers or ()), c.decoder_sparse_step
    return [dense if i in exempt or (i + 1) % step else sparse for i in layers(c)]


@family(
    "qwen3_moe",
    keys=LOCAL,
    num_key_value_heads=4,
    norm_topk_prob=False,
    **MIXED,
)
def qwen3_moe(c: Values) -> Part:
    no_windows(c)
    feeds = mixed(c, experts(c, c.num_experts, c.moe_intermediate_size))
    mixer = qwen3_attention(c, EVERYTHING)
    return decoder(c, per_kind(lambda feed: pre_norm(c, mixer, feed), feeds))


def beside_shared(c: Values) -> Part:
    """Experts, and one for all of which each token takes a part."""
    C, F = c.hidden_size, c.shared_expert_intermediate_size
    one = gated(c, "shared_expert", F)
    shared = part(Opened, C=C, gate="shared_expert_gate", feed_forward=one)
    chosen = experts(c, c.num_experts, c.moe_intermediate_size, name="")
    return part(Beside, "mlp", one=chosen, other=shared)


@family("qwen2_moe", norm_topk_prob=False, num_key_value_heads=16, qkv_bias=True, **MIXED)
def qwen2_moe(c: Values) -> Part:
    no_windows(c)
    mixer = attention(c, c.qkv_bias, False)
    feeds = mixed(c, beside_shared(c))
    return decoder(c, per_kind(lambda feed: pre_norm(c, mixer, feed), feeds))


@family(
    "olmoe",
    {"num_experts": "num_experts num_local_experts"},
    rms_norm_eps=1e-5,
    norm_topk_prob=False,
)
def olmoe(c: Values) -> Part:
    c.only(clip_qkv=None)
    whole_sizes(c)
    mixer = attention(c, c.attention_bias, c.attention_bias, **heads_norms(c))
    moe = experts(c, c.num_experts, c.intermediate_size)
    return decoder(c, [pre_norm(c, mixer, moe)] * c.num_hidden_layers)
