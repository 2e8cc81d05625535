"""Models of which some layers look through a window."""

from typing import Any

from minigpt.models.decoder import Block, Gated, OneNormBlock
from minigpt.models.decoder_config import family
from minigpt.models.description import Part, absent, part
from minigpt.models.experts import Experts, TopSoftmaxRouter, stacked
from minigpt.models.families.common import (
    activation,
    attention,
    by_kind,
    decoder,
    gated,
    heads_norms,
    kinds,
    norm,
    per_kind,
    pre_norm,
    sizes,
)
from minigpt.models.families.experts import LOCAL, choice
from minigpt.models.parts import (
    Attend,
    CappedAttend,
    CentredNorm,
    GemmaNorm,
    Scale,
    SinkAttend,
    Softcap,
)
from minigpt.models.rope import UNTURNED, read_rope
from minigpt.models.values import Values

GEMMA: dict[str, Any] = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}


def gemma(c: Values, mixers: list[Part], after_head: Part) -> Part:
    act = activation(c, "hidden_activation")
    mlp = part(Gated, "mlp", C=c.hidden_size, F=c.intermediate_size, act=act)
    norms = {
        "before_mixer": norm(c, "input_layernorm", GemmaNorm),
        "after_mixer": norm(c, "post_attention_layernorm", GemmaNorm),
        "before_feed_forward": norm(c, "pre_feedforward_layernorm", GemmaNorm),
        "after_feed_forward": norm(c, "post_feedforward_layernorm", GemmaNorm),
    }
    blocks = per_kind(lambda m: part(Block, mixer=m, feed_forward=mlp, **norms), mixers)
    root, last = part(Scale, factor=c.hidden_size**0.5), norm(c, "model.norm", GemmaNorm)
    return decoder(c, blocks, after_embedding=root, norm=last, after_head=after_head)


@family("gemma2", **GEMMA, attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
def gemma2(c: Values) -> Part:
    c.unused("hidden_act", "sliding_window_size")  # `hidden_activation` rules
    c.only(use_bidirectional_attention=False)
    scale, cap, bias = c.query_pre_attn_scalar**-0.5, c.attn_logit_softcapping, c.attention_bias
    attend = part(CappedAttend, scale=scale, cap=cap) if cap else part(Attend, scale=scale)

    def mixer(kind: str) -> Part:
        return attention(c, bias, bias, attend=attend, reach=by_kind(c, kind))

    mixers = per_kind(mixer, kinds(c, full_each=2))
    last = c.final_logit_softcapping
    return gemma(c, mixers, part(Softcap, cap=last) if last else absent)


@family(
    "gemma3_text",
    **GEMMA,
    max_position_embeddings=131072,
    rope_local_base_freq=1e4,
    rope_theta=1e6,
    sliding_window_pattern=6,
    vocab_size=262208,
)
def gemma3_text(c: Values) -> Part:
    c.only(attn_logit_softcapping=None, final_logit_softcapping=None)
    c.unused("_sliding_window_pattern")  # comes with the kinds of all layers
    c.only(use_bidirectional_attention=False)
    usual = {name: norm(c, name, GemmaNorm, c.head_dim) for name in ("q_norm", "k_norm")}
    usual["attend"] = part(Attend, scale=c.query_pre_attn_scalar**-0.5)
    own = {"full_attention": {}, "sliding_attention": {"rope_theta": c.rope_local_base_freq}}
    ropes = {kind: read_rope(c, sizes(c).D, kind, **own[kind]) for kind in own}
    bias, each = c.attention_bias, kinds(c, c.sliding_window_pattern)
    seen: dict[str, Any] = {k: {"rope": ropes[k], "reach": by_kind(c, k)} for k in own}
    mixers = per_kind(lambda kind: attention(c, bias, bias, **seen[kind], **usual), each)
    return gemma(c, mixers, absent)


@family(
    "gpt_oss",
    keys=LOCAL,
    attention_bias=True,
    head_dim=64,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    rope_scaling={
        "rope_type": "yarn",
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    },
    rope_theta=150000.0,
    sliding_window=128,
    swiglu_alpha=1.702,
    swiglu_limit=7.0,
)
def gpt_oss(c: Values) -> Part:
    c.only(hidden_act="silu")
    C, K, G, D = sizes(c)
    of = choice(c, c.num_experts)
    sizes_of = {"count": of.n_routed_experts, "C": C, "F": c.intermediate_size}
    clamp = {"alpha": c.swiglu_alpha, "limit": c.swiglu_limit}
    moe = part(
        Experts,
        "mlp",
        router=part(TopSoftmaxRouter, "router", C=C, choice=of),
        experts=part(stacked, "experts", **sizes_of, **clamp),
    )
    attend, bias = part(SinkAttend, scale=D**-0.5, kv_heads=K, group=G), c.attention_bias

    def block(kind: str) -> Part:
        mixer = attention(c, bias, bias, attend=attend, reach=by_kind(c, kind))
        return pre_norm(c, mixer, moe)

    return decoder(c, per_kind(block, kinds(c, full_each=2)))


def olmo(c: Values, each: list[str], **local: Any) -> Part:
    """Norms after, none before; positions are scaled where a layer looks at everything."""
    own = {"full_attention": {}, "sliding_attention": local}
    bias, norms, D = c.attention_bias, heads_norms(c), sizes(c).D
    seen: dict[str, Any] = {
        kind: {"rope": read_rope(c, D, kind, **own[kind]), "reach": by_kind(c, kind)}
        for kind in own
    }
    usual = {
        "after_mixer": norm(c, "post_attention_layernorm"),
        "feed_forward": gated(c),
        "after_feed_forward": norm(c, "post_feedforward_layernorm"),
    }

    def block(kind: str) -> Part:
        return part(Block, mixer=attention(c, bias, bias, **seen[kind], **norms), **usual)

    return decoder(c, per_kind(block, each))


@family("olmo2", rms_norm_eps=1e-5)
def olmo2(c: Values) -> Part:
    return olmo(c, ["full_attention"] * c.num_hidden_layers)


@family("olmo3", rms_norm_eps=1e-5, rope_theta=500000.0, sliding_window=4096)
def olmo3(c: Values) -> Part:
    return olmo(c, kinds(c, full_each=4), rope_theta=c.rope_theta)


@family(
    "cohere2",
    layer_norm_eps=1e-5,
    logit_scale=0.0625,
    max_position_embeddings=8192,
    sliding_window=4096,
    sliding_window_pattern=4,
    tie_word_embeddings=True,
)
def cohere2(c: Values) -> Part:
    """A layer with a window has positions, one without has none."""
    c.unused("_sliding_window_pattern")  # comes with the kinds of all layers
    c.unused("rotary_pct")  # all of a head turns, whatever it is
    c.only(layer_switch=c.sliding_window_pattern, position_embedding_type="rope_gptj")
    c.only(order_of_interleaved_layers="local_attn_first", use_parallel_block=True)
    c.only(use_embedding_sharing=True, use_gated_activation=True, use_qk_norm=False)
    usual: dict[str, Any] = {"width": c.hidden_size, "epsilon": c.layer_norm_eps}
    before, bias = part(CentredNorm, "input_layernorm", **usual), c.attention_bias
    turned = read_rope(c, sizes(c).D, interleaved=True)
    how: dict[str, Any] = {
        "sliding_attention": {"rope": turned, "reach": by_kind(c, "sliding_attention")},
        "full_attention": {"rope": UNTURNED},
    }

    def block(kind: str) -> Part:
        mixer = attention(c, bias, bias, **how[kind])
        return part(OneNormBlock, before_mixer=before, mixer=mixer, feed_forward=gated(c))

    blocks = per_kind(block, kinds(c, c.sliding_window_pattern))
    logits = part(Scale, factor=c.logit_scale)
    return decoder(c, blocks, norm=part(CentredNorm, "model.norm", **usual), after_head=logits)
