"""The two streams of `code` as columns: what each register held before each instruction."""

from collections.abc import Iterator

import numpy as np

from counting.machine.code import ADDRESS, CHANGED, MASKED, REGISTERS

CHUNK = 1 << 16  # instructions at a time
NOTHING = len(REGISTERS)  # a column that is always 0, for operands without a base or an index


class Chunk:
    """Successive instructions.

    Attributes:
        addresses: of each, (n,).
        registers: what they held before it, (n, 17), the last column 0.
        masks: what the mask registers held before it, (n, 8).
    """

    def __init__(self, addresses: np.ndarray, registers: np.ndarray, masks: np.ndarray) -> None:
        self.addresses, self.registers, self.masks = addresses, registers, masks


def chunks(headers: np.ndarray, values: np.ndarray) -> Iterator[Chunk]:
    """The instructions noted, in order, `CHUNK` at a time.

    Args:
        headers, values: the streams, of 64-bit words.
    """
    registers, masks = np.zeros(NOTHING + 1, np.uint64), np.zeros(8, np.uint64)
    read = 0
    for first in range(0, len(headers), CHUNK):
        part = headers[first : first + CHUNK]
        changed, masked = part >> np.uint64(CHANGED), part >> np.uint64(MASKED) & np.uint64(1)
        sizes = np.bitwise_count(changed).astype(np.int64)
        ends = read + np.cumsum(sizes + 8 * masked.astype(np.int64))
        starts = np.concatenate([[read], ends[:-1]])
        held = np.empty((len(part), NOTHING + 1), np.uint64)
        for i in range(NOTHING):
            rows = np.flatnonzero(changed >> np.uint64(i) & np.uint64(1))
            before = np.bitwise_count(changed[rows] & np.uint64((1 << i) - 1))
            held[:, i] = _filled(registers[i], rows, values[starts[rows] + before], len(part))
        held[:, NOTHING] = 0
        rows = np.flatnonzero(masked)
        which = (starts + sizes)[rows, None] + np.arange(8)
        mask = np.stack([_filled(masks[i], rows, values[which[:, i]], len(part)) for i in range(8)])
        yield Chunk(part & np.uint64(ADDRESS), held, mask.T)
        registers, masks, read = held[-1], mask[:, -1], int(ends[-1])


def _filled(before: np.uint64, rows: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """A column (n,) whose values change at `rows` to `values`, and are `before` until then."""
    lengths = np.diff(np.concatenate([[0], rows, [n]]))
    return np.repeat(np.concatenate([[before], values]), lengths)
