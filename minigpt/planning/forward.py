"""One forward pass of a model, executed to be counted: on shapes, on numbers, on symbols.

On shapes a layer of each kind is executed and stands for all that are alike, so 10,000 layers take
no longer than a few. Of several devices that share each layer, one is meant: it runs its part.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from counting import Counted, Counts, Ledger, ShapeArray, category
from counting.ledger import CATEGORIES
from minigpt.checks import NAME, checked, checked_fields, function, integer, optional, shown
from minigpt.errors import InputError
from minigpt.models.architectures import build
from minigpt.models.cache import LayerCache
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.paths import layer_number, layer_of
from minigpt.models.routing import Assumption, expected
from minigpt.models.state import State
from minigpt.planning.place import ALL, Place, builds, part_of

# A pass's dtype by name. bfloat16 is no NumPy dtype: a 16-bit one of the same size stands in.
DTYPES = {"float16": np.float16, "bfloat16": np.float16, "float32": np.float32}
DTYPES["float64"] = np.float64
MOST = 2**40  # sequences: a side of an array must fit NumPy's integers


def _size(value: Any) -> str | None:
    """As `integer`, and SymPy's expressions: for a run on symbols, see `forward`."""
    return None if hasattr(value, "free_symbols") else integer(value)


CHECKS = {
    **dict.fromkeys(("T", "N", "B"), _size),
    **dict.fromkeys(("logits", "dtype"), NAME),
    "cache": optional(NAME),
    "assume": function,
    "capacity": optional(_size),
}
Make = Callable[[tuple[Any, ...], Any], Any]  # shape, dtype -> an array


@dataclass(frozen=True)
class Pass:
    """The sizes of a forward pass, and how it runs.

    Attributes:
        T: new tokens of each sequence.
        N: tokens of each sequence that are cached before.
        B: sequences.
        logits: "all" of the T positions, or those of the "last".
        dtype: of weights, cache and activations: one of `DTYPES`.
        cache: for DeepSeek alone, "compressed" or "expanded"; None is compressed.
        assume: which experts are met where arrays have no data, see `routing`.
        capacity: positions that the cache reserves; N + T if None.
    """

    T: Any = 1
    N: Any = 0
    B: Any = 1
    logits: str = "all"
    dtype: str = "float16"
    cache: str | None = None
    assume: Assumption = expected
    capacity: Any = None

    def __post_init__(self) -> None:
        checked_fields(self, CHECKS)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return np.dtype(DTYPES[self.dtype]).itemsize

    @property
    def in_words(self) -> str:
        """What it is, in the first line of a report: "1 new token(s) after 999, batch 2, …"."""
        tokens = f"{self.T:,} new token(s) after {self.N:,}"
        return f"{tokens}, batch {self.B:,}, {self.dtype}, {self.logits} logits"

    def as_dict(self) -> dict[str, Any]:
        """What it is, by the names of the options of `minigpt count`."""
        sizes = {"new_tokens": self.T, "past": self.N, "batch": self.B}
        return {**sizes, "dtype": self.dtype, "logits": self.logits}

    def check(self, config: Config) -> None:
        """Raises InputError unless a model of this configuration can run it."""
        sizes = (("new tokens", self.T, 1), ("past", self.N, 0), ("batch", self.B, 1))
        for what, value, least in sizes:
            if checked(what, value, integer) < least:
                raise InputError(f"{what} is {shown(value)}; it must be {least} or more")
        if self.B > MOST:
            raise InputError(f"batch is {shown(self.B)}; it must be {MOST} or less")
        if config.n_positions < self.N + self.T:
            raise InputError(
                f"{self.N} past and {self.T} new tokens are {self.N + self.T}; "
                f"the model's context is {config.n_positions}"
            )
        capacity, tokens = checked("capacity", self.capacity, optional(integer)), self.N + self.T
        if capacity is not None and not tokens <= capacity <= config.n_positions:
            what = f"it must hold the {tokens} tokens there are, and {config.n_positions} at most"
            raise InputError(f"capacity is {shown(capacity)}; {what}, the model's context")
        one_of("dtype", self.dtype, DTYPES)
        one_of("logits", self.logits, ("all", "last"))
        if self.cache is not None:
            one_of("cache", self.cache, ("compressed", "expanded"))


def one_of(what: str, name: str, known: Collection[str]) -> None:
    """Raises InputError unless a name is known."""
    if not isinstance(name, str) or name not in known:
        raise InputError(f"unknown {what} {shown(name)}: it is one of {', '.join(known)}")


class Forward(NamedTuple):
    """What one forward pass costs, and the most bytes alive at once, by category."""

    counts: Counts
    peak: dict[str, Any]


def forward(config: Config, sizes: Pass = Pass(), make: Make = ShapeArray) -> Forward:
    """One forward pass, executed.

    Args:
        make: what it runs on, shapes alone unless said otherwise. Dimensions may be symbols.
    """
    return _executed(*ready(config, sizes, make))


def _executed(ledger: Ledger, run: Callable[[], Any]) -> Forward:
    before = ledger.snapshot()
    run()
    return Forward(ledger.snapshot() - before, ledger.peak_bytes)


def on_shapes(config: Config, sizes: Pass = Pass()) -> Forward:
    """What `forward` gives on shapes; a pass that was asked for before is not run again.

    Raises:
        InputError: a number or a name cannot be.
    """
    sizes.check(config)  # each time: one that computes the same may have another context
    return _on_shapes(config, sizes)


@lru_cache(maxsize=256)
def _on_shapes(config: Config, sizes: Pass) -> Forward:
    _, alike = config.short()
    run, total = forward_of_kinds(config, sizes, ALL), _counts_by_kind(config, sizes, ALL).total
    columns = run.counts.columns
    rows = partial(_all_rows, run.counts, alike)  # worked out when asked for
    positions, cache = sizes.capacity or sizes.N + sizes.T, sizes.cache or "compressed"
    held = {
        "weights": config.parameters * sizes.itemsize,
        "kv_cache": sizes.B * kv_bytes(config, positions, sizes.dtype, cache),
        "state": sizes.B * state_bytes(config, sizes.dtype),
    }
    return Forward(Counts(columns, rows, [total(name) for name in columns]), run.peak | held)


def counts_by_kind(config: Config, sizes: Pass = Pass(), place: Place = ALL) -> Counts:
    """The counts of `on_shapes`, layers that are alike in the rows of one of them.

    Raises:
        InputError: a number or a name cannot be.
    """
    sizes.check(config)
    return _counts_by_kind(config, sizes, place)


@lru_cache(maxsize=256)
def _counts_by_kind(config: Config, sizes: Pass, place: Place) -> Counts:
    counts, times = forward_of_kinds(config, sizes, place).counts, config.times()
    rows = {}
    for key, row in counts.items():
        n = times(key[0])
        rows[key] = row if n == 1 else tuple(n * entry for entry in row)
    return Counts(counts.columns, rows)


@lru_cache(maxsize=256)
def forward_of_kinds(config: Config, sizes: Pass, place: Place) -> Forward:
    """What `forward` gives of a layer of each kind, and of what is outside of all."""
    return _executed(*ready_of_kinds(config, sizes, place))


def _all_rows(kinds: Counts, alike: tuple[int, ...]) -> Mapping[tuple[str, str], tuple[Any, ...]]:
    """The rows of all layers, in the order in which they run."""
    before, after = dict[Any, Any](), dict[Any, Any]()
    blocks: dict[int, list[tuple[str, str, str, Any]]] = {}
    for (path, operation), row in kinds.items():
        layer, number = layer_of(path), layer_number(path)
        if layer is None or number is None:
            (after if blocks else before)[path, operation] = row
        else:
            stem, inside = layer.rpartition(".")[0], path[len(layer) :]
            blocks.setdefault(number, []).append((stem, inside, operation, row))
    rows = before
    for i, number in enumerate(alike):
        for stem, inside, operation, row in blocks[number]:
            rows[f"{stem}.{i}{inside}", operation] = row
    return rows | after


def kv_bytes(
    config: Config,
    tokens: int,
    dtype: str = "float16",
    cache: str = "compressed",
    place: Place = ALL,
) -> int:
    """Bytes of cache that a sequence of `tokens` tokens must hold: of a window, no more than it."""
    return kept_bytes(config, tokens, dtype, cache, place)["kv_cache"]


def state_bytes(config: Config, dtype: str = "float16", place: Place = ALL) -> int:
    """Bytes of state that a sequence must hold, however many tokens it has."""
    return kept_bytes(config, 1, dtype, "compressed", place)["state"]


@lru_cache(maxsize=1024)
def kept_bytes(
    config: Config, tokens: Any, dtype: str, cache: str, place: Place = ALL
) -> Counter[str]:
    """Bytes that a sequence keeps from pass to pass, by category."""
    kept: Counter[str] = Counter()
    for layer, n in cache_layers(config, tokens, dtype, cache, place):
        kept[layer.CATEGORY] += n * layer.nbytes
    return kept


def cache_layers(
    config: Config,
    capacity: Any,
    dtype: str = "float16",
    cache: str = "compressed",
    place: Place = ALL,
) -> list[tuple[LayerCache | State, int]]:
    """What layers keep of a sequence, on shapes: each kind, and how many layers it stands for."""
    part, alike = part_of(config, place), config.short()[1]
    with category("weights"):
        weights = {key: ShapeArray(shape, DTYPES[dtype]) for key, shape in part.shapes().items()}
    layers = build(part, weights, cache).new_cache(1, capacity).layers
    return [(layers[number], n) for number, n in Counter(alike).items()]


def ready_of_kinds(
    config: Config, sizes: Pass, place: Place = ALL
) -> tuple[Ledger, Callable[[], Any]]:
    """A ledger and a pass that is still to run, see `ready`: of a device, a layer of each kind."""
    part = part_of(config, place)
    if place == ALL:
        return ready(part, sizes)
    batch = place.sequences(sizes.B)
    own = replace(sizes, B=batch[place.group])
    builder = builds(config, place, sizes.assume, [n * sizes.T for n in batch])
    return ready(part, own, build=builder, categories=(*CATEGORIES, "wire"))


def ready(
    config: Config,
    sizes: Pass,
    make: Make = ShapeArray,
    build: Callable[..., Model] = build,
    categories: Iterable[str] = CATEGORIES,
) -> tuple[Ledger, Callable[[], Any]]:
    """A ledger that holds weights and cache, and the pass of `forward` that is still to run.

    Args:
        build: what makes the model of `config`, as `architectures.build` does.
        categories: of the ledger.
    """
    ledger, dtype = Ledger(categories), np.dtype(DTYPES[sizes.dtype])
    with category("weights"):
        weights = {k: Counted(make(s, dtype), ledger) for k, s in config.shapes().items()}
    options: dict[str, Any] = {}
    if config.latent_cache:
        options["cache"] = sizes.cache or "compressed"
    if config.experts:
        options["assume"] = sizes.assume
    model = build(config, weights, **options)
    cache = model.new_cache(sizes.B, sizes.capacity or sizes.N + sizes.T)
    for layer in cache.layers:
        for array in (getattr(layer, name) for name in layer.HOLDS):
            array.data[:] = make(array.shape, dtype)  # past the ledger: it was cached before
        layer.length = sizes.N
    return ledger, partial(model, make((sizes.B, sizes.T), np.int64), cache, sizes.logits)
