"""Small models of the architecture of another, drawn: other sizes, the same kinds of layers."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from counting import ShapeArray
from minigpt.errors import InputError
from minigpt.formulas.layers import kinds, numbers, setting, so_many, spelled
from minigpt.formulas.symbols import groups_of, letter, sizes, values
from minigpt.models.decoder_config import DecoderConfig
from minigpt.planning.forward import Forward, Make, Pass, forward


def with_sizes(config: DecoderConfig, at: Mapping[str, int]) -> DecoderConfig:
    """The same architecture at other sizes, as a config.json of its own.

    Tokens that have a meaning have none there: a vocabulary may be smaller than their numbers.

    Args:
        at: the value of each letter, as `sizes` gives it.

    Raises:
        InputError: a model cannot have these.
    """
    of = {letter(name): value for name, value in at.items()}
    of[letter("E")] = at.get("E", 1) // groups_of(config)
    said = {key: int(expr.xreplace(of)) for key, expr in values(config).items()}
    if config.experts:
        said["num_experts_per_tok"] = at["A"]
    said |= so_many(config, (at[word] for word in numbers(config)))
    special = [key for key in config.given if key.endswith("_token_id")]
    none = dict.fromkeys((*special, "bos_token_id", "eos_token_id", "pad_token_id"))
    return config.but(**spelled(config, said), **none)


@dataclass(frozen=True)
class DecoderCase:
    """One forward pass of a decoder, by the symbols of `formulas`, and which logits."""

    base: DecoderConfig
    values: tuple[tuple[str, int], ...]
    B: int
    T: int
    N: int
    logits: str = "all"

    def __str__(self) -> str:
        return f"{self.numbers}, logits {self.logits}"

    @cached_property
    def config(self) -> DecoderConfig:
        same = dict(self.values) == sizes(self.base)
        return self.base if same else with_sizes(self.base, dict(self.values))

    @property
    def numbers(self) -> dict[str, Any]:
        return {"B": self.B, "T": self.T, "N": self.N, **dict(self.values)}

    @property
    def sizes(self) -> Pass:
        return Pass(self.T, self.N, self.B, self.logits, "float32")

    def run(self, make: Make = ShapeArray) -> Forward:
        return forward(self.config, self.sizes, make)

    def smaller(self) -> Iterator["DecoderCase"]:
        """Cases with a shorter pass, the shortest first."""
        for name, least in (("N", 0), ("T", 1), ("B", 1)):
            size = getattr(self, name)
            for less in sorted({least, (least + size) // 2, size - 1}):
                if least <= less < size:
                    changed: Any = {name: less}
                    yield replace(self, **changed)


def draw(base: DecoderConfig, rng: random.Random) -> DecoderCase:
    """A small configuration of the same architecture, and a pass.

    Sizes are drawn until the family's reader takes them and no two kinds of `base` have become one,
    as turns of two kinds do where a head has a single pair.
    """
    while True:
        drawn = _drawn(base, rng)
        try:
            made = with_sizes(base, drawn)
        except InputError:
            continue
        if _apart(made) == _apart(base):
            break
    B, T, N = rng.randint(1, 2), rng.randint(1, 4), rng.randint(0, 5)
    return DecoderCase(base, tuple(sizes(made).items()), B, T, N, rng.choice(("all", "last")))


def _drawn(base: DecoderConfig, rng: random.Random) -> dict[str, int]:
    known, several = sizes(base), len(kinds(base)) > 1
    of = {"V": (2, 9), "W": (2, 6), "C": (9, 12)}  # a pass has 9 positions at most
    of |= {name: (1, 2 if several else 3) for name in known if name.startswith("L")}
    found = {name: rng.randint(*of.get(name, (1, 3))) for name in known}
    turned = "D_rope" in known and "D" in known  # a part of each head, in pairs: it must be wide
    for name in known:
        if name.startswith("D") or name == "R":  # transformers turns pairs beside latents
            found[name] = 2 * rng.randint(1, 6 if turned else 3)
    if known.get("G") == 1:  # keys and values of its own for each head
        found["G"] = 1
    if base.experts:
        groups = groups_of(base)
        found["E"] = groups * rng.randint(2, max(2, 8 // groups))
        found["A"] = rng.randint(1, 3)
    return found


def _apart(config: DecoderConfig) -> tuple[int, int, int]:
    """How many kinds of layers there are, of turns and of reaches."""
    mixers = [block["mixer"] for block in config.blocks]
    seen = ({setting(mixer, name) for mixer in mixers} for name in ("rope", "reach"))
    return (len(set(config.blocks)), *(len(found) for found in seen))  # type: ignore[return-value]
