"""What was alive when, worked out from what each operation of a recording made and gave back."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from minigpt.recording.read import Line, Recording


class Moment(NamedTuple):
    """Memory right after an operation, or after a pass.

    Attributes:
        at: seconds since the start of the run.
        line: of the operation, or of the token with which the pass ended.
        live: bytes by category.
        alive: the lines of the operations whose arrays are alive, by number, in the order in which
            they were made; what was there before the run is in none of them.
    """

    at: float
    line: Line
    live: dict[str, int]
    alive: dict[int, Line]


def moments(recording: Recording) -> Iterator[Moment]:
    """Memory after each operation, from the first on; nothing where none were recorded.

    `live` and `alive` go on changing: copy what is to be kept.
    """
    live, alive = dict(recording.header["live_bytes"]), dict[int, Line]()
    for line in _in_order(recording):
        for number in line.get("freed", ()):
            made = alive.pop(number)
            live[made["category"]] -= made["bytes"]
        if line["type"] == "operation":
            at = line["start"] + line["seconds"]
            if line["bytes"]:
                alive[line["number"]] = line
                live[line["category"]] += line["bytes"]
        else:
            at = line["at"]
        yield Moment(at, line, live, alive)


def _in_order(recording: Recording) -> Iterator[Line]:
    """The lines of operations, and after each pass those of its tokens."""
    if not recording.operations:
        return
    tokens = {number: [*some] for number, some in groupby(recording.tokens, lambda t: t["pass"])}
    for number, some in groupby(recording.operations, lambda line: line["pass"]):
        yield from some
        yield from tokens.get(number, ())
