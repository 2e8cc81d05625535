"""Names as code sees them that runs with arrays that count: what stands for what.

A twin (`twins.py`) is Python code whose names are looked up here: a module's own, each with what
it means, and among Python's `__import__`, `type` and `isinstance`.
"""

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

# What stands for functions and classes in C that do not ask; `creation` and `substitutes` say what.
SUBSTITUTES: dict[Any, Any] = {}

# The ledger of arrays that twins make, while one runs.
making: ContextVar[Any] = ContextVar("making", default=None)


# Whether twins run on shapes, so that what they make to be written into has no data either.
without_data: ContextVar[bool] = ContextVar("without_data", default=False)


@contextmanager
def made_in(ledger: Any, on_shapes: bool = False) -> Iterator[None]:
    """A `with` block in which twins make arrays that count in `ledger`.

    Args:
        on_shapes: they run without data, as they do inside of a block where they did already.
    """
    token = making.set(ledger)
    bare = without_data.set(on_shapes or without_data.get())
    try:
        yield
    finally:
        without_data.reset(bare)
        making.reset(token)


class Globals(dict[str, Any]):
    """The names of a module as a twin of its code sees them, each found when it is asked for.

    Args:
        real: the module's own.
        meaning: of a value among them.
    """

    def __init__(self, real: dict[str, Any], meaning: Callable[[Any], Any]) -> None:
        super().__init__(__builtins__=importing(meaning), __name__=real.get("__name__"))
        self.real, self.meaning = real, meaning

    def __missing__(self, name: str) -> Any:
        found = self[name] = self.meaning(self.real[name])
        return found


class _OfTypes(type):
    """`type` as programs see it: of a counted array it is that of a plain one."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if cls is not Type or len(args) != 1:
            return type.__call__(cls, *args, **options)
        kind = type(args[0])
        if hasattr(kind, "spec"):
            plain = type(args[0].data)
            return plain if issubclass(plain, np.generic) else SUBSTITUTES[np.ndarray]
        return Type if kind is type else kind

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, type) if cls is Type else type.__instancecheck__(cls, x)

    def __subclasscheck__(cls, x: Any) -> bool:
        return issubclass(x, type) if cls is Type else type.__subclasscheck__(cls, x)


class Type(type, metaclass=_OfTypes):
    """As `type`."""


def _isinstance(x: Any, kind: Any) -> bool:
    """As `isinstance`: a counted array is one, and a counted number is a number."""
    return isinstance(x, kind) or (hasattr(type(x), "spec") and isinstance(x.data, kind))


def importing(meaning: Callable[[Any], Any]) -> dict[str, Any]:
    """Python's own names, where an import gives what the module means."""

    def import_(name: str, names: Any = None, *args: Any, **options: Any) -> Any:
        real = names.real if type(names) is Globals else names
        return meaning(builtins.__import__(name, real, *args, **options))

    own = {"__import__": import_, "type": Type, "isinstance": _isinstance}
    return {**vars(builtins), **own}
