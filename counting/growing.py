"""A call that costs a little more each time, by the same amounts: its price as a line.

A decode step is one: each has one more key to look at than the last. Its code is counted at a few
sizes, and the lines through what is found give the price at every other size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from counting.array import Counted, entered
from counting.charge import Along, Amounts, Charge
from counting.counts import Counts
from counting.form import describe
from counting.ledger import Ledger
from counting.memory import levels
from counting.scope import place


class Line:
    """Whole numbers that grow linearly with n: `line(n)` is `origin + n * slope`.

    Args:
        points: pairs of n and an array of the numbers there; one pair is a constant.

    Raises:
        ValueError: no line goes through all of them.
    """

    def __init__(self, points: Sequence[tuple[int, np.ndarray]]) -> None:
        (n, near), (m, far), *others = (points[0], *points) if len(points) == 1 else points
        if any(numbers.shape != near.shape for _, numbers in points):
            raise ValueError("not as many numbers at each point")
        self.slope = (far - near) // ((m - n) or 1)
        self.origin = near - n * self.slope
        if not all(np.array_equal(self(k), numbers) for k, numbers in [(m, far), *others]):
            raise ValueError("the numbers do not grow linearly")

    def __call__(self, n: int) -> np.ndarray:
        return self.origin + n * self.slope


class Run(NamedTuple):
    """What one call was counted to cost.

    Attributes:
        counts: its rows.
        levels: of memory, in the category of its result; see `memory.levels`.
    """

    counts: Counts
    levels: list[int]


def counted(ledger: Ledger, function: Callable[[], Any]) -> tuple[Run, Any]:
    """What a call costs whose arrays belong to `ledger`, and the counted array that it gives."""
    before = ledger.snapshot()
    with ledger.unsettled():
        result = function()
        found = list(levels(ledger.events(result.spec.usage)))
    return Run(ledger.snapshot() - before, found), result


class Growing:
    """The price of a call as a line.

    Args:
        name: of the call.
        runs: what it was counted to cost at some n.

    Raises:
        ValueError: it does not grow linearly with n.
    """

    def __init__(self, name: str, runs: Sequence[tuple[int, Run]]) -> None:
        (_, first), *_ = runs
        self._name = name
        self._keys = list(first.counts)
        if any(list(run.counts) != self._keys for _, run in runs):
            raise ValueError("not the same operations at each size")
        self._rows = Line([(n, np.array(list(run.counts.values()))) for n, run in runs])
        self._totals = Line([(n, self._rows(n).sum(axis=0)) for n, _ in runs])
        self._levels = Line([(n, np.array(run.levels)) for n, run in runs])

    def enter(self, ledger: Ledger, path: str, n: int, data: Any) -> Counted:
        """Charges the call at n, which gave the bare array `data`, and returns that as counted.

        Args:
            path: where the result says that it was made; rows are entered where they were counted.
        """
        result = describe(ledger, data, place.get().category)
        amounts, most = _filled(self._totals(n).tolist()), int(self._levels(n).max())
        charge = Charge(self._name, Along(self, n), amounts, result, self.enter, (most,))
        made: Counted = entered(ledger, "", charge, data)
        made.path = path
        return made

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self, times: int, total: int) -> Iterator[tuple[str, str, Amounts]]:
        """What `times` calls add to each row whose n sum up to `total`."""
        sums = times * self._rows.origin + total * self._rows.slope
        for key, row in zip(self._keys, sums.tolist(), strict=True):
            yield *key, _filled(row)


def _filled(row: Sequence[int]) -> Amounts:
    return tuple((column, amount) for column, amount in enumerate(row) if amount)
