"""A plan in a few sentences."""

from minigpt.planning.assumptions import uneven
from minigpt.planning.plan import OVERHEAD_RANGE, Plan
from minigpt.planning.roofline import Floor


def verdict(made: Plan) -> str:
    """Whether it fits, by how much, what would, and how fast it can be, in a few sentences."""
    where = made.where if made.gpus > 1 else f"one {made.gpu.name}"
    needed = gigabytes(made.memory.needed)
    size = f"{needed} of {gigabytes(made.gpu.memory)}{' each' * (made.gpus > 1)}"
    kind = made.dtype
    if made.weights_dtype != kind:
        kind += f" with {made.weights_dtype} weights"
    told = f"{made.model} {made.fit} on {where} in {kind}: "
    if made.fits:
        told += f"{size}; up to {made.largest_batch:,} "
        told += f"sequences of {made.context:,} tokens fit at once. "
        if not made.fits_as_written:
            told += (
                "It takes fused attention: as written, all scores stored at once, it needs "
                f"{gigabytes(made.memory_as_written.needed)} and does not fit. "
            )
    else:
        more = f"{gigabytes(-made.spare)} too much"
        if made.may_fit:
            more = f"{made.overhead / 1e9:.2g} GB of it for the runtime, which may take up to "
            more += f"{OVERHEAD_RANGE[1] / 1e9:.2g} GB"
        told += f"even with fused attention it needs {size}, {more}; "
        told += f"the weights are {gigabytes(made.memory.weights)}. {_would(made)} "
    if apart := [line for line in uneven(made) if "experts" not in line]:
        told += f"Not evenly, which some engines refuse: {'; '.join(apart)}. "
    each = f" of each of {made.batch:,} sequences" if made.batch > 1 else ""
    takes = "takes" if made.fits else "would take"
    last = f", {_took(made, made.last)} at {made.context:,}" if made.context > 1 else ""
    least, most = ("about", "about") if made.gpu.measured else ("at least", "at most")
    rate = made.batch / made.first.seconds
    told += f"A token{each} {takes} {least} {_took(made, made.first)} at one key{last}"
    told += f": {most} {rate:,.0f} tokens/s, bound by {made.first.binds}. "
    prefill = made.prefill
    return told + (
        f"A prompt of {made.prompt:,} {takes} {least} {_took(made, prefill)} to its first token."
    )


def _took(made: Plan, step: Floor) -> str:
    """The floor, and the estimate where the two differ in the figures shown."""
    about = step.estimate.seconds
    if made.gpu.measured or about < 1.01 * step.seconds:
        return milliseconds(step.seconds)
    return f"{milliseconds(step.seconds)} (estimate: {milliseconds(about)})"


def _would(made: Plan) -> str:
    found = made.remedies()
    ways = [f"with {name} weights" for name in found["weights_dtype"]]
    if made.largest_batch:
        ways.append(f"with a batch of {made.largest_batch:,}")
    if made.largest_context:
        ways.append(f"with a context of {made.largest_context:,}")
    if found["gpus"]:
        ways.append(f"on {found['gpus']} of them")
    if found["gpu"]:
        ways.append(f"on one {found['gpu']}")
    return f"What would fit: {'; '.join(ways)}." if ways else "Nothing here would make it fit."


def gigabytes(n: float) -> str:
    return f"{n / 1e9:,.2f} GB"


def milliseconds(seconds: float) -> str:
    return f"{short(1e3 * seconds)} ms" if seconds < 0.9995 else f"{short(seconds)} s"


def short(x: float) -> str:
    return f"{x:.3g}" if x < 999.5 else f"{x:,.0f}"
