"""Models of which most layers keep a state: Qwen3-Next (Qwen team, 2025)."""

from minigpt.models.decoder_config import family
from minigpt.models.delta import Delta, GatedDeltaNet, OpenedProjection, WithGate
from minigpt.models.description import Part, part
from minigpt.models.families.common import (
    activation,
    attention,
    decoder,
    kinds,
    norm,
    per_kind,
    pre_norm,
    sizes,
)
from minigpt.models.families.experts import MIXED, beside_shared, mixed
from minigpt.models.parts import GemmaNorm
from minigpt.models.values import Values

CHUNK = 64  # tokens that go through linear attention together, in transformers and in engines


def delta(c: Values) -> Part:
    K, H = c.linear_num_key_heads, c.linear_num_value_heads
    if H % K:
        what = f"linear_num_value_heads {H} is not a multiple of linear_num_key_heads {K}"
        raise c.error(what)
    D, E, n = c.linear_key_head_dim, c.linear_value_head_dim, c.linear_conv_kernel_dim
    return part(
        GatedDeltaNet,
        "linear_attn",
        sizes=Delta(c.hidden_size, K, H // K, D, E, n),
        act=activation(c, "hidden_act"),
        epsilon=c.rms_norm_eps,
        chunk=CHUNK,
    )


@family(
    "qwen3_next",
    full_attention_interval=4,
    head_dim=256,
    norm_topk_prob=True,
    num_key_value_heads=2,
    partial_rotary_factor=0.25,
    **MIXED,
)
def qwen3_next(c: Values) -> Part:
    c.only(use_sliding_window=False)
    C, K, G, D = h = sizes(c)
    bias = c.attention_bias
    gated = {name: norm(c, name, GemmaNorm, D) for name in ("q_norm", "k_norm")}
    gated["qkv"] = part(WithGate, heads=h, bias=bias)
    gated["out"] = part(OpenedProjection, "o_proj", width=K * G * D, out=C, bias=bias)
    mixers = {"full_attention": attention(c, bias, bias, **gated), "linear_attention": delta(c)}
    each = kinds(c, c.full_attention_interval, "linear_attention")
    if "full_attention" not in each:
        raise c.error("no layer has full attention; one or more must")
    before = {"before_mixer": norm(c, "input_layernorm", GemmaNorm)}
    before["before_feed_forward"] = norm(c, "post_attention_layernorm", GemmaNorm)

    def block(of: tuple[str, Part]) -> Part:
        return pre_norm(c, mixers[of[0]], of[1]).but(**before)

    feeds = mixed(c, beside_shared(c))
    blocks = per_kind(block, list(zip(each, feeds, strict=False)))
    return decoder(c, blocks, norm=norm(c, "model.norm", GemmaNorm))
