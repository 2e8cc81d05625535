"""The process that computes for a screen."""

import multiprocessing
import pickle
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from minigpt.stepping.screen.messages import Command, Ended
from minigpt.stepping.screen.worker import serve
from minigpt.stepping.stepper import Job


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
            status = self.process.exitcode or 0
            fate = f"left with exit status {status}"
            if status < 0:
                fate = f"was killed by {signal.Signals(-status).name}"
            tell(Ended(error=f"the process that computes {fate}"))

        Thread(target=read, daemon=True).start()

    def send(self, command: Command) -> None:
        """Passes a command on; if nobody is there, the thread says so."""
        with suppress(OSError):
            self._connection.send(command)

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join()
