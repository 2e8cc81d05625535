"""What the readers of most families say. A reader multiplies and divides sizes, and no more."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from minigpt.checks import shown
from minigpt.models.decoder import Apart, Attention, Block, Decoder, Gated, Heads
from minigpt.models.description import Part, part
from minigpt.models.ops import gelu, gelu_exact, relu, silu
from minigpt.models.parts import (
    Attend,
    Embedding,
    HeadsNorm,
    LayerNorm,
    Positions,
    Projection,
    RMSNorm,
)
from minigpt.models.reach import EVERYTHING, Reach, Window
from minigpt.models.rope import read_rope
from minigpt.models.values import Values

K = TypeVar("K")
Made = TypeVar("Made")

ACTIVATIONS = {"silu": silu, "gelu": gelu_exact, "relu": relu}
ACTIVATIONS |= {"swish": silu} | dict.fromkeys(("gelu_new", "gelu_pytorch_tanh"), gelu)


def activation(c: Values, key: str) -> Callable[[Any], Any]:
    """The activation function that a key names.

    Raises:
        InputError: it is not one of those that are computed.
    """
    name = getattr(c, key)
    if name not in ACTIVATIONS:
        raise c.error(f"{key} is {shown(name)}; computed are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def sizes(c: Values) -> Heads:
    """Those of attention.

    Raises:
        InputError: heads cannot be divided so.
    """
    C, H = c.hidden_size, c.num_attention_heads
    K = c.num_key_value_heads or H
    return Heads(C, K, groups(c, H, K), c.head_dim or head_width(c, C, H))


def head_width(c: Values, C: Any, H: Any) -> Any:
    """The width of each of H heads that share C numbers.

    Raises:
        InputError: they do not share alike.
    """
    if C % H != 0:
        raise c.error(f"hidden_size {C} is not a multiple of num_attention_heads {H}")
    return C // H


def whole_sizes(c: Values) -> Heads:
    """The same of a family whose heads divide the width of the model: others are not computed."""
    C, H, D = c.hidden_size, c.num_attention_heads, c.given.get("head_dim")
    if isinstance(D, int) and D * H != C:
        c.uncomputed.append(f"head_dim {D}, which is not hidden_size {C} by {H} heads,")
    return sizes(c)


def groups(c: Values, H: Any, K: Any) -> Any:
    """Queries to each of K keys.

    Raises:
        InputError: they do not share alike.
    """
    if H % K != 0:
        raise c.error(f"num_attention_heads {H} is not a multiple of num_key_value_heads {K}")
    return H // K


def norm(c: Values, name: str, kind: Any = RMSNorm, width: Any = None) -> Part:
    return part(kind, name, width=width or c.hidden_size, epsilon=c.rms_norm_eps)


def layer_norm(c: Values, name: str) -> Part:
    return part(LayerNorm, name, width=c.hidden_size, epsilon=c.layer_norm_eps)


def heads_norms(c: Values) -> dict[str, Part]:
    """Of queries and of keys, over all heads of a token together."""
    _, K, G, D = sizes(c)
    widths = {"q_norm": K * G * D, "k_norm": K * D}
    return {name: norm(c, name, HeadsNorm, width) for name, width in widths.items()}


def attention(c: Values, qkv_bias: bool, out_bias: bool, **others: Any) -> Part:
    C, K, G, D = h = sizes(c)
    usual = {
        "heads": h,
        "qkv": part(Apart, heads=h, bias=qkv_bias),
        "attend": part(Attend, scale=D**-0.5),
        "out": part(Projection, "o_proj", width=K * G * D, out=C, bias=out_bias),
    }
    if "rope" not in others:
        usual["rope"] = read_rope(c, D)
    return part(Attention, "self_attn", **{**usual, **others})


def gated(c: Values, name: str = "mlp", F: Any = None, kind: Any = Gated, **others: Any) -> Part:
    F, act = F or c.intermediate_size, activation(c, "hidden_act")
    return part(kind, name, C=c.hidden_size, F=F, act=act, **others)


def pre_norm(c: Values, mixer: Part, feed_forward: Part, **others: Any) -> Part:
    return part(
        Block,
        before_mixer=norm(c, "input_layernorm"),
        mixer=mixer,
        before_feed_forward=norm(c, "post_attention_layernorm"),
        feed_forward=feed_forward,
        **others,
    )


def table(c: Values, name: str) -> Part:
    return part(Embedding, name, rows=c.vocab_size, width=c.hidden_size)


def positions(c: Values, name: str, offset: int = 0) -> Part:
    rows, C = c.max_position_embeddings, c.hidden_size
    return part(Positions, name, rows=rows, width=C, offset=offset)


def decoder(c: Values, layers: list[Part], **others: Any) -> Part:
    """A decoder of these layers, by the names of Llama.

    Raises:
        InputError: the file gives kinds for another number of layers.
    """
    if len(layers) != c.num_hidden_layers:
        what = f"the kinds of {len(layers)} layers are given, and num_hidden_layers is"
        raise c.error(f"{what} {c.num_hidden_layers}: they must be as many")
    usual = {
        "embedding": table(c, "model.embed_tokens"),
        "layers": tuple(layers),
        "path": "model.layers",
        "norm": others.get("norm") or norm(c, "model.norm"),
        "head": None if c.tie_word_embeddings else "lm_head",
    }
    return part(Decoder, **{**usual, **others})


def per_kind(make: Callable[[K], Made], kinds: Sequence[K]) -> list[Made]:
    """What is made of each, once of those that are equal: thousands of layers are a few parts."""
    made = {kind: make(kind) for kind in dict.fromkeys(kinds)}
    return [made[kind] for kind in kinds]


def layers(c: Values) -> range:
    return range(c.num_hidden_layers)


def kinds(c: Values, full_each: int, other: str = "sliding_attention") -> list[str]:
    """The kind of each layer: where a file is silent, one in `full_each` looks at everything."""
    usual = [other if (i + 1) % full_each else "full_attention" for i in layers(c)]
    return said_kinds(c, usual, other)


def said_kinds(c: Values, usual: list[str], other: str = "sliding_attention") -> list[str]:
    """The kinds of layers that a file says, or the usual ones where it is silent.

    Raises:
        InputError: one is neither of full attention nor of the other kind of its family.
    """
    found: list[str] = c.layer_types or usual
    if unknown := set(found) - {"full_attention", other}:
        known = f"'full_attention' and {other!r}"
        raise c.error(f"layer_types has {shown(min(unknown))}; computed are {known}")
    return found


def reach(width: Any) -> Reach:
    """Of a window, or of none."""
    return EVERYTHING if width is None else Window(width)


def by_kind(c: Values, kind: str) -> Reach:
    c.unused("sliding_window")  # said too where all layers look at everything
    return reach(c.sliding_window if kind == "sliding_attention" else None)
