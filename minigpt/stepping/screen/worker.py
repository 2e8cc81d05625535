"""The debugger in a process of its own, for a screen: commands come as lines, views go back."""

import io
import os
import time
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import numpy as np

from counting import show
from counting.array import Counted
from counting.charge import Charge
from counting.ledger import Ledger
from counting.stepping.operation import Operation
from counting.views import flops
from minigpt.errors import InputError
from minigpt.inference.load import load
from minigpt.models.paths import component
from minigpt.stepping.debugger import Debugger
from minigpt.stepping.inspection import every_path
from minigpt.stepping.screen.messages import (
    Command,
    Ended,
    Loading,
    Made,
    Ready,
    Running,
    View,
)
from minigpt.stepping.screen.picture import picture
from minigpt.stepping.stepper import Job

TICK = 0.05  # seconds between two looks at whether the screen wants something


class Worker(Debugger):
    """pdb for a model whose prompt is at the other end of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._said = io.StringIO()
        super().__init__(stdin=io.StringIO(), stdout=self._said)
        self._connection = connection
        self._cells = 1, 1
        self._looked = 0.0  # when it looked for a message
        self._event = ""
        self._news: list[str] = []
        self.last: View | None = None  # of a text that has ended
        self._forget()

    def _forget(self) -> None:
        self._live: list[int] = []
        self._told = 0  # of them, to the screen
        self._made: tuple[str, Any, Any, Any] | None = None  # the bare array: that counts none

    def observe(self, ledger: Ledger, from_now: bool = True) -> None:
        self._forget()
        super().observe(ledger, from_now)

    def _observer(
        self, path: str, charge: Charge, inputs: tuple[Any, ...], output: Counted | None
    ) -> None:
        assert self.ledger is not None
        made = inputs[0] if output is None else output  # a write in place: its target
        self._made = path, charge, made.spec, made.data
        self._live.append(self.ledger.live_bytes["activations"])
        if time.monotonic() - self._looked > TICK:
            self._looked = time.monotonic()
            if self._connection.poll():
                self.run_to_operation()  # which is this one
            else:
                text = "".join(step.text for step in self.came)
                self._connection.send(Running(self.token, self.number, int(self.flops), text))
        super()._observer(path, charge, inputs, output)

    def finished(self, frame: FrameType) -> None:
        self.last = self._view(frame, "end")

    def stopped(self, frame: FrameType, event: str, value: Any) -> None:
        self._event = event
        super().stopped(frame, event, value)

    def cmdloop(self, intro: Any = None) -> None:
        """Shows where it stands and does what it is told, until it is told to go on."""
        self.preloop()
        stop = self._do_queued()
        self._take()  # where it stands; the screen shows that
        while not stop:
            self._connection.send(self._view(self.here, self._event))
            command: Command = self._connection.recv()
            os.environ |= {"COLUMNS": str(command.columns), "LINES": str(command.lines)}
            self._cells = command.cells
            self.cmdqueue += [command.line] if command.line else []
            stop = self._do_queued()
        self._looked = time.monotonic()

    def _do_queued(self) -> bool:
        stop = False
        while self.cmdqueue and not stop:
            stop = bool(self.onecmd(self.precmd(self.cmdqueue.pop(0))))
        return stop

    def announce(self, text: str) -> None:
        self._news.append(text)

    def do_interact(self, arg: str) -> None:
        """interact, debug, commands

        They need a terminal of their own: minigpt step without --tui.
        """
        self.error("this needs a terminal of its own: minigpt step without --tui")

    do_debug = do_commands = do_interact

    def describe(self, operation: Operation) -> str:
        return ""  # the screen shows it

    def _take(self) -> str:
        said = self._said.getvalue()
        self._said.seek(0)
        self._said.truncate()
        return said

    def _view(self, frame: FrameType, event: str) -> View:
        counts = self.counts
        assert counts is not None
        lines: dict[int, int] = {}
        for (_, file, line), charges in self.lines.items():
            if file == frame.f_code.co_filename:
                charged: Any = charges.items()
                costs = (times * int(flops(charge)) for charge, times in charged)
                lines[line] = lines.get(line, 0) + sum(costs)
        components = {
            name: (
                int(flops(part)),
                sum(part.bytes_read.values()),
                sum(part.bytes_written.values()),
            )
            for name, part in counts.by(component).items()
        }
        since, self._told = self._told, len(self._live)
        news, self._news = self._news, []
        return View(
            state=self.state(frame, event),
            most=self.most,
            said="\n".join([*news, self._take()]),
            made=facts(*self._made, self._cells) if self._made else None,
            lines=lines,
            paths={path: int(flops(part)) for path, part in counts.by(str).items()},
            components=components,
            since=since,
            live=self._live[since:],
        )


def facts(path: str, charge: Any, spec: Any, data: Any, cells: tuple[int, int]) -> Made:
    """What an operation made, in plain values, with a picture of at most `cells`."""
    numbers, _ = show.sample(data)
    numbers = np.empty(0) if numbers is None else numbers
    finite = numbers[np.isfinite(numbers)]
    least, mean, most = (
        (finite.min(), finite.mean(), finite.max()) if finite.size else (np.nan, np.nan, np.nan)
    )
    drawn, legend = picture(data, *cells)
    return Made(
        operation=charge.operation,
        path=path,
        flops=int(flops(charge)),
        shape=tuple(spec.shape),
        dtype=str(spec.dtype),
        nbytes=int(spec.nbytes),
        category=spec.category,
        least=float(least),
        mean=float(mean),
        most=float(most),
        nans=int(np.isnan(numbers).sum()),
        infs=int(np.isinf(numbers).sum()),
        looked=numbers.size,
        cells=drawn,
        legend=legend,
    )


def serve(connection: Connection, job: Job) -> None:
    """Does a job under the debugger, and says at the end of the connection what becomes of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # the screen is another's
        os.dup2(nowhere, stream)
    try:
        while _run(connection, job):
            while connection.recv().line != "run":
                pass
            job = job._replace(at=None, token=None)
    except (EOFError, ConnectionError):
        pass  # nobody looks any more
    except Exception as error:
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        connection.send(Ended(error=said, wrong=isinstance(error, InputError)))


def _run(connection: Connection, job: Job) -> bool:
    """Does a job once, with a ledger of its own; whether it came to its end."""
    looked = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal looked
        if time.monotonic() - looked > TICK:
            looked = time.monotonic()
            connection.send(Loading(done, total))

    lm = load(**job.options._asdict(), progress=progress)
    worker = Worker(connection)
    worker.lm = lm
    connection.send(Ready([*dict.fromkeys([*every_path(lm.model), *worker.paths()])]))
    text = worker.generate(lm, job.prompt, job.sampling, job.at, job.token)
    connection.send(Ended(text, missed=worker.waiting, view=worker.last))
    return text is not None
