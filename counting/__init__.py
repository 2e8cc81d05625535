"""An instrument for any NumPy program: arrays that count every operation and track every byte."""

from counting.array import Counted, trace
from counting.costs import COSTS, KINDS, Cost
from counting.counts import Counts
from counting.interval import NotItsTurn, interval
from counting.ledger import Ledger, observing
from counting.pricing import Uncounted
from counting.scalar import Scalar, scalars
from counting.scope import category, scope
from counting.shapes import ShapeArray
from counting.stepping.operation import uncounted
from counting.stepping.stepper import stop_at

__all__ = [
    "COSTS",
    "KINDS",
    "Cost",
    "Counted",
    "Counts",
    "Ledger",
    "NotItsTurn",
    "Scalar",
    "ShapeArray",
    "Uncounted",
    "category",
    "interval",
    "observing",
    "scalars",
    "scope",
    "stop_at",
    "trace",
    "uncounted",
]


def __dir__() -> list[str]:
    """What is public."""
    return sorted(__all__)
