"""What the configurations of all models say, and the values of a config.json, each checked."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from minigpt.errors import InputError
from minigpt.models.routing import Experts

Values = Mapping[str, Any]

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

    @abstractmethod
    def shapes(self) -> dict[str, tuple[Any, ...]]:
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


def sizes(
    values: Values, names: Iterable[str], source: Any, least: int = 1, most: int = 2**31 - 1
) -> dict[str, int]:
    """Those of `values`, which must all be there: whole numbers between two bounds, included.

    Raises:
        InputError: one is missing or no such number.
    """
    for name in names:
        if name not in values:
            raise InputError(f"{source}: {name} is missing")
        if type(values[name]) is not int or not least <= values[name] <= most:
            what = "a positive whole number" if least else "a whole number from 0"
            raise InputError(
                f"{source}: {name} is {values[name]!r}; it must be {what} up to {most}"
            )
    return {name: values[name] for name in names}


def size_or_none(values: Values, name: str, source: Any, least: int = 1) -> int | None:
    """As `sizes`, of one that may be null or missing.

    Raises:
        InputError: it is something else.
    """
    given = values.get(name) is not None
    return sizes(values, [name], source, least)[name] if given else None


def numbers(
    values: Values, names: Iterable[str], source: Any, least: float, below: float = 1e30
) -> dict[str, float]:
    """Those of `values` that are there: numbers from `least` on and below a bound.

    Raises:
        InputError: one is no such number.
    """
    given = {name: values[name] for name in names if name in values}
    for name, value in given.items():
        if type(value) not in (int, float) or not least <= value < below:
            raise InputError(
                f"{source}: {name} is {value!r}; it must be a number from {least:g} to below "
                f"{below:g}"
            )
    return given


def switches(values: Values, names: Iterable[str], source: Any) -> dict[str, bool]:
    """Those of `values` that are there: true or false.

    Raises:
        InputError: one is neither.
    """
    given = {name: values[name] for name in names if name in values}
    for name, value in given.items():
        if type(value) is not bool:
            raise InputError(f"{source}: {name} is {value!r}; it must be true or false")
    return given


def fixed(values: Values, allowed: Mapping[str, tuple[Any, ...]], source: Any) -> None:
    """Raises InputError unless each of `values` that is there is one that a model computes."""
    for name, computed in allowed.items():
        if values.get(name, computed[0]) not in computed:
            only = " or ".join(map(repr, computed))
            raise InputError(f"{source}: {name} is {values[name]!r}; only {only} is supported")


def divides(config: Any, whole: str, parts: str, source: Any) -> None:
    """Raises InputError unless one size of a configuration is a multiple of the other."""
    if getattr(config, whole) % getattr(config, parts):
        raise InputError(
            f"{source}: {whole} {getattr(config, whole)} is not a multiple of {parts} "
            f"{getattr(config, parts)}"
        )


def end_tokens(values: Values, source: Any) -> int | tuple[int, ...] | None:
    """The token that ends a text, or several, or None.

    Raises:
        InputError: one is not the number of a token.
    """
    end = values.get("eos_token_id")
    for token in end if isinstance(end, list) else [] if end is None else [end]:
        if type(token) is not int or token < 0:  # one past the vocabulary never comes
            raise InputError(f"{source}: eos_token_id is {end!r}, not the number of a token")
    return tuple(end) if isinstance(end, list) else end
