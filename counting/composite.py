"""Functions of arrays that are counted as one operation."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any


class composite:
    """A decorator: `function` of arrays runs bare, as one operation of its name.

    What it costs is never typed in: the same text is run once on shapes and the sum charged, with
    the most bytes that its temporaries held. Entering ten operations one by one would take longer
    than most of them do. On arrays that do not count, it is just the function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self.function = self.__func__ = function  # the latter is where pdb breaks at `b gelu`
        self.run = function  # a faster twin may stand here, that gives what `function` gives

    def __call__(self, *operands: Any) -> Any:
        for x in operands:
            if hasattr(x, "__composite__"):
                return x.__composite__(self, *operands)
        return self.run(*operands)
