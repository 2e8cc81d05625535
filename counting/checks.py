"""What arguments of public functions must be: a wrong one is named where it is given."""

from typing import Any


def must_be(what: str, fits: bool, name: str, value: Any) -> None:
    """Raises TypeError, which names an argument, unless it fits.

    Args:
        what: it must be, for example "a Ledger".
    """
    if not fits:
        raise TypeError(f"{name} is {shown(value)}; it must be {what}")


def function(name: str, value: Any) -> None:
    """Raises TypeError unless an argument can be called."""
    must_be("a function", callable(value), name, value)


def label(name: str, value: Any) -> None:
    """Raises TypeError unless an argument is a text that fits in a line of a table."""
    must_be("a text of one line", isinstance(value, str) and value.isprintable(), name, value)


def shown(value: Any) -> str:
    """A value for an error: a line of bounded length."""
    try:
        said = " ".join(repr(value).split())
    except Exception:  # an int of more digits than Python prints, code of others
        said = f"a {type(value).__name__}"
    return said if len(said) <= 200 else f"{said[:100]}…{said[-20:]}"
