"""The witnesses of decoders of any family, and what is published about them held against execution.

They are those of `verify`. Configurations are drawn that differ from a model by sizes alone. Where
tokens meet experts, data say which, and shapes assume it: there the operations must agree, not the
bytes of the experts' weights.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from counting import ShapeArray, scalars
from counting.views import matmul
from minigpt.errors import InputError
from minigpt.formulas.closed_forms import Formulas
from minigpt.formulas.components import Roles
from minigpt.formulas.figures import figures, kv_bytes_per_token
from minigpt.formulas.layers import kinds, setting
from minigpt.formulas.other_counters import decoder_torch_flops
from minigpt.formulas.symbols import groups_of, met, sizes, with_sizes
from minigpt.models.decoder_config import DecoderConfig
from minigpt.planning.forward import Forward, Make, Pass, forward


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


def numbers(case: DecoderCase) -> Make:
    """A maker of random arrays, the same for the same case."""
    rng, vocabulary = np.random.default_rng(0), case.config.vocab_size

    def make(shape: Any, dtype: Any) -> np.ndarray:
        if dtype is np.int64:
            return rng.integers(vocabulary, size=shape)
        return rng.standard_normal(shape).astype(dtype)

    return make


def oracle(case: DecoderCase) -> dict[str, tuple[Any, Any]]:
    """Operations by kind: of the ledger, and of scalars that were really executed."""
    tally: Counter[str] = Counter()
    random_numbers = numbers(case)

    def make(shape: Any, dtype: Any) -> np.ndarray:
        array = random_numbers(shape, dtype)
        return array if dtype is np.int64 else scalars(array, tally)

    cost = case.run(make).counts.cost.by_kind()
    return {kind: (cost[kind], tally[kind]) for kind in cost}


def shapes(case: DecoderCase) -> dict[str, tuple[Any, Any]]:
    """Of a run on numbers and of one on shapes: operations; and bytes, but for experts met."""
    real, shaped = case.run(numbers(case)), case.run()
    pairs = {k: (real.counts.cost[k], v) for k, v in shaped.counts.cost.items()}
    if not case.config.experts:
        pairs |= {str(k): (real.counts.get(k), row) for k, row in shaped.counts.items()}
        pairs |= {k: (real.peak[k], v) for k, v in shaped.peak.items()}
    return pairs


def closed(case: DecoderCase, form: Formulas) -> dict[str, tuple[Any, Any]]:
    """Every figure of a run on shapes, of 16 bits, and its closed form evaluated."""
    config, at = case.config, replace(case.sizes, dtype="float16")
    told = figures(forward(config, at), at, config.parameters, form.of.roles)
    told |= kv_bytes_per_token(config, at)
    values = case.numbers | met(config, case.B * case.T)
    evaluated = form.at(**values)
    return {key: (told[key], value) for key, value in evaluated.items()}


def torch_flop(case: DecoderCase) -> dict[str, tuple[Any, Any]]:
    """Matmul FLOP, and what FlopCounterMode counts on the model of transformers.

    Of cached latents transformers makes keys and values anew in each pass: so does what it is held
    against, a pass that caches these, and as many again for each that was cached.
    """
    config = _as_transformers_asks(case)
    whole = Pass(case.T, case.N, case.B)  # all logits: theirs has no others
    if not config.latent_cache:
        ours = matmul(forward(config, whole).counts)
    else:
        counts = forward(config, replace(whole, cache="expanded")).counts
        made = matmul(counts.by(Roles.of(config).part_of)["latents"])
        ours = matmul(counts) + made * case.N // case.T
    return {"FLOP": (ours, decoder_torch_flops(config, whole))}


def _as_transformers_asks(case: DecoderCase) -> DecoderConfig:
    """A model that is a multiple of its heads wide, or as wide where no width of theirs is said."""
    known, base = dict(case.values), case.base
    if case.config is base or "d" not in known:
        return case.config
    heads = known["H"] if "H" in known else known["K"] * known["G"]
    said = "head_dim" in base.given or "head_dim" in base.family.defaults
    times = known["D"] if "D" in known and not said else known["d"]
    return with_sizes(base, known | {"d": heads * times})


Compare = Callable[[DecoderCase], Mapping[str, tuple[Any, Any]]]
