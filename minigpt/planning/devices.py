"""One forward pass on several devices: each runs its part on shapes, and nothing is divided by N.

A layer is divided among the devices of a stage (see `parallel.divide`); stages have a run of layers
each, and send the next what their last one gives. Groups of devices have sequences of their own,
and all but the routed experts, which are divided among all devices of a stage (`parallel.experts`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise, zip_longest
from math import prod
from typing import Any

from counting import Counts
from counting.ledger import CATEGORIES
from minigpt.checks import shown
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.paths import component, layer_number
from minigpt.models.routing import Assumption, Segments
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
        experts: groups of such devices, each with a part of the batch and of the routed experts.
    """

    tensor: int = 1
    pipeline: int = 1
    experts: int = 1

    def check(self, config: Config) -> None:
        """Raises InputError unless a model can be divided so."""
        if not 1 <= self.tensor <= MOST:
            raise InputError(f"--tensor-parallel is {shown(self.tensor)}; it must be 1 to {MOST}")
        if not 1 <= self.pipeline <= config.layers:
            what = f"it must be 1 to {config.layers}, the number of layers"
            raise InputError(f"--pipeline is {shown(self.pipeline)}; {what}")
        if self.experts != 1:
            if not config.experts:
                raise InputError("--experts divides routed experts, and this model has none")
            most = min(MOST, config.experts.n_routed_experts)
            if not 1 <= self.experts <= most:
                raise InputError(f"--experts is {shown(self.experts)}; it must be 1 to {most}")

    def layers(self, config: Config, stage: int) -> range:
        """Those of a stage, as alike as whole layers can be divided."""
        return range(*(n * config.layers // self.pipeline for n in (stage, stage + 1)))

    def sequences(self, batch: int) -> list[int]:
        """How many each group of devices has of a batch, as alike as can be.

        Raises:
            InputError: some would have none.
        """
        if batch < self.experts:
            what = f"each of --experts {self.experts} groups has sequences of its own"
            raise InputError(f"{what}: a batch of {batch} is too small")
        ends = (group * batch // self.experts for group in range(self.experts + 1))
        return [stop - start for start, stop in pairwise(ends)]


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


@lru_cache(maxsize=64)
def on_devices(config: Config, sizes: Pass, split: Split) -> tuple[Device, ...]:
    """What each device holds, does and sends in a forward pass, stage after stage.

    Which experts tokens meet is not in shapes: of the whole batch, see `_spread`.

    Raises:
        InputError: a size cannot be, or the model cannot be divided so.
    """
    sizes.check(config)
    split.check(config)
    where = ((group, rank) for group in range(split.experts) for rank in range(split.tensor))
    parts = [_Part.run(config, sizes, split, *at) for at in where]
    return tuple(
        part.device(config, split, stage) for stage in range(split.pipeline) for part in parts
    )


@dataclass(frozen=True)
class _Part:
    """One device's part of a layer of each kind, and of what is outside of all, executed.

    Attributes:
        sizes: of its pass.
        shapes: of its tensors.
        kept: bytes that a layer keeps from pass to pass, by category, of each kind of layer.
        peak: the most bytes alive, by category.
    """

    group: int
    rank: int
    sizes: Pass
    shapes: Mapping[str, tuple[int, ...]]
    counts: Counts
    kept: tuple[tuple[str, int], ...]
    peak: Mapping[str, int]

    @staticmethod
    def run(config: Config, whole: Pass, split: Split, group: int, rank: int) -> "_Part":
        batch = split.sequences(whole.B)
        sizes, few = replace(whole, B=batch[group]), config.short()[0]
        experts: Any = config.experts
        part = divided(config, rank, split.tensor, group, split.experts).short()[0]
        models: list[Any] = []

        def build(_: Config, weights: Mapping[str, Any], **options: Any) -> Any:
            if experts:
                tokens = tuple(n * sizes.T for n in batch)
                met = _spread(whole.assume, experts, tokens, split.tensor)
                mine = replace(whole.assume(experts, tokens[group]), segments=met[group])
                options |= {"assume": lambda *_: mine, "assumed": met.__getitem__}
            rings = OnPaper(rank, split.tensor), OnPaper(group, split.experts)
            models.append(build_part(few, part, weights, *rings, **options))
            return models[0]

        ledger, run = ready(part, sizes, build=build, categories=(*CATEGORIES, "wire"))
        before = ledger.snapshot()
        run()
        capacity = sizes.capacity or sizes.N + sizes.T
        layers = models[0].new_cache(sizes.B, capacity).layers
        kept = tuple((layer.CATEGORY, int(layer.nbytes)) for layer in layers)
        shapes = {key: tuple(map(int, shape)) for key, shape in part.shapes().items()}
        counts, peak = ledger.snapshot() - before, ledger.peak_bytes
        return _Part(group, rank, sizes, shapes, counts, kept, peak)

    def device(self, config: Config, split: Split, stage: int) -> Device:
        """The device that has this part of the layers of a stage."""
        layers, alike, sizes = split.layers(config, stage), config.short()[1], self.sizes
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
        which = stage, self.group, self.rank, sizes.B
        return Device(*which, layers, parameters, counts, dict(held), dict(sent))


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


@lru_cache(maxsize=64)
def _spread(
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
