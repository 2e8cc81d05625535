"""What a comparison of a pass with the processor found, in plain values."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


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

    @property
    def difference(self) -> int:
        """What was executed more than is counted."""
        return self.executed - self.counted


def together(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether all agree of those that are judged; None if none is."""
    judged = [one for one in verdicts if one is not None]
    return all(judged) if judged else None


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
        judged: whether kernels of ours ran in it.
    """

    component: str
    all: Pair
    masked: int
    others: Pair
    fma: Pair | None
    reasons: tuple[Reason, ...]
    unsaid: tuple[str, ...]
    judged: bool

    @property
    def difference(self) -> int:
        """What our kernels executed more than is counted of them."""
        return self.all.difference - self.others.difference

    @property
    def agrees(self) -> bool | None:
        """Whether it is what the algebra says, and products are what the ledger says."""
        if not self.judged:
            return None
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
    def agrees(self) -> bool | None:
        return self.bytes.difference == 0 if self.judged else None


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
    def agrees(self) -> bool | None:
        """Whether what ran is what was counted and said; None of NumPy alone."""
        return together([row.agrees for row in self.rows] + [x.agrees for x in self.held])

    def document(self) -> dict[str, Any]:
        """All of it, for JSON: pairs are counted and executed."""
        found = asdict(self) | {"agrees": self.agrees}
        for told, row in zip(found["rows"], self.rows, strict=True):
            told |= {"difference": row.difference, "agrees": row.agrees}
        for told, held in zip(found["held"], self.held, strict=True):
            told |= {"difference": held.bytes.difference, "agrees": held.agrees}
        return found
