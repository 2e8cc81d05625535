"""python -m counting program.py [arguments]: runs a program with arrays that count.

The program runs as it stands, and so do its modules: what is not installed. Where one of them
imports NumPy, arrays that NumPy makes count, and so does what is made of them; those of other
libraries count from the first function of NumPy on that they are given to. When it ends, by an
error, Ctrl-C, SIGTERM or SIGHUP too, operations and bytes are listed on standard error; what it
prints, its traceback and its exit status are its own.

A number that Python takes, float(x) or if x > 0, is a copy that leaves the count, and is listed
as one. What has no cost that is known is refused with TypeError, with a way out. Inside of a
program, `with counting.scope("name"):` gives a part of it rows of its own.

From Python, counting.counted(function)(*arrays) does the same for a function.
"""

import os
import signal
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from io import open_code
from pathlib import Path
from threading import Timer
from types import CodeType, ModuleType, TracebackType
from typing import Any, TextIO

from counting.array import Counted
from counting.ledger import Ledger
from counting.names import importing, made_in
from counting.program import INSTALLED
from counting.twins import numpys

COMMAND = "python -m counting"
LONGEST = 1 << 24  # bytes of a program: of much more than anybody writes, Python takes gigabytes
ASKING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
NAMES = importing(numpys)  # Python's own, of the program and its modules


def main(args: Sequence[str]) -> int:
    """The command without its name; gives its exit status."""
    if args and args[0] in ("-h", "--help"):
        print(f"usage: {(__doc__ or '').strip()}")
        return 0
    if not args or args[0].startswith("-"):
        wrong = f"unknown option {args[0]}" if args else "a program is missing"
        return _wrong(f"{wrong}: {COMMAND} program.py [arguments]")
    try:
        source = _read(args[0])
    except OSError as error:
        return _wrong(f"{args[0]}: {(error.strerror or str(error)).lower()}")
    if len(source) > LONGEST:
        return _wrong(f"{args[0]}: more than {LONGEST:,} bytes, which is no program")
    try:
        code = compile(source, os.path.abspath(args[0]), "exec", dont_inherit=True)
    except Exception as error:  # Python's own: of syntax, of what nests too deep
        return _raised(error)
    return run(code, args)


def _read(path: str) -> bytes:
    """The source of a program, or one byte more than `LONGEST` of what is none.

    Raises:
        OSError: it cannot be read, is a device, which may never end, or a pipe that nobody writes.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISFIFO(mode):
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or to open it waits for a writer
        os.set_blocking(pipe, True)
        with open(pipe, "rb") as file:
            if source := file.read(LONGEST + 1):
                return source
        raise OSError("nobody writes to this pipe")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("no regular file")
    with open_code(path) as file:
        return file.read(LONGEST + 1)


def _wrong(said: str) -> int:
    _say(f"{COMMAND}: {said}", sys.stderr)
    return 2


def _say(said: Any, beside: TextIO | None) -> None:
    """Prints on standard error, and nowhere where there is none: print alone takes its output."""
    if beside is not None:
        with suppress(OSError, ValueError):  # nobody reads there any more
            print(said, file=beside)


def run(code: CodeType, args: Sequence[str]) -> int:
    """Runs a program's code as Python would with arguments, and prints what it counted.

    Gives the status that the program ends with.
    """
    program = ModuleType("__main__")
    program.__dict__.update(__file__=code.co_filename, __builtins__=NAMES)
    sys.modules["__main__"] = program
    sys.argv[:] = args
    sys.path[0] = str(Path(code.co_filename).resolve().parent)
    sys.meta_path.insert(0, Finder())
    ledger, beside = Ledger(), sys.stderr
    _heed()
    try:
        with made_in(ledger):
            exec(code, program.__dict__)
        return 0
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        _say(ended.code, sys.stderr)
        return 1
    except BaseException as error:
        return _raised(error)
    finally:
        _flush()
        _say(ledger.report(), beside)


def _heed() -> None:
    """Lets SIGTERM and SIGHUP end the program where it is, so that it can clean up, as Ctrl-C does.

    What is raised while an array is being forgotten Python swallows: the signal then comes again,
    Ctrl-C as well. Processes that the program forks end as they would without this.
    """
    program, hook = os.getpid(), sys.unraisablehook

    def end(number: int, _: Any) -> None:
        if os.getpid() != program:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        sys.exit(128 + number)

    def swallowed(lost: Any) -> None:
        where, ctrl_c = lost.exc_traceback, lost.exc_type is KeyboardInterrupt
        forgets = where is not None and where.tb_frame.f_code is Counted.__del__.__code__
        if not (forgets and (ctrl_c or lost.exc_type is SystemExit)):
            hook(lost)
            return
        number = signal.SIGINT if ctrl_c else lost.exc_value.code - 128
        Timer(0.01, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = swallowed
    for number in ASKING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):  # Python says it itself when it ends
        sys.stdout.flush()


def _raised(error: BaseException) -> int:
    """Prints a traceback of the program's own lines; gives the status that Python ends with."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = _own(one.__traceback__)
            chain += [one.__cause__, one.__context__]
    _flush()
    sys.excepthook(type(error), error, error.__traceback__)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _own(traceback: TracebackType | None) -> TracebackType | None:
    """Without the lines of this package and of Python's imports."""
    hidden = (f"{Path(__file__).parent}{os.sep}", "<frozen importlib")
    frames = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(hidden):
            frames.append(traceback)
        traceback = traceback.tb_next
    made = None
    for frame in reversed(frames):
        made = TracebackType(made, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return made


class Finder(MetaPathFinder):
    """Finds modules of the program: those in Python that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        if name.partition(".")[0] == "counting" or spec.loader.path.startswith(INSTALLED):
            return None
        spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(SourceFileLoader):
    """Runs a module with the names of `importing`."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = NAMES
        super().exec_module(module)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
