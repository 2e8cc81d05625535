"""What was alive when, worked out from what each operation of a recording made and gave back."""

from collections.abc import Iterator
from typing import NamedTuple

from minigpt.planning.forward import kv_bytes
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
    for line in recording.events if recording.operations else ():
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


def reserved(recording: Recording) -> list[int]:
    """Bytes of this run's KV cache after each pass, of all sequences."""
    before = recording.header["live_bytes"]["kv_cache"]
    return [one["live_bytes"]["kv_cache"] - before for one in recording.passes]


def filled(recording: Recording) -> list[int]:
    """Bytes of them that hold keys and values.

    Of a layer that looks no further back than a window, no more than that many positions are.
    """
    config = recording.config
    whole = kv_bytes(config, recording.header["context"])  # of one sequence, in any dtype
    if not whole:
        return [0 for _ in recording.passes]
    return [
        held * kv_bytes(config, one["position"]) // whole
        for one, held in zip(recording.passes, reserved(recording), strict=True)
    ]
