"""Random numbers, as programs draw them that are run by `counted`: the bytes that they take.

What a generator computes for one depends on the numbers: it is not counted, and this says so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from counting.amounts import bare
from counting.array import Counted, apply
from counting.cost import Uncounted
from counting.creation import made
from counting.known import DRAWN
from counting.names import SUBSTITUTES
from counting.twins import MODULES


class Random:
    """A generator of NumPy's, or its module `numpy.random`, whose arrays count."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if isinstance(found, type) or not callable(found):
            return SUBSTITUTES.get(found, found) if isinstance(found, type) else found
        return SUBSTITUTES.get(found) or _drawing(found)


def _drawing(draw: Callable[..., Any]) -> Callable[..., Any]:
    def drawing(*args: Any, **options: Any) -> Any:
        read = [x for x in (*args, *options.values()) if type(x) is Counted]
        if options.get("out") is not None:
            raise Uncounted("numbers are drawn into a new array, not with out")
        if draw.__name__ == "shuffle" and read:
            (x,), axis = read, args[1] if len(args) > 1 else options.get("axis", 0)
            order = np.arange(x.shape[axis])
            draw(order)
            x[...] = apply(np.take, x, order, axis=axis)
            return None
        data = draw(*map(bare, args), **{name: bare(x) for name, x in options.items()})
        if not isinstance(data, np.ndarray | np.generic):
            return data
        return made(data, DRAWN + draw.__name__, of=read)

    return drawing


def _seeded(generator: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: Random(generator(*args, **options))


SUBSTITUTES |= {
    np.random.default_rng: _seeded(np.random.default_rng),
    np.random.Generator: _seeded(np.random.Generator),
    np.random.RandomState: _seeded(np.random.RandomState),
}
MODULES["numpy.random"] = Random(np.random)
