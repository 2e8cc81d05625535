"""Stepping: where a program of counted arrays stops, on lines of its own and at operations.

`Stepper` says where; what happens there, a prompt or a message to a screen, is its subclass's.
"""

import bdb
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType
from typing import Any

import numpy as np

from counting.array import Counted, observing
from counting.costs import Cost
from counting.ledger import Charge, Counts, Ledger
from counting.scope import place
from counting.views import flops

# What a program calls and is not, by folder: this package, NumPy, the standard library.
MACHINERY = tuple(f"{os.path.dirname(file)}{os.sep}" for file in (__file__, np.__file__))
_STANDARD = f"{os.path.dirname(os.__file__)}{os.sep}"
_INSTALLED = ("site-packages", "dist-packages")  # may lie within the standard library's folder


@dataclass(frozen=True)
class Operation:
    """An operation that has just run.

    Attributes:
        number: how many ran before it and with it.
        path: where.
        name: the function: `matmul`.
        inputs: as it was called with them, arrays and numbers.
        output: what came out, or None for a write in place.
        counts: what it added to each column of the ledger: "calls", "dots", a kind,
            ("read", category), ("written", category).
    """

    number: int
    path: str
    name: str
    inputs: tuple[Any, ...]
    output: Counted | None
    counts: dict[Any, Any]
    cost: Cost
    transient: Any

    @property
    def flops(self) -> Any:
        """Every arithmetic operation once, a fused multiply-add as two."""
        return sum(self.cost.values()) + self.cost.get("fma", 0)

    @property
    def allocation(self) -> Any:
        """Bytes that it allocated: its result, or the most that it held if that is more."""
        return max(self.output.nbytes if self.output is not None else 0, self.transient)

    def __repr__(self) -> str:
        made = f" -> {self.output!r}" if self.output is not None else ""
        return f"<operation {self.number}, {self.name} at {self.path or 'top'}{made}>"


def operation(
    number: int, path: str, charge: Charge, inputs: tuple[Any, ...], output: Counted | None
) -> Operation:
    """What an observer is told, as one thing."""
    ledger = next(x.ledger for x in inputs if type(x) is Counted)
    by_name = dict(charge.amounts)
    counts = {name: by_name.get(column, 0) for name, column in ledger.columns.items()}
    return Operation(
        number, path, charge.operation, inputs, output, counts, charge.cost, charge.transient
    )


@contextmanager
def aside(ledger: Ledger | None) -> Iterator[None]:
    """A `with` block whose operations are not charged; an array that outlives it is live.

    It is what lets one look at arrays while a program that is measured stands still.
    """
    if ledger is None:
        yield
        return
    peaks = ledger.peak_bytes

    def discard(path: str, charge: Charge, operands: Any, result: Any) -> None:
        i = len(ledger.log) - 1
        while ledger.log[i] is not charge:  # the end of an array may have come after
            i -= 1
        ledger.log[i] = Charge("", (), (), Cost(), charge.result, charge.run)

    try:
        with observing(ledger, discard):
            yield
    finally:
        for name, live in ledger.live_bytes.items():
            ledger.memory[name].peak = max(peaks[name], live)


class Stepper(bdb.Bdb):
    """A debugger's half that decides where a program stops; subclasses say what is done there.

    It stops on lines of the program's own, however deep below counting they are called, and after
    operations. `stopped` is called there, in the thread of the program, and before it returns it
    says how far to go on: `set_step`, `set_next(frame)`, `set_return(frame)`, `set_continue` and
    `set_quit` of `bdb.Bdb`, or `run_to_line`, `run_to_path` and `run_to_operation`.

    A function with a local name `__tracebackhide__` is passed through, as pytest does it.

    Args:
        own: whether a file is the program's, by its name; by default, whatever is not MACHINERY.
        options: of the other base classes.

    Attributes:
        ledger: that of the program, once it is known.
        number: operations so far.
        operation: that at which it is stopped; None on a line, so that no array lives longer.
        stretch: what was counted since it stopped before, while it is stopped.
        lines: how often which charges were made, by path, file and line: each operation once,
            at the innermost line of the program's own.
    """

    def __init__(self, own: Callable[[str], bool] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._own = own or not_machinery
        self._owned: dict[CodeType, bool] = {}
        self._observed = ExitStack()
        self._line_wanted: Callable[[str, str], bool] | None = None
        self._operation_wanted: Callable[[Operation], bool] | None = None
        self._path = ""  # of the line of its own before
        self._before: Counts | None = None
        self._start: Counts | None = None
        self.ledger: Ledger | None = None
        self.number = 0
        self.operation: Operation | None = None
        self.stretch: Counts | None = None
        self.lines: dict[tuple[str, str, int], Counter[Charge]] = {}

    # What a subclass does.

    def stopped(self, frame: FrameType, event: str, value: Any) -> None:
        """Called where the program is stopped; it goes on when this returns.

        Args:
            frame: of the program's own.
            event: "line" before it runs, "return", "exception", or "operation".
            value: what is returned or raised, or the operation.
        """
        raise NotImplementedError

    # How far to go on.

    def run_to_operation(self, wanted: Callable[[Operation], bool] = lambda op: True) -> None:
        """Goes on to the next operation that is wanted, and stops when it has run."""
        self.set_continue()
        self._operation_wanted = wanted

    def run_to_line(self, wanted: Callable[[str, str], bool]) -> None:
        """Goes on to the next line for whose path, and that of the line before, it is wanted."""
        self.set_continue()
        self._line_wanted = wanted

    def run_to_path(self, glob: str) -> None:
        """Goes on to the next line at which a path is entered that matches."""
        self.run_to_line(lambda path, before: path != before and fnmatchcase(path, glob))

    # What is known where it stands.

    @property
    def path(self) -> str:
        """Where the program is."""
        return self.operation.path if self.operation else place.get().path

    @property
    def counts(self) -> Counts | None:
        """What was counted since the start; None while no ledger is known."""
        if self.ledger is None or self._start is None:
            return None
        return self.ledger.snapshot() - self._start

    @property
    def flops(self) -> Any:
        """FLOP since the start, a multiply-add as two."""
        return flops(self.counts) if self.counts is not None else 0

    @property
    def live(self) -> Any:
        """Bytes that are live, of every category."""
        return sum(self.ledger.live_bytes.values()) if self.ledger else 0

    def at_line(self, file: str, line: int, path: str = "*") -> Counts:
        """What was counted at a line itself, at paths that match a glob."""
        columns = self.ledger.columns if self.ledger else {}
        rows: dict[tuple[str, str], list[Any]] = {}
        for (where, *there), charges in self.lines.items():
            if there == [file, line] and fnmatchcase(where, path):
                for charge, times in charges.items():
                    row = rows.setdefault((where, charge.operation), [0] * len(columns))
                    for column, amount in charge.amounts:
                        row[column] += times * amount
        return Counts(columns, {key: tuple(row) for key, row in rows.items()})

    def owns(self, frame: FrameType) -> bool:
        """Whether a frame is the program's own."""
        code = frame.f_code
        if code not in self._owned:
            hidden = "__tracebackhide__" in code.co_varnames
            self._owned[code] = self._own(code.co_filename) and not hidden
        return self._owned[code]

    # How it begins and ends.

    def observe(self, ledger: Ledger) -> None:
        """Hears of the operations of a ledger from now on, which is the start."""
        self.ledger = ledger
        self.number, self.lines = 0, {}
        self._start = self._before = ledger.snapshot()
        self._observed.enter_context(observing(ledger, self._observer))

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """A `with` block that it steps through, as far as `run_to_…` says, else line by line."""
        wanted = self._line_wanted, self._operation_wanted
        caller = sys._getframe(2)  # past contextlib
        self.reset()
        self.botframe = caller
        if any(wanted):
            self.set_continue()
        self._line_wanted, self._operation_wanted = wanted
        self._path = place.get().path
        self._trace(caller)
        try:
            yield
        finally:
            sys.settrace(None)
            self._observed.close()

    def _trace(self, frame: FrameType) -> None:
        """Has lines come to it if the way to go on needs them, those of the callers too."""
        if self.quitting or not (self._line_wanted or self.breaks or self.stoplineno != -1):
            return  # -1 stands for set_continue
        for above in filter(self.owns, _callers(frame)):
            above.f_trace = self.trace_dispatch
        sys.settrace(self.trace_dispatch)

    # Below it is a bdb.Bdb.

    def stop_here(self, frame: FrameType) -> bool:
        return self.owns(frame) and super().stop_here(frame)

    def break_anywhere(self, frame: FrameType) -> bool:
        wanted = self._line_wanted is not None and self.owns(frame)
        return wanted or super().break_anywhere(frame)

    def dispatch_line(self, frame: FrameType) -> Any:
        if self.owns(frame):
            path, before = place.get().path, self._path
            self._path = path
            if self._line_wanted and self._line_wanted(path, before):
                self.set_step()
        return super().dispatch_line(frame)

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        """Nothing: it stops on the first line instead."""

    def user_line(self, frame: FrameType) -> None:
        self._stop(frame, "line", None)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        self._stop(frame, "return", return_value)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        self._stop(frame, "exception", exc_info)

    def _observer(
        self, path: str, charge: Charge, inputs: tuple[Any, ...], output: Counted | None
    ) -> None:
        self.number += 1
        frame = next(filter(self.owns, _callers(sys._getframe(1))), None)
        if frame is None:  # made where the program is not to stop
            return
        line = path, frame.f_code.co_filename, frame.f_lineno
        self.lines.setdefault(line, Counter())[charge] += 1
        if self._operation_wanted is None:
            return
        self.operation = operation(self.number, path, charge, inputs, output)
        if self._operation_wanted(self.operation):
            sys.settrace(None)
            self.set_step()
            self._stop(frame, "operation", self.operation)
        self.operation = None
        if self.quitting:
            raise bdb.BdbQuit

    def _stop(self, frame: FrameType, event: str, value: Any) -> None:
        self._line_wanted = self._operation_wanted = None
        if self.ledger is None and (ledger := _ledger(frame)):
            self.observe(ledger)
        if self.ledger and self._before:
            now = self.ledger.snapshot()
            self.stretch, self._before = now - self._before, now
        with aside(self.ledger):
            self.stopped(frame, event, value)
        for above in _callers(frame):
            if above is not frame or event == "operation":  # else its trace function reads it
                _forget_locals(above)
        self._trace(frame)


def not_machinery(file: str) -> bool:
    """Whether a file, by its name, is of the program, and not what the program calls."""
    if file.startswith(("<", *MACHINERY)):
        return False
    inside = file.removeprefix(_STANDARD)
    return inside == file or inside.startswith(_INSTALLED)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame:
        yield frame
        frame = frame.f_back


def _ledger(frame: FrameType) -> Ledger | None:
    """The ledger of the nearest counted array that a frame, or one that called it, can see."""
    for above in _callers(frame):
        for value in [*above.f_locals.values()]:
            if type(value) is Counted:
                return value.ledger
    return None


def _forget_locals(frame: FrameType) -> None:
    """Empties the copy of its variables that a look at them has left in a frame of a function.

    Before Python 3.13 it is kept, and arrays in it would live on that the program has let go.
    """
    if frame.f_code.co_flags & CO_OPTIMIZED and isinstance(frame.f_locals, dict):
        frame.f_locals.clear()
