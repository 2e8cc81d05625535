"""The base class of every part of a model."""

from typing import Any

from counting.scope import at


class Module:
    """A part of a model.

    `path` is its place in the model, its prefix in the checkpoint and the path that its operations
    are recorded under, one name: `h.3.attn.c_attn`. Calling it enters that path and runs `forward`.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, *args: Any) -> Any:
        __tracebackhide__ = True  # a debugger steps through to `forward`
        with at(self.path):
            return self.forward(*args)

    def forward(self, *args: Any) -> Any:
        raise NotImplementedError
