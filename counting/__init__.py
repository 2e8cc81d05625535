"""An instrument for any NumPy program: arrays that count every operation and track every byte."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# These fill tables.
from counting import drawing, report, shape_functions, substitutes  # noqa: F401
from counting.array import Counted
from counting.cost import KINDS, Cost, Uncounted
from counting.costs import COSTS
from counting.counts import Counts
from counting.ledger import Ledger, interval
from counting.observers import observing
from counting.program import counted, trace
from counting.register import register
from counting.scalar import Scalar, scalars
from counting.scope import category, scope
from counting.shapes import ShapeArray
from counting.stepping.operation import uncounted

if TYPE_CHECKING:
    from counting.machine.executed import executed
    from counting.stepping.debugger import stop_at

__all__ = [
    "COSTS",
    "KINDS",
    "Cost",
    "Counted",
    "Counts",
    "Ledger",
    "Scalar",
    "ShapeArray",
    "Uncounted",
    "category",
    "counted",
    "executed",
    "interval",
    "observing",
    "register",
    "scalars",
    "scope",
    "stop_at",
    "trace",
    "uncounted",
]


_LATER = {"executed": "counting.machine.executed", "stop_at": "counting.stepping.debugger"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for rarely: pdb takes longer to import than all the rest."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    """What is public."""
    return sorted(__all__)
