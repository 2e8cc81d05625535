"""The process that computes for a screen, and the command that shows it: `minigpt step --tui`."""

import multiprocessing
import pickle
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from minigpt.errors import InputError
from minigpt.stepping.screen.messages import Command, Ended, Job
from minigpt.stepping.screen.worker import serve


class Engine:
    """The process that computes, and a thread that listens to it."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # no lock or thread of ours goes along
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()  # else its end would not be the end of what can be read

    def listen(self, tell: Callable[[Any], Any]) -> None:
        """Passes on what is said, and at last how it ended, from a thread."""

        def read() -> None:
            with self._connection, suppress(EOFError, OSError, pickle.UnpicklingError):
                while True:
                    tell(self._connection.recv())
            self.process.join()
            tell(Ended(error=f"the process that computes {_fate(self.process.exitcode or 0)}"))

        Thread(target=read, daemon=True).start()

    def send(self, command: Command) -> None:
        """Passes a command on; if nobody is there, the thread says so."""
        with suppress(OSError):
            self._connection.send(command)

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join()


def _fate(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"left with exit status {status}"


def show(job: Job) -> int:
    """Shows a job on the screen until it is left; then prints the text if it was finished.

    Gives the exit status.

    Raises:
        InputError: there is no screen, or no textual; or as `ModelStepper.generate`.
    """
    try:
        from minigpt.stepping.screen.app import Stepping
    except ModuleNotFoundError as error:
        if not f"{error.name}.".startswith("textual."):
            raise
        raise InputError("--tui needs textual: pip install -e '.[tui]' in the clone") from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("--tui needs a terminal: leave it out for a prompt")
    if job.options["seed"] is None:  # one for all runs, so that starting again is the same
        job = job._replace(options=job.options | {"seed": secrets.randbits(32)})
    engine = Engine(job)
    try:
        screen = Stepping(engine, job)
        status = screen.run()
    finally:
        engine.close()
    ended = screen.ended
    if ended and ended.text is not None:
        print(ended.text)
        if ended.missed and screen.view is None:
            raise InputError("the text ended before it came to the first stop: see --at, --token")
    if ended and ended.error:
        if ended.wrong:
            raise InputError(ended.error)
        print(f"minigpt: {ended.error}", file=sys.stderr)
        return 1
    return status or 0
