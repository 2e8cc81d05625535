"""Ways for values to leave the count: refused, unless a block lets them, as a prompt does."""

import operator
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from counting.cost import OUT, Uncounted
from counting.names import making
from counting.shapes import ShapeArray

# Whether arrays may leave the count here, see `stepping.operation.uncounted`.
leaving: ContextVar[bool] = ContextVar("leaving", default=False)


def leave(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """What `function` gives of the bare arrays, where they may leave the count."""
    result = function(*_bare(operands), **_bare(options))
    out = options.get("out")
    if out is None:
        return result
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out  # counted still: `x += 1`


def _bare(x: Any) -> Any:
    """`x`, with the bare array in the place of each counted one, which is known by its spec."""
    if hasattr(x, "spec"):
        return x.data
    if type(x) in (tuple, list):
        return type(x)(map(_bare, x))
    if isinstance(x, slice):
        return slice(_bare(x.start), _bare(x.stop), _bare(x.step))
    return {name: _bare(part) for name, part in x.items()} if type(x) is dict else x


class Guarded:
    """What Python and NumPy ask of an array that is to become something else.

    It is refused, with a way out; or done with the bare array, where that may leave the count.
    """

    __slots__ = ()
    data: Any
    dtype: np.dtype
    shape: Any
    tolist: Any

    def __bool__(self) -> bool:
        """The truth of one truth value, for control flow: a copy of it leaves the count."""
        if self.dtype == bool and self.shape == () and not leaving.get():
            return bool(self.tolist())
        return bool(self._as_number(bool))

    def __float__(self) -> float:
        return float(self._as_number(float))

    def __int__(self) -> int:
        return int(self._as_number(int))

    def __index__(self) -> int:
        if self.shape:
            raise TypeError("only integer arrays of no dimensions can be an index")
        return int(self._as_number(operator.index))

    def __complex__(self) -> complex:
        return complex(self._as_number(complex))

    def item(self, *place: Any) -> Any:
        """A number of Python's, where `float(x)` is allowed."""
        self._have_values()
        if leaving.get():
            return leave(lambda x: x.item(*place), self)
        if making.get() is None:
            raise AttributeError("counted arrays have no item: take x[0].tolist(), a counted copy")
        if not place:
            return self._number()
        if len(place) == 1 and not isinstance(place[0], tuple):
            return self.flat[place[0]].tolist()  # type: ignore[attr-defined]
        return self[place[0] if len(place) == 1 else place].tolist()  # type: ignore[index]

    def __contains__(self, value: Any) -> bool:
        if making.get() is not None and not leaving.get():
            return bool((self == value).any())
        return bool(self._as_number(operator.contains, value))

    def __hash__(self) -> int:
        """Of a number, which is a key in code that `counted` runs: a copy of it leaves the count.

        Raises:
            TypeError: it is an array.
        """
        if making.get() is None or not isinstance(self.data, np.generic):
            raise TypeError("unhashable type: 'Counted'")
        return hash(self.tolist())

    def __round__(self, *digits: Any) -> Any:
        return self._as_number(round, *digits)

    def __format__(self, form: str) -> str:
        if making.get() is not None:  # values are shown
            return format(self.data[()], form)
        return str(self._as_number(format, form)) if form else str(self)

    def _number(self) -> Any:
        """The one element, as a number of Python's.

        Raises:
            ValueError: there are several, or none.
        """
        value = self.tolist()
        for _ in self.shape:
            if len(value) != 1:
                raise ValueError("the truth or the number of an array with several elements")
            (value,) = value
        return value

    def _have_values(self) -> None:
        """Raises TypeError of an array on shapes, which has none, not even out of the count."""
        if type(self.data) is ShapeArray:
            self.data.tolist()

    def _as_number(self, function: Callable[..., Any], *options: Any) -> Any:
        self._have_values()
        if leaving.get():
            return leave(function, self, *options)
        if making.get() is not None:  # code that `counted` runs, or NumPy's: a copy leaves
            return function(self._number(), *options)
        if function is bool:
            raise Uncounted(f"the truth of a number is not counted: compare it, x > 0, or {OUT}")
        raise Uncounted("a counted array is no Python number: take x.tolist(), a counted copy")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self._have_values()
        if leaving.get():
            return leave(np.asarray, self, *args, **kwargs)
        if making.get() is not None and isinstance(self.data, np.generic):  # as `float(x)` does
            return np.array(self.tolist(), self.dtype).astype(*args[:1] or (self.dtype,))
        if making.get() is None:
            raise Uncounted("np.asarray would take a counted array out of the count: write x.data")
        raise Uncounted(
            "code in C or of a library takes a counted array for a plain one: call what "
            f"counting.register makes of its function, or {OUT}"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        if leaving.get():
            return leave(self.data.__reduce_ex__, protocol)
        raise Uncounted("a copy by Python would not be counted: write x.copy()")


class _Refused:
    """An attribute of NumPy's arrays that counted ones do not have; its error says where it is.

    One descriptor for each: a `__getattr__` would slow down every attribute that they have.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, x: Any, owner: type) -> Any:
        if x is None:
            return self
        name = self.name
        if leaving.get():
            return leave(getattr, x, name)
        out = OUT if making.get() is not None else f"out of the count it is x.data.{name}"
        raise AttributeError(f"counted arrays have no {name}: {out}")


_INTERFACES = ("__array_interface__", "__array_struct__", "__dlpack__", "__dlpack_device__")


def refuse_the_rest(kind: type) -> None:
    """Guards the attributes that NumPy's arrays have and `kind` has not."""
    for name in {*dir(np.ndarray)} - {*dir(kind)}:
        if not name.startswith("__") or name in _INTERFACES:
            setattr(kind, name, _Refused(name))
