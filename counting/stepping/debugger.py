"""pdb for counted arrays: it stops on the program's own lines, and knows what they cost."""

import pdb
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from counting import table
from counting.checks import label, must_be
from counting.ledger import Ledger
from counting.stepping.commands import Commands


class Debugger(Commands):
    """pdb with its commands, and those of counting beside: `help` lists them.

    Its prompt says the path, how many operations there were, their FLOP and the bytes alive. What
    is computed at it is not charged, and may be anything that NumPy does: see `uncounted`.

    Args:
        own: see `Stepper`.
        options: of `pdb.Pdb`.

    Attributes:
        inline: whether it was opened in the middle of a program that does not wait for it: `quit`
            then ends the program quietly, with SystemExit, not with the traceback of a BdbQuit.
    """

    def __init__(self, own: Callable[[str], bool] | None = None, **options: Any) -> None:
        super().__init__(own, nosigint=True, **options)  # it has a way of its own, see `stepping`
        self.inline = False

    def stopped(self, frame: FrameType, event: str, value: Any) -> None:
        where = "(end)" if event == "end" else self.path or "(top)"
        figures = f"{table.si(self.flops)}FLOP {table.si(self.live)}B"
        self.prompt = f"{where} #{self.number} {figures} (step) "
        self._display(frame)
        if event == "line":
            pdb.Pdb.user_line(self, frame)
        elif event == "return":
            pdb.Pdb.user_return(self, frame, value)
        elif event == "exception":
            pdb.Pdb.user_exception(self, frame, value)
        elif event == "end":
            self.announce(f"{value} and did not come to {self.lastcmd!r}: back, run, c or q")
            self.interaction(frame, None)
        else:
            self.message(f"operation {value.number}: {self.describe(value)}")
            frame.f_locals["__operation__"] = value
            self.interaction(frame, None)
            frame.f_locals["__operation__"] = None

    def forget(self) -> None:
        """As in pdb, which keeps the frame that was looked at, with its arrays, in some places."""
        for frame, _ in getattr(self, "stack", ()):
            frame.f_globals.pop("__pdb_convenience_variables", None)
        super().forget()
        self.__dict__.pop("curframe_locals", None)

    def describe(self, operation: Any) -> str:
        """An operation in lines: what it cost, what went in and what came out."""
        lines = [
            f"{operation.name}, {operation.flops:,} FLOP, {operation.allocation:,} B allocated"
        ]
        lines += [f"  in  {x!r}" for x in operation.inputs]
        if operation.output is not None:
            lines.append(f"  out {operation.output!r}")
        return "\n".join(lines)

    def get_stack(self, f: FrameType | None, t: Any) -> tuple[list[tuple[FrameType, int]], int]:
        stack, i = super().get_stack(f, t)
        if t is None:  # the way here, but for what lies between the program's own frames
            own = [entry for entry in stack if entry[0] is f or self.owns(entry[0])]
            return own, own.index(stack[i])
        return stack, i

    def set_quit(self) -> None:
        super().set_quit()
        if self.inline:
            raise SystemExit

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """As in `Stepper`; Ctrl-C in the block stops at the next line, and at the prompt stays."""

        def interrupted(signal_number: int, frame: FrameType | None) -> None:
            if self.allow_kbdint:  # type: ignore[attr-defined]  # at the prompt: pdb says so, and asks again
                raise KeyboardInterrupt
            self.message("\n--KeyboardInterrupt--")
            self.set_trace(frame)

        handles = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, interrupted) if handles else None
        try:
            with super().stepping():
                yield
        finally:
            if handles:
                signal.signal(signal.SIGINT, before)


@contextmanager
def stop_at(glob: str, ledger: Ledger | None = None) -> Iterator[None]:
    """A `with` block in which a debugger opens on each line that enters a path that matches.

    >>> with stop_at("h.*.attn.qk"):
    ...     model(tokens, cache)

    `quit` at its prompt ends the program, quietly, as SystemExit does.

    Args:
        ledger: of what is counted; if None, that of the first counted array that is met.
    """
    label("glob", glob)
    fits = ledger is None or isinstance(ledger, Ledger)
    must_be("a Ledger, or None", fits, "ledger", ledger)
    debugger = Debugger()
    debugger.inline = True
    debugger.always = glob
    debugger.run_to_path(glob)
    if ledger:
        debugger.observe(ledger)
    with debugger.stepping():
        yield
