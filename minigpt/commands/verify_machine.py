"""`verify --machine`: what a pass is counted to cost beside what the processor executed of it."""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from counting.machine import Unavailable, executed
from counting.table import table
from counting.views import flops
from minigpt.checks import SEED, checked
from minigpt.commands.terminal import console, doing
from minigpt.errors import InputError
from minigpt.fast import enabled, missing
from minigpt.formulas.figures import named
from minigpt.formulas.machine.algebra import LETTERS
from minigpt.formulas.machine.compared import Compared, Pair, Row, together
from minigpt.formulas.machine.verify import SteppedModel
from minigpt.models.config import Config
from minigpt.planning.forward import Pass, on_shapes, one_of
from minigpt.schema import SCHEMA

if TYPE_CHECKING:
    from minigpt.fast.kernels.machine import Machine

DTYPES = "float32", "bfloat16", "int8"
PROMPT, PAST = 5, 16  # tokens of a short prompt, and before a decode step
LONG = 60  # seconds from which on it is said before
WAYS = {
    "recorded": "recorded jobs of kernels",
    "kernels": "kernels and NumPy",
    "reference": "NumPy alone, which is not judged",
}
VERDICTS = {
    True: "what was executed is what was counted, and the algebra",
    False: "DIFFERS",
    None: "nothing was judged: no kernels ran",
}
Passes = tuple[tuple[int, int], ...]
Ways = list[tuple["Machine | None", str]]
EACH = {True: "equal", False: "DIFFERS", None: "not judged"}


def run(
    model: str,
    dtype: str | None = None,
    prompt: int | None = None,
    past: int | None = None,
    seed: int | None = None,
    reference: bool = False,
    as_json: bool = False,
) -> int:
    """Steps the processor through passes of a model of random weights and prints what it executed.

    A decode step and a prompt, in each dtype, with kernels; where there are none, in NumPy alone.

    Args:
        model: see `figures.named`.
        dtype: of weights, one of `DTYPES`, or all.
        prompt, past: tokens of the prompt, and before the decode step.
        seed: of weights and tokens; 0 if not given.
        reference: in NumPy alone too, as the model's code is read.
        as_json: the last line is a JSON document.

    Returns:
        The exit status: 1 if kernels executed otherwise than is counted and said, or none are used.

    Raises:
        InputError: there is no such model, a number cannot be, nothing can be stepped here, or
            kernels are wanted and what makes them is not installed.
    """
    config, seed = named(model), checked("seed", 0 if seed is None else seed, SEED)
    if dtype is not None:
        one_of("dtype", dtype, DTYPES)
    passes = (1, PAST if past is None else past), (PROMPT if prompt is None else prompt, 0)
    for T, N in passes:
        Pass(T, N).check(config)
    if what := missing():
        raise InputError(f"--machine judges kernels, and NumPy alone would run: {what}")
    said, found = console(), list[Compared]()
    try:
        with doing("stepping") as say:
            ways = [*product(_machines(reference), (dtype,) if dtype else DTYPES)]
            _forewarn(config, passes, ways)
            for one in _passes(config, passes, ways, seed, say):
                found.append(one)
                said.print(shown(one))
    except Unavailable as error:
        raise InputError(str(error)) from None
    agree = together(one.agrees for one in found)
    said.print(Text(LETTERS))
    said.print(Text(VERDICTS[agree]))
    if as_json:
        document = {"model": model, "agrees": agree, "passes": [x.document() for x in found]}
        print(json.dumps({"schema": SCHEMA} | document))
    return 0 if agree else 1


def _machines(reference: bool) -> list["Machine | None"]:
    """What to run on: kernels where there are some, None for NumPy alone."""
    from minigpt.fast.kernels.llvm import Target
    from minigpt.fast.kernels.machine import Machine

    if enabled() and (target := Target()).fits:
        kernels = Machine(target, cores=1)
        return [kernels, None] if reference else [kernels]
    why = "this processor has none" if enabled() else "$MINIGPT_FAST is 0"
    print(f"no kernels, {why}: NumPy alone runs, and nothing is judged", file=sys.stderr)
    return [None]


def _passes(
    config: Config,
    passes: Passes,
    ways: Ways,
    seed: int,
    say: Callable[[str], None],
) -> Iterator[Compared]:
    for machine, dtype in ways:
        stepped = SteppedModel(config, dtype, machine, seed)
        what = f"stepping {'kernels' if machine else 'NumPy'}, {dtype}"
        stepped.steps.said = lambda n, what=what: say(f"{what}: {n} operations")  # type: ignore[misc]
        for T, N in passes:
            yield stepped.compare(T, N)


def _forewarn(config: Config, passes: Passes, ways: Ways) -> None:
    """Says how long it takes, if that is long, by the pace of this machine."""
    for _ in range(2):  # the first one reads what it needs
        start = perf_counter()
        _, ran = executed(np.add, np.ones(5000, np.float32), 1)
    pace = (perf_counter() - start) / ran.instructions
    work = sum(flops(on_shapes(config, Pass(T, N)).counts) for T, N in passes)
    # Instructions a FLOP: of kernels, of NumPy, and of NumPy that makes 16 or 8 bits float32 first.
    each = [0.15 if machine else 0.6 if dtype == "float32" else 4 for machine, dtype in ways]
    seconds = pace * work * sum(each)
    if seconds > LONG:
        less = "" if len(each) == 1 else ": --dtype float32 alone takes less"
        print(f"this takes about {seconds / 60:,.0f} minutes{less}", file=sys.stderr)


def shown(one: Compared) -> Table:
    """A pass as a table."""
    columns = "component", "counted", "executed", "difference", "fma counted", "executed", "why"
    made = table(*columns, justify="right")
    made.columns[0].justify = made.columns[-1].justify = "left"
    what = "decode step" if one.tokens == 1 else f"prompt of {one.tokens} tokens"
    made.title = Text(
        f"{what}, {one.past} before it, {one.dtype}, {WAYS[one.way]}: "
        f"{one.instructions:,} instructions of the processor in {one.seconds:.1f} s"
    )
    made.title_justify = "left"
    for row in one.rows:
        fma = [f"{n:,}" for n in row.fma] if row.fma else ["", ""]
        made.add_row(row.component, *_cells(row.all), *fma, Text("\n".join(_why(row))))
    for held in one.held:
        made.add_row(f"B: {held.what}", *_cells(held.bytes), "", "", EACH[held.agrees])
    return made


def _cells(pair: Pair) -> tuple[str, ...]:
    return f"{pair.counted:,}", f"{pair.executed:,}", f"{pair.difference:+,}"


def _why(row: Row) -> Iterator[str]:
    if row.agrees is None:
        yield EACH[None]
        return
    if not row.agrees:
        yield f"DIFFERS: {row.difference:+,}, said {sum(r.value for r in row.reasons):+,}"
    if row.unsaid:
        yield f"no algebra of {', '.join(row.unsaid)}"
    for reason in row.reasons:
        yield f"{reason.why}: {reason.formula} = {reason.value:,}"
    if row.others.difference:
        yield f"NumPy's own, not judged: {row.others.difference:+,}"
    if row.agrees and row.all.difference == 0:
        yield EACH[True]
