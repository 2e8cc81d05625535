"""What values must be, each a check; arguments and fields that are held to some, by their names."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from counting.checks import shown as shown
from minigpt.errors import InputError

Check = Callable[[Any], str | None]  # a value -> None if it can be, else what it must be


def whole(least: int = 1, most: int = 2**31 - 1) -> Check:
    """Whole numbers."""
    what = "a positive whole number" if least else "a whole number from 0"

    def check(value: Any) -> str | None:
        fits = type(value) is int and least <= value <= most
        return None if fits else f"{what} up to {most}"

    return check


def number(least: float = 0, below: float = 1e30) -> Check:
    """Numbers from `least` on, below a bound."""

    def check(value: Any) -> str | None:
        fits = type(value) in (int, float) and least <= value < below
        return None if fits else f"a number from {least:g} to below {below:g}"

    return check


def of(what: str, *types: type) -> Check:
    """Values of some types."""
    return lambda value: None if type(value) in types else what


def several(each: Check, what: str) -> Check:
    """Lists."""

    def check(value: Any) -> str | None:
        fits = type(value) in (list, tuple) and all(each(one) is None for one in value)
        return None if fits else what

    return check


SEED = whole(0, 2**64 - 1)
SWITCH = of("true or false", bool)
NAME = of("a name", str)
OBJECT = of("an object", dict)


def optional(each: Check) -> Check:
    """None too."""
    return lambda value: None if value is None else each(value)


def a(what: str, *kinds: type) -> Check:
    """Instances of some classes, or of those that inherit from them."""
    return lambda value: None if isinstance(value, kinds) else what


def function(value: Any) -> str | None:
    """What can be called."""
    return None if callable(value) else "a function"


integer = of("a whole number", int)


def utf8(value: Any) -> str | None:
    """Texts that can be written: half a character cannot."""
    if not isinstance(value, str):
        return "a text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "UTF-8 text"
    return None


def plain(value: Any) -> Any:
    """A value as Python has it: a number that NumPy made is one like any other."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy and isinstance(value, numpy.generic) else value


def checked(what: str, value: Any, check: Check) -> Any:
    """An argument, as Python has it. Raises InputError, which names it, unless it can be."""
    value = plain(value)
    if must := check(value):
        raise InputError(f"{what} is {shown(value)}; it must be {must}")
    return value


def checked_fields(made: Any, checks: Mapping[str, Check]) -> None:
    """Checks the fields of a frozen dataclass that was just made, and leaves them plain.

    Raises:
        InputError: one cannot be.
    """
    for name, check in checks.items():
        object.__setattr__(made, name, checked(name, getattr(made, name), check))
