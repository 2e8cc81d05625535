"""Who hears of operations on the arrays of a ledger, each once it has run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import get_ident
from typing import Any

from counting.charge import Charge
from counting.checks import function, must_be

Observer = Callable[[str, Charge, tuple[Any, ...], Any], None]

_preceding: ContextVar[tuple[tuple[Any, Observer], ...]] = ContextVar("preceding", default=())


def heard(ledger: Any) -> Observer | None:
    """What hears of the operations of this thread, if anything does: those before, and the last."""
    hearing = ledger.observers.get(get_ident())
    last = hearing[-1] if hearing else None
    first = [observer for of, observer in _preceding.get() if of is ledger]
    return partial(_tell, first, last) if first else last


def deaf(path: str, charge: Charge, operands: tuple[Any, ...], result: Any) -> None:
    """The observer of what is not charged: others do not hear of it while this one does."""


@contextmanager
def observing(ledger: Any, observer: Observer) -> Iterator[None]:
    """A `with` block in which `observer(path, charge, operands, result)` hears of each operation.

    It hears of those of its thread, once the operation has run and is recorded. Composites run
    open, operation by operation, and the ledger's totals are the same as they would be closed. Of
    several the last hears, whatever the order in which others end.
    """
    must_be("a Ledger", hasattr(ledger, "hearing"), "ledger", ledger)
    function("observer", observer)
    with ledger.hearing(get_ident(), observer):
        yield


@contextmanager
def preceding(ledger: Any, observer: Observer) -> Iterator[None]:
    """As `observing`, of an observer that hears of each operation before another does.

    So what it writes into a result is what others see, and what the program goes on with. Of
    several all hear, the first first; of what one of them computes none does. It hears of the
    operations of its context: of a thread that runs in a copy of it too, and in a block of
    `uncharged` as well.
    """
    outside = _preceding.set((*_preceding.get(), (ledger, observer)))
    try:
        with ledger.hearing(0, observer):  # no thread is 0
            yield
    finally:
        _preceding.reset(outside)


def _tell(
    first: list[Observer],
    last: Observer | None,
    path: str,
    charge: Charge,
    operands: tuple[Any, ...],
    result: Any,
) -> None:
    """Lets all of `first` hear of an operation, then `last`."""
    outside = _preceding.set(())
    try:
        for observer in first:
            observer(path, charge, operands, result)
    finally:
        _preceding.reset(outside)
    if last:
        last(path, charge, operands, result)
