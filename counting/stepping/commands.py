"""The commands of a debugger for counted arrays, beside those of pdb."""

import pdb
from collections.abc import Callable
from fnmatch import fnmatchcase
from inspect import cleandoc
from shutil import get_terminal_size
from types import CodeType, FrameType
from typing import Any, ClassVar

from rich.console import Console

from counting import show, table
from counting.array import Counted
from counting.counts import Counts
from counting.stepping.operation import condition
from counting.stepping.stepper import Stepper
from counting.views import flops


class Commands(Stepper, pdb.Pdb):
    """What can be asked at the prompt of a `Debugger`: methods `do_…`, their docstrings the help.

    Attributes:
        always: a glob; `continue` runs to the next path that matches.
    """

    own_commands: tuple[str, ...] = (
        *("op", "at", "stop", "cost", "executed", "ledger", "mem", "look", "source"),
    )
    commands_resuming: ClassVar = [*pdb.Pdb.commands_resuming, "do_op", "do_at", "do_stop"]

    def __init__(self, own: Callable[[str], bool] | None = None, **options: Any) -> None:
        super().__init__(own, **options)
        self.always: str | None = None
        # What is displayed in a function, as it was.
        self._displays: dict[CodeType, dict[str, str]] = {}

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
        if arg:
            return self.error("mem takes no argument: ledger PATH tells the bytes of a part")
        counts = self.known()
        if counts is not None and self.ledger:
            self.print(table.memory(counts, self.ledger.live_bytes, self.ledger.peak_bytes))

    def do_cost(self, arg: str) -> None:
        """cost

        What was counted since it stopped before, at this line, and at this path.
        """
        if arg:
            return self.error("cost takes no argument: ledger PATH tells what a part has cost")
        if self.known() is None or self.stretch is None:
            return
        counts, code, number = self.since_mark, self.here.f_code, self.here.f_lineno
        assert counts is not None
        path = self.looked_at()
        line = self.at_line(code.co_filename, number, path)
        self.costs("since the last stop", self.stretch)
        self.costs(f"line {number} itself", line)
        self.costs(path or "(top)", below(counts, path) if path else counts)

    def do_executed(self, arg: str) -> None:
        """executed

        What the processor executes of this operation, run again, beside its charge.
        """
        if arg:
            return self.error("executed takes no argument: it is of the operation that has run")
        if self.operation is None:
            return self.error("this is no operation: op runs to the next one")
        try:
            ran = self.operation.executed()
        except (RuntimeError, TypeError, ValueError) as error:
            return self.error(str(error))
        self.message(f"charged {self.operation.flops:,} FLOP: {dict(self.operation.cost)}\n{ran}")

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

    def announce(self, text: str) -> None:
        """Says what is new where it has stopped."""
        self.message(text)

    def go(self, plan: Callable[[], None]) -> bool:
        """Goes on as `plan` says: what a command returns that ends the prompt."""
        plan()
        return True

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
