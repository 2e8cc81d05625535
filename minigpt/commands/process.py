"""The process of a command: its streams, its signals, the line and the status that it ends with."""

import io
import os
import re
import sys
from collections.abc import Callable
from select import select
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from minigpt.commands.signals import ending, telling
from minigpt.errors import InputError
from minigpt.harmless import guarded, one_line
from minigpt.storage.files import reason


class _Beside(io.FileIO):
    """Standard error: what cannot be said there is lost, and what is done goes on."""

    def write(self, said: Any) -> int:
        try:
            while (taken := super().write(said)) is None:  # of a pipe that does not wait itself
                select([], [self], [])
        except OSError:
            return len(said)
        return taken


def run(app: typer.Typer, debug: Callable[[Exception], None]) -> NoReturn:
    """Runs the command that the process was started with, and ends the process.

    What is wrong is said in one line on standard error. The exit status is the command's own, 2
    where it could not do what was asked, 1 where nobody reads on, and 128 and the number of the
    signal that ended it.

    Args:
        app: the table of commands.
        debug: opens a debugger where an error was raised, for `--pdb`.
    """
    _open_streams()
    # After a product OpenBLAS spins for 0.1 s, on cores that kernels want: 2**18 cycles are enough.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")
    try:
        with ending(), telling():
            status = _command(app, debug)
        sys.stdout.flush()
    except InputError as error:
        _fail(str(error))
    except TyperException as error:  # an unknown command or option, a value of another type
        message = error.format_message()
        if not message.startswith("Usage: "):
            _fail(_about(error, message))
        print(message)  # no command: what may be said is the help
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)  # what a shell makes of SIGINT
    except MemoryError:
        _fail("there is not enough memory")
    except OSError as error:  # standard output is full, or its reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)  # as typer does
        where = error.filename or (error.errno and "standard output cannot be written")
        _fail(f"{where}: {reason(error)}" if where else str(error))
    sys.exit(status)


def _fail(message: str) -> NoReturn:
    """Says what is wrong in one line, whatever a file name or a file has put into it."""
    print(f"minigpt: {one_line(message)}", file=sys.stderr)
    sys.exit(2)


def _about(error: TyperException, message: str) -> str:
    """What is wrong with a word of the command, what may have been meant, and where to look."""
    if near := getattr(error, "possibilities", None):  # of an option
        message = f"{error.message}; did you mean {near[0]}?"
    elif re.match("No such option: -[^-]", message):
        message += "; text that begins with - comes after --"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "minigpt"
    prompt = getattr(context, "params", {}).get("prompt")
    more = re.match(r"Got unexpected extra .*\((.*)\)", message)
    if more and isinstance(prompt, str):
        message += f'; quote the prompt: {command} "{prompt} {more[1]}"'
    return f"{message.rstrip('.')} (see {command} --help)"


def _open_streams() -> None:
    """Gives a stream to whoever was started without, and guards terminals from what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if type(sys.stderr) is io.TextIOWrapper:
        raw = _Beside(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), sys.stderr.encoding, "backslashreplace", line_buffering=True
        )
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)


def _command(app: typer.Typer, debug: Callable[[Exception], None]) -> Any:
    """Runs the command; if --pdb is said, before or after its name, errors open a debugger."""
    words = [word for word in sys.argv[1:] if word != "--pdb"]
    try:
        return app(words, prog_name="minigpt", standalone_mode=False)
    except Exception as error:
        if len(words) < len(sys.argv) - 1 and not isinstance(error, TyperException | typer.Abort):
            debug(error)
        raise
