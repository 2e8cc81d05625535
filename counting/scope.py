"""Where the program is (`h.3.attn.qk`) and what memory is for (`weights`, `kv_cache`, …).

The only global state of the package, and it counts nothing. Each thread and each asyncio task
has its own.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType
from typing import NamedTuple

from counting.checks import label


class Place(NamedTuple):
    path: str
    category: str


_OUTSIDE = Place("", "activations")

# What it holds unpacks to a path and a category: a `Place`, or a `Woven` one while a generator is
# inside a scope that it opened.
place: ContextVar["Place | Woven"] = ContextVar("place", default=_OUTSIDE)


def here() -> Place:
    """The place where the program is now."""
    return Place(*place.get())


@contextmanager
def outermost() -> Iterator[None]:
    """A `with` block outside of all scopes and categories that are open, for one with its own.

    It is not to be left while it is open, as by a `yield`.
    """
    outside = place.set(_OUTSIDE)
    try:
        yield
    finally:
        place.reset(outside)


class _Opened(Place):
    """A place made by a scope, and the one outside of it."""

    outside: Place


class Woven:
    """Scopes of a context in which a generator has opened one, in the order of their opening.

    A generator shares the context of whoever runs it. So a scope of a generator is in force while
    its frame is on the stack, which is looked up anew each time; the frames say which is inside
    which.
    """

    __slots__ = ("base", "scopes")

    def __init__(self, base: Place, scopes: "tuple[_Entered, ...]") -> None:
        self.base, self.scopes = base, scopes

    def __iter__(self) -> Iterator[str]:
        depths = _depths(sys._getframe(1))
        inside = [
            (depths[scope._generator] if scope._generator else scope._depth, scope)
            for scope in self.scopes
            if scope._generator is None or scope._generator in depths
        ]
        found: Iterable[str] = self.base
        for _, scope in sorted(inside, key=lambda pair: pair[0]):
            found = scope._within(found)
        return iter(found)

    @property
    def path(self) -> str:
        return Place(*self).path

    @property
    def category(self) -> str:
        return Place(*self).category


def _depths(frame: FrameType | None) -> dict[FrameType, int]:
    """The frames of the stack from `frame` outwards, each with how many are outside of it."""
    stack: list[FrameType] = []
    while frame:
        stack.append(frame)
        frame = frame.f_back
    return {frame: depth for depth, frame in enumerate(reversed(stack))}


_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR
_ENTERING = frozenset(("__enter__", "__aenter__", "enter_context", "enter_async_context"))


def _opener(frame: FrameType) -> FrameType:
    """The frame that a scope opened in `frame` belongs to: the nearest that wrote a `with` block.

    That is none that enters on behalf of another: an `__enter__`, an `ExitStack`, or the generator
    of a `contextlib.contextmanager`.
    """
    while outer := frame.f_back:
        generator = frame.f_code.co_flags & _GENERATOR
        if (outer if generator else frame).f_code.co_name not in _ENTERING:
            break
        frame = outer
    return frame


class _Entered:
    """A `with` block that belongs to the code that opens it.

    One that is opened in a generator is in force while the generator runs, not between two of its
    values, and is inside of what its caller is inside of then. Whatever the order in which blocks
    end, each ends itself, and what was opened inside of it by the same code and never ended. What
    is opened in a generator is not handed on to asyncio tasks that are made meanwhile; what is
    opened elsewhere is.
    """

    __slots__ = ("_depth", "_generator", "_made", "_name")
    _made: _Opened | None
    _generator: FrameType | None

    def __init__(self, name: str) -> None:
        if type(name) is not str or not name.isprintable():  # faster than to call
            label("name", name)
        self._name = name

    def _within(self, outside: Iterable[str]) -> tuple[str, str]:
        """The path and category that it makes of those outside of it."""
        raise NotImplementedError

    def __enter__(self) -> None:
        now = place.get()
        frame = sys._getframe(1)
        if frame.f_code.co_flags & _GENERATOR or frame.f_code.co_name in _ENTERING:
            frame = _opener(frame)
        in_generator = frame.f_code.co_flags & _GENERATOR
        if in_generator or isinstance(now, Woven):
            self._made, self._generator = None, frame if in_generator else None
            self._depth = len(_depths(frame)) - 1
            base, scopes = (now.base, now.scopes) if isinstance(now, Woven) else (now, ())
            place.set(Woven(base, (*scopes, self)))
        else:
            self._made = made = tuple.__new__(_Opened, self._within(now))
            made.outside = now
            place.set(made)

    def __exit__(self, *exception: object) -> None:
        made, now = self._made, place.get()
        if made is not None and made is now:
            place.set(made.outside)
            return
        base, scopes = (now.base, now.scopes) if isinstance(now, Woven) else (now, ())
        if made is None:
            inside = scopes[scopes.index(self) :] if self in scopes else ()
            ended = {id(scope) for scope in inside if scope._generator is self._generator}
            self._generator = None
        else:
            while base is not made and isinstance(base, _Opened):
                base = base.outside
            if base is not made:  # one outside of it has ended
                return
            base = made.outside
            ended = {id(scope) for scope in scopes if scope._generator is None}
        left = tuple(scope for scope in scopes if id(scope) not in ended)
        place.set(Woven(base, left) if left else base)


class scope(_Entered):
    """The part of a program that a `with` block is: operations inside are recorded under `name`.

    Nested names are joined by dots.
    """

    __slots__ = ()

    def _within(self, outside: Iterable[str]) -> tuple[str, str]:
        path, category = outside
        return f"{path}.{self._name}" if path else self._name, category


class at(_Entered):
    """A scope named by its whole path, wherever it is entered from."""

    __slots__ = ()

    def _within(self, outside: Iterable[str]) -> tuple[str, str]:
        _, category = outside
        return self._name, category


class category(_Entered):
    """What arrays are for that are made in a `with` block, for example `kv_cache`."""

    __slots__ = ()

    def _within(self, outside: Iterable[str]) -> tuple[str, str]:
        path, _ = outside
        return path, self._name
