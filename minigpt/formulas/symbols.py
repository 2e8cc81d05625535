"""The letters of each family: a configuration whose sizes are symbols, and what their values are.

A reader of a config.json multiplies and divides sizes, and no more, so it takes symbols for them.
One layer of each kind runs, and counts as often as a symbol says. How often one runs is known: that
is control flow, as are the experts that a token meets, A; `closed_forms` finds the line in A.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import sympy
from sympy import Symbol

from minigpt.errors import InputError
from minigpt.formulas.components import Roles, within
from minigpt.formulas.layers import (
    kinds,
    numbers,
    one_of_each,
    remembered,
    setting,
    sparse,
    spelled,
    windowed,
)
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.delta import GatedDeltaNet
from minigpt.models.description import Part
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.latent import LatentAttention
from minigpt.models.parts import Positions
from minigpt.models.rope import Rope
from minigpt.models.routing import Assumption, expected

SYMBOLS = {
    "B": "sequences in the batch",
    "T": "new tokens of each sequence",
    "N": "tokens of each sequence already in the cache",
    "L": "layers",
    "H": "attention heads",
    "D": "width of a head; the model is d = H D wide",
    "F": "width of the feed-forward layer",
    "V": "tokens in the vocabulary",
    "C": "positions of the context",
}
# Sizes are whole numbers of 1 or more; only the cache may be empty.
LETTERS = {
    name: Symbol(name, integer=True, nonnegative=True, positive=None if name == "N" else True)
    for name in SYMBOLS
}
B, T, N, L, H, D, F, V, C = LETTERS.values()
d, S = sympy.symbols("d S", integer=True, positive=True)

DECODERS = SYMBOLS | {
    "d": "width of the model",
    "K": "key-value heads, each read by G query heads",
    "G": "query heads to each key-value head",
    "D": "width of a head",
    "W": "positions that a window sees, a query's own included",
    "R": "width of the latents of keys and values",
    "Q": "width of the latents of queries",
    "D_nope": "width of a head's queries and keys without position",
    "D_rope": "their width with position",
    "D_v": "width of a head's values",
    "E": "experts of a layer",
    "A": "experts that a token meets",
    "M": "width of an expert",
    "M_shared": "width of the expert that all tokens meet",
    "U": "different experts of a layer that are met, whose weights are read: A for one token; an "
    "expectation for more, E (1 - (1 - A/E)**(B T)), if choices are even and independent",
    "L_full": "layers that look at all positions",
    "L_window": "layers that look through the window",
    "L_dense": "layers with one feed-forward for all tokens",
    "L_experts": "layers with experts",
    "L_turned": "layers with rotary positions",
    "L_unturned": "layers without positions",
}
EVEN = ("D", "D_rope")  # pairs of numbers are turned


def letter(name: str) -> Symbol:
    """The symbol of a name in `DECODERS`, or of the number of layers of another kind."""
    if name in EVEN:
        return Symbol(name, integer=True, positive=True, even=True)
    return LETTERS.get(name, Symbol(name, integer=True, positive=True))


@dataclass(frozen=True, eq=False)
class Symbolic:
    """A configuration on symbols.

    Attributes:
        legend: what each letter stands for; the letters that it may use.
        times: by the path of a layer, how many layers it stands for.
        of: the configuration that it was made of.
    """

    config: Config
    legend: Mapping[str, str]
    times: Mapping[str, Any]
    of: Config

    @cached_property
    def letters(self) -> dict[str, Symbol]:
        """The symbol of each name."""
        return {name: LETTERS[name] if self.gpt2 else letter(name) for name in self.legend}

    @property
    def gpt2(self) -> bool:
        return isinstance(self.of, GPT2Config)

    @cached_property
    def roles(self) -> Roles:
        """What each path is for."""
        if isinstance(self.config, DecoderConfig):
            return Roles.of(self.config)
        return Roles.gpt2()

    @property
    def groups(self) -> Any:
        """The groups that experts are chosen by: E is a multiple of it."""
        return groups_of(self.of) if isinstance(self.of, DecoderConfig) else 1

    def in_groups(self, expr: Any) -> Any:
        """What was found with E experts in each group, for E in all."""
        return expr if self.groups == 1 else expr.xreplace({letter("E"): letter("E") / self.groups})

    def meeting(self, met: int) -> Config:
        """The configuration of which a token meets so many experts."""
        assert isinstance(self.config, DecoderConfig)
        assert isinstance(self.of, DecoderConfig)
        return _on_symbols(self.of, num_experts_per_tok=met)


@remembered(256)
def symbolic(config: Config) -> Symbolic:
    """The symbols of a model's architecture; sizes do not matter, only which there are."""
    if isinstance(config, GPT2Config):
        width = None if config.n_inner is None else F
        sizes: dict[str, Any] = {"vocab_size": V, "n_positions": C, "n_embd": H * D}
        block = replace(config, **sizes, n_layer=1, n_head=H, n_inner=width)
        return Symbolic(block, SYMBOLS, {"h.0": L}, config)
    assert isinstance(config, DecoderConfig)
    possible(config)
    named, times = values(config), numbers(config)
    stand_for = {f"{config.decoder['path']}.{i}": letter(word) for i, word in enumerate(times)}
    used = {s for value in named.values() for s in value.free_symbols}
    names = {str(s) for s in used} | {"B", "T", "N", *times}
    if config.experts:
        names |= {"A", "U"}
    if partial(config):
        names.add("D_rope")
    legend = {name: meaning for name, meaning in DECODERS.items() if name in names}
    if (groups := groups_of(config)) > 1:
        legend["E"] += f", in {groups} groups"
    if "G" not in names and "K" in names:
        legend["K"] = "attention heads, each with keys and values of its own"
    legend |= {word: f"layers of kind {word[2:]}" for word in times if word not in legend}
    return Symbolic(_on_symbols(config), legend, stand_for, config)


def _on_symbols(config: DecoderConfig, **more: int) -> DecoderConfig:
    """A layer of each kind, of symbolic sizes."""
    few = one_of_each(config)
    alike = few.but(**spelled(few, values(config)), **more)
    both = zip(few.blocks, alike.blocks, strict=True)
    return alike.of(tuple(_turned(block, of) for block, of in both))


def _turned(block: Part, alike: Part) -> Part:
    """A layer on symbols, told from those of another kind by what is left of its turns.

    A reader gives no turns for a symbolic width.
    """
    rope = setting(block["mixer"], "rope")
    if not isinstance(rope, Rope):
        return alike
    width = letter("D_rope") if rope.partial else alike["mixer"]["rope"].width
    left = replace(rope, width=width, frequencies=rope.frequencies[-1:])
    return alike.but(mixer=alike["mixer"].but(rope=left))


def _joined(config: DecoderConfig) -> bool:
    """Whether the width of a model is that of its heads together, whatever their own is said to be.

    It is tried: a model twice as wide, its heads as wide as before.
    """
    if "head_dim" in config.family.defaults:
        return False
    mixer = config.blocks[0]["mixer"]
    C, _, _, D = mixer["heads"]
    try:
        wider = config.but(**_as_wide(config, 2 * C), head_dim=D).blocks[0]["mixer"]
    except InputError:  # its reader takes no others
        return True
    return bool(wider["out"]["width"] != mixer["out"]["width"])


def possible(config: DecoderConfig) -> None:
    """Raises InputError where a model has no closed forms."""
    for mixer in (block["mixer"] for block in kinds(config)):
        if mixer.kind is GatedDeltaNet:
            raise InputError(
                f"{config.family.model_type} takes a prompt through linear attention in chunks of "
                f"{mixer['chunk']} tokens, and has no closed forms; minigpt count says what it "
                "costs, in numbers"
            )


def _as_wide(config: DecoderConfig, C: Any) -> dict[str, Any]:
    """The keys that a config.json has for the width of a model."""
    also = {"word_embed_proj_dim": C} if "word_embed_proj_dim" in config.given else {}
    return spelled(config, {"hidden_size": C, **also})


def _one_key(config: DecoderConfig) -> bool:
    """Whether all heads share the keys of one, whatever a config.json says of their number.

    It is tried: twice as many of both, in a model twice as wide.
    """
    H = 2 * config.num_attention_heads
    more = {"num_attention_heads": H, "num_key_value_heads": H}
    wider = _as_wide(config, 2 * config.hidden_size)
    return bool(config.but(**wider, **spelled(config, more)).blocks[0]["mixer"]["heads"].K != H)


def partial(config: DecoderConfig) -> Any:
    """The rotary positions that turn a part of a head; None if none do."""
    ropes = (setting(block["mixer"], "rope") for block in kinds(config))
    return next((rope for rope in ropes if getattr(rope, "partial", False)), None)


@lru_cache(maxsize=256)
def groups_of(config: DecoderConfig) -> int:
    """The groups that experts are chosen by; one if they are not."""
    found = (part for block in kinds(config) for part in within(block))
    routers = [part["router"] for part in found if "router" in dict(part.settings)]
    return next((int(r["groups"]) for r in routers if "groups" in dict(r.settings)), 1)


@remembered(256)
def values(config: DecoderConfig) -> dict[str, Any]:
    """By key of a config.json, the symbols of its sizes."""
    few = one_of_each(config)
    mixers = [block["mixer"] for block in few.blocks]
    named: dict[str, Any] = {"vocab_size": V, "hidden_size": d}
    if mixers[0].kind is LatentAttention:
        named |= {"num_attention_heads": H, "kv_lora_rank": letter("R")}
        named |= {"qk_nope_head_dim": letter("D_nope"), "qk_rope_head_dim": letter("D_rope")}
        named |= {"v_head_dim": letter("D_v")}
        idle = {"num_key_value_heads": H, "head_dim": letter("D_rope")}  # of use to others alone
        named |= {key: symbol for key, symbol in idle.items() if key in config.given}
        if config.q_lora_rank is not None:
            named["q_lora_rank"] = letter("Q")
    else:
        one, (_, _, G, _) = _one_key(few), mixers[0]["heads"]
        heads = H if one else letter("K") * (1 if G == 1 else letter("G"))
        named |= {"num_attention_heads": heads} | (
            {} if one else {"num_key_value_heads": letter("K")}
        )
        named |= {"hidden_size": heads * letter("D")} if _joined(few) else {"head_dim": letter("D")}
    named |= _as_wide(config, named["hidden_size"])
    if any(windowed(block) for block in few.blocks):
        named["sliding_window"] = letter("W")
    if config.experts:
        own = "moe_intermediate_size" in config.given
        named["moe_intermediate_size" if own else "intermediate_size"] = letter("M")
        latent = mixers[0].kind is LatentAttention
        named["n_routed_experts" if latent else "num_experts"] = groups_of(config) * letter("E")
    if "shared_expert_intermediate_size" in config.given:
        named["shared_expert_intermediate_size"] = letter("M_shared")
    if not all(map(sparse, few.blocks)) and config.intermediate_size is not None:
        named["intermediate_size"] = F
    if any(part.kind is Positions for part in within(few.decoder)):
        named["max_position_embeddings"] = C
    return named


def sizes(config: Config) -> dict[str, Any]:
    """The value of each symbol of a configuration."""
    if isinstance(config, GPT2Config):
        return {
            "L": config.n_layer,
            "H": config.n_head,
            "D": config.head_dim,
            "F": config.ffn_dim,
            "V": config.vocab_size,
            "C": config.n_positions,
        }
    assert isinstance(config, DecoderConfig)
    possible(config)
    found: dict[str, Any] = dict(numbers(config))
    mixer = config.blocks[0]["mixer"]
    if mixer.kind is not LatentAttention:
        _, K, G, D = mixer["heads"]
        found |= {"K": K, "G": G, "D": D}
    if turning := partial(config):
        found["D_rope"] = turning.width
    for key, symbol in values(config).items():
        if isinstance(symbol, Symbol) and str(symbol) not in found:
            found[str(symbol)] = getattr(config, key)
    if config.experts:
        found |= {"E": config.experts.n_routed_experts, "A": config.experts.num_experts_per_tok}
    return found


def met(config: Config, tokens: int, assume: Assumption = expected) -> dict[str, int]:
    """The value of U: how many experts of a layer `tokens` tokens meet, by an assumption."""
    experts = config.experts
    if experts is None:
        return {}
    return {"U": len(assume(experts, tokens).segments)}
