"""Functions of arrays that are counted as one operation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from types import MappingProxyType
from typing import Any


class composite:
    """A decorator: `function` of arrays runs bare, as one operation of its name.

    What it costs is never typed in: the same code is run once on shapes and the sum charged, with
    the most bytes that its temporaries held. Entering ten operations one by one would take longer
    than most of them do. On arrays that do not count, it is just the function, or the fused kernel
    that runs in its place, see `fused`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self.function = self.__func__ = function  # the latter is where pdb breaks at `b gelu`

    def __call__(self, *operands: Any) -> Any:
        for x in operands:
            if hasattr(x, "__composite__"):
                return x.__composite__(self, *operands)
        return _kernels.get().get(self, self.function)(*operands)


Kernels = Mapping[composite, Callable[..., Any]]
_kernels: ContextVar[Kernels] = ContextVar("kernels", default=MappingProxyType({}))


@contextmanager
def fused(kernels: Kernels) -> Iterator[None]:
    """In the block and this thread, `kernels[f]` runs in the place of a composite f.

    Each must give what f gives, of any arrays that do not count: what f costs stays what it was.
    """
    outside = _kernels.set(kernels)
    try:
        yield
    finally:
        _kernels.reset(outside)
