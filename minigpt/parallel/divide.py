"""Which part of a model each of several devices has: heads, widths, experts, rows of the tables.

Columns of the matrices into heads and feed-forwards are divided, rows of those out of them
(Shoeybi et al., 2019); experts whole; tables by their rows. What has no part that goes by itself
is on every device: norms, biases of a sum, routers, latents.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from minigpt.errors import InputError
from minigpt.models.architectures import build
from minigpt.models.config import Config
from minigpt.models.decoder import MLP, Attention, Gated, GatedJoined, ParallelBlock
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.description import Part, absent
from minigpt.models.experts import Experts
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.model import Model
from minigpt.models.ops import Array
from minigpt.models.parts import Embedding, HeadsNorm, Projection
from minigpt.models.routing import Segments
from minigpt.models.shard import Shard, Vocabulary
from minigpt.parallel.arrays import RowSplit, sharded
from minigpt.parallel.collectives import all_reduce
from minigpt.parallel.communicators import Alone, Communicator
from minigpt.parallel.experts import ToExperts
from minigpt.parallel.norms import SharedHeadsNorm


def divided(config: Config, rank: int, size: int, group: int = 0, groups: int = 1) -> Config:
    """The configuration of what one of `size` devices has: sizes that are divided are Shards.

    Args:
        group: of `size` devices, one of several, among all of which experts are divided.

    Raises:
        InputError: it has parts that cannot be divided so.
    """
    if config.vocab_size < size:
        raise InputError(f"{size} devices cannot share a vocabulary of {config.vocab_size} tokens")
    if isinstance(config, GPT2Config):
        return replace(
            config,
            n_head=Shard.of(config.n_head, rank, size),
            n_inner=Shard.of(config.ffn_dim, rank, size),
            vocab_size=Vocabulary.of(config.vocab_size, rank, size),
        )
    assert isinstance(config, DecoderConfig)
    found = config.but(**_heads(config, rank, size))
    return replace(found, decoder=_divided(found.decoder, rank, size, group, groups))


def shares(config: Config, size: int) -> dict[str, list[Shard]]:
    """What each of `size` devices has of that which is divided whole, by name."""
    ranks = range(size)
    if isinstance(config, GPT2Config):
        return {"heads": [Shard.of(config.n_head, rank, size) for rank in ranks]}
    assert isinstance(config, DecoderConfig)
    found, on = dict[str, list[Shard]](), [_pairs(config, rank, size) for rank in ranks]
    for names, (keys, others) in on[0].items():
        where = " of linear attention" if names[1].startswith("linear") else ""
        found[f"heads{where}"] = [pairs[names][1] for pairs in on]
        if keys.total != others.total and not config.latent_cache:
            found[f"heads of keys{where}"] = [pairs[names][0] for pairs in on]
    if config.experts:
        count = config.experts.n_routed_experts
        found["experts"] = [Shard.of(count, rank, size) for rank in ranks]
    return found


_HEADS = {  # names of numbers of heads: of keys, and of what each of them has several of
    "num_key_value_heads": "num_attention_heads",
    "linear_num_key_heads": "linear_num_value_heads",
}


def _heads(config: DecoderConfig, rank: int, size: int) -> dict[str, Shard]:
    """By key of the configuration: which heads a device has."""
    c = config.family.values(config.given, config.source)
    found: dict[str, Shard] = {}
    for (of_keys, of_others), (keys, others) in _pairs(config, rank, size).items():
        found[c.spelled(of_others)] = others
        if of_keys:
            found[c.spelled(of_keys)] = keys
    return found


def _pairs(
    config: DecoderConfig, rank: int, size: int
) -> dict[tuple[str, str], tuple[Shard, Shard]]:
    """Heads of keys and of what goes with them, by both names, "" for keys that go unnamed.

    Of few keys several devices have the same, and share its own.
    """
    c = config.family.values(config.given, config.source)
    found = {}
    for of_keys, of_others in _HEADS.items():
        if of_others.startswith("linear") and of_others not in config.given:
            continue
        H = getattr(c, of_others)
        given = getattr(c, of_keys) if c.takes(of_keys) or of_keys in config.given else None
        found[of_keys if given else "", of_others] = _shared(given or H, H, rank, size)
    return found


def _shared(K: int, H: int, rank: int, size: int) -> tuple[Shard, Shard]:
    """Of K heads of keys, and of H that have H // K to each, those of a device."""
    if size <= K:
        keys = Shard.of(K, rank, size)
        return keys, keys * (H // K)
    mine = rank * K // size
    of_it = [r for r in range(size) if r * K // size == mine]
    start, stop = Shard.of(H // K, of_it.index(rank), len(of_it)).pieces[0]
    first = mine * (H // K)
    others = [(first + start, first + stop)] if stop > start else []
    return Shard(K, (mine, mine + 1)), Shard(H, *others)


def _divided(part: Any, *at: int) -> Any:
    """A description in which widths of feed-forwards, experts and tables are Shards too."""
    rank, size, *_ = at
    if isinstance(part, tuple) and not hasattr(part, "_fields"):
        return tuple(_divided(one, *at) for one in part)
    if not isinstance(part, Part):
        return part
    if part.kind is HeadsNorm and size > 1:
        return Part(SharedHeadsNorm, part.name, part.settings)
    if part.kind is Experts:
        experts = part["experts"]
        return part.but(experts=experts.but(count=_share(experts["count"], *at)))
    found = {key: _divided(value, *at) for key, value in part.settings}
    if part.kind in (MLP, Gated, GatedJoined):
        found["F"] = Shard.of(found["F"], rank, size)
    elif part.kind is Embedding:
        found["rows"] = Vocabulary.of(found["rows"], rank, size)
    elif part.kind is Attention and found.get("k_norm", absent).kind is SharedHeadsNorm:
        G = found["heads"].G
        if isinstance(G, Shard):  # several devices have a key: it counts where its queries are
            found["k_norm"] = found["k_norm"].but(times=G / G.total)
    return Part(part.kind, part.name, tuple(found.items()))


def _share(experts: int, rank: int, size: int, group: int, groups: int) -> Shard:
    """Those that a device has."""
    return Shard.of(experts, group * size + rank, groups * size)


def cut(array: Array, shape: tuple[Any, ...]) -> Array:
    """The part of a whole tensor that a shape with Shards asks for, as an array of its own."""
    for axis, size in enumerate(shape):
        if isinstance(size, Shard):
            runs = [slice(*piece) for piece in size.pieces] or [slice(0)]
            before = (slice(None),) * axis
            array = np.concatenate([array[(*before, run)] for run in runs], axis)
    return array


def build_part(
    config: Config,
    part: Config,
    weights: Mapping[str, Array],
    of: Communicator,
    groups: Communicator = Alone(),  # noqa: B008
    assumed: Callable[[int], Segments] | None = None,
    **options: Any,
) -> Model:
    """The model of one device.

    Args:
        config: of the whole.
        part: what `divided` gives.
        weights: the tensors of `part.shapes()` by key.
        of: the devices that divide all of it.
        groups: those with the same rank in other groups, see `divided`.
        assumed: see `ToExperts`.
        options: of `architectures.build`.
    """
    shapes = part.shapes()
    held = {
        key: sharded(array, shapes[key], part.layout(key, len(shapes[key])), of)
        for key, array in weights.items()
    }
    model = build(part, held, **options)
    model.config = config
    for module in model.modules():
        if isinstance(module, Experts):
            E, n = module.router.choice[0], groups.size
            shares = [_share(E, of.rank, of.size, group, n) for group in range(n)]
            experts = [range(*share.pieces[0]) for share in shares]
            module.exchange = ToExperts(experts, groups, assumed)
        if isinstance(module, Experts | SharedHeadsNorm | ParallelBlock):
            module.total = partial(all_reduce, communicator=of)
        if isinstance(module, ParallelBlock):
            _summed_by(module, of)
    return model


def _summed_by(block: ParallelBlock, of: Communicator) -> None:
    """Leaves a block to add up its products: each stays a part; the first device's has the bias."""
    for module in block.modules():
        if isinstance(module, Projection) and isinstance(module.weight, RowSplit):
            module.weight = module.weight.part
            if of.rank > 0:
                module.bias = None
