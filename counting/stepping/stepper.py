"""Stepping: where a program of counted arrays stops, on lines of its own and at operations.

`Stepper` says where; what happens there, a prompt or a message to a screen, is its subclass's.
"""

import bdb
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from types import CodeType, FrameType
from typing import Any

from counting.array import Counted
from counting.charge import Charge
from counting.ledger import Ledger
from counting.observers import observing
from counting.scope import place
from counting.stepping.figures import Figures
from counting.stepping.frames import COPIED, callers, forget_variables, ledger_of, not_machinery
from counting.stepping.operation import Operation, uncounted


class Stepper(Figures, bdb.Bdb):
    """A debugger's half that decides where a program stops; subclasses say what is done there.

    It stops on lines of the program's own, however deep below counting they are called, and after
    operations. `stopped` is called there, in the thread of the program, and before it returns it
    says how far to go on: `set_step`, `set_next(frame)`, `set_return(frame)`, `set_continue` and
    `set_quit` of `bdb.Bdb`, or `run_to_line`, `run_to_path` and `run_to_operation`.

    What is counted is the same as without, bytes alive too; `Figures` say what.

    A function with a local name `__tracebackhide__` is passed through, as pytest does it.

    Args:
        own: whether a file is the program's, by its name; by default, whatever is not MACHINERY.
        options: of the other base classes.

    Attributes:
        stops: how often it has stopped.
        operation: that at which it is stopped; None on a line, so that no array lives longer.
        passing: whether it goes by breakpoints, to where it was told to, until its next stop.
    """

    def __init__(self, own: Callable[[str], bool] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.reset()
        self.botframe = sys._getframe()  # one that never runs again, so that none is the bottom
        self._own = own or not_machinery
        self._files: set[str] = set()  # its own too, for it was told to stop there
        self._owned: dict[CodeType, bool] = {}
        self._observed = ExitStack()
        self._line_wanted: Callable[[FrameType, str, str], bool] | None = None
        self._operation_wanted: Callable[[Operation], bool] | None = None
        self._watched: FrameType | None = None  # see `_go_on`: its variables are copied anew
        self._path = ""  # of the line of its own before
        self._standing = False
        self.stops = 0
        self.operation: Operation | None = None
        self.passing = False

    # What a subclass does.

    def stopped(self, frame: FrameType, event: str, value: Any) -> None:
        """Called where the program is stopped; it goes on when this returns.

        Args:
            frame: of the program's own.
            event: "line" before it runs, "return", "exception", "operation", or "end" where the
                program has ended and not come where it ran to.
            value: what is returned or raised, or the operation.
        """
        raise NotImplementedError

    # How far to go on.

    def run_to_operation(self, wanted: Callable[[Operation], bool] = lambda op: True) -> None:
        """Goes on to the next operation that is wanted, and stops when it has run."""
        self.set_continue()
        self._operation_wanted = wanted

    def run_to_line(self, wanted: Callable[[FrameType, str, str], bool]) -> None:
        """Goes on to the next line that is wanted, by frame, path and path of the line before."""
        self.set_continue()
        self._line_wanted = wanted

    def run_to_path(self, glob: str) -> None:
        """Goes on to the next line at which a path is entered that matches."""
        self.run_to_line(lambda _, path, before: path != before and fnmatchcase(path, glob))

    # What is known where it stands.

    @property
    def path(self) -> str:
        """Where the program is."""
        return self.operation.path if self.operation else place.get().path

    @property
    def waiting(self) -> bool:
        """Whether it goes on to something that it has not come to."""
        return bool(self._line_wanted or self._operation_wanted)

    def owns(self, frame: FrameType) -> bool:
        """Whether a frame is the program's own."""
        code = frame.f_code
        if code not in self._owned:
            hidden = "__tracebackhide__" in code.co_varnames
            own = code.co_filename in self._files or self._own(code.co_filename)
            self._owned[code] = own and not hidden
        return self._owned[code]

    # How it begins and ends.

    def observe(self, ledger: Ledger, from_now: bool = True) -> None:
        """Hears of the operations of a ledger from now on.

        Args:
            from_now: whether now is the start that figures are counted from, or else the ledger's.
        """
        self.operation = None
        self.begin(ledger, from_now)
        self._observed.enter_context(observing(ledger, self._observer))

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """A `with` block to step through: to what `run_to_…` said before, else from line to line.

        It observes until its end.
        """
        before = sys.gettrace()
        if self.ledger is None and (ledger := ledger_of(callers(sys._getframe()))):
            self.observe(ledger)
        for frame in callers(sys._getframe()):
            forget_variables(frame)
        outside = place.get()
        self._path = outside.path
        self._go_on(sys._getframe())
        try:
            yield
        finally:
            sys.settrace(before)
            place.set(outside)  # what was quit in front of the end of a scope has not left it
            self._observed.close()
            self.stopframe = self.returnframe = self._watched = None  # with all that is in them

    def break_in(self, frame: FrameType) -> None:
        """Stops at the next line of a frame that runs, as `pdb.set_trace` does; observes on.

        Figures are those of the ledger from its start. At a prompt this does nothing, for what is
        computed there may call it too.
        """
        if self._standing or self.passing:
            return
        self._files.add(frame.f_code.co_filename)
        self._owned.clear()
        ledger = ledger_of(callers(frame))
        if ledger and ledger is not self.ledger:
            self.observe(ledger, from_now=False)
        self.set_trace(frame)

    def set_trace(self, frame: FrameType | None = None) -> None:
        # Not bdb's, which holds on to frames, and stops at another line from Python to Python.
        self.set_step()
        self._go_on(frame or sys._getframe(1))

    def set_return(self, frame: FrameType) -> None:
        """As bdb's, to the nearest caller that is the program's own: another would never stop.

        A frame that stopped where another was to, and has ended, would keep its arrays alive.
        """
        super().set_return(frame)
        if self.stopframe is frame.f_back:
            self.stopframe = next(filter(self.owns, callers(frame.f_back)), self.stopframe)

    def _lines_needed(self) -> bool:
        breaks = self.breaks and not self.passing
        return bool(self._line_wanted or breaks or self.stoplineno != -1)  # as set_continue has it

    def _go_on(self, frame: FrameType, traced: bool = False) -> None:
        """Traces lines if the way to go on needs them, those of the callers too.

        The frame whose trace function runs is traced until its end: a copy of its variables was
        made, see `frames`, which each line renews.
        """
        if self.quitting:
            return
        self._watched = frame if traced and COPIED else None
        if self._lines_needed():
            for above in filter(self.owns, callers(frame)):
                above.f_trace = self.trace_dispatch
        elif not self._watched:
            return
        sys.settrace(self.trace_dispatch)

    # Below it is a bdb.Bdb.

    # Where Python 3.13 keeps the last frame that an event came from, for `stepi`, with its arrays.
    enterframe = property(lambda self: None, lambda self, frame: None)

    def stop_here(self, frame: FrameType) -> bool:
        return self.owns(frame) and super().stop_here(frame)

    def break_anywhere(self, frame: FrameType) -> bool:
        wanted = self._line_wanted is not None and self.owns(frame)
        return wanted or super().break_anywhere(frame)

    def break_here(self, frame: FrameType) -> bool:
        if self.passing or not super().break_anywhere(frame):
            return False
        with uncounted(self.ledger):  # its condition
            return super().break_here(frame)

    def dispatch_return(self, frame: FrameType, value: Any) -> Any:
        found = super().dispatch_return(frame, value)
        if frame is self._watched:
            self._watched = None
            if not self._lines_needed():
                sys.settrace(None)
        return found

    def dispatch_line(self, frame: FrameType) -> Any:
        if COPIED:
            frame.f_locals  # noqa: B018  what a copy of them was left holding may be let go
        if self.owns(frame):
            if self.ledger is None and (ledger := ledger_of([frame])):
                self.observe(ledger)
            path, before = place.get().path, self._path
            self._path = path
            if self._line_wanted and self._line_wanted(frame, path, before):
                self.set_step()
        return super().dispatch_line(frame)

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        """Does nothing: it stops on the first line instead."""

    def user_line(self, frame: FrameType) -> None:
        self._stop(frame, "line", None)

    user_opcode = user_line  # where `breakpoint()` stops since Python 3.13

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        self._stop(frame, "return", return_value)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        self._stop(frame, "exception", exc_info)

    def _observer(
        self, path: str, charge: Charge, inputs: tuple[Any, ...], output: Counted | None
    ) -> None:
        self.number += 1
        frame = next(filter(self.owns, callers(sys._getframe(1))), None)
        if frame is None:  # made where the program is not to stop
            return
        self.lines[path, frame.f_code.co_filename, frame.f_lineno][charge] += 1
        if self._operation_wanted is None:
            return
        self.operation = Operation(self.number, path, charge, inputs, output)
        if stops := self._operation_wanted(self.operation):
            sys.settrace(None)
            self.set_step()
            self._stop(frame, "operation", self.operation)
        self.operation = None
        if stops and self.quitting:
            raise bdb.BdbQuit

    def _stop(self, frame: FrameType, event: str, value: Any) -> None:
        self._line_wanted = self._operation_wanted = None
        self.passing = False
        self.stops += 1
        self.pause()
        self._standing = True
        try:
            with uncounted(self.ledger):
                self.stopped(frame, event, value)
        finally:
            self._standing = False
        if event == "return" and self.returnframe is frame:
            self.returnframe = None  # it does not return again; held, what it gave would live on
        for above in callers(frame):
            if above is not frame or event in ("operation", "end"):
                forget_variables(above)
        self._go_on(frame, traced=event in ("line", "return", "exception"))
