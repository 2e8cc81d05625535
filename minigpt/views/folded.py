"""A recording as folded stacks, a line for each: what flame graph programs read."""

from collections import Counter
from pathlib import Path

from minigpt.recording.read import Recording
from minigpt.views.options import ViewOptions
from minigpt.views.stacks import weighed


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes `decode;h.3;attn;c_attn;matmul 1179648`: a stack and the sum of what it weighs.

    Seconds are written as whole nanoseconds.

    Raises:
        InputError: the recording does not say what it weighs.
    """
    sums = Counter[tuple[str, ...]]()
    for stack, weight in weighed(recording, options.weight):
        sums[stack] += weight
    lines = (f"{';'.join(stack)} {weight}\n" for stack, weight in sums.items() if weight)
    path.write_text("".join(lines), encoding="utf-8")
