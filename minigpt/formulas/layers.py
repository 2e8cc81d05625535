"""The kinds of layers of a decoder: how many of each, and a config.json with other numbers."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

from minigpt.formulas.components import within
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.description import Part
from minigpt.models.reach import Window
from minigpt.models.rope import Rope

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class _Said:
    """A configuration, equal to another one where its config.json says the same too."""

    config: Config

    def __hash__(self) -> int:
        return hash(self.config)

    def __eq__(self, other: object) -> bool:
        return self._key() == cast(_Said, other)._key()

    def _key(self) -> tuple[Config, Any]:
        return self.config, getattr(self.config, "given", None)


def remembered(maxsize: int) -> Callable[[Function], Function]:
    """As `lru_cache`, of functions of a configuration that look at what its config.json says.

    Configurations are equal if they compute the same, though one file may say that its one head has
    keys of its own, and the other that all heads share keys: the letters are others.
    """

    def decorated(function: Function) -> Function:
        @lru_cache(maxsize)
        def known(said: _Said, *args: Any, **options: Any) -> Any:
            return function(said.config, *args, **options)

        @wraps(function)
        def found(config: Config, *args: Any, **options: Any) -> Any:
            return known(_Said(config), *args, **options)

        found.cache_clear = known.cache_clear  # type: ignore[attr-defined]
        return cast(Function, found)

    return decorated


def setting(part: Part, name: str) -> Any:
    """A setting of a part, None if it has none."""
    return dict(part.settings).get(name)


def windowed(block: Part) -> bool:
    return isinstance(setting(block["mixer"], "reach"), Window)


def turned(block: Part) -> bool:
    return isinstance(setting(block["mixer"], "rope"), Rope)


def sparse(block: Part) -> bool:
    return any("router" in dict(part.settings) for part in within(block))


# What tells two kinds apart: the name of one, of the other, and which it is.
NAMED: tuple[tuple[str, str, Callable[[Part], bool]], ...] = (
    ("L_window", "L_full", windowed),
    ("L_experts", "L_dense", sparse),
    ("L_turned", "L_unturned", turned),
)


@lru_cache(maxsize=256)
def kinds(config: DecoderConfig) -> dict[Part, int]:
    """How many layers there are of each kind, in the order in which they come first."""
    return dict(Counter(config.blocks))


@lru_cache(maxsize=256)
def numbers(config: DecoderConfig) -> dict[str, int]:
    """How many layers there are of each kind, by the letter of their number."""
    found = kinds(config)
    if len(found) == 1:
        return {"L": len(config.blocks)}
    for one, other, has in NAMED:
        words = [one if has(block) else other for block in found]
        if len(set(words)) == len(words):
            return dict(zip(words, found.values(), strict=True))
    return {f"L_{i + 1}": number for i, number in enumerate(found.values())}


def spelled(config: DecoderConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Values under the names that its config.json has for them."""
    found = config.family.values(config.given, config.source)
    return {found.spelled(name): value for name, value in values.items()}


def so_many(config: DecoderConfig, each: Iterable[int]) -> dict[str, Any]:
    """What a config.json says that has so many layers of each kind: one kind after another."""
    of = zip(kinds(config), each, strict=True)
    layers = [block for block, number in of for _ in range(number)]
    dense = [i for i, block in enumerate(layers) if not sparse(block)]
    said = {
        "num_hidden_layers": len(layers),
        "layer_types": [f"{'sliding' if windowed(b) else 'full'}_attention" for b in layers],
        "no_rope_layers": [int(turned(block)) for block in layers],
        "first_k_dense_replace": len(dense),
        "mlp_only_layers": dense,
        "decoder_sparse_step": 1,
    }
    return {key: value for key, value in said.items() if key in config.keys}


@remembered(256)
def one_of_each(config: DecoderConfig) -> DecoderConfig:
    """The same model with one layer of each kind."""
    return config.but(**spelled(config, so_many(config, [1] * len(kinds(config)))))
