"""Sums and rows over all devices, as a ring computes them (Patarasuk and Yuan, 2009); and rows that
each has for each other one, which go there directly.

Nothing is priced by a formula: chunks are added as any arrays are, and a chunk that is passed on is
one operation, which reads what it sends and writes what it receives, and nothing else is written,
in memory of category "wire": the ledger of counted arrays must have it. Each chunk of a sum is
added up in one order only, so all devices find the same bits.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from counting import Cost, category, register, scope
from minigpt.models.ops import Array
from minigpt.parallel.communicators import Alone, Communicator


def pass_on(x: Any, width: Any, communicator: Communicator, distance: int = 1) -> Any:
    """Sends x (n,) so many devices on, and gives what comes from as many before (width,)."""
    return communicator.exchange(x, width, distance)


passed = register(
    pass_on,
    lambda out, x, **given: Cost(),
    example=(np.ones(3), 3, Alone()),
    shape=lambda x, width, **given: (width,),
)


def _next(x: Array, width: Any, communicator: Communicator, distance: int = 1) -> Array:
    with category("wire"):
        return passed(x, width, communicator, distance)


def all_reduce(x: Array, communicator: Communicator) -> Array:
    """The sum of every device's x, each of one shape: in 2 (P - 1) steps, a P-th of x in each."""
    rank, P = communicator.rank, communicator.size
    if P == 1:
        return x
    with scope("all_reduce"):
        flat = x.reshape(-1)
        n = flat.shape[0]
        chunks = [flat[n * i // P : n * (i + 1) // P] for i in range(P)]
        for step in range(P - 1):  # so that each device has the sum of one chunk
            sent, received = (rank - step) % P, (rank - step - 1) % P
            width = chunks[received].shape[0]
            chunks[received] = chunks[received] + _next(chunks[sent], width, communicator)
        for step in range(P - 1):  # which goes round
            sent, received = (rank + 1 - step) % P, (rank - step) % P
            width = chunks[received].shape[0]
            chunks[received] = _next(chunks[sent], width, communicator)
        return np.concatenate(chunks).reshape(x.shape)


def all_gather(x: Array, widths: Sequence[int], communicator: Communicator) -> Array:
    """What all devices have, along the last axis, in the order of their ranks, in P - 1 steps.

    Args:
        widths: of the last axis on each device.
    """
    rank, P = communicator.rank, communicator.size
    if P == 1:
        return x
    with scope("all_gather"):
        rows = x.shape[:-1]
        parts = {rank: x.reshape(-1)}
        for step in range(P - 1):
            sent, received = (rank - step) % P, (rank - step - 1) % P
            width = math.prod(rows) * widths[received]
            parts[received] = _next(parts[sent], width, communicator)
        return np.concatenate([parts[i].reshape(*rows, widths[i]) for i in range(P)], axis=-1)


def all_to_all(
    parts: Sequence[Array], rows: Sequence[int], communicator: Communicator
) -> list[Array]:
    """What each device has for this one, in the order of their ranks, in P - 1 steps.

    Step k goes from each device to the k-th after it, whether it has rows for it or none.

    Args:
        parts: what this one has for each, (its rows, ...), itself included.
        rows: of what each has for this one.
    """
    rank, P = communicator.rank, communicator.size
    found = list(parts)
    with scope("all_to_all"):
        for distance in range(1, P):
            sent, source = parts[(rank + distance) % P], (rank - distance) % P
            shape = (rows[source], *sent.shape[1:])
            got = _next(sent.reshape(-1), math.prod(shape), communicator, distance)
            found[source] = got.reshape(shape)
    return found
