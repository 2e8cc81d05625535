"""The base class of every part of a model."""

from collections.abc import Iterator
from typing import Any

from counting.scope import Place, place


class Module:
    """A part of a model.

    `path` is its place in the model, its prefix in the checkpoint and the path that its operations
    are recorded under, one name: `h.3.attn.c_attn`. Calling it enters that path and runs `forward`.
    A part whose attribute says what it is for is also found by its name in the checkpoint:
    `block.before_mixer` is `block.input_layernorm`, and `lm.model.layers[3]` is a block.
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

    def modules(self) -> Iterator["Module"]:
        """This part, and all parts of it."""
        yield self
        for value in vars(self).values():
            several = value.values() if isinstance(value, dict) else value
            for part in several if isinstance(value, list | dict) else (value,):
                if isinstance(part, Module):
                    yield from part.modules()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "path" not in vars(self):
            raise AttributeError(name)
        return _Named(self, f"{self.path}.{name}".strip(".")).found()


class _Named:
    """What lies under a path that several parts of a model begin with: `model`, `model.layers`."""

    def __init__(self, inside: Module, path: str) -> None:
        self._inside, self._path = inside, path

    def found(self) -> Any:
        """The part of this path, or what parts begin with it.

        Raises:
            AttributeError: none does.
        """
        under = [part for part in self._inside.modules() if part is not self._inside]
        for part in under:
            if part.path == self._path:
                return part
        if any(part.path.startswith(f"{self._path}.") for part in under):
            return self
        raise AttributeError(f"{type(self._inside).__name__} has no {self._path!r}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(self._inside, f"{self._path}.{name}").found()

    def __getitem__(self, number: int) -> Any:
        try:
            return _Named(self._inside, f"{self._path}.{number}").found()
        except AttributeError:
            raise IndexError(number) from None

    def __repr__(self) -> str:
        return f"<parts under {self._path}>"
