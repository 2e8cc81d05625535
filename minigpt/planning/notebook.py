"""Counts and plans in a notebook, as tables and bars. What they look like is counting's."""

from typing import Any

from counting.notebook import parts, stack, table, text
from counting.views import flops, matmul


def count(found: Any) -> str:
    """A `Count`: what it is of, its components, its memory at the peak."""
    counts = found.counts
    what = (
        f"{found.model}: {found.sizes.in_words}: {flops(counts):,} FLOP, "
        f"{matmul(counts):,} of matrix products"
    )
    peak = found.peak_bytes
    return (
        text(what, strong=True)
        + parts("component", found.rows("component"), counts)
        + text(f"{sum(peak.values()):,} B at the peak")
        + stack(peak, sum(peak.values()))
    )


def plan(made: Any) -> str:
    """A `Plan`: whether it fits, the memory of a GPU, the times of a token and of a prompt."""
    memory, room = made.memory, made.gpu.memory
    steps = [
        ("a token at one key", made.first),
        (f"a token at {made.context:,} keys", made.last),
        (f"a prompt of {made.prompt:,}", made.prefill),
    ]
    times = [
        [name, f"{1000 * of.seconds:.3g}", f"{1000 * of.estimate.seconds:.3g}", of.binds]
        for name, of in steps
    ]
    room_for = (
        f"at most {made.largest_batch:,} sequences of {made.context:,} tokens at once; "
        f"at this batch, at most {made.largest_context:,} tokens each"
    )
    return (
        text(f"{made.model} {made.fit} on {made.where} in {made.dtype}", strong=True)
        + text(f"{memory.needed:,} of {room:,} B on each GPU, at batch {made.batch:,}")
        + stack(memory._asdict(), max(room, memory.needed))
        + table(("", "ms at least", "ms, estimate", "bound by"), times)
        + (text(room_for) if made.fits else "")
    )
