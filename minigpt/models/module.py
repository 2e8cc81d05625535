"""The base class of every part of a model."""

from typing import Any

from counting.scope import Place, place


class Module:
    """A part of a model.

    `path` is its place in the model, its prefix in the checkpoint and the path that its operations
    are recorded under, one name: `h.3.attn.c_attn`. Calling it enters that path and runs `forward`.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, *args: Any) -> Any:
        __tracebackhide__ = True  # a debugger steps through to `forward`
        outside = place.set(Place(self.path, place.get().category))  # as `with at(self.path)`
        try:
            return self.forward(*args)
        finally:
            place.reset(outside)

    def forward(self, *args: Any) -> Any:
        raise NotImplementedError
