"""One forward pass on several devices: each runs its part on shapes, and nothing is divided by N.

A layer is divided among the devices of a stage (see `parallel.divide`); stages have a run of layers
each, and send the next what their last one gives. Groups of devices have sequences of their own,
and all but the routed experts, which are divided among all devices of a stage (`parallel.experts`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from operator import le

from counting import Counts
from minigpt.checks import shown
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.paths import component, layer_number
from minigpt.parallel.collectives import pass_on
from minigpt.planning.activations import after_each
from minigpt.planning.forward import Pass, cache_layers, forward_of_kinds
from minigpt.planning.place import Place, part_of

MOST_DEVICES = 256  # of a stage: each runs, with each step of a ring of them
MOST_ALIKE = 1024  # of a stage of which those that have the most run alone
SENT = f"{pass_on.__module__}.{pass_on.__name__}"
FIRST, LAST, EACH = "first", "last", "each"


def sent_by(counts: Counts) -> Counter[str]:
    """Bytes that were passed on, by the operation that they were a part of."""
    passes = counts.where(operation=SENT).by(lambda path: path.rpartition(".")[2])
    return Counter({what: sum(part.bytes_read.values()) for what, part in passes.items()})


@dataclass(frozen=True)
class Split:
    """How a model is divided.

    Attributes:
        tensor: devices that have a part of each layer of theirs.
        pipeline: stages, each with a run of layers.
        experts: groups of such devices, each with a part of the batch and of the routed experts.
    """

    tensor: int = 1
    pipeline: int = 1
    experts: int = 1

    def check(self, config: Config) -> None:
        """Raises InputError unless a model can be divided so."""
        if not 1 <= self.tensor <= MOST_DEVICES:
            what = f"it must be 1 to {MOST_DEVICES}"
            raise InputError(f"tensor parallel is {shown(self.tensor)}; {what}")
        if not 1 <= self.pipeline <= config.layers:
            what = f"it must be 1 to {config.layers}, the number of layers"
            raise InputError(f"pipeline is {shown(self.pipeline)}; {what}")
        if self.experts != 1:
            if not config.experts:
                raise InputError(f"experts is {shown(self.experts)}; this model has none to divide")
            most = min(MOST_DEVICES, config.experts.n_routed_experts)
            if not 1 <= self.experts <= most:
                raise InputError(f"experts is {shown(self.experts)}; it must be 1 to {most}")
        if (devices := self.tensor * self.experts) > MOST_DEVICES:
            what = f"{self.experts} groups of {self.tensor} devices are {devices}"
            raise InputError(f"{what}: a stage has at most {MOST_DEVICES}")

    def layers(self, config: Config, stage: int) -> range:
        """Those of a stage, as alike as whole layers can be divided."""
        return range(*(n * config.layers // self.pipeline for n in (stage, stage + 1)))

    def places(self) -> list[Place]:
        """The devices of a stage, group after group."""
        return [
            Place(rank, self.tensor, group, self.experts)
            for group in range(self.experts)
            for rank in range(self.tensor)
        ]


@dataclass(frozen=True)
class Device:
    """What one device holds, does and sends.

    Attributes:
        stage, group, rank: which one it is: the stage, the group there, the device of those in it.
        sequences: of the batch.
        layers: the stage's.
        parameters: that it holds, by component.
        counts: of the pass.
        held: bytes at rest and at most: weights, KV cache, state; activations and "wire", what
            is sent and received, at the peak.
        sent: bytes by operation. Of a ring's as many are received, to a chunk's rounding.
    """

    stage: int
    group: int
    rank: int
    sequences: int
    layers: range
    parameters: Counter[str]
    counts: Counts
    held: Mapping[str, int]
    sent: Mapping[str, int]


def on_devices(
    config: Config, sizes: Pass, split: Split, progress: Callable[[int, int], None] | None = None
) -> tuple[Device, ...]:
    """What each device holds, does and sends in a forward pass, stage after stage.

    Args:
        progress: called before each device with how many are done, and with how many there are.

    Raises:
        InputError: a size cannot be, or the model cannot be divided so.
    """
    sizes.check(config)
    split.check(config)
    which = [(stage, place) for stage in range(split.pipeline) for place in split.places()]
    found = list[Device]()
    for at in which:
        if progress:
            progress(len(found), len(which))
        found.append(_on_stage(config, sizes, split, *at))
    return tuple(found)


@lru_cache(maxsize=256)
def largest(config: Config, size: int) -> tuple[Place, ...]:
    """Those of `size` devices that share each layer that have the most.

    Of any other, one of these has as much of everything or more: of each tensor, of each state, and
    of the logits that it is sent, which are those of the tokens that others have.

    Raises:
        InputError: the model cannot be divided so.
    """
    if not 1 <= size <= MOST_ALIKE:
        raise InputError(f"gpus is {shown(size)}; it must be from 1 to {MOST_ALIKE}")
    parts, found = dict[Config, Place](), dict[tuple[int, ...], Place]()
    for place in Split(size).places():
        parts.setdefault(part_of(config, place), place)  # most have as much as others
    for part, place in parts.items():
        kept = cache_layers(config, 1, place=place)
        tensors = list(part.shapes().values())
        rows = tensors[0][0]  # of the table of tokens
        each = (prod(map(int, shape)) for shape in tensors)
        has = (*each, *(int(layer.nbytes) for layer, _ in kept), -int(rows))
        found.setdefault(has, place)
    return tuple(
        place
        for has, place in found.items()
        if not any(has != more and all(map(le, has, more)) for more in found)
    )


@lru_cache(maxsize=1024)
def parameters_of(config: Config, place: Place) -> int:
    """Parameters that a device of those that share all layers holds."""
    times = config.times()
    shapes = part_of(config, place).shapes()
    return sum(times(key) * prod(map(int, shape)) for key, shape in shapes.items())


@lru_cache(maxsize=1024)
def _on_stage(config: Config, sizes: Pass, split: Split, stage: int, place: Place) -> Device:
    """What a device has of the layers of a stage, and of what is outside of all, executed."""
    layers, alike = split.layers(config, stage), config.short()[1]
    counted, shapes = forward_of_kinds(config, sizes, place).counts, part_of(config, place).shapes()
    B = place.sequences(sizes.B)[place.group]
    kinds = Counter(alike[i] for i in layers)
    ends = {FIRST: stage == 0, LAST: stage == split.pipeline - 1, EACH: True}

    def has(at: int | str) -> int:
        return kinds[at] if isinstance(at, int) else int(ends[at])

    def times(paths: Iterable[str]) -> list[int]:
        return [has(at) for at in _where(paths)]

    rows = {}
    for row, n in zip(counted, times(path for path, _ in counted), strict=True):
        if n:
            rows[row] = tuple(n * entry for entry in counted[row])
    counts = Counts(counted.columns, rows)
    each = [prod(map(int, shape)) for shape in shapes.values()]
    parameters: Counter[str] = Counter()
    for key, n, size in zip(shapes, times(shapes), each, strict=True):
        parameters[component(key)] += n * size
    if config.tie_word_embeddings and ends[LAST] and not ends[FIRST]:
        parameters[component(next(iter(shapes)))] += each[0]  # the table is the head
    kept = Counter({"weights": parameters.total() * sizes.itemsize})
    capacity, cache = sizes.capacity or sizes.N + sizes.T, sizes.cache or "compressed"
    for number, (layer, _) in enumerate(cache_layers(config, capacity, sizes.dtype, cache, place)):
        kept[layer.CATEGORY] += kinds[number] * B * layer.nbytes
    most = (live for at, live in _most_alive(config, sizes, place).items() if has(at))
    kept.update(dict(zip(("activations", "wire"), map(max, zip(*most, strict=True)), strict=True)))
    sent = sent_by(counts)
    if not ends[LAST]:
        sent["to the next stage"] = B * sizes.T * config.width * sizes.itemsize
    which = stage, place.group, place.rank, B
    return Device(*which, layers, parameters, counts, dict(kept), dict(sent))


@lru_cache(maxsize=256)
def _most_alive(config: Config, sizes: Pass, place: Place) -> dict[int | str, list[int]]:
    """The most bytes of activations, and of "wire", alive in operations of each of `_where`."""
    moments, most = after_each(config, sizes, place=place), dict[int | str, list[int]]()
    for at, (_, *live) in zip(_where(path for path, *_ in moments), moments, strict=True):
        most[at] = [*map(max, most.get(at, live), live)]
    return most


def _where(paths: Iterable[str]) -> list[int | str]:
    """Of each path the number of its layer, or else the stage it belongs to: masks to each."""
    found: list[int | str] = []
    outside = FIRST
    for path in paths:
        number = layer_number(path)
        if number is not None:
            outside = LAST
        each = path == "mask" or path.endswith("rotary_emb")
        found.append(number if number is not None else EACH if each else outside)
    return found
