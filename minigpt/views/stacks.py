"""What views call things: models, passes, the parts around an operation; and what it weighs."""

import re
from collections.abc import Iterator

from minigpt.errors import InputError
from minigpt.recording.read import Line, Recording


def model(recording: Recording) -> str:
    """The name of the model, without bytes of a file's name that are no text."""
    return str(recording.header["model"]).encode(errors="replace").decode()


def phase(number: int | None) -> str:
    """What a pass is for: "prefill" the first, "decode" the others; "cache" before any."""
    return "cache" if number is None else "decode" if number else "prefill"


def parts(path: str) -> list[str]:
    """The parts of the model that a path leads through: h.3, attn, c_attn."""
    return re.findall(r"[^.]+(?:\.\d+)*", path)


def stack(line: Line) -> tuple[str, ...]:
    """The parts around an operation, or a row, and its name, outermost first."""
    return *parts(line["path"]), line["operation"]


def weighed(recording: Recording, weight: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """A stack, with the phase outermost, and what it weighs: for each operation, in order.

    Where no operations were recorded, for each row of what the phases did.

    Args:
        weight: "flops"; "bytes", read and written; or "seconds", which come as nanoseconds.

    Raises:
        InputError: the recording does not say it.
    """
    lines = recording.operations or recording.rows
    if not recording.operations and weight == "seconds":
        raise InputError(f"{recording.path} has no times of operations: record it with --ops")
    if not lines:
        why = recording.notes[-1] if recording.notes else "nothing ran"
        raise InputError(f"{recording.path} has nothing to weigh: {why}")
    for line in lines:
        name = line["phase"] if line["type"] == "row" else phase(line["pass"])
        yield (name, *stack(line)), _weight(line, weight)


def _weight(line: Line, weight: str) -> int:
    if weight == "seconds":
        return round(line["seconds"] * 1e9)
    if weight == "bytes":
        return sum(line["bytes_read"].values()) + sum(line["bytes_written"].values())
    return int(line["flops"])
