"""What a ledger's log is made of: the price of a call, arrays that are born and that are freed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from counting.cost import KINDS, OUTSIDE, Cost, Shape
from counting.memory import Event, Usage

OPERATIONS = ("calls", "dots", *KINDS, *OUTSIDE)  # the first columns of a row, of any ledger

Amounts = tuple[tuple[int, Any], ...]  # what a call adds to the columns of a row: (column, amount)


class Born(Event):
    """An array has come into the count at no cost."""

    __slots__ = ()


class Freed(Event):
    """The bytes of an array were given back."""

    __slots__ = ()


@dataclass(eq=False, repr=False, slots=True, weakref_slot=True)
class Spec:
    """What pricing needs to know of an array; a ledger keeps one for all that are alike.

    Attributes:
        ledger: theirs, a `Ledger`, which imports this module.
        nbytes: of memory, see `memory.occupied`.
        usage: the memory of their category.
        born, freed: the events that begin and end such an array.
        views: what its views look like, by shape.
    """

    ledger: Any
    shape: Shape
    dtype: np.dtype
    category: str
    nbytes: Any
    usage: Usage = field(init=False)
    born: Born = field(init=False)
    freed: Freed = field(init=False)
    views: "dict[Shape, Spec]" = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.usage = self.ledger.memory[self.category]
        self.born, self.freed = Born(self.usage, self.nbytes), Freed(self.usage, -self.nbytes)


class Along:
    """The rows of a price that grows with n, at one n; left unexpanded until asked for.

    `price.rows(times, total)` are those of `times` calls together whose n sum up to `total`.
    """

    __slots__ = ("n", "price")

    def __init__(self, price: Any, n: int) -> None:
        self.price, self.n = price, n

    def __len__(self) -> int:
        return len(self.price)


@dataclass(eq=False, repr=False, slots=True)
class Charge(Event):
    """The price of a call; in a log, that it ran.

    Attributes:
        operation: its name.
        rows: what it adds, as (scope below the path of the call, operation, amounts).
        amounts: the sum of its rows.
        result: what comes out, or None for a write in place.
        run: what runs.
        levels: bytes that its temporaries and its result hold, one moment after another, as in
            `memory.levels`; none where it has no temporaries.
        others: what comes out beside the first result.
    """

    operation: str
    rows: tuple[tuple[str, str, Amounts], ...] | Along
    amounts: Amounts
    result: Spec | None
    run: Callable[..., Any]
    levels: tuple[Any, ...] = ()
    others: tuple[Spec, ...] = ()
    over: Any = field(init=False)

    def __post_init__(self) -> None:
        usage, nbytes = (self.result.usage, self.result.nbytes) if self.result else (None, 0)
        Event.__init__(self, usage, nbytes)
        over = max(self.levels, default=nbytes) - nbytes
        self.over = over if type(over) is not int or over > 0 else 0

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        amounts = dict(self.amounts)
        named = enumerate(OPERATIONS[2:], start=2)
        return Cost.of({kind: amounts[i] for i, kind in named if i in amounts})
