"""What the configurations of all models say."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from minigpt.models.paths import layer_number
from minigpt.models.routing import Experts

Shapes = dict[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Config(ABC):
    """The sizes of a model. The keys of its config.json are attributes, in that model's words.

    Attributes:
        vocab_size: the number of tokens that there are.
        eos_token_id: the token that ends a text, or several.
        tie_word_embeddings: whether the head is the table of the token embedding.
        uncomputed: what its config.json asks for and no model here computes, in words; sizes and
            FLOP do not depend on it.
    """

    vocab_size: Any
    eos_token_id: int | tuple[int, ...] | None = None
    tie_word_embeddings: bool = False
    uncomputed: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    @abstractmethod
    def n_positions(self) -> Any:
        """The longest context."""

    @property
    @abstractmethod
    def layers(self) -> Any:
        """The number of blocks."""

    @property
    @abstractmethod
    def width(self) -> Any:
        """Numbers that a token is between two blocks."""

    @property
    @abstractmethod
    def kv_heads(self) -> Any:
        """Heads that a cache holds, so parts it can be divided into; latents are one."""

    @property
    def state_heads(self) -> Any:
        """Heads that a state is kept for, so parts it can be divided into; 0 where none is."""
        return 0

    @property
    def windows(self) -> tuple[Any, ...]:
        """How many positions each layer looks back through; None where it looks at everything."""
        return (None,) * self.layers

    @property
    def sums(self) -> tuple[int, ...]:
        """How often GPUs that divide the products of a layer must add up their parts, of each."""
        return (2,) * self.layers

    @property
    def latent_cache(self) -> bool:
        """Whether a cache can hold latents, or the keys and values that are made of them."""
        return False

    @property
    def experts(self) -> Experts | None:
        """What it says of its experts; None without a mixture of them."""
        return None

    @abstractmethod
    def but(self, **values: Any) -> Self:
        """The configuration of a config.json that says these instead."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """What a config.json that says the same has, by key."""

    def tied(self, tied: bool) -> Self:
        """The same model with its head tied to the token embedding, or apart."""
        return self if tied == self.tie_word_embeddings else self.but(tie_word_embeddings=tied)

    @abstractmethod
    def short(self) -> tuple[Self, tuple[int, ...]]:
        """The same model with a layer of each kind, and for each of its own the one there."""

    def times(self) -> Callable[[str], int]:
        """A function of a path in the short model: how many layers that path stands for."""
        times = Counter(self.short()[1])

        def of(path: str) -> int:
            number = layer_number(path)
            return 1 if number is None else times[number]

        return of

    @abstractmethod
    def shapes(self) -> Shapes:
        """The shape of every tensor of a checkpoint, by its key."""

    @cached_property
    def parameters(self) -> Any:
        """The number of parameters; a tied head counts once, biases of a routing are included."""
        shapes, times = self.short()[0].shapes(), self.times()
        return sum(times(key) * math.prod(shape) for key, shape in shapes.items())

    def layout(self, key: str, ndim: int) -> str | None:
        """How a model multiplies by a weight of `ndim` dimensions.

        Returns:
            "columns" for `x @ w`, "rows" for `x @ w.T`, None if it does not.
        """
        return "rows" if ndim == 2 else None
