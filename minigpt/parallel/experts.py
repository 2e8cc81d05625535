"""Experts on devices of their own: rows go to the device that has the expert, and come back.

As in GShard (Lepikhin et al., 2020, https://arxiv.org/abs/2006.16668), but that no row is left out:
how many there are is in the data, so devices first tell each other, in whole numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from counting import scope
from minigpt.models.ops import Array
from minigpt.models.routing import Segments
from minigpt.parallel.collectives import all_to_all
from minigpt.parallel.communicators import Communicator


@dataclass(frozen=True)
class ToExperts:
    """What `Experts.exchange` is on one of several devices.

    Attributes:
        experts: of each device, by rank, those it has. Others may be elsewhere.
        devices: these.
        assumed: what the tokens of each device meet, by rank, where arrays have no data.
    """

    experts: Sequence[range]
    devices: Communicator
    assumed: Callable[[int], Segments] | None = None

    def __call__(
        self, pairs: Array, segments: Segments
    ) -> tuple[Array, Segments, Callable[[Array], Array]]:
        """The rows (n, C) of this device's experts, from all devices, and the segments of each."""
        P, mine = self.devices.size, self.experts[self.devices.rank]
        told = self._told(pairs, segments)
        spans = [_span(segments, experts) for experts in self.experts]
        heights = [stop - start for start, stop in spans]
        parts = [pairs[start:stop] for start, stop in spans]
        received = all_to_all(parts, [sum(rows) for rows in told], self.devices)
        # They come device after device, and are wanted expert after expert.
        cells = [(n, source) for n in range(len(mine)) for source in range(P)]
        ends = [[0, *accumulate(rows)] for rows in told]
        runs = [received[source][ends[source][n] : ends[source][n + 1]] for n, source in cells]
        rows = _joined(runs, pairs)
        at = [0, *accumulate(told[source][n] for n, source in cells)]
        found = zip(mine, pairwise(at[::P]), strict=True)

        def home(y: Array) -> Array:
            """What became of `pairs`; 0 where an expert is on none of these devices."""
            runs = [y[start:stop] for start, stop in pairwise(at)]
            back = [_joined(runs[source::P], y) for source in range(P)]
            returned = all_to_all(back, heights, self.devices)
            if sum(heights) == pairs.shape[0]:
                return _joined(returned, y)
            whole = np.zeros_like(pairs)
            for (start, stop), part in zip(spans, returned, strict=True):
                whole[start:stop] = part
            return whole

        return rows, tuple((expert, a, b) for expert, (a, b) in found if b > a), home

    def _told(self, pairs: Array, segments: Segments) -> list[list[int]]:
        """How many rows each device has for each of this one's experts, by rank."""
        P, mine = self.devices.size, self.experts[self.devices.rank]
        rows = [_rows(segments, experts) for experts in self.experts]
        if P == 1:
            return rows
        with scope("sizes"):
            ends = [0, *accumulate(map(len, rows))]
            said = np.empty_like(pairs, dtype=np.int64, shape=(ends[-1],))
            said[...] = np.array([n for of in rows for n in of], np.int64)
            parts = [said[start:stop] for start, stop in pairwise(ends)]
            told = all_to_all(parts, [len(mine)] * P, self.devices)
        return [self._read(row, rank) for rank, row in enumerate(told)]

    def _read(self, row: Array, rank: int) -> list[int]:
        """What a device said; assumed of shapes, in which there is nothing to read."""
        try:
            return [*map(int, row.tolist())]
        except TypeError:
            assert self.assumed
            return _rows(self.assumed(rank), self.experts[self.devices.rank])


def _rows(segments: Segments, experts: range) -> list[int]:
    """Of each expert."""
    met = {expert: stop - start for expert, start, stop in segments}
    return [met.get(expert, 0) for expert in experts]


def _span(segments: Segments, experts: range) -> tuple[int, int]:
    """The first and the end of the rows of experts side by side."""
    found = [ends for expert, *ends in segments if expert in experts]
    return (found[0][0], found[-1][1]) if found else (0, 0)


def _joined(parts: Sequence[Array], like: Array) -> Array:
    """Rows of some arrays; none of `like` where there are none."""
    some = [part for part in parts if part.shape[0]]
    return np.concatenate(some) if len(some) > 1 else some[0] if some else like[:0]
