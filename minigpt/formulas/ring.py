"""What each of P devices sends of n numbers that they sum or gather together, in closed form.

The ring itself runs on a symbol n, on each device, whether P divides n or not: at each P that is
run what it sends is proved for every n. That it goes on so in P is tried, see `law`.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import sympy
from sympy import Symbol

from counting import Counted, Ledger, ShapeArray
from counting.ledger import CATEGORIES
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.communicators import OnPaper
from minigpt.planning.devices import SENT

SYMBOLS = {"P": "devices that share each layer", "r": "(P - 1)/P"}
P = Symbol("P", integer=True, positive=True)
r = Symbol("r", positive=True)
n = Symbol("n", integer=True, positive=True)
WIRE = (*CATEGORIES, "wire")
FOUND, HELD = (2, 3), (4, 5)  # devices that a line in P is found from, and held against


def chunk(n: Any, i: int, size: int) -> Any:
    """How many of n numbers the i-th of `size` devices has, as whole numbers can be divided."""
    i %= size
    return n * (i + 1) // size - n * i // size


class Disproved(ValueError):
    """What runs is not what a closed form assumes."""


class Work(NamedTuple):
    """What a device sends of n numbers, and how many of them it adds."""

    sent: Any
    added: Any


def of_device(operation: str, n: Any, rank: int, size: int) -> Work:
    """What one device does in an "all_reduce" or "all_gather" of n numbers, in whole numbers.

    Chunks may be uneven. Of a gather it sends each but the next device's; of a sum likewise, and
    before that each but the one after, which is the last that the next one adds to.
    """
    after = chunk(n, rank + 1, size)
    if operation == "all_gather":
        return Work(n - after, 0)
    return Work(2 * n - after - chunk(n, rank + 2, size), n - chunk(n, rank, size))


@lru_cache
def law(operation: str) -> Work:
    """What a device does of n numbers on average, in n and r: exactly so where P divides n.

    All devices together do so many times n as is a line in P, found from two P and held against
    others; each device what `of_device` says.

    Raises:
        Disproved: it is no line, or a device does something else.
    """
    of_all = {}
    for size in (*FOUND, *HELD):
        ring = [_executed(operation, rank, size) for rank in range(size)]
        if any(
            sympy.expand(one - other) != 0
            for rank, work in enumerate(ring)
            for one, other in zip(work, of_device(operation, n, rank, size), strict=True)
        ):
            raise Disproved(f"{operation} on {size} devices is not what it is said to be")
        of_all[size] = [sympy.expand(sum(each)) / n for each in zip(*ring, strict=True)]
    lines = []
    for number, (one, two) in enumerate(zip(*(of_all[size] for size in FOUND), strict=True)):
        slope = (two - one) / (FOUND[1] - FOUND[0])
        start = one - slope * FOUND[0]
        if any(of_all[size][number] != start + slope * size for size in HELD):
            raise Disproved(f"{operation} is no line in P")
        lines.append(sympy.expand(n * (slope + start * (1 - r))))
    return Work(*lines)


def _executed(operation: str, rank: int, size: int) -> Work:
    ledger, ring = Ledger(WIRE), OnPaper(rank, size)
    if operation == "all_reduce":
        all_reduce(Counted(ShapeArray((n,), np.float16), ledger), ring)
    elif operation == "all_gather":
        widths = [chunk(n, i, size) for i in range(size)]
        all_gather(Counted(ShapeArray((widths[rank],), np.float16), ledger), widths, ring)
    else:
        raise Disproved(f"{operation} has no closed form here")
    counts = ledger.snapshot()
    passed = counts.where(operation=SENT)
    return Work(sum(passed.bytes_read.values()) / 2, counts.cost.flops)
