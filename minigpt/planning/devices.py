"""One forward pass on several devices: each runs its part on shapes, and nothing is divided by N.

A layer is divided among the devices of a stage (see `parallel.divide`); stages have a run of layers
each, and send the next what their last one gives.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from typing import Any

from counting import Counts
from counting.ledger import CATEGORIES
from minigpt.checks import shown
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.paths import component, layer_number
from minigpt.models.routing import Assumption, Dispatch
from minigpt.parallel.collectives import pass_on
from minigpt.parallel.communicators import OnPaper
from minigpt.parallel.divide import build_part, divided
from minigpt.planning.forward import Pass, ready

MOST = 1024  # devices
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
    """

    tensor: int = 1
    pipeline: int = 1

    def check(self, config: Config) -> None:
        """Raises InputError unless a model can be divided so."""
        if not 1 <= self.tensor <= MOST:
            raise InputError(f"--tensor-parallel is {shown(self.tensor)}; it must be 1 to {MOST}")
        if not 1 <= self.pipeline <= config.layers:
            what = f"it must be 1 to {config.layers}, the number of layers"
            raise InputError(f"--pipeline is {shown(self.pipeline)}; {what}")

    def layers(self, config: Config, stage: int) -> range:
        """Those of a stage, as alike as whole layers can be divided."""
        return range(*(n * config.layers // self.pipeline for n in (stage, stage + 1)))


@dataclass(frozen=True)
class Device:
    """What one device holds, does and sends.

    Attributes:
        stage, rank: which one it is: the stage, and the device of those that share it.
        layers: the stage's.
        parameters: that it holds, by component.
        counts: of the pass.
        held: bytes at rest and at most: weights, KV cache, state; activations and "wire", what
            is sent and received, at the peak.
        sent: bytes by operation; received are as many in a ring, to a chunk's rounding.
    """

    stage: int
    rank: int
    layers: range
    parameters: Counter[str]
    counts: Counts
    held: Mapping[str, int]
    sent: Mapping[str, int]


@lru_cache(maxsize=64)
def on_devices(config: Config, sizes: Pass, split: Split) -> tuple[Device, ...]:
    """What each device holds, does and sends in a forward pass, stage after stage.

    Experts that are met without data are spread over all numbers, so over all devices.

    Raises:
        InputError: a size cannot be, or the model cannot be divided so.
    """
    sizes.check(config)
    split.check(config)
    parts = [_Part.run(config, sizes, rank, split.tensor) for rank in range(split.tensor)]
    return tuple(
        part.device(config, sizes, split, stage)
        for stage in range(split.pipeline)
        for part in parts
    )


@dataclass(frozen=True)
class _Part:
    """One device's part of a layer of each kind, and of what is outside of all, executed.

    Attributes:
        shapes: of its tensors.
        kept: bytes that a layer keeps from pass to pass, by category, of each kind of layer.
        peak: the most bytes alive, by category.
    """

    rank: int
    shapes: Mapping[str, tuple[int, ...]]
    counts: Counts
    kept: tuple[tuple[str, int], ...]
    peak: Mapping[str, int]

    @staticmethod
    def run(config: Config, sizes: Pass, rank: int, size: int) -> "_Part":
        few, on_paper = config.short()[0], OnPaper(rank, size)
        part = divided(config, rank, size).short()[0]
        models: list[Any] = []

        def build(_: Config, weights: Mapping[str, Any], **options: Any) -> Any:
            if "assume" in options:
                options["assume"] = partial(_spread, options["assume"])
            models.append(build_part(few, part, weights, on_paper, **options))
            return models[0]

        ledger, run = ready(part, sizes, build=build, categories=(*CATEGORIES, "wire"))
        before = ledger.snapshot()
        run()
        capacity = sizes.capacity or sizes.N + sizes.T
        layers = models[0].new_cache(sizes.B, capacity).layers
        kept = tuple((layer.CATEGORY, int(layer.nbytes)) for layer in layers)
        shapes = {key: tuple(map(int, shape)) for key, shape in part.shapes().items()}
        return _Part(rank, shapes, ledger.snapshot() - before, kept, ledger.peak_bytes)

    def device(self, config: Config, sizes: Pass, split: Split, stage: int) -> Device:
        """The device that has this part of the layers of a stage."""
        layers, alike = split.layers(config, stage), config.short()[1]
        kinds = Counter(alike[i] for i in layers)
        ends = {FIRST: stage == 0, LAST: stage == split.pipeline - 1, EACH: True}

        def times(paths: Iterable[str]) -> list[int]:
            where = _where(paths)
            return [kinds[at] if isinstance(at, int) else int(ends[at]) for at in where]

        rows = {}
        for row, n in zip(self.counts, times(path for path, _ in self.counts), strict=True):
            if n:
                rows[row] = tuple(n * entry for entry in self.counts[row])
        counts = Counts(self.counts.columns, rows)
        each = [prod(shape) for shape in self.shapes.values()]
        parameters: Counter[str] = Counter()
        for key, n, size in zip(self.shapes, times(self.shapes), each, strict=True):
            parameters[component(key)] += n * size
        if config.tie_word_embeddings and ends[LAST] and not ends[FIRST]:
            parameters[component(next(iter(self.shapes)))] += each[0]  # the table is the head
        held = Counter({"weights": parameters.total() * sizes.itemsize})
        for number, (category, nbytes) in enumerate(self.kept):
            held[category] += kinds[number] * nbytes
        held.update({name: self.peak[name] for name in ("activations", "wire")})
        sent = sent_by(counts)
        if not ends[LAST]:
            sent["to the next stage"] = sizes.B * sizes.T * config.width * sizes.itemsize
        return Device(stage, self.rank, layers, parameters, counts, dict(held), dict(sent))


def _where(paths: Iterable[str]) -> list[Any]:
    """Of each path the number of its layer, or else the stage it belongs to: masks to each."""
    found: list[Any] = []
    outside = FIRST
    for path in paths:
        number = layer_number(path)
        if number is not None:
            outside = LAST
        each = path == "mask" or path.endswith("rotary_emb")
        found.append(number if number is not None else EACH if each else outside)
    return found


def _spread(assume: Assumption, choice: Any, tokens: int) -> Dispatch:
    """The same assumption, experts that are met at equal distances."""
    found = assume(choice, tokens)
    E, met = choice.n_routed_experts, len(found.segments)
    segments = enumerate(found.segments)
    return replace(found, segments=tuple((i * E // met, *ends) for i, (_, *ends) in segments))
