"""The least time that a forward pass takes on given hardware, and what it waits for."""

from typing import Any, NamedTuple

PHASE_SECONDS = 8e-6
"""What one phase of an all-reduce takes before any byte moves: kipply's 8 microseconds."""


class Step(NamedTuple):
    """The floor of one forward pass.

    Attributes:
        flops: of matrix products, scores of masked keys left out.
        weight_bytes, kv_bytes: read, and for the cache written too, as the run observed; of all.
        wire_bytes: that each GPU sends.
        arithmetic_s, memory_s, wire_s: seconds each would take alone.
    """

    flops: int
    weight_bytes: int
    kv_bytes: int
    wire_bytes: int
    arithmetic_s: float
    memory_s: float
    wire_s: float

    @property
    def seconds(self) -> float:
        """At least: an all-reduce waits for what it reduces, so the wire comes on top."""
        return max(self.arithmetic_s, self.memory_s) + self.wire_s

    @property
    def binds(self) -> str:
        """What takes the most of it: "arithmetic", "memory" or "wire"."""
        parts = {"memory": self.memory_s, "arithmetic": self.arithmetic_s, "wire": self.wire_s}
        return max(parts, key=lambda name: parts[name])

    @property
    def intensity(self) -> float:
        """FLOP a byte of weights and cache."""
        return self.flops / (self.weight_bytes + self.kv_bytes)

    def as_dict(self) -> dict[str, Any]:
        extra = {"seconds": self.seconds, "binds": self.binds, "intensity": self.intensity}
        return {**self._asdict(), **extra}
