"""The letters of each family: a configuration whose sizes are symbols, and what their values are.

A reader of a config.json multiplies and divides sizes, and no more, so it takes symbols for them.
One layer of each kind runs, and counts as often as a symbol says. How often one runs is known: that
is control flow, as are the experts that a token meets, A; `closed_forms` finds the line in A.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sympy
from sympy import Symbol

from minigpt.errors import InputError
from minigpt.formulas.components import Roles, within
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.delta import GatedDeltaNet
from minigpt.models.description import Part
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.latent import LatentAttention
from minigpt.models.parts import Positions
from minigpt.models.reach import Window
from minigpt.models.rope import Rope
from minigpt.models.routing import Assumption, expected
from minigpt.models.values import ALIASES

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


@dataclass(frozen=True)
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
        return _groups(self.of) if isinstance(self.of, DecoderConfig) else 1

    def in_groups(self, expr: Any) -> Any:
        """What was found with E experts in each group, for E in all."""
        return expr if self.groups == 1 else expr.subs(letter("E"), letter("E") / self.groups)

    def meeting(self, met: int) -> Config:
        """The configuration of which a token meets so many experts."""
        assert isinstance(self.config, DecoderConfig)
        assert isinstance(self.of, DecoderConfig)
        return _short(self.of, self.config.but(num_experts_per_tok=met))


def symbolic(config: Config) -> Symbolic:
    """The symbols of a model's architecture; sizes do not matter, only which there are."""
    if isinstance(config, GPT2Config):
        width = None if config.n_inner is None else F
        sizes: dict[str, Any] = {"vocab_size": V, "n_positions": C, "n_embd": H * D}
        block = replace(config, **sizes, n_layer=1, n_head=H, n_inner=width)
        return Symbolic(block, SYMBOLS, {"h.0": L}, config)
    assert isinstance(config, DecoderConfig)
    _possible(config)
    named = _values(config)
    short = _short(config, config.but(**_spelled(config, named)))
    words = list(_layers(config))
    times = {f"{config.decoder['path']}.{i}": letter(word) for i, word in enumerate(words)}
    used = {s for value in named.values() for s in value.free_symbols}
    names = {str(s) for s in used} | {"B", "T", "N", *words}
    if config.experts:
        names |= {"A", "U"}
    if _partial(config):
        names.add("D_rope")
    legend = {name: meaning for name, meaning in DECODERS.items() if name in names}
    if (groups := _groups(config)) > 1:
        legend["E"] += f", in {groups} groups"
    if "G" not in names and "K" in names:
        legend["K"] = "attention heads, each with keys and values of its own"
    legend |= {word: f"layers of kind {word[2:]}" for word in words if word not in legend}
    return Symbolic(short, legend, times, config)


def _short(config: DecoderConfig, whole: DecoderConfig) -> DecoderConfig:
    """A layer of each kind of `config`, out of the same model on symbols.

    A reader gives no turns for a symbolic width: what is left of them tells one kind from another.
    """
    kinds = dict(zip(reversed(config.blocks), reversed(whole.blocks), strict=True))
    blocks = []
    for block in dict.fromkeys(config.blocks):
        alike, rope = kinds[block], _setting(block["mixer"], "rope")
        if isinstance(rope, Rope):
            width = letter("D_rope") if rope.partial else alike["mixer"]["rope"].width
            turned = replace(rope, width=width, frequencies=rope.frequencies[-1:])
            alike = alike.but(mixer=alike["mixer"].but(rope=turned))
        blocks.append(alike)
    return whole.of(tuple(blocks))


def _possible(config: DecoderConfig) -> None:
    """Raises InputError where a model has no closed forms."""
    for mixer in (block["mixer"] for block in config.blocks):
        if mixer.kind is GatedDeltaNet:
            raise InputError(
                f"{config.family.model_type} takes a prompt through linear attention in chunks of "
                f"{mixer['chunk']} tokens, and has no closed forms; minigpt count says what it "
                "costs, in numbers"
            )
        if mixer.kind is not LatentAttention and "head_dim" not in config.family.defaults:
            found = config.but(head_dim=2 * mixer["heads"].D).blocks[0]["mixer"]
            if found["out"]["width"] == mixer["out"]["width"]:
                raise InputError(
                    f"{config.family.model_type} takes the width of a model for that of its heads, "
                    "and has no closed forms; minigpt count says what it costs, in numbers"
                )


def _setting(part: Part, name: str) -> Any:
    return dict(part.settings).get(name)


def _partial(config: DecoderConfig) -> Any:
    """The rotary positions that turn a part of a head; None if none do."""
    ropes = (_setting(block["mixer"], "rope") for block in config.blocks)
    return next((rope for rope in ropes if getattr(rope, "partial", False)), None)


def _groups(config: DecoderConfig) -> int:
    found = (p for block in config.blocks for p in within(block))
    routers = [p["router"] for p in found if "router" in dict(p.settings)]
    return next((int(r["groups"]) for r in routers if "groups" in dict(r.settings)), 1)


def _values(config: DecoderConfig) -> dict[str, Any]:
    """By key of a config.json, the symbols of its sizes."""
    mixers = [block["mixer"] for block in config.blocks]
    named: dict[str, Any] = {"vocab_size": V, "hidden_size": d}
    if mixers[0].kind is LatentAttention:
        named |= {"num_attention_heads": H, "kv_lora_rank": letter("R")}
        named |= {"qk_nope_head_dim": letter("D_nope"), "qk_rope_head_dim": letter("D_rope")}
        named |= {"v_head_dim": letter("D_v")}
        if config.q_lora_rank is not None:
            named["q_lora_rank"] = letter("Q")
    else:
        _, _, G, _ = mixers[0]["heads"]
        heads = letter("K") * (1 if G == 1 else letter("G"))
        named |= {"num_attention_heads": heads, "num_key_value_heads": letter("K")}
        named["head_dim"] = letter("D")
    if any(isinstance(_reach(mixer), Window) for mixer in mixers):
        named["sliding_window"] = letter("W")
    if config.experts:
        own = "moe_intermediate_size" in config.given
        named["moe_intermediate_size" if own else "intermediate_size"] = letter("M")
        latent = mixers[0].kind is LatentAttention
        named["n_routed_experts" if latent else "num_experts"] = _groups(config) * letter("E")
    if "shared_expert_intermediate_size" in config.given:
        named["shared_expert_intermediate_size"] = letter("M_shared")
    if "L_dense" in _layers(config) or not config.experts:
        named["intermediate_size"] = F
    if any(part.kind is Positions for part in within(config.decoder)):
        named["max_position_embeddings"] = C
    return named


def _spelled(config: DecoderConfig, named: Mapping[str, Any]) -> dict[str, Any]:
    """The same under the names that its config.json has for them."""
    other = {ALIASES[key]: key for key in config.given if key in ALIASES}
    return {other.get(key, key): value for key, value in named.items()}


def _reach(mixer: Part) -> Any:
    return _setting(mixer, "reach")


def _layers(config: DecoderConfig) -> dict[str, int]:
    """How many layers there are of each kind, by the name of their number."""
    kinds = Counter(config.blocks)
    if len(kinds) == 1:
        return {"L": len(config.blocks)}
    said: dict[str, Callable[[Part], bool]] = {
        "window": lambda b: isinstance(_reach(b["mixer"]), Window),
        "experts": lambda b: any("router" in dict(p.settings) for p in within(b)),
        "turned": lambda b: isinstance(_setting(b["mixer"], "rope"), Rope),
    }
    other = {"window": "full", "experts": "dense", "turned": "unturned"}
    for what, has in said.items():
        words = ["L_" + (what if has(block) else other[what]) for block in kinds]
        if len(set(words)) == len(words):
            return dict(zip(words, kinds.values(), strict=True))
    return {f"L_{i + 1}": number for i, number in enumerate(kinds.values())}


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
    _possible(config)
    found: dict[str, Any] = dict(_layers(config))
    mixer = config.blocks[0]["mixer"]
    heads = mixer["heads"] if mixer.kind is not LatentAttention else None
    if heads:
        found |= {"K": heads.K, "G": heads.G, "D": heads.D}
    if partial := _partial(config):
        found["D_rope"] = partial.width
    for key, symbol in _values(config).items():
        if isinstance(symbol, Symbol) and str(symbol) not in found:
            found[str(symbol)] = getattr(config, key)
    if config.experts:
        found |= {"E": config.experts.n_routed_experts, "A": config.experts.num_experts_per_tok}
    return found


def with_sizes(config: DecoderConfig, values: Mapping[str, int]) -> DecoderConfig:
    """The same architecture at other sizes.

    Args:
        values: of each letter but A's groups: E is a multiple of them; of each number of layers.

    Raises:
        InputError: a model cannot have these.
    """
    at = {letter(name): value for name, value in values.items()}
    at[letter("E")] = values.get("E", 1) // _groups(config)
    sizes = {key: int(expr.xreplace(at)) for key, expr in _values(config).items()}
    if config.experts:
        sizes["num_experts_per_tok"] = values["A"]
    whole = config.but(**_spelled(config, sizes))
    kinds = dict(zip(reversed(config.blocks), reversed(whole.blocks), strict=True))
    numbers = zip(dict.fromkeys(config.blocks), _layers(config), strict=True)
    return whole.of(tuple(kinds[b] for b, word in numbers for _ in range(values[word])))


def met(config: Config, tokens: int, assume: Assumption = expected) -> dict[str, int]:
    """The value of U: how many experts of a layer `tokens` tokens meet, by an assumption."""
    experts = config.experts
    if experts is None:
        return {}
    return {"U": len(set(assume(experts, tokens).reshape(-1).tolist()))}
