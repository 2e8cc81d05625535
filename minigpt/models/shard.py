"""A size of which a device has a part: whole numbers that know which of the whole they are.

Parts of models multiply and add sizes as their arrays are laid out: `3 * H * D` is three times H
heads of D numbers. Where H is a Shard, so is that: the same heads of each of the three. So a tensor
asked for by its shape says which of its rows and columns are meant, and no part says it twice.
"""

from collections.abc import Iterator
from typing import Any


class Shard(int):
    """The number of things that a device has of a row of them; and which.

    Attributes:
        total: how many there are.
        pieces: the first and the end of each run of them that the device has, in order.
    """

    total: int
    pieces: tuple[tuple[int, int], ...]

    def __new__(cls, total: int, *pieces: tuple[int, int]) -> "Shard":
        self = super().__new__(cls, sum(stop - start for start, stop in pieces))
        self.total, self.pieces = total, pieces
        return self

    @classmethod
    def of(cls, total: int, rank: int, size: int) -> "Shard":
        """The part of one of `size` devices, as alike as whole things can be divided."""
        start, stop = (n * total // size for n in (rank, rank + 1))
        return cls(total, (start, stop))

    def indices(self) -> Iterator[int]:
        """Which ones the device has."""
        for start, stop in self.pieces:
            yield from range(start, stop)

    def __bool__(self) -> bool:
        return self.total != 0

    def __mul__(self, each: Any) -> Any:
        """As many things as each of these has, side by side."""
        if not isinstance(each, int):
            return NotImplemented
        if not isinstance(each, Shard):
            return Shard(self.total * each, *((a * each, b * each) for a, b in self.pieces))
        n = each.total
        if each.pieces == ((0, n),):
            return self * n
        found = [(i * n + a, i * n + b) for i in self.indices() for a, b in each.pieces]
        return Shard(self.total * n, *_joined(found))

    def __rmul__(self, times: Any) -> Any:
        """The same of each of so many rows, one after another."""
        if not isinstance(times, int):
            return NotImplemented
        n = self.total
        if self.pieces == ((0, n),):
            return Shard(times * n, (0, times * n))
        found = [(i * n + a, i * n + b) for i in range(times) for a, b in self.pieces]
        return Shard(times * n, *_joined(found))

    def __add__(self, other: Any) -> Any:
        """These, and after the whole row others: a part of them, or all."""
        if not isinstance(other, int):
            return NotImplemented
        more = other if isinstance(other, Shard) else Shard(other, (0, other))
        found = [*self.pieces, *((self.total + a, self.total + b) for a, b in more.pieces)]
        return Shard(self.total + more.total, *_joined(found))

    def __radd__(self, other: Any) -> Any:
        return Shard(other, (0, other)) + self if isinstance(other, int) else NotImplemented

    def __floordiv__(self, groups: Any) -> Any:
        """How many of these each of some groups has; of one group alone, the device may have few.

        Raises:
            ValueError: the device has other parts of one group than of another.
        """
        if not isinstance(groups, int):
            return NotImplemented
        few = groups if isinstance(groups, Shard) else Shard(groups, (0, groups))
        each = self.total // few.total
        if not self.pieces:
            return Shard(each)
        if self == few * each and self.pieces == (few * each).pieces:
            return each if isinstance(groups, Shard) else Shard(each, (0, each))
        first = few.pieces[0][0] * each
        if len(few.pieces) == len(self.pieces) == 1 and few == 1:
            [(start, stop)] = self.pieces
            return Shard(each, (start - first, stop - first))
        raise ValueError(f"{self!r} are no part of each of {few!r}")

    def __rfloordiv__(self, whole: Any) -> Any:
        return whole // self.total

    def __mod__(self, groups: Any) -> Any:
        return self.total % getattr(groups, "total", groups)

    def __rmod__(self, whole: Any) -> Any:
        return whole % self.total

    def __repr__(self) -> str:
        runs = ", ".join(f"{start}:{stop}" for start, stop in self.pieces)
        return f"{int(self)} of {self.total} ({runs})"


class Vocabulary(Shard):
    """Tokens of which a device has the rows of tables: looked up, and multiplied by, as one."""


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same, runs that touch as one, none empty."""
    found: list[tuple[int, int]] = []
    for start, stop in pieces:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], stop
        elif stop > start:
            found.append((start, stop))
    return found
