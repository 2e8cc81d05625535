"""The price of a call, and what pricing needs to know of an array."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from counting.costs import KINDS, OUTSIDE, Cost, Shape


class Spec:
    """What pricing needs to know of an array; a ledger keeps one for all that are alike.

    In a ledger's log it stands for the end of one: `grows` is what memory grows by then.
    """

    __slots__ = (
        "__weakref__",
        "category",
        "dtype",
        "grows",
        "ledger",
        "nbytes",
        "shape",
        "usage",
        "views",
    )
    over, levels = 0, ()

    def __init__(
        self, ledger: Any, shape: Shape, dtype: np.dtype, category: str, nbytes: Any
    ) -> None:
        self.ledger, self.shape, self.dtype, self.category = ledger, shape, dtype, category
        self.nbytes, self.grows = nbytes, -nbytes
        self.usage = ledger.memory[category]
        self.views: dict[Shape, Spec] = {}  # what its views look like, by shape
        if ledger.described is not None:
            ledger.described.add(self)


Amounts = tuple[tuple[int, Any], ...]  # what a call adds to the columns of a row: (column, amount)


class Charge:
    """The price of a call.

    Attributes:
        operation: its name.
        amounts: what it adds to the totals.
        kinds: operations by kind, among what else a column may name.
        rows: the same by row, as (scope below the path of the call, operation, amounts).
        result: what comes out, or None for a write in place.
        transient: the most bytes that its own temporaries and result hold while it runs.
        levels: what they hold one after another, if that is known; see `memory.levels`.
        run: what runs.
    """

    __slots__ = (
        "amounts",
        "grows",
        "kinds",
        "levels",
        "operation",
        "over",
        "result",
        "rows",
        "run",
        "transient",
        "usage",
    )

    def __init__(
        self,
        operation: str,
        rows: "tuple[tuple[str, str, Amounts], ...] | Along",
        amounts: Amounts,
        kinds: Mapping[str, Any],
        result: Spec | None,
        run: Callable[..., Any],
        transient: Any = 0,
        levels: tuple[Any, ...] = (),
    ) -> None:
        self.operation, self.rows, self.amounts, self.kinds = operation, rows, amounts, kinds
        self.result, self.run, self.transient, self.levels = result, run, transient, levels
        # Memory: what grows for good, and for a moment beyond that.
        self.usage = result.usage if result else None
        self.grows = result.nbytes if result else 0
        over = transient - self.grows if transient else 0
        self.over = over if type(over) is not int or over > 0 else 0

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        return Cost({kind: self.kinds[kind] for kind in (*KINDS, *OUTSIDE) if kind in self.kinds})


class Along:
    """The rows of a price that grows, at n: `price.rows(times, total)` adds up many of them."""

    __slots__ = ("n", "price")

    def __init__(self, price: Any, n: int) -> None:
        self.price, self.n = price, n

    def __len__(self) -> int:
        return len(self.price)
