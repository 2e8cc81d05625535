"""The `step` command: generation under the debugger, then the text, as `generate` prints it."""

import sys
import traceback
from typing import Any

from counting import observing, uncounted
from counting.stepping.frames import ledger_of
from minigpt.errors import InputError
from minigpt.inference.generate import generate
from minigpt.inference.load import load
from minigpt.stepping.debugger import Debugger


def run(
    prompt: str,
    model: str,
    place: dict[str, Any],
    at: str | None,
    token: int | None,
    options: dict[str, Any],
) -> int:
    """Steps, and prints the text if it comes to its end; gives the exit status.

    Raises:
        InputError: as `ModelStepper.generate`; or the text ended before it came to the first stop.
    """
    lm = load(model, **place)
    if "pydevd" in sys.modules:  # an IDE's debugger steps already: it needs composites open
        if at or token:
            raise InputError("--at and --token are not for an IDE: set a breakpoint there")
        with observing(lm.ledger, lambda *_: None):
            print(prompt + "".join(step.text for step in generate(lm, prompt, **options)))
        return 0
    debugger = Debugger()
    before = sys.breakpointhook
    sys.breakpointhook = lambda *_, **__: debugger.break_in(sys._getframe(1))
    try:
        text = debugger.generate(lm, prompt, at=at, token=token, **options)
    finally:
        sys.breakpointhook = before
    if text is None:
        return 0
    print(text)
    if debugger.waiting and not debugger.stops:
        first = f"--token {token}" if at is None else f"--at {at}"
        raise InputError(f"the text ended after {len(debugger.came)} tokens, before {first}")
    print(f"{len(debugger.came)} tokens, {debugger.number:,} operations", file=sys.stderr)
    return 0


def post_mortem(error: BaseException) -> None:
    """Opens the debugger where an error was raised, for `--pdb`."""
    traceback.print_exception(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    debugger = Debugger()
    debugger.ledger = ledger_of(reversed(frames))
    with uncounted(debugger.ledger):
        debugger.interaction(None, error.__traceback__)
