"""What may be asked of a view beside its file."""

from dataclasses import dataclass

from minigpt.errors import InputError

WEIGHTS = ("flops", "bytes", "seconds")
FIGURES = ("memory", "layers", "roofline", "kv")


@dataclass(frozen=True)
class ViewOptions:
    """How a recording is to be shown.

    Attributes:
        weight: what the width of a part stands for: "flops", "bytes" moved, or "seconds".
        gpu: hardware whose roofline is drawn, by any name that `plan` takes.
        figure: the one of `FIGURES` to draw alone; all of them if None.

    Raises:
        InputError: there is no such weight, or no such figure.
    """

    weight: str = "flops"
    gpu: str | None = None
    figure: str | None = None

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS:
            raise InputError(f"unknown weight {self.weight!r}: it is one of {', '.join(WEIGHTS)}")
        if self.figure not in (None, *FIGURES):
            raise InputError(f"unknown figure {self.figure!r}: it is one of {', '.join(FIGURES)}")
