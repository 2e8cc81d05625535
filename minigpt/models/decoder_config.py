"""Configurations of the decoders that are made of parts: what a reader makes of a config.json."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

from counting import ShapeArray
from minigpt.models.config import Config, Shapes
from minigpt.models.delta import GatedDeltaNet
from minigpt.models.description import Array, Part, Shape, Tensors
from minigpt.models.experts import Choice, Experts
from minigpt.models.latent import LatentAttention
from minigpt.models.values import Values


@dataclass(frozen=True)
class Family:
    """A family of models: a reader, and what its config.json stands for where it is silent.

    Attributes:
        model_type: its name in a config.json.
        reader: the description of the decoder that a config.json is of.
        defaults: by key, where they are not those of most families, see `values.COMMON`.
        keys: what it has other names for, see `Values`.
    """

    model_type: str
    reader: Callable[[Values], Part]
    defaults: Mapping[str, Any] = field(hash=False)
    keys: Mapping[str, str] = field(hash=False)

    def __call__(self, **given: Any) -> "DecoderConfig":
        """The configuration that a config.json of these values is."""
        return self.read(given, self.model_type)

    def read(self, given: Mapping[str, Any], source: Any) -> "DecoderConfig":
        """The configuration in a config.json.

        Args:
            source: the file, for errors.

        Raises:
            InputError: it has values that cannot be, or asks for what no model here computes.
        """
        c = self.values(given, source)
        decoder = self.reader(c)
        vocabulary, end, tied = c.vocab_size, c.eos_token_id, c.tie_word_embeddings
        return DecoderConfig(
            vocab_size=vocabulary,
            eos_token_id=end,
            tie_word_embeddings=tied,
            uncomputed=c.all_uncomputed(),
            family=self,
            decoder=decoder,
            given=dict(given),
            source=source,
        )

    def values(self, given: Mapping[str, Any], source: Any) -> Values:
        """The values of a config.json, as attributes."""
        return Values(given, source, self.defaults, self.keys)


def family(
    model_type: str, keys: Mapping[str, str] = {}, **defaults: Any
) -> Callable[[Callable[[Values], Part]], Family]:
    """Makes a family of a reader, by the name that a config.json gives it."""
    return lambda reader: Family(model_type, reader, defaults, keys)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(Config):
    """A configuration, and the description of the decoder that it is of.

    The keys of its config.json are its attributes too, `config.hidden_size`: what the file says, or
    what its family takes where it is silent. For a symbolic run sizes are SymPy expressions.

    Attributes:
        family: of models.
        decoder: its description.
        given: the values of its config.json.
        source: the file, for errors.
        chosen: the numbers of its layers among those of the file; None is all of them.
    """

    family: Family
    decoder: Part = field(repr=False)
    given: Mapping[str, Any] = field(compare=False)
    source: Any = field(compare=False, repr=False)
    chosen: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_") or "given" not in vars(self):
            raise AttributeError(key)
        return getattr(self.family.values(self.given, self.source), key)

    @cached_property
    def keys(self) -> frozenset[str]:
        """What its family looks for in a config.json, whether this one has it or not."""
        c = self.family.values(self.given, self.source)
        self.family.reader(c)
        return frozenset(c.asked)

    def but(self, **values: Any) -> "DecoderConfig":
        found = self.family.read({**self.given, **values}, self.source)
        return found if self.chosen is None else found.with_layers(self.chosen)

    def values(self) -> dict[str, Any]:
        return {"model_type": self.family.model_type, **self.given}

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.family, self.decoder, self.eos_token_id))

    @property
    def n_positions(self) -> Any:
        return self.max_position_embeddings

    @property
    def layers(self) -> Any:
        return len(self.blocks)

    @property
    def width(self) -> Any:
        return self.hidden_size

    @property
    def blocks(self) -> tuple[Part, ...]:
        """The description of each layer."""
        blocks: tuple[Part, ...] = self.decoder["layers"]
        return blocks

    @property
    def kv_heads(self) -> Any:
        mixers = (dict(mixer.settings) for mixer in self._mixers)
        return 1 if self.latent_cache else max(m["heads"].K for m in mixers if "heads" in m)

    @property
    def state_heads(self) -> Any:
        return next((m["sizes"].K for m in self._mixers if m.kind is GatedDeltaNet), 0)

    @property
    def windows(self) -> tuple[Any, ...]:
        reaches = [dict(mixer.settings).get("reach") for mixer in self._mixers]
        widths = [getattr(reach, "width", None) for reach in reaches]
        return tuple(widths[i] for i in self.short()[1])

    @property
    def sums(self) -> tuple[int, ...]:
        few, alike = self.short()
        kinds: list[Any] = [block.kind for block in few.blocks]
        return tuple(kinds[i].sums for i in alike)

    @property
    def latent_cache(self) -> bool:
        return any(mixer.kind is LatentAttention for mixer in self._mixers)

    @cached_property
    def _mixers(self) -> list[Part]:
        """Those of the layers of `short`."""
        return [block["mixer"] for block in self.short()[0].blocks]

    @cached_property
    def experts(self) -> "RoutedExperts | None":
        few, alike = self.short()
        routed = [[p for p in _within(block) if p.kind is Experts] for block in few.blocks]
        first = next((found[0] for found in routed if found), None)
        if first is None:
            return None
        one = _shapes(first["experts"].but(count=1))
        each = sum(prod(shape) for shape, _ in one.values())
        choice: Choice = first["router"]["choice"]
        return RoutedExperts(*choice, sum(len(routed[i]) for i in alike), each)

    def short(self) -> tuple["DecoderConfig", tuple[int, ...]]:
        return self._short

    @cached_property
    def _short(self) -> tuple["DecoderConfig", tuple[int, ...]]:
        kinds: dict[Part, int] = {}
        alike = tuple(kinds.setdefault(block, len(kinds)) for block in self.blocks)
        return self.with_layers(tuple(map(alike.index, kinds.values()))), alike

    def with_layers(self, chosen: tuple[int, ...]) -> "DecoderConfig":
        """The same model with some of its layers alone, by number."""
        blocks = tuple(self.blocks[i] for i in chosen)
        before = self.chosen or range(self.layers)
        return replace(self.of(blocks), chosen=tuple(before[i] for i in chosen))

    def of(self, blocks: tuple[Part, ...]) -> "DecoderConfig":
        """The same model with other layers."""
        return replace(self, decoder=self.decoder.but(layers=blocks))

    def shapes(self) -> Shapes:
        return {key: shape for key, (shape, _) in self._asked.items()}

    def layout(self, key: str, ndim: int) -> str | None:
        return self._asked[key][1]

    @cached_property
    def _asked(self) -> dict[str, tuple[Shape, str | None]]:
        return _shapes(self.decoder)


@dataclass(frozen=True)
class RoutedExperts:
    """What a configuration says of its experts. See `routing.Experts`."""

    n_routed_experts: Any
    num_experts_per_tok: Any
    expert_layers: int
    expert_parameters: Any


def _shapes(part: Part) -> dict[str, tuple[Shape, str | None]]:
    """The shape and the use of every tensor that a part asks for."""
    asked = {}

    def note(key: str, shape: Shape, use: str | None) -> Array:
        asked[key] = shape, use
        return ShapeArray(shape)

    part(Tensors(note))
    return asked


def _within(part: Part) -> Iterator[Part]:
    """A part and all parts of it."""
    yield part
    for _, value in part.settings:
        if isinstance(value, Part):
            yield from _within(value)
