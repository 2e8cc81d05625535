"""Which of the devices that share a model is meant, and what it has of it, on paper."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise, zip_longest
from typing import Any

from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.routing import Assumption, Segments
from minigpt.parallel.communicators import OnPaper
from minigpt.parallel.divide import build_part, divided


@dataclass(frozen=True)
class Place:
    """A device of those that share each layer; the one of a model that is not divided by default.

    Attributes:
        rank, size: its number among those that have parts of all of it.
        group, groups: these are one of several that have sequences of their own, and between them
            the routed experts.
    """

    rank: int = 0
    size: int = 1
    group: int = 0
    groups: int = 1

    def sequences(self, batch: int) -> list[int]:
        """How many each group has of a batch, as alike as can be.

        Raises:
            InputError: some would have none.
        """
        if batch < self.groups:
            what = f"each of {self.groups} groups has sequences of its own"
            raise InputError(f"{what}: batch is {batch}; it must be {self.groups} or more")
        ends = (group * batch // self.groups for group in range(self.groups + 1))
        return [stop - start for start, stop in pairwise(ends)]


ALL = Place()


@lru_cache(maxsize=256)
def part_of(config: Config, place: Place) -> Config:
    """What a device has, with a layer of each kind: sizes that are divided are Shards."""
    at = place.rank, place.size, place.group, place.groups
    few = config.short()[0]
    return few if place == ALL else divided(few, *at)


def builds(
    config: Config, place: Place, assume: Assumption, tokens: list[int]
) -> Callable[..., Model]:
    """What builds the model of `part_of` as `architectures.build` does.

    Which experts tokens meet is not in shapes: of the whole batch, see `spread`.

    Args:
        tokens: that each group has in a pass.
    """
    few, part = config.short()[0], part_of(config, place)
    rings = OnPaper(place.rank, place.size), OnPaper(place.group, place.groups)

    def build(_: Config, weights: Mapping[str, Any], **options: Any) -> Model:
        experts: Any = config.experts
        if experts:
            met = spread(assume, experts, tuple(tokens), place.size)
            own = assume(experts, tokens[place.group])
            mine = replace(own, segments=met[place.group])
            options |= {"assume": lambda *_: mine, "assumed": met.__getitem__}
        return build_part(few, part, weights, *rings, **options)

    return build


@lru_cache(maxsize=64)
def spread(
    assume: Assumption, experts: Any, tokens: tuple[int, ...], size: int
) -> tuple[Segments, ...]:
    """What the tokens of each group of `size` devices meet in a layer.

    As many experts as `assume` has the whole batch meet, at equal distances; each device's in turn,
    token after token, so that all experts meet as many rows, and a group has some for each device.
    """
    E, devices = experts.n_routed_experts, size * len(tokens)
    n = len(assume(experts, sum(tokens)).segments)
    of_each: list[list[int]] = [[] for _ in range(devices)]
    for expert in (i * E // n for i in range(n)):
        of_each[((expert + 1) * devices - 1) // E].append(expert)  # that has it, see `Shard.of`
    turns = [expert for turn in zip_longest(*of_each) for expert in turn if expert is not None]
    pairs = accumulate((of * experts.num_experts_per_tok for of in tokens), initial=0)
    found = []
    for first, end in pairwise(pairs):
        rows = {expert: (end - i - 1) // n - (first - i - 1) // n for i, expert in enumerate(turns)}
        met = sorted(expert for expert in rows if rows[expert])
        ends = pairwise(accumulate((rows[expert] for expert in met), initial=0))
        found.append(tuple((expert, *of) for expert, of in zip(met, ends, strict=True)))
    return tuple(found)
