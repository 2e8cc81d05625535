"""Values of a config.json, each checked: what cannot be is an error in one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from minigpt.errors import InputError

Values = Mapping[str, Any]


def sizes(values: Values, names: Iterable[str], source: Any, least: int = 1) -> dict[str, int]:
    """Those of `values`, which must all be there: whole numbers from `least` on.

    Raises:
        InputError: one is missing or no such number.
    """
    for name in names:
        if name not in values:
            raise InputError(f"{source}: {name} is missing")
        if type(values[name]) is not int or not least <= values[name] < 2**31:
            what = "a positive whole number" if least else "a whole number from 0 on"
            raise InputError(f"{source}: {name} is {values[name]!r}; it must be {what}")
    return {name: values[name] for name in names}


def numbers(
    values: Values, names: Iterable[str], source: Any, least: float, most: float = 1e30
) -> dict[str, float]:
    """Those of `values` that are there: numbers between two bounds, included.

    Raises:
        InputError: one is no such number.
    """
    given = {name: values[name] for name in names if name in values}
    for name, value in given.items():
        if type(value) not in (int, float) or not least <= value <= most:
            raise InputError(
                f"{source}: {name} is {value!r}; it must be a number from {least:g} to {most:g}"
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


def fixed(values: Values, allowed: Mapping[str, Any], source: Any) -> None:
    """Nothing, if each of `values` that is there has the one value that a model computes.

    Raises:
        InputError: one has another.
    """
    for name, only in allowed.items():
        if values.get(name, only) != only:
            raise InputError(f"{source}: {name} is {values[name]!r}; only {only!r} is supported")


def divides(config: Any, whole: str, parts: str, source: Any) -> None:
    """Nothing, if the one size of a configuration is a multiple of the other.

    Raises:
        InputError: it is not.
    """
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
