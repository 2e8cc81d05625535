"""The `step` command: generation under the debugger, then the text, as `generate` prints it."""

import sys
import traceback

from counting import observing, uncounted
from counting.stepping.frames import ledger_of
from minigpt.commands.terminal import can_show
from minigpt.errors import InputError
from minigpt.harmless import one_line
from minigpt.inference.generate import continuation
from minigpt.inference.load import load
from minigpt.inference.sample import Sampling
from minigpt.stepping.debugger import Debugger
from minigpt.stepping.stepper import Job


def run(job: Job) -> int:
    """Steps at a prompt, and prints the text if it comes to its end; gives the exit status.

    Raises:
        InputError: as `ModelStepper.generate`; or the text ended before it came to the first stop.
    """
    lm = load(**job.options._asdict())
    if "pydevd" in sys.modules:  # an IDE's debugger steps already: it needs composites open
        if job.at or job.token:
            raise InputError("--at and --token are not for an IDE: set a breakpoint there")
        with observing(lm.ledger, lambda *_: None):
            steps = continuation(lm, [job.prompt], job.sampling)
            print(job.prompt + "".join(step.text for step in steps))
        return 0
    debugger, sampling = Debugger(), job.sampling.seeded()
    before = sys.breakpointhook
    sys.breakpointhook = lambda *_, **__: debugger.break_in(sys._getframe(1))
    try:
        text = debugger.generate(lm, job.prompt, sampling, job.at, job.token)
    finally:
        sys.breakpointhook = before
    if text is None:
        return 0
    print(text)
    if debugger.waiting and not debugger.stops:
        first = f"--token {job.token}" if job.at is None else f"--at {job.at}"
        raise InputError(f"the text ended after {len(debugger.came)} tokens, before {first}")
    print(f"{len(debugger.came)} tokens, {debugger.number:,} operations", file=sys.stderr)
    _say_seed(job.sampling, sampling)
    return 0


def show(job: Job) -> int:
    """Steps on a screen until it is left; then prints the text if it was finished.

    Gives the exit status.

    Raises:
        InputError: there is no screen, or no textual; or as `run`.
    """
    try:
        from minigpt.stepping.screen.app import Stepping
        from minigpt.stepping.screen.engine import Engine
    except ModuleNotFoundError as error:
        if not f"{error.name}.".startswith("textual."):
            raise
        raise InputError("--tui needs textual: pip install -e '.[tui]' in the clone") from None
    if not (sys.stdin.isatty() and can_show()):
        raise InputError("--tui needs a terminal that is not dumb: leave it out for a prompt")
    asked, job = job.sampling, job._replace(sampling=job.sampling.seeded())
    engine = Engine(job)
    try:
        screen = Stepping(engine, job)
        status = screen.run()
    finally:
        engine.close()
    ended = screen.ended
    if ended and ended.text is not None:
        print(ended.text)
        _say_seed(asked, job.sampling)
        if ended.missed and screen.view is None:
            raise InputError("the text ended before it came to the first stop: see --at, --token")
    if ended and ended.error:
        if ended.wrong:
            raise InputError(ended.error)
        print(f"minigpt: {one_line(ended.error)}", file=sys.stderr)
        return 1
    return status or 0


def _say_seed(asked: Sampling, used: Sampling) -> None:
    if used != asked and used.temperature:
        print(f"drawn with --seed {used.seed}", file=sys.stderr)


def post_mortem(error: BaseException) -> None:
    """Opens the debugger where an error was raised, for `--pdb`."""
    debugger = Debugger()
    if isinstance(error, InputError):  # its line is said when the command ends
        debugger.message(f"{type(error).__name__}: {error}")
    else:
        traceback.print_exception(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    debugger.ledger = ledger_of(reversed(frames))
    with uncounted(debugger.ledger):
        debugger.interaction(None, error.__traceback__)
