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
from minigpt.planning.forward import Pass, forward_of_kinds, ready_of_kinds
from minigpt.planning.place import ALL, Place

FUSED = ("mask", "qk", "softmax")
"""Names of the scopes whose arrays a kernel that fuses attention never stores."""


def as_written(config: Config, sizes: Pass, place: Place = ALL) -> int:
    """The most bytes of activations alive in a pass; of several devices on one.

    There what comes from others is added, at its own most.
    """
    sizes.check(config)
    peak = forward_of_kinds(config, sizes, place).peak  # layers do not pile them up
    return int(peak["activations"] + peak.get("wire", 0))


@lru_cache(maxsize=256)
def fused(
    config: Config, sizes: Pass, unstored: tuple[str, ...] = FUSED, place: Place = ALL
) -> int:
    """The most bytes of activations alive in a pass whose kernels fuse attention.

    Args:
        unstored: names of scopes; what is made in them is never stored.
    """
    return int(max(levels(config, sizes, unstored, place)))


def levels(
    config: Config, sizes: Pass, unstored: tuple[str, ...] = FUSED, place: Place = ALL
) -> set[Any]:
    """The bytes of activations alive at once, after each operation, without `unstored`."""
    return {made + came for _, made, came in after_each(config, sizes, unstored, place)}


def after_each(
    config: Config, sizes: Pass, unstored: tuple[str, ...] = (), place: Place = ALL
) -> list[tuple[str, Any, Any]]:
    """Of each operation that makes an activation, in turn: its path, and what is alive after it.

    That is the bytes of activations, with what the model keeps for itself and without those of
    `unstored`, and the bytes that came from other devices.
    """
    ledger, run = ready_of_kinds(config, sizes, place)
    live = {name: ledger.live_bytes.get(name, 0) for name in ("activations", "wire")}
    found = []

    def gone(category: str, nbytes: int) -> None:
        live[category] -= nbytes

    def observe(path: str, charge: Charge, operands: Any, result: Any) -> None:
        category = result.spec.category if result is not None else None
        if category in live and path.rpartition(".")[2] not in unstored:
            live[category] += result.nbytes
            found.append((path, *live.values()))
            weakref.finalize(result, gone, category, result.nbytes)

    with observing(ledger, observe):
        run()
    return found
