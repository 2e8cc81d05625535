"""Values of a config.json, each checked: what cannot be is an error in one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from minigpt.errors import InputError

Values = Mapping[str, Any]

MANY = 10_000  # layers, or experts of one: more are a mistake, and would be listed one by one


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
