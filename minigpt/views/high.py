"""Where the memory of a recorded run was highest, and what was alive there."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from minigpt.recording.memory import moments
from minigpt.recording.read import Line, Recording


@dataclass(frozen=True)
class Level:
    """Memory right after an operation.

    Attributes:
        operation: its line.
        live: bytes by category.
    """

    operation: Line
    live: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.live.values())


@dataclass
class Peak:
    """The highest level of a run.

    Attributes:
        level: None where no operations were recorded.
        alive: the operations whose arrays were alive at it.
        passes: the most bytes alive in each pass, by its number.
    """

    level: Level | None = None
    alive: list[Line] = field(default_factory=list)
    passes: Counter[int] = field(default_factory=Counter)


def peak(recording: Recording) -> Peak:
    """The first moment at which the most was alive."""
    found = Peak()
    for moment in moments(recording):
        number, total = moment.line["pass"], sum(moment.live.values())
        if moment.line["type"] != "operation" or number is None:
            continue
        if found.level is None or total > found.level.total:
            found.level = Level(moment.line, dict(moment.live))
            found.alive = [*moment.alive.values()]
        found.passes[number] = max(found.passes[number], total)
    return found


def levels(recording: Recording, number: int) -> list[Level]:
    """Memory after each operation of a pass."""
    return [
        Level(moment.line, dict(moment.live))
        for moment in moments(recording)
        if moment.line["type"] == "operation" and moment.line["pass"] == number
    ]


def thinned(of: list[Level], most: int) -> tuple[list[Level], int]:
    """At most so many levels, two or more: the highest and the lowest of each few in a row.

    So the peak is among them.

    Returns:
        The levels, and how many operations each two stand for; 1 where all are kept.
    """
    if len(of) <= most:
        return of, 1
    n = -(-len(of) // (most // 2))
    kept: dict[int, Level] = {}
    for start in range(0, len(of), n):
        few = of[start : start + n]
        ends = max(few, key=_total), min(few, key=_total)
        kept |= {one.operation["number"]: one for one in ends}
    return [kept[number] for number in sorted(kept)], n


def _total(level: Level) -> int:
    return level.total


def largest(operations: Iterable[Line], most: int) -> list[tuple[Line, int]]:
    """The operations that made the largest arrays, each with how many like it there are.

    Alike are arrays of one shape that the same operation made at the same place.
    """
    alike: dict[tuple, list[Line]] = {}
    for one in operations:
        key = one["path"], one["operation"], one["category"], one["bytes"], *one["shape"]
        alike.setdefault(key, []).append(one)
    groups = sorted(alike.values(), key=lambda group: -len(group) * group[0]["bytes"])
    return [(group[0], len(group)) for group in groups[:most]]
