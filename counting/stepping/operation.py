"""Operations that have run, conditions on them, and blocks in which arrays leave the count."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from counting.array import Counted
from counting.charge import Charge
from counting.checks import must_be
from counting.cost import Cost
from counting.leaving import leaving
from counting.ledger import Ledger

if TYPE_CHECKING:
    from counting.machine import Ran


@dataclass(frozen=True)
class Operation:
    """An operation that has just run, as an observer is told of it.

    Attributes:
        number: how many ran before it and with it.
        path: where.
        charge: its price.
        inputs: as it was called with them, arrays and numbers.
        output: what came out, or None for a write in place.
    """

    number: int
    path: str
    charge: Charge
    inputs: tuple[Any, ...]
    output: Counted | None

    @property
    def name(self) -> str:
        """The function: `matmul`."""
        return self.charge.operation

    @property
    def counts(self) -> dict[Any, Any]:
        """What it added to each column of the ledger, as `Counts.total` names them."""
        ledger = next(x.ledger for x in (*self.inputs, self.output) if type(x) is Counted)
        amounts = dict(self.charge.amounts)
        return {name: amounts.get(column, 0) for name, column in ledger.columns.items()}

    @property
    def cost(self) -> Cost:
        """Operations by kind."""
        return self.charge.cost

    @property
    def flops(self) -> Any:
        """Every floating-point operation once, a fused multiply-add as two."""
        return self.cost.flops

    @property
    def allocation(self) -> Any:
        """Bytes that it allocated: its result, or the most that it held if that is more."""
        return self.charge.grows + self.charge.over

    def executed(self) -> "Ran":
        """What the processor executes of it, run once more, every instruction stepped.

        Raises:
            Unavailable: nothing can be stepped here.
            ValueError: it wrote in place.
        """
        from counting.machine import executed

        if self.output is None:
            raise ValueError(f"{self.name} writes in place: it is not run once more")
        bare = [x.data if type(x) is Counted else x for x in self.inputs]
        prices = self.output.ledger.charges.items()  # by all that a price depends on, options too
        key = next((key for key, charge in prices if charge is self.charge), ())
        named = [part for part in key if type(part) is tuple and type(part[0]) is str]
        return executed(self.charge.run, *bare, **dict(named))[1]

    def __repr__(self) -> str:
        made = f" -> {self.output!r}" if self.output is not None else ""
        return f"<operation {self.number}, {self.name} at {self.path or 'top'}{made}>"


_CONDITION = re.compile(
    r"(?P<figure>flops|alloc)\s*(?P<sign>>=?)\s*"
    r"(?P<bound>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)|(?P<test>nan|inf)"
)
_TESTS = {"nan": np.isnan, "inf": np.isinf}


def condition(text: str) -> Callable[[Operation], bool]:
    """What `text` asks of an operation: `flops > 1e9`, `alloc >= 4096`, `nan` or `inf`.

    Raises:
        ValueError: it is none of these.
    """
    found = _CONDITION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text.strip()!r} is no condition: flops>1e6, alloc>1e4, nan or inf")
    if found["test"]:
        test = _TESTS[found["test"]]

        def holds(op: Operation) -> bool:
            if not any(n for name, n in op.counts.items() if name[0] == "written"):
                return False  # np.empty_like: whatever was there before
            made = op.inputs[0] if op.output is None else op.output  # a write in place: its target
            try:
                return bool(test(made.data).any())
            except TypeError:  # no numbers to look at
                return False

        return holds

    bound = float(found["bound"])

    def exceeds(op: Operation) -> bool:
        figure = op.flops if found["figure"] == "flops" else op.allocation
        return bool(figure >= bound if found["sign"] == ">=" else figure > bound)

    return exceeds


@contextmanager
def uncounted(ledger: Ledger | None = None) -> Iterator[None]:
    """A `with` block in which counted arrays may leave the count, as at a debugger's prompt.

    What the table of costs does not know runs on the bare arrays and gives bare arrays:
    `np.asarray(x)`, `float(x[0])`, `x.std()`, `x > 0`, `x[x > 0]`, any function of NumPy. What it
    knows gives counted arrays, as ever.

    Args:
        ledger: is charged for nothing in the block, so that one can look at arrays while a program
            that is measured stands still; arrays that are kept afterwards count as live. If None,
            what the table knows is charged as ever.
    """
    fits = ledger is None or isinstance(ledger, Ledger)
    must_be("a Ledger, or None", fits, "ledger", ledger)
    token = leaving.set(True)
    try:
        with nullcontext() if ledger is None else ledger.uncharged():
            yield
    finally:
        leaving.reset(token)
