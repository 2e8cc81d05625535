"""Where the program is (`h.3.attn.qk`) and what memory is for (`weights`, `kv_cache`, …).

The only global state of the package, and it counts nothing. Each thread and each asyncio task
has its own.
"""

from contextvars import ContextVar, Token
from typing import NamedTuple


class Place(NamedTuple):
    path: str
    category: str


_OUTSIDE = Place("", "activations")

place: ContextVar[Place] = ContextVar("place", default=_OUTSIDE)

# Whether arrays may leave the count here, see `operations.uncounted`.
leaving: ContextVar[bool] = ContextVar("leaving", default=False)


class _Entered:
    __slots__ = ("_name", "_token")
    _token: Token[Place]

    def __init__(self, name: str) -> None:
        self._name = name

    def __exit__(self, *exception: object) -> None:
        place.reset(self._token)


class scope(_Entered):
    """The part of a program that a `with` block is: operations inside are recorded under `name`.

    Nested names are joined by dots.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        path, category = place.get()
        self._token = place.set(Place(f"{path}.{self._name}" if path else self._name, category))


class at(_Entered):
    """A scope named by its whole path, wherever it is entered from."""

    __slots__ = ()

    def __enter__(self) -> None:
        self._token = place.set(Place(self._name, place.get().category))


class category(_Entered):
    """What arrays are for that are made in a `with` block, for example `kv_cache`."""

    __slots__ = ()

    def __enter__(self) -> None:
        self._token = place.set(Place(place.get().path, self._name))
