"""Models of joined matrices, partial rotary positions, parallel blocks, positions in a table."""

from typing import Any

from minigpt.models.decoder import (
    MLP,
    Attention,
    Block,
    GatedJoined,
    Heads,
    Joined,
    JoinedByGroup,
    OneNormBlock,
    ParallelBlock,
)
from minigpt.models.decoder_config import family
from minigpt.models.description import Part, absent, part
from minigpt.models.families.common import (
    activation,
    attention,
    decoder,
    gated,
    groups,
    head_width,
    layer_norm,
    norm,
    positions,
    pre_norm,
    reach,
    sizes,
    table,
    whole_sizes,
)
from minigpt.models.parts import Attend, Projection
from minigpt.models.rope import UNTURNED, read_rope
from minigpt.models.values import Values


@family("phi3", partial_rotary_factor=1.0, rms_norm_eps=1e-5)
def phi3(c: Values) -> Part:
    c.unused("attention_bias", "original_max_position_embeddings")  # the one of longrope alone
    qkv = part(Joined, heads=sizes(c), name="qkv_proj")
    mixer = attention(c, False, False, qkv=qkv, reach=reach(c.sliding_window))
    return decoder(c, [pre_norm(c, mixer, gated(c, kind=GatedJoined))] * c.num_hidden_layers)


@family(
    "glm4",
    attention_bias=True,
    head_dim=128,
    num_key_value_heads=2,
    partial_rotary_factor=0.5,
    rms_norm_eps=1.5625e-07,
)
def glm4(c: Values) -> Part:
    turned = read_rope(c, sizes(c).D, interleaved=True)
    block = pre_norm(
        c,
        attention(c, c.attention_bias, False, rope=turned),
        gated(c, kind=GatedJoined),
        after_mixer=norm(c, "post_self_attn_layernorm"),
        after_feed_forward=norm(c, "post_mlp_layernorm"),
    )
    return decoder(c, [block] * c.num_hidden_layers)


def grouped(c: Values, name: str, h: Heads, bias: bool) -> Part:
    """Attention of GPT-NeoX and Falcon: one matrix, group after group."""
    qkv = part(JoinedByGroup, heads=h, name="query_key_value", bias=bias)
    out = part(Projection, "dense", width=h.K * h.G * h.D, out=h.C, bias=bias)
    attend = part(Attend, scale=h.D**-0.5)
    turned = read_rope(c, h.D)
    return part(Attention, name, heads=h, qkv=qkv, attend=attend, out=out, rope=turned)


FOUR = ("dense_h_to_4h", "dense_4h_to_h")


def mlp(c: Values, name: str, F: Any, act: str, names: tuple[str, str], bias: bool = True) -> Part:
    how = activation(c, act)
    return part(MLP, name, C=c.hidden_size, F=F, act=how, names=names, bias=bias)


@family(
    "gpt_neox",
    keys={
        "head_dim": "",
        "num_key_value_heads": "",
        "partial_rotary_factor": "rotary_pct",
        "rope_theta": "rotary_emb_base",
    },
    attention_bias=True,
    hidden_act="gelu",
    layer_norm_eps=1e-5,
    partial_rotary_factor=0.25,
    use_parallel_residual=True,
)
def gpt_neox(c: Values) -> Part:
    block = part(
        ParallelBlock if c.use_parallel_residual else Block,
        before_mixer=layer_norm(c, "input_layernorm"),
        mixer=grouped(c, "attention", whole_sizes(c), c.attention_bias),
        before_feed_forward=layer_norm(c, "post_attention_layernorm"),
        feed_forward=mlp(c, "mlp", c.intermediate_size, "hidden_act", FOUR),
    )
    names: dict[str, Any] = {"path": "gpt_neox.layers"}
    names["norm"] = layer_norm(c, "gpt_neox.final_layer_norm")
    names["embedding"] = table(c, "gpt_neox.embed_in")
    names["head"] = None if c.tie_word_embeddings else "embed_out"
    return decoder(c, [block] * c.num_hidden_layers, **names)


@family(
    "falcon",
    keys={
        "head_dim": "",
        "hidden_size": "n_embed hidden_size",
        "intermediate_size": "ffn_hidden_size",
        "layer_norm_eps": "layer_norm_epsilon",
        "num_key_value_heads": "num_kv_heads",
    },
    activation="gelu",
    bias=False,
    intermediate_size=None,
    layer_norm_eps=1e-5,
    max_position_embeddings=2048,
    multi_query=True,
    new_decoder_architecture=False,
    num_ln_in_parallel_attn=None,
    tie_word_embeddings=True,
)
def falcon(c: Values) -> Part:
    c.only(alibi=False, parallel_attn=True, apply_residual_connection_post_layernorm=False)
    C, H, new = c.hidden_size, c.num_attention_heads, c.new_decoder_architecture
    one, said = c.multi_query, c.num_key_value_heads
    K, D = said or H if new or not one else 1, head_width(c, C, H)
    F, two = c.intermediate_size or 4 * C, new and c.num_ln_in_parallel_attn in (None, 2)
    block = part(
        ParallelBlock if two else OneNormBlock,
        before_mixer=layer_norm(c, "ln_attn" if two else "input_layernorm"),
        before_feed_forward=layer_norm(c, "ln_mlp") if two else absent,
        mixer=grouped(c, "self_attention", Heads(C, K, groups(c, H, K), D), c.bias),
        feed_forward=mlp(c, "mlp", F, "activation", FOUR, bias=c.bias),
    )
    names: dict[str, Any] = {"path": "transformer.h", "norm": layer_norm(c, "transformer.ln_f")}
    names["embedding"] = table(c, "transformer.word_embeddings")
    return decoder(c, [block] * c.num_hidden_layers, **names)


@family(
    "stablelm",
    layer_norm_eps=1e-5,
    num_key_value_heads=32,
    partial_rotary_factor=0.25,
    use_parallel_residual=False,
    use_qkv_bias=False,
)
def stablelm(c: Values) -> Part:
    c.only(qk_layernorm=False)
    whole_sizes(c)
    parallel, second = c.use_parallel_residual, layer_norm(c, "post_attention_layernorm")
    block = part(
        OneNormBlock if parallel else Block,
        before_mixer=layer_norm(c, "input_layernorm"),
        mixer=attention(c, c.use_qkv_bias, False),
        before_feed_forward=absent if parallel else second,
        feed_forward=gated(c),
    )
    return decoder(c, [block] * c.num_hidden_layers, norm=layer_norm(c, "model.norm"))


@family(
    "starcoder2",
    keys={"layer_norm_eps": "norm_epsilon"},
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-5,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    use_bias=True,
)
def starcoder2(c: Values) -> Part:
    c.only(mlp_type="default", norm_type="layer_norm")
    F, bias = c.intermediate_size, c.use_bias
    block = part(
        Block,
        before_mixer=layer_norm(c, "input_layernorm"),
        mixer=attention(c, bias, bias, reach=reach(c.sliding_window)),
        before_feed_forward=layer_norm(c, "post_attention_layernorm"),
        feed_forward=mlp(c, "mlp", F, "hidden_act", ("c_fc", "c_proj"), bias=bias),
    )
    return decoder(c, [block] * c.num_hidden_layers, norm=layer_norm(c, "model.norm"))


@family(
    "opt",
    keys={
        "head_dim": "",
        "intermediate_size": "ffn_dim",
        "layer_norm_eps": "",
        "num_key_value_heads": "",
    },
    activation_function="relu",
    enable_bias=True,
    layer_norm_eps=1e-5,
    tie_word_embeddings=True,
)
def opt(c: Values) -> Part:
    C, bias, at = c.hidden_size, c.enable_bias, "model.decoder"
    c.only(_remove_final_layer_norm=False, do_layer_norm_before=True)
    c.only(layer_norm_elementwise_affine=True, word_embed_proj_dim=C)
    _, K, G, D = sizes(c)
    out = part(Projection, "out_proj", width=K * G * D, out=C, bias=bias)
    block = part(
        Block,
        before_mixer=layer_norm(c, "self_attn_layer_norm"),
        mixer=attention(c, bias, bias, out=out, rope=UNTURNED),
        before_feed_forward=layer_norm(c, "final_layer_norm"),
        feed_forward=mlp(
            c, "", c.intermediate_size, "activation_function", ("fc1", "fc2"), bias=bias
        ),
    )
    names: dict[str, Any] = {
        "path": f"{at}.layers",
        "norm": layer_norm(c, f"{at}.final_layer_norm"),
    }
    names["positions"] = positions(c, f"{at}.embed_positions", offset=2)
    names["embedding"] = table(c, f"{at}.embed_tokens")
    return decoder(c, [block] * c.num_hidden_layers, **names)
