"""The roofline of a run: what its phases did, and what hardware allows."""

from dataclasses import dataclass

from minigpt.planning.accelerators import BITS, Accelerator
from minigpt.planning.hardware import processor_name, threads
from minigpt.recording.read import Line, Recording


@dataclass(frozen=True)
class Phase:
    """What the passes of a phase did together."""

    name: str
    flops: int
    nbytes: int
    seconds: float

    @property
    def intensity(self) -> float:
        """FLOP a byte read or written."""
        return self.flops / self.nbytes

    @property
    def speed(self) -> float:
        """FLOP a second."""
        return self.flops / self.seconds


@dataclass(frozen=True)
class Roof:
    """The most FLOP a second that hardware allows, by FLOP a byte.

    Attributes:
        rate: of arithmetic, FLOP a second; `kind` says of which numbers.
        bandwidth: of memory, bytes a second.
        measured: rather than promised by a data sheet.
        own: of the machine of the run.
    """

    name: str
    rate: float
    kind: str
    bandwidth: float
    measured: bool
    own: bool

    @classmethod
    def of(cls, hardware: Accelerator, dtype: str, own: bool = False) -> "Roof":
        """That of the fastest rate for operands as wide as a dtype.

        Raises:
            InputError: it has none.
        """
        kind = hardware.fastest(BITS[dtype])
        rate, measured = hardware.flops[kind], hardware.measured
        return cls(hardware.name, rate, kind, hardware.bandwidth, measured, own)

    def at(self, intensity: float) -> float:
        """FLOP a second at so many FLOP a byte."""
        return min(self.rate, self.bandwidth * intensity)

    @property
    def ridge(self) -> float:
        """FLOP a byte from which on arithmetic binds."""
        return self.rate / self.bandwidth


def recorded_here(recording: Recording) -> bool:
    """Whether a run was on a CPU like this one: rates that are measured here hold for it."""
    machine = recording.header["machine"]
    same = (machine["processor"], machine["cores"]) == (processor_name(), threads())
    return same and recording.header["device"] == "cpu"


def moved(record: Line) -> int:
    """Bytes that a pass read and wrote."""
    return sum((*record["bytes_read"].values(), *record["bytes_written"].values()))


def phases(recording: Recording) -> list[Phase]:
    """Prefill and decode, each with all its passes."""
    found = []
    for name in ("prefill", "decode"):
        of = [one for one in recording.passes if one["phase"] == name]
        if of:
            flops, nbytes = sum(one["flops"] for one in of), sum(map(moved, of))
            found.append(Phase(name, flops, nbytes, sum(one["seconds"] for one in of)))
    return found
