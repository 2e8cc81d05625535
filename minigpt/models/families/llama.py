"""Llama, and its relatives in names and small terms."""

from collections.abc import Callable
from functools import partial
from typing import Any

from minigpt.models.decoder_config import family
from minigpt.models.description import Part, part
from minigpt.models.families.common import (
    attention,
    by_kind,
    decoder,
    gated,
    layers,
    norm,
    per_kind,
    pre_norm,
    reach,
    said_kinds,
    sizes,
)
from minigpt.models.parts import Attend, Scale
from minigpt.models.reach import Reach
from minigpt.models.rope import UNTURNED, read_rope
from minigpt.models.values import Values


@family("llama")
def llama(c: Values) -> Part:
    c.only(rope_interleaved=False)
    mixer = attention(c, c.attention_bias, c.attention_bias)
    return decoder(c, [pre_norm(c, mixer, gated(c, bias=c.mlp_bias))] * c.num_hidden_layers)


@family("mistral", sliding_window=4096, num_key_value_heads=8)
def mistral(c: Values) -> Part:
    mixer = attention(c, False, False, reach=reach(c.sliding_window))
    return decoder(c, [pre_norm(c, mixer, gated(c))] * c.num_hidden_layers)


def late_windows(c: Values) -> list[Reach]:
    """A Qwen looks through a window from layer `max_window_layers` on, if at all."""
    first = c.max_window_layers if c.use_sliding_window else c.num_hidden_layers
    usual = ["full_attention" if i < first else "sliding_attention" for i in layers(c)]
    c.unused("max_window_layers")  # said in every file, of use in few
    return per_kind(partial(by_kind, c), said_kinds(c, usual))


def windowed(c: Values, mixer: Callable[[Reach], Part]) -> Part:
    """A Qwen whose layers differ in how far they look back."""
    blocks = per_kind(lambda seen: pre_norm(c, mixer(seen), gated(c)), late_windows(c))
    return decoder(c, blocks)


def no_windows(c: Values) -> None:
    """Raises InputError where a file asks for some."""
    c.only(use_sliding_window=False)
    if "sliding_attention" in said_kinds(c, []):
        raise c.error("layer_types has windows; only 'full_attention' is computed")
    c.unused("max_window_layers", "sliding_window")  # of no use without


QWEN: dict[str, Any] = {
    "num_key_value_heads": 32,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


@family("qwen2", **QWEN)
def qwen2(c: Values) -> Part:
    c.only(use_mrope=False)
    return windowed(c, lambda seen: attention(c, True, False, reach=seen))


def qwen3_attention(c: Values, seen: Reach) -> Part:
    norms = {name: norm(c, name, width=sizes(c).D) for name in ("q_norm", "k_norm")}
    return attention(c, c.attention_bias, c.attention_bias, reach=seen, **norms)


@family("qwen3", **QWEN, head_dim=128)
def qwen3(c: Values) -> Part:
    return windowed(c, partial(qwen3_attention, c))


@family(
    "smollm3",
    num_key_value_heads=4,
    rope_theta=2e6,
    tie_word_embeddings=True,
    no_rope_layers=None,
    no_rope_layer_interval=4,
)
def smollm3(c: Values) -> Part:
    no_windows(c)
    every, turned, bias = c.no_rope_layer_interval, read_rope(c, sizes(c).D), c.attention_bias
    turns = c.no_rope_layers or [(i + 1) % every for i in layers(c)]  # 0 is a layer without

    def block(turn: bool) -> Part:
        mixer = attention(c, bias, bias, rope=turned if turn else UNTURNED)
        return pre_norm(c, mixer, gated(c, bias=c.mlp_bias))

    return decoder(c, per_kind(block, [*map(bool, turns)]))


@family(
    "granite",
    attention_multiplier=1.0,
    embedding_multiplier=1.0,
    logits_scaling=1.0,
    residual_multiplier=1.0,
)
def granite(c: Values) -> Part:
    attend = part(Attend, scale=c.attention_multiplier)
    less = part(Scale, factor=c.residual_multiplier)
    mixer = attention(c, c.attention_bias, c.attention_bias, attend=attend)
    mlp = gated(c, bias=c.mlp_bias)
    block = pre_norm(c, mixer, mlp, after_mixer=less, after_feed_forward=less)
    ends = {"after_embedding": part(Scale, factor=c.embedding_multiplier)}
    ends |= {"after_head": part(Scale, factor=1 / c.logits_scaling)}
    return decoder(c, [block] * c.num_hidden_layers, **ends)
