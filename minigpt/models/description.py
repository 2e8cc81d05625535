"""A model before it has weights: a tree of parts, each a class, a name in the checkpoint, settings.

Parts are values: they hash, compare and print. So layers that are alike are found by counting equal
parts, and a description can be made, looked at and changed without an array.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

Array = Any
Shape = tuple[Any, ...]  # of ints, or of SymPy expressions
Answer = Callable[[str, Shape, str | None], Array]  # key, shape, use -> the tensor


class Tensors:
    """The tensors of a checkpoint under a path; a part asks for each by its name and its shape.

    `w / "q_proj"` goes down a path. The three ways to ask say what a tensor is for, so that whoever
    answers may hand out a faster kind of array: a packed matrix, one on another device.
    """

    def __init__(self, answer: Answer, path: str = "") -> None:
        self.answer, self.path = answer, path

    @staticmethod
    def of(weights: Mapping[str, Array]) -> "Tensors":
        """Those of a checkpoint, as they are held."""
        return Tensors(lambda key, shape, use: weights[key])

    def __truediv__(self, name: str) -> "Tensors":
        return Tensors(self.answer, f"{self.path}.{name}".strip(".")) if name else self

    def __call__(self, name: str, *shape: Any) -> Array:
        """A tensor for anything but a product."""
        return self.answer((self / name).path, shape, None)

    def rows(self, name: str, out: Any, width: Any) -> Array:
        """A matrix for `x @ w.T`, and for `w[rows]`."""
        return self.answer((self / name).path, (out, width), "rows")

    def columns(self, name: str, width: Any, out: Any) -> Array:
        """A matrix for `x @ w`."""
        return self.answer((self / name).path, (width, out), "columns")


P = ParamSpec("P")
M = TypeVar("M", covariant=True)


@dataclass(frozen=True)
class Part(Generic[M]):
    """A module to be: `part(w)` makes it of the tensors under the path of `w` and its own name."""

    kind: Callable[..., M]
    name: str
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, w: Tensors) -> M:
        return self.kind(w / self.name, **dict(self.settings))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # once: thousands of layers may be one part
        return hash((self.kind, self.name, self.settings))

    def __getitem__(self, setting: str) -> Any:
        return dict(self.settings)[setting]

    def but(self, **settings: Any) -> "Part[M]":
        """The same part with other settings."""
        return Part(self.kind, self.name, tuple({**dict(self.settings), **settings}.items()))


def part(
    kind: Callable[Concatenate[Tensors, P], M], name: str = "", /, *_: P.args, **settings: P.kwargs
) -> Part[M]:
    """`kind(w / name, **settings)`, later; a type checker holds settings against `kind` now."""
    return Part(kind, name, tuple(settings.items()))


def identity(x: Any) -> Any:
    """What stands where a model has no such part: nothing is recorded."""
    return x


absent = part(lambda w: identity)
