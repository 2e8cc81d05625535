"""What the configurations of all models say, and the values of a config.json, each checked."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from minigpt.errors import InputError
from minigpt.models.routing import Experts

Shapes = dict[str, tuple[Any, ...]]
MANY = 10_000  # layers, or experts of one: more are a mistake, and would be listed one by one


@dataclass(frozen=True, kw_only=True)
class Config(ABC):
    """The sizes of a model. Its fields are the keys of its config.json, in that model's words."""

    vocab_size: Any
    eos_token_id: int | tuple[int, ...] | None = None  # the token that ends a text, or several
    tie_word_embeddings: bool = False  # whether the head is the table of the token embedding

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
    def latent_cache(self) -> bool:
        """Whether a cache can hold latents, or the keys and values that are made of them."""
        return False

    @property
    def experts(self) -> Experts | None:
        """What it says of its experts; None without a mixture of them."""
        return None

    @abstractmethod
    def short(self) -> Self:
        """The same model with as few layers as show all that a layer can be."""

    def tied(self, tie: bool) -> Self:
        """The same model whose head is the table of the token embedding, or is one of its own."""
        return replace(self, tie_word_embeddings=tie)

    @abstractmethod
    def shapes(self) -> Shapes:
        """The shape of every tensor of a checkpoint, by its key."""

    @property
    def parameters(self) -> Any:
        """The number of parameters; a tied head counts once, biases of a routing are included."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def layout(self, key: str, ndim: int) -> str | None:
        """How a model multiplies by a weight of `ndim` dimensions.

        Returns:
            "columns" for `x @ w`, "rows" for `x @ w.T`, None if it does not.
        """
        return "rows" if ndim == 2 else None


@dataclass(frozen=True)
class Values:
    """The values of a config.json, each checked when it is asked for.

    One that cannot be raises InputError, in a line that names the file and the key.

    Args:
        given: by key.
        source: the file, for errors.
    """

    given: Mapping[str, Any]
    source: Any

    def over(self, defaults: Mapping[str, Any]) -> "Values":
        """These, and `defaults` where one is missing."""
        return Values({**defaults, **self.given}, self.source)

    def without_null(self) -> "Values":
        """Those that are not null: there it stands for the default."""
        given = {name: value for name, value in self.given.items() if value is not None}
        return Values(given, self.source)

    def error(self, what: str) -> InputError:
        """The error of a value, to be raised."""
        return InputError(f"{self.source}: {what}")

    def sizes(self, *names: str, least: int = 1, most: int = 2**31 - 1) -> dict[str, int]:
        """Those of these names, which must all be there: whole numbers from `least` to `most`."""
        for name in names:
            if name not in self.given:
                raise self.error(f"{name} is missing")
            value = self.given[name]
            if type(value) is not int or not least <= value <= most:
                what = "a positive whole number" if least else "a whole number from 0"
                raise self.error(f"{name} is {value!r}; it must be {what} up to {most}")
        return {name: self.given[name] for name in names}

    def size_or_none(self, name: str, least: int = 1) -> int | None:
        """As `sizes`, one that may be null or missing."""
        return None if self.given.get(name) is None else self.sizes(name, least=least)[name]

    def numbers(self, *names: str, least: float, below: float = 1e30) -> dict[str, float]:
        """Those of these names that are there: numbers from `least` on, below a bound."""
        found = {name: self.given[name] for name in names if name in self.given}
        for name, value in found.items():
            if type(value) not in (int, float) or not least <= value < below:
                what = f"a number from {least:g} to below {below:g}"
                raise self.error(f"{name} is {value!r}; it must be {what}")
        return found

    def switches(self, *names: str) -> dict[str, bool]:
        """Those of these names that are there: true or false."""
        found = {name: self.given[name] for name in names if name in self.given}
        for name, value in found.items():
            if type(value) is not bool:
                raise self.error(f"{name} is {value!r}; it must be true or false")
        return found

    def end_tokens(self) -> int | tuple[int, ...] | None:
        """The token that ends a text, or several, or None."""
        end = self.given.get("eos_token_id")
        for token in end if isinstance(end, list) else [] if end is None else [end]:
            if type(token) is not int or token < 0:  # one past the vocabulary never comes
                raise self.error(f"eos_token_id is {end!r}, not the number of a token")
        return tuple(end) if isinstance(end, list) else end

    def require(self, computed: Mapping[str, tuple[Any, ...]]) -> None:
        """Raises InputError unless each that is there is one of those that a model computes."""
        for name, known in computed.items():
            if self.given.get(name, known[0]) not in known:
                only = " or ".join(map(repr, known))
                raise self.error(f"{name} is {self.given[name]!r}; only {only} is supported")

    def require_multiple(self, config: Config, whole: str, parts: str) -> None:
        """Raises InputError unless one size of `config` is a multiple of the other."""
        a, b = getattr(config, whole), getattr(config, parts)
        if a % b:
            raise self.error(f"{whole} {a} is not a multiple of {parts} {b}")
