"""What may be asked of a plan."""

from dataclasses import dataclass

from minigpt.checks import NAME, checked_fields, integer, optional


@dataclass(frozen=True)
class Options:
    """What may be asked of a plan; `plan` fills in what is None.

    Attributes:
        gpus: how many, in tensor parallel.
        dtype: of arithmetic, cache and activations: float16 where the hardware has a rate for it,
            else float32.
        weights_dtype: in which weights are held and read, bytes alone, scales not included: as
            `dtype`.
        context: tokens that each sequence may come to hold: the model's own, at most 8192.
        batch: sequences at once.
        prompt: tokens of it that come at once, one prompt after another: the context, at most 1024.
    """

    gpus: int = 1
    dtype: str | None = None
    weights_dtype: str | None = None
    context: int | None = None
    batch: int = 1
    prompt: int | None = None

    def __post_init__(self) -> None:
        checked_fields(self, CHECKS)


CHECKS = {
    **dict.fromkeys(("gpus", "batch"), integer),
    **dict.fromkeys(("dtype", "weights_dtype"), optional(NAME)),
    **dict.fromkeys(("context", "prompt"), optional(integer)),
}
