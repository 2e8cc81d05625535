"""What a comparison of a pass with the processor found, in plain values."""

from dataclasses import dataclass
from typing import NamedTuple


class Reason(NamedTuple):
    """Why kernels executed other than what is counted.

    Attributes:
        formula: in the sizes of their jobs, see `algebra`.
        value: of all of them.
    """

    why: str
    formula: str
    value: int


class Pair(NamedTuple):
    """The same figure twice."""

    counted: int
    executed: int


@dataclass(frozen=True)
class Row:
    """A component of the model, in FLOP.

    Attributes:
        all: counted and executed in all; lanes that masks switched off are executed too.
        masked: how many such lanes there were.
        others: what of `all` is NumPy's, OpenBLAS's or the C library's, and is not judged.
        fma: multiply-adds of our products by the ledger and as executed, None if there are none.
        reasons: the algebra of what our kernels executed more or less.
        unsaid: kernels that no algebra is known of.
    """

    component: str
    all: Pair
    masked: int
    others: Pair
    fma: Pair | None
    reasons: tuple[Reason, ...]
    unsaid: tuple[str, ...]

    @property
    def difference(self) -> int:
        """What our kernels executed more than is counted of them."""
        counted, executed = (all - other for all, other in zip(self.all, self.others, strict=True))
        return executed - counted

    @property
    def agrees(self) -> bool:
        """Whether it is what the algebra says, and products are what the ledger says."""
        said = sum(reason.value for reason in self.reasons)
        products = self.fma is None or self.fma.counted == self.fma.executed
        return products and not self.unsaid and self.difference == said


@dataclass(frozen=True)
class Held:
    """Bytes of a category that were counted and that instructions moved.

    Attributes:
        judged: whether they must be the same: all of it is done by kernels of ours.
    """

    what: str
    bytes: Pair
    judged: bool

    @property
    def agrees(self) -> bool:
        return not self.judged or self.bytes.counted == self.bytes.executed


@dataclass(frozen=True)
class Compared:
    """A pass, by component, and the bytes that it moved.

    Attributes:
        way: "recorded" jobs, "kernels" that run as the model's code comes to them, or "reference".
    """

    dtype: str
    tokens: int
    past: int
    way: str
    instructions: int
    seconds: float
    rows: tuple[Row, ...]
    held: tuple[Held, ...]

    @property
    def agrees(self) -> bool:
        """Whether what ran is what was counted and said; of NumPy alone it is not asked."""
        judged = all(row.agrees for row in self.rows) and all(x.agrees for x in self.held)
        return self.way == "reference" or judged
