"""pdb for counted arrays: it stops on the program's own lines, and knows what they cost."""

import pdb
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from inspect import cleandoc
from shutil import get_terminal_size
from types import CodeType, FrameType
from typing import Any, ClassVar

from rich.console import Console

from counting import show, table
from counting.array import Counted
from counting.ledger import Counts
from counting.stepping.operation import condition
from counting.stepping.stepper import Stepper
from counting.views import flops


class Debugger(Stepper, pdb.Pdb):
    """pdb with its commands, and those of counting beside: `help` lists them.

    Its prompt says the path, how many operations there were, their FLOP and the bytes alive. What
    is computed at it is not charged, and may be anything that NumPy does: see `uncounted`.

    Args:
        own: see `Stepper`.
        options: of `pdb.Pdb`.

    Attributes:
        always: a glob; `continue` runs to the next path that matches.
        inline: whether it was opened in the middle of a program that does not wait for it: `quit`
            then ends the program quietly, with SystemExit, not with the traceback of a BdbQuit.
    """

    own_commands: tuple[str, ...] = ("op", "at", "stop", "cost", "ledger", "mem", "look", "source")
    commands_resuming: ClassVar[list[str]] = [
        *pdb.Pdb.commands_resuming,
        "do_op",
        "do_at",
        "do_stop",
    ]

    def __init__(self, own: Callable[[str], bool] | None = None, **options: Any) -> None:
        super().__init__(own, nosigint=True, **options)  # it has a way of its own, see `stepping`
        self.always: str | None = None
        self.inline = False
        self._displays: dict[CodeType, dict[str, str]] = {}  # what is displayed, as it was

    # Where it stops.

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

    def announce(self, text: str) -> None:
        """Says what is new where it has stopped."""
        self.message(text)

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

        if threading.current_thread() is not threading.main_thread():
            with super().stepping():
                yield
            return
        before = signal.signal(signal.SIGINT, interrupted)
        try:
            with super().stepping():
                yield
        finally:
            signal.signal(signal.SIGINT, before)

    def go(self, plan: Callable[[], None]) -> bool:
        """Goes on as `plan` says: what a command returns that ends the prompt."""
        plan()
        return True

    # Its commands. Docstrings are their help.

    def do_continue(self, arg: str) -> Any:
        """c(ont(inue))

        Continue execution, only stop when a breakpoint is encountered.
        """
        self.run_to_path(self.always) if self.always else self.set_continue()
        return True

    do_c = do_cont = do_continue

    def do_op(self, arg: str) -> Any:
        """op [N]

        Run N operations further, 1 unless told, and stop when the last has run.

        What went in, what came out and what it cost is shown, and is __operation__ in expressions.
        """
        count = self.whole(arg, default=1, what="op N runs N operations further")
        if count is None:
            return None
        last = self.number + count
        return self.go(lambda: self.run_to_operation(lambda op: op.number >= last))

    def do_at(self, arg: str) -> Any:
        """at GLOB

        Run to the next line that enters a path that matches: at h.3.attn.softmax.

        A * matches dots too: at h.*.mlp.
        """
        if not arg:
            return self.error("at needs a path: at h.3.attn.softmax")
        return self.go(lambda: self.run_to_path(arg))

    def do_stop(self, arg: str) -> Any:
        """stop when COND

        Run to the next operation of which COND is true, and stop when it has run.

        COND is flops>1e6, alloc>1e4 (bytes), or nan or inf (in what comes out).
        """
        when, _, text = arg.partition(" ")
        if when != "when":
            return self.error("stop needs a condition: stop when flops>1e6")
        try:
            wanted = condition(text)
        except ValueError as error:
            return self.error(str(error))
        return self.go(lambda: self.run_to_operation(wanted))

    def do_ledger(self, arg: str) -> None:
        """ledger [PATH]

        What was counted since the start, by component; or below PATH, by operation.

        PATH may be a glob.
        """
        counts = self.known()
        if counts is None:
            return
        if arg:
            counts = below(counts, arg)
            if not counts:
                return self.error(f"nothing was counted at {arg!r} yet")
            rows = {(f"{path} {name}", name): row for (path, name), row in counts.items()}
            counts = Counts(counts.columns, rows)
        self.print(table.components(counts, str if arg else self.component))

    def do_mem(self, arg: str) -> None:
        """mem

        Bytes by category: read and written since the start, alive now, and at most.
        """
        counts = self.known()
        if counts is not None and self.ledger:
            self.print(table.memory(counts, self.ledger.live_bytes, self.ledger.peak_bytes))

    def do_cost(self, arg: str) -> None:
        """cost

        What was counted since it stopped before, at this line, and at this path.
        """
        if self.known() is None or self.stretch is None:
            return
        counts, code, number = self.since_mark, self.here.f_code, self.here.f_lineno
        assert counts is not None
        path = self.looked_at()
        line = self.at_line(code.co_filename, number, path)
        self.costs("since the last stop", self.stretch)
        self.costs(f"line {number} itself", line)
        self.costs(path or "(top)", below(counts, path) if path else counts)

    def do_look(self, arg: str) -> None:
        """look EXPR

        An array as a picture in characters: the last axis across, the others down.
        """
        if not arg:
            return self.error("look needs an array: look x")
        try:
            value: Any = self._getval(arg)
        except Exception:  # pdb has said what is wrong
            return
        data = value.data if type(value) is Counted else value
        columns, rows = get_terminal_size()
        lines = show.heat(data, max(rows - 6, 4), columns - 2) if hasattr(data, "shape") else []
        if not lines:
            return self.error(f"{arg} has no numbers to look at")
        self.message(f"{arg}: {value!r}" if data is not value else f"{arg}: {data.shape}")
        self.message("\n".join(lines))

    def do_source(self, arg: str) -> None:
        """source [EXPR]

        The source of the function that it stands in, or of what EXPR is.
        """
        if arg:
            super().do_source(arg)
        else:
            self.do_longlist("")

    def do_display(self, arg: str) -> None:
        """display [EXPR]

        Say what EXPR is wherever it stops in this function, whenever that has changed.

        Without EXPR, all that is displayed here.
        """
        shown = self._displays.setdefault(self.here.f_code, {})
        if arg:
            shown[arg] = self._shown(arg, self.here)
        for name in [arg] if arg else shown:
            self.message(f"display {name}: {shown[name]}")
        if not shown:
            self.message("nothing is displayed here")

    def do_undisplay(self, arg: str) -> None:
        """undisplay [EXPR]

        Display EXPR no more in this function, or nothing.
        """
        shown = self._displays.get(self.here.f_code, {})
        if arg and arg not in shown:
            return self.error(f"{arg} is not displayed here")
        for name in [arg] if arg else [*shown]:
            del shown[name]

    def do_help(self, arg: str) -> None:
        """h(elp) [COMMAND]

        All commands, or what one does.
        """
        own = [f"do_{name}" for name in self.own_commands]
        if arg:
            command = getattr(self, f"do_{arg}", None)
            if command is None:
                super().do_help(arg)
            else:
                self.message(cleandoc(command.__doc__))
            return
        self.message("Stepping through what is counted (help COMMAND says more):")
        for name in own:
            usage, _, summary, *_ = cleandoc(getattr(self, name).__doc__).splitlines()
            self.message(f"  {usage:16}{summary}")
        self.message("")
        theirs = (name[3:] for name in sorted(self.get_names()) if name.startswith("do_"))
        self.print_topics("Of pdb:", [n for n in theirs if f"do_{n}" not in own], 15, 80)

    do_h = do_help

    # What they share.

    def _shown(self, expression: str, frame: FrameType) -> str:
        try:
            return repr(eval(expression, frame.f_globals, frame.f_locals))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _display(self, frame: FrameType) -> None:
        shown = self._displays.get(frame.f_code, {})
        for expression, before in shown.items():
            now = self._shown(expression, frame)
            if now != before:
                shown[expression] = now
                self.announce(f"display {expression}: {now}  [old: {before}]")

    def paths(self) -> list[str]:
        """The paths that were met."""
        counts = self.counts
        return sorted({path for path, _ in counts}) if counts else []

    def looked_at(self) -> str:
        """The path of the frame that it looks at."""
        return self.path

    def component(self, path: str) -> str:
        """The part of the program that a path belongs to, for `ledger`."""
        return path

    @property
    def here(self) -> FrameType:
        """The frame that it looks at."""
        assert self.curframe is not None
        return self.curframe

    def known(self) -> Counts | None:
        """What was counted since the start; says so if nothing can be."""
        if self.counts is None:
            self.error("no counted array was seen yet")
        return self.counts

    def whole(
        self, arg: str, default: int | None = None, least: int = 1, what: str = ""
    ) -> int | None:
        """A number given to a command; says so if it is none, and what is asked for."""
        try:
            value = int(arg) if arg or default is None else default
        except ValueError:
            value = least - 1
        if value < least:
            self.error(f"{arg!r} is no whole number from {least}{what and f': {what}'}")
            return None
        return value

    def costs(self, name: str, counts: Counts) -> None:
        """A line of what was counted somewhere."""
        read, written = sum(counts.bytes_read.values()), sum(counts.bytes_written.values())
        self.message(
            f"{name:24} {counts.total('calls'):6,} operations {flops(counts):15,} FLOP "
            f"{read:15,} B read {written:13,} B written"
        )

    def print(self, shown: Any) -> None:
        """What rich can render."""
        Console(file=self.stdout, highlight=False).print(shown)

    def complete_at(self, text: str, *_: Any) -> list[str]:
        return [path for path in self.paths() if path.startswith(text)]

    complete_ledger = complete_at
    complete_look = complete_source = pdb.Pdb._complete_expression

    def complete_stop(self, text: str, line: str, *_: Any) -> list[str]:
        words = ("flops>", "alloc>", "nan", "inf") if " when " in line else ("when",)
        return [word for word in words if word.startswith(text)]


def below(counts: Counts, path: str) -> Counts:
    """The rows of a path, or of those that match a glob, and of all that lies below them."""
    keys = (k for k in counts if fnmatchcase(k[0], path) or fnmatchcase(k[0], f"{path}.*"))
    return Counts(counts.columns, {key: counts[key] for key in keys})
