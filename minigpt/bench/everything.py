"""Every phase of models at every precision, beside the peers, as one result."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from minigpt.bench.engines import Entry
from minigpt.bench.measure import Result, agreement, measure
from minigpt.bench.rounds import Measured
from minigpt.bench.worker import Case
from minigpt.errors import InputError


class Part(NamedTuple):
    """What one table of `measure` is of."""

    phase: str
    case: Case
    new_tokens: int = 1


DECODE = Part("decode", Case(16), 32)
PARTS = (
    DECODE,
    *(Part("decode", Case(16, batch), 32) for batch in (2, 4, 8, 16)),
    Part("prefill", Case(512)),
    Part("load", Case(16)),
)


def everything(
    models: Sequence[str], chosen: Sequence[Entry], rounds: int
) -> tuple[Result, list[str]]:
    """The result of all `PARTS` of the first model, and of decoding with the others.

    Processes are fresh for each part, so that the memory of each is its own.

    Args:
        models: see `bench.subject`; of all but the first no float32, which few machines hold.
        chosen: see `entries`.

    Returns:
        Also how far the tokens of each decode agree, in lines.

    Raises:
        InputError: a part cannot be measured.
    """
    narrow = [entry for entry in chosen if entry.dtype != "float32"]
    first, *others = dict.fromkeys(models)
    if others and not narrow:
        raise InputError(f"{others[0]} is not measured in float32: another --dtype")
    asked = [(first, chosen, part) for part in PARTS]
    asked += [(model, narrow, DECODE) for model in others]
    results, lines = [], []
    for model, entries, (phase, case, new) in asked:
        results.append(measure(phase, model, entries, rounds, [case], new))
        if phase == "decode":
            lines += [f"{model}, {case.batch} together: {x}" for x in agreement(results[-1])]
    rows = list(chain.from_iterable(result.rows for result in results))
    runs = list(chain.from_iterable(result.measured.runs for result in results))
    repeated = sum(result.measured.repeated for result in results)
    outside = sum(result.measured.outside for result in results)
    left_out = list(dict.fromkeys(chain.from_iterable(result.left_out for result in results)))
    return Result(rows, Measured(runs, repeated, outside), left_out), lines
