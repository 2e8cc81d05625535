"""What a ledger's log is made of: the price of a call, arrays that are born and that are freed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from counting.costs import KINDS, OUTSIDE, Cost, Shape
from counting.memory import Event

OPERATIONS = ("calls", "dots", *KINDS, *OUTSIDE)  # the first columns of a row, of any ledger

Amounts = tuple[tuple[int, Any], ...]  # what a call adds to the columns of a row: (column, amount)


class Born(Event):
    """An array has come into the count at no cost."""

    __slots__ = ()


class Freed(Event):
    """The bytes of an array were given back."""

    __slots__ = ()


class Spec:
    """What pricing needs to know of an array; a ledger keeps one for all that are alike.

    Attributes:
        nbytes: of memory, see `memory.occupied`.
        usage: the memory of its category.
        born, freed: the events that begin and end such an array.
        views: what its views look like, by shape.
    """

    __slots__ = (
        "__weakref__",
        "born",
        "category",
        "dtype",
        "freed",
        "ledger",
        "nbytes",
        "shape",
        "usage",
        "views",
    )

    def __init__(
        self,
        ledger: Any,  # a Ledger, which imports this module
        shape: Shape,
        dtype: np.dtype,
        category: str,
        nbytes: Any,
    ) -> None:
        self.ledger, self.shape, self.dtype, self.category = ledger, shape, dtype, category
        self.nbytes, self.usage = nbytes, ledger.memory[category]
        self.born, self.freed = Born(self.usage, nbytes), Freed(self.usage, -nbytes)
        self.views: dict[Shape, Spec] = {}


class Along:
    """The rows of a price that grows with n, at one n; left unexpanded until asked for.

    `price.rows(times, total)` are those of `times` calls together whose n sum up to `total`.
    """

    __slots__ = ("n", "price")

    def __init__(self, price: Any, n: int) -> None:
        self.price, self.n = price, n

    def __len__(self) -> int:
        return len(self.price)


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
        transient: the most of them.
    """

    __slots__ = ("amounts", "levels", "operation", "over", "result", "rows", "run", "transient")

    def __init__(
        self,
        operation: str,
        rows: tuple[tuple[str, str, Amounts], ...] | Along,
        amounts: Amounts,
        result: Spec | None,
        run: Callable[..., Any],
        levels: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(result.usage if result else None, result.nbytes if result else 0)
        self.operation, self.rows, self.amounts = operation, rows, amounts
        self.result, self.run, self.levels = result, run, levels
        self.transient = max(levels, default=0)
        over = self.transient - self.grows if levels else 0
        self.over = over if type(over) is not int or over > 0 else 0

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        amounts = dict(self.amounts)
        named = enumerate(OPERATIONS[2:], start=2)
        return Cost({kind: amounts[i] for i, kind in named if i in amounts})
