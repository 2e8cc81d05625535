"""A recording as a trace for Perfetto: slices nested as the model is, counters with units."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from minigpt.errors import InputError
from minigpt.recording.memory import moments
from minigpt.recording.read import Line, Recording
from minigpt.views.frames import flat
from minigpt.views.options import ViewOptions
from minigpt.views.stacks import model, parts, phase

SHOWN = {"type", "pass", "path", "operation", "start", "at", "seconds", "freed", "text"}
"""Fields that a trace does not show as arguments of an event: its name and its times say them."""


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes a trace of passes, of operations within them if they were recorded, and tokens.

    Raises:
        InputError: the perfetto package is not installed, or a number is too large for a trace.
    """
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
    except ImportError:
        raise InputError(
            ".pftrace needs the perfetto package: pip install -e '.[views]' in the clone"
        ) from None
    try:
        with path.open("wb") as file:
            _write(recording, _Trace(protos, file, model(recording)))
    except ValueError:  # of the protobuf, which has 64 bits
        raise InputError(
            f"{recording.path} has numbers above 2^63, which no trace can hold"
        ) from None


def _write(recording: Recording, trace: "_Trace") -> None:
    slices, counters = _Slices(trace), _Counters(trace, recording.header["live_bytes"])
    tokens = [trace.track(f"tokens of prompt {i}") for i in range(len(recording.header["prompts"]))]
    passes = {one["pass"]: one for one in recording.passes}
    if not recording.operations:  # which say it themselves
        for row in recording.rows:
            if row["phase"] == "cache":
                counters.add(row)
    for at, line, live in _lines(recording):
        if line["type"] == "operation":
            slices.operation(line, passes.get(line["pass"], {}))
            counters.add(line)
        elif one := passes.pop(line["pass"], None):  # others of a batch tell of the same pass
            if not recording.operations:
                slices.enter(_ns(at - line["seconds"]), [_name(line["pass"])], one)
                counters.add(line)
            slices.leave(1)
            slices.leave(0, _ns(at))
        if line["type"] == "token":
            trace.event("INSTANT", tokens[line["sequence"]], _ns(at), line["text"] or "…", line)
        counters.show(_ns(at), live)
    slices.leave(0)


def _lines(recording: Recording) -> Iterator[tuple[float, Line, dict[str, int]]]:
    """When each operation, or pass, had ended, its line, and what was alive then."""
    for moment in moments(recording):
        yield moment.at, moment.line, moment.live
    if not recording.operations:
        for token in recording.tokens:
            yield token["at"], token, token["live_bytes"]


def _name(number: int | None) -> str:
    return phase(number) if number is None else f"pass {number}: {phase(number)}"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class _Trace:
    """A trace that is written event by event, in the order of time.

    Attributes:
        now: nanoseconds since the start of the run, of the last event; none is before it.
    """

    def __init__(self, protos: Any, file: IO[bytes], name: str) -> None:
        self._protos, self._file = protos, file
        self._tracks, self.now = 1, 0
        process = {"pid": 1, "process_name": f"minigpt: {name}"}
        self._packet(track_descriptor={"uuid": 1, "process": process})

    def track(self, name: str, **counter: Any) -> int:
        """The number of a new track; with the fields of its CounterDescriptor, of a counter."""
        self._tracks += 1
        about = {"uuid": self._tracks, "parent_uuid": 1, "name": name}
        self._packet(track_descriptor=about | ({"counter": counter} if counter else {}))
        return self._tracks

    def event(self, kind: str, track: int, at: int, name: str = "", line: Line = {}) -> None:  # noqa: B006
        """A "SLICE_BEGIN", "SLICE_END" or "INSTANT", with the fields of a line as arguments."""
        said = [
            {"name": key} | ({"int_value": n} if type(n) is int else {"string_value": str(n)})
            for key, n in flat(line).items()
            if key not in SHOWN
        ]
        self._event(kind, track, at, name=name, debug_annotations=said)

    def count(self, track: int, at: int, value: int) -> None:
        """The value that a counter has from then on."""
        self._event("COUNTER", track, at, counter_value=value)

    def _event(self, kind: str, track: int, at: int, **fields: Any) -> None:
        self.now = max(self.now, at)
        about = {"type": f"TYPE_{kind}", "track_uuid": track, **fields}
        self._packet(timestamp=self.now, trusted_packet_sequence_id=1, track_event=about)

    def _packet(self, **fields: Any) -> None:
        # Messages that follow each other are one: repeated fields are put together.
        self._file.write(self._protos.Trace(packet=[fields]).SerializeToString())


class _Slices:
    """The track of passes, parts of the model within them, and operations within those."""

    def __init__(self, trace: _Trace) -> None:
        self._trace, self._track = trace, trace.track("passes")
        self._open = list[str]()

    def operation(self, line: Line, about: Line) -> None:
        """An operation, in the parts around it; `about` is the token of its pass."""
        start, trace = _ns(line["start"]), self._trace
        self.enter(start, [_name(line["pass"]), *parts(line["path"])], about)
        trace.event("SLICE_BEGIN", self._track, start, line["operation"], line)
        trace.event("SLICE_END", self._track, start + _ns(line["seconds"]))

    def enter(self, at: int, names: list[str], about: Line) -> None:
        """Leaves what has other names, and enters what is not open yet."""
        common = 0
        for is_open, name in zip(self._open, names, strict=False):
            if is_open != name:
                break
            common += 1
        self.leave(common)
        for depth in range(common, len(names)):
            line = {} if depth else about
            self._trace.event("SLICE_BEGIN", self._track, at, names[depth], line)
        self._open = names

    def leave(self, depth: int, at: int = 0) -> None:
        """Ends what is open below a depth: where the last event was, or later."""
        for _ in self._open[depth:]:
            self._trace.event("SLICE_END", self._track, at)
        del self._open[depth:]


class _Counters:
    """Bytes alive by category; FLOP and bytes moved, added up since the start of the run."""

    def __init__(self, trace: _Trace, live: dict[str, int]) -> None:
        self._trace, self._last = trace, dict[str, int]()
        self._tracks = {name: trace.track(f"live {name}", unit="UNIT_SIZE_BYTES") for name in live}
        self._tracks["flops"] = trace.track("FLOP so far", unit_name="FLOP")
        for name in ("bytes_read", "bytes_written"):
            said = f"{name.replace('_', ' ')} so far"
            self._tracks[name] = trace.track(said, unit="UNIT_SIZE_BYTES")
        self._sums = {"flops": 0, "bytes_read": 0, "bytes_written": 0}
        self.show(0, live)

    def add(self, line: Line) -> None:
        """What an operation, or a pass, has done: shown by the next `show`."""
        self._sums["flops"] += line["flops"]
        for name in ("bytes_read", "bytes_written"):
            self._sums[name] += sum(line[name].values())

    def show(self, at: int, live: dict[str, int]) -> None:
        """Those that have changed."""
        for name, value in (live | self._sums).items():
            if self._last.get(name) != value:
                self._last[name] = value
                self._trace.count(self._tracks[name], at, value)
