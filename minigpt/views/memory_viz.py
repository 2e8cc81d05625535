"""A recording's memory as a snapshot of PyTorch's allocator, for pytorch.org/memory_viz."""

import pickle
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from minigpt.errors import InputError
from minigpt.recording.memory import moments
from minigpt.recording.read import Line, Recording
from minigpt.views.options import ViewOptions
from minigpt.views.stacks import parts, phase

Event = dict[str, Any]

PROTOCOL = 4  # of pickle: the page's own reader knows 2 to 4


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes what `torch.cuda.memory._snapshot()` would return, of built-in types alone.

    Raises:
        InputError: no operations were recorded.
    """
    if not recording.operations:
        raise InputError(
            f"{recording.path} does not say what was allocated when: record it with --ops"
        )
    alive: dict[int, Event] = {}
    events = [*_events(recording, alive)]
    segments = [_segment(block) for block in alive.values()]
    with path.open("wb") as file:
        pickle.dump({"segments": segments, "device_traces": [events]}, file, PROTOCOL)


def _events(recording: Recording, alive: dict[int, Event]) -> Iterator[Event]:
    """What was allocated and freed, in order; leaves in `alive` what is so at the end.

    Each array is a segment of its own at an address of its own, as memory of NumPy's is.
    """
    address = 0x1000
    before = count(-1, -1)  # in the place of numbers of operations, which begin at 1
    # The page colours by category only if one is called so.
    yield {"action": "snapshot", "addr": 0, "size": 0, "stream": 0, "category": "unknown"}
    for category, size in recording.header["live_bytes"].items():
        if size:
            frames = [{"name": category, "filename": "before the run", "line": 0}]
            block = alive[next(before)] = _block(address, size, category, frames)
            address += size
            yield from _made(block, 0.0)
    for moment in moments(recording):
        line = moment.line
        for number in line.get("freed", ()):
            yield from _freed(alive.pop(number), line.get("start", moment.at))
        if line["type"] == "operation" and line["bytes"]:
            block = _block(address, line["bytes"], line["category"], _frames(line))
            alive[line["number"]] = block
            address += line["bytes"]
            yield from _made(block, moment.at)


def _block(address: int, size: int, category: str, frames: list[Event]) -> Event:
    return {"addr": address, "size": size, "stream": 0, "frames": frames, "category": category}


def _made(block: Event, at: float) -> Iterator[Event]:
    for action in ("segment_alloc", "alloc"):
        yield {"action": action, **block, "time_us": round(at * 1e6)}


def _freed(block: Event, at: float) -> Iterator[Event]:
    for action in ("free_requested", "free_completed", "segment_free"):
        yield {"action": action, **block, "time_us": round(at * 1e6)}


def _frames(line: Line) -> list[Event]:
    """The operation, and the parts of the model around it, innermost first."""
    shape = "x".join(map(str, line["shape"]))
    name = f"{line['operation']} {shape} {line['dtype']}"
    where = {"filename": phase(line["pass"]), "line": line["pass"] or 0}
    outer = [{"name": part, **where} for part in reversed(parts(line["path"]))]
    return [
        {"name": name, "filename": line["path"] or phase(line["pass"]), "line": line["number"]},
        *outer,
    ]


def _segment(block: Event) -> Event:
    size, frames = block["size"], block["frames"]
    held = {"address": block["addr"], "size": size, "requested_size": size, "frames": frames}
    return {
        "device": 0,
        "address": block["addr"],
        "total_size": size,
        "allocated_size": size,
        "active_size": size,
        "requested_size": size,
        "stream": 0,
        "segment_type": "large",
        "frames": frames,
        "blocks": [held | {"state": "active_allocated"}],
    }
