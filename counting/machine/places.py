"""Bytes of memory by the array that they belong to."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from counting.checks import label, must_be
from counting.machine.ran import ELSEWHERE, SCATTERED, Moved


class Places:
    """Counts of bytes read and written, by array.

    Args:
        arrays: names of arrays, each from its first byte to its last, gaps between its elements
            included; where two share bytes, the first one has them.

    Raises:
        TypeError: one is no array.
        ValueError: one has the name of what is told beside arrays.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        must_be("arrays by name", isinstance(arrays, Mapping), "arrays", arrays)
        for name, array in arrays.items():
            label("a name in arrays", name)
            if name in (ELSEWHERE, SCATTERED):
                raise ValueError(f"no array can be called {name!r}, which is told beside arrays")
            must_be("a NumPy array", isinstance(array, np.ndarray), f"arrays[{name!r}]", array)
        self._names = [*arrays]
        bounds = [np.lib.array_utils.byte_bounds(array) for array in arrays.values()]
        edges = sorted({edge for pair in bounds for edge in pair})
        starts, ends, owners = [], [], []
        for low, high in pairwise(edges):
            having = (i for i, (first, last) in enumerate(bounds) if first <= low and high <= last)
            owner = next(having, None)
            if owner is not None:
                starts.append(low)
                ends.append(high)
                owners.append(owner)
        self._starts, self._ends = np.array(starts, np.uint64), np.array(ends, np.uint64)
        self._owners = np.array(owners, np.int64)
        nothing = np.zeros(len(arrays) + 2, np.int64)  # and elsewhere, and scattered
        self._bytes = {"read": nothing, "written": nothing.copy()}

    def touch(self, way: str, where: np.ndarray, size: np.ndarray) -> None:
        """Counts accesses ("read" or "written") by the bytes that each array has of them.

        Args:
            where: addresses (n,).
            size: bytes (n,).
        """
        total, counted = self._bytes[way], 0
        ends = where + size.astype(np.uint64)
        first = np.searchsorted(self._ends, where, "right")
        last = np.searchsorted(self._starts, ends, "left")
        for k in range(int((last - first).max(initial=0))):
            rows = np.flatnonzero(first + k < last)
            part = first[rows] + k
            low = np.maximum(where[rows], self._starts[part])
            n = (np.minimum(ends[rows], self._ends[part]) - low).astype(np.int64)
            np.add.at(total, self._owners[part], n)
            counted += int(n.sum())
        total[-2] += int(size.sum()) - counted

    def within(self, where: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Sizes (n,) of accesses cut off where the array, or the gap, that they begin in ends."""
        if not len(self._starts):
            return size
        ends = np.sort(np.concatenate([self._starts, self._ends]))
        following = np.searchsorted(ends, where, "right")
        inside = following < len(ends)
        left = ends[np.where(inside, following, 0)] - where
        return np.where(inside, np.minimum(size, left.astype(np.int64)), size)

    def scatter(self, way: str, size: int) -> None:
        """Counts bytes whose addresses are not known."""
        self._bytes[way][-1] += size

    def moved(self) -> dict[str, Moved]:
        """What was counted, as `Ran.moved`."""
        names = *self._names, ELSEWHERE, SCATTERED
        both = zip(names, *(way.tolist() for way in self._bytes.values()), strict=True)
        found = {name: Moved(*n) for name, *n in both}
        if found[SCATTERED] == Moved():
            del found[SCATTERED]
        return found
