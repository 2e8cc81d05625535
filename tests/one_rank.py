"""Drawn sums and rows; as a program, one rank of those that find them, which writes down what it
found, what was counted, and what its sockets say was sent."""

import os
import pickle
import random
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from counting import Counted, Ledger
from counting.ledger import CATEGORIES
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.communicators import MPI

ESTABLISHED = 1  # a state, the first byte of a tcp_info
NOT_SENT, SENT = 144, 200  # where it has tcpi_notsent_bytes, tcpi_bytes_sent: linux/tcp.h


class Case(NamedTuple):
    """A sum of arrays of one shape, or rows of arrays whose last axes have these widths."""

    shape: tuple[int, ...]
    widths: tuple[int, ...] | None
    dtype: str
    seed: int

    def inputs(self, size):
        """Every rank's array."""
        rng = np.random.default_rng(self.seed)
        widths = self.widths or [self.shape[-1]] * size
        shapes = [(*self.shape[:-1], width) for width in widths]
        return [rng.normal(0, 9, shape).astype(self.dtype) for shape in shapes]

    def run(self, x, ring):
        return all_gather(x, self.widths, ring) if self.widths else all_reduce(x, ring)


def cases(seed, size):
    rng = random.Random(f"{seed} {size}")
    for number in range(24):
        shape = tuple(rng.choice([1, 2, 3, 7, 12]) for _ in range(rng.randint(1, 3)))
        if number % 4 == 0:  # fewer elements than ranks, or none
            shape = (rng.randrange(size),)
        widths = tuple(rng.randrange(9) for _ in range(size)) if number % 3 == 0 else None
        yield Case(shape, widths, rng.choice(["float32", "float64"]), rng.randrange(10**6))


def counted(case, x, ring):
    """What is found of one array, as data or as a shape, and what that costs, by row."""
    ledger = Ledger((*CATEGORIES, "wire"))
    found = case.run(Counted(x, ledger), ring)
    return found.data, ledger.snapshot()


def sent():
    """Bytes that all TCP sockets of this process have sent, each once, as the kernel counts them.

    What it sends again, as it does if an answer is late, is no part of them.
    """
    waiting = 1
    while waiting:
        total = waiting = 0
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # no socket, or of another kind
                one = socket.socket(fileno=int(number))
                try:
                    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                finally:
                    one.detach()
                if info[0] == ESTABLISHED:
                    waiting += struct.unpack_from("I", info, NOT_SENT)[0]
                    once, again = struct.unpack_from("QQ", info, SENT)
                    total += once - again
        time.sleep(0.001)
    return total


def main(folder, seed):
    ring = MPI()
    nothing, found = np.empty(0, np.uint8), []
    after, before = ((ring.rank + step) % ring.size for step in (1, -1))
    for _ in range(3 * ring.size):  # once what was sent has come round, all sockets are open
        ring.world.Sendrecv(nothing, after, recvbuf=nothing, source=before)
    start = sent()
    for _ in range(10):
        ring.world.Sendrecv(nothing, after, recvbuf=nothing, source=before)
    framing = (sent() - start) / 10
    for case in cases(seed, ring.size):
        mine = case.inputs(ring.size)[ring.rank]
        start = sent()
        result, counts = counted(case, mine, ring)
        found.append((result, dict(counts), sent() - start, case.run(mine, ring)))
    theirs = []  # of MPI's own, whose messages would be counted above
    for case in cases(seed, ring.size):
        mine = case.inputs(ring.size)[ring.rank]
        if case.widths:
            theirs.append(np.concatenate(ring.world.allgather(mine), axis=-1))
        else:
            theirs.append(np.empty_like(mine))
            ring.world.Allreduce(mine, theirs[-1])
    Path(folder, f"{ring.rank}").write_bytes(pickle.dumps((framing, found, theirs)))


if __name__ == "__main__":
    main(*sys.argv[1:])
