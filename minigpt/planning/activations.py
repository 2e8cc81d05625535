"""The most bytes of activations that a pass holds, as written and with attention fused.

As written, a block holds the scores of all queries and keys at once, their softmax, and all blocks
share a mask of that size. Kernels that fuse attention (FlashAttention and its kind) go through
them in pieces and store none: what they hold is the same run without those arrays.
"""

import weakref
from functools import lru_cache
from typing import Any

from counting import observing
from counting.charge import Charge
from minigpt.models.config import Config
from minigpt.planning.count import forward, ready

FUSED = ("mask", "qk", "softmax")
"""What the scopes are called whose arrays are never stored where attention is fused."""


def as_written(config: Config, T: int, N: int, B: int, dtype: str) -> int:
    """The most bytes alive in a pass of T new tokens of each of B sequences after N."""
    few = config.short()  # activations do not pile up over layers
    return int(forward(few, T, N, B, logits="last", dtype=dtype).peak["activations"])


@lru_cache(maxsize=256)
def fused(
    config: Config, T: int, N: int, B: int, dtype: str, unstored: tuple[str, ...] = FUSED
) -> int:
    """The same without the arrays that are made in scopes of the names `unstored`."""
    ledger, run = ready(config.short(), T, N, B, "last", dtype)
    live = most = int(ledger.live_bytes["activations"])  # what the model keeps for itself

    def gone(nbytes: int) -> None:
        nonlocal live
        live -= nbytes

    def observe(path: str, charge: Charge, operands: Any, result: Any) -> None:
        nonlocal live, most
        if result is None or result.spec.category != "activations":
            return
        if path.rpartition(".")[2] not in unstored:
            live += result.nbytes
            most = max(most, live)
            weakref.finalize(result, gone, result.nbytes)

    with observing(ledger, observe):
        run()
    return most
