"""Several devices, as threads: what all of them find is what one finds, and nothing is lost."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from families import CASES, kind, read, small, tiny
from rings import on_each

from counting import Counted, Ledger, ShapeArray, category
from counting.ledger import CATEGORIES
from counting.views import matmul
from minigpt.errors import InputError
from minigpt.formulas.drawn import draw
from minigpt.models.architectures import PRESETS, build
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.shard import Shard
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.communicators import OnPaper
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import SENT, Split, on_devices, sent_by
from minigpt.planning.forward import Pass

FAMILIES = {}
for name in PRESETS:
    if not isinstance(PRESETS[name], GPT2Config):
        FAMILIES.setdefault(PRESETS[name].family.model_type, name)
CHUNKED = "qwen3_next"  # has no small form to draw
NORMED = {"olmo2", "olmo3", "olmoe"}  # over all heads together
SHARED = {"qwen2_moe", "qwen3_next", "deepseek_v2", "deepseek_v3", "kimi_k2"}  # experts
PRICED = ["gpt2", "llama", "qwen3_moe", "deepseek_v3", "gpt_oss", "olmo2", "gpt_neox"]


def drawn(family, rng):
    """A random model of a family whose vocabulary four devices can share."""
    if family == "gpt2":
        H, D = rng.randint(1, 6), 2 * rng.randint(1, 4)
        sizes = {"n_embd": H * D, "n_layer": rng.randint(1, 3), "n_head": H}
        tied = rng.random() < 0.5
        return GPT2Config(rng.randint(4, 99), 20, **sizes, tie_word_embeddings=tied)
    if family == CHUNKED:
        K, G = rng.randint(1, 5), rng.randint(1, 4)
        heads = {"linear_num_key_heads": K, "linear_num_value_heads": K * G}
        return read(family, tiny(family) | heads)
    while True:
        config = draw(PRESETS[FAMILIES[family]], rng).config
        if config.vocab_size >= 4:
            return config


def weights_of(config, seed):
    rng = np.random.default_rng(seed)
    shapes = config.shapes().items()
    return {key: rng.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes}


def passes(model, tokens, counted, n=3):
    """The logits of some passes, each token the likeliest."""
    found, cache = [], model.new_cache(tokens.shape[0], tokens.shape[1] + n)
    for _ in range(n):
        logits = model(counted(tokens), cache, "last")
        logits = logits.data if isinstance(logits, Counted) else logits
        found.append(logits)
        tokens = logits[:, -1:].argmax(-1)
    return np.stack(found)


def part_of(config, weights, ring):
    """The model of one device, its ledger, and its weights by key."""
    part, ledger = divided(config, ring.rank, ring.size), Ledger((*CATEGORIES, "wire"))
    shapes = part.shapes()
    with category("weights"):
        held = {key: Counted(cut(weights[key], shapes[key]), ledger) for key in shapes}
    return build_part(config, part, held, ring), ledger, held


def on_all(config, weights, tokens, size):
    """Of each device: the logits, the counts of all passes, the elements it holds by component."""

    def run(ring):
        model, ledger, held = part_of(config, weights, ring)
        logits = passes(model, tokens, lambda x: Counted(x, ledger))
        return logits, ledger.snapshot(), {key: x.size for key, x in held.items()}

    return on_each(size, run)


def check(config, size, seed):
    """Holds `size` devices against one; gives the counts of all passes of each."""
    weights = weights_of(config, seed)
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, (2, 5))
    one = passes(build(config, weights), tokens, lambda x: x)
    found = on_all(config, weights, tokens, size)
    for logits, _, _ in found:
        np.testing.assert_allclose(logits, one, atol=1e-4 * max(1, np.abs(one).max()))
        assert np.array_equal(logits, found[0][0])  # to the bit
    sent, received = ([] for _ in range(2))
    for _, counts, _ in found:
        passed = counts.where(operation=SENT)
        sent.append(sum(passed.bytes_read.values()))
        received.append(sum(passed.bytes_written.values()))
    assert sent == received[1:] + received[:1]
    whole = {key: weight.size for key, weight in weights.items()}
    assert all(sum(held.get(key, 0) for *_, held in found) >= n for key, n in whole.items())
    return [counts for _, counts, _ in found]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", sorted({"gpt2", *FAMILIES}))
def test_several_devices_find_what_one_finds(family, seed):
    rng = random.Random(f"{family} {seed}")
    check(drawn(family, rng), rng.randint(2, 4), seed)


@pytest.mark.parametrize("name", CASES)
def test_they_do_whatever_is_switched_and_add_up_as_often_as_blocks_say(name):
    config, P = read(name, small(name)), random.Random(name).randint(2, 5)
    found = sum((sent_by(counts) for counts in check(config, P, 0)), Counter())
    numbers = config.width * (1 + sum(config.sums))  # of a token: a table's, and each layer's
    if kind(name) in NORMED:
        numbers += 2 * config.layers  # squares of queries, and of keys
    if kind(name) not in SHARED:
        assert found["all_reduce"] == 2 * (P - 1) * numbers * 4 * 2 * (5 + 1 + 1)


def test_what_cannot_be_divided_is_said():
    config = drawn("gpt2", random.Random(1))
    with pytest.raises(InputError, match=f"cannot share a vocabulary of {config.vocab_size}"):
        divided(config, 0, 100)


# On paper.


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "family",
    ["gpt2", "llama", "qwen3_moe", "qwen3_next", "deepseek_v3", "gpt_oss", "olmo2", "gpt_neox"],
)
def test_on_shapes_it_costs_what_it_costs_on_data(family, seed):
    rng = random.Random(f"paper {family} {seed}")
    config, size = drawn(family, rng), rng.randint(2, 4)
    weights = weights_of(config, seed)
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, (1, 1))
    sizes = Pass(T=1, B=1, dtype="float32", logits="last", capacity=2)
    paper = on_devices(config, sizes, Split(size))

    def run(ring):
        model, ledger, held = part_of(config, weights, ring)
        cache = model.new_cache(1, 2)
        before = ledger.snapshot()
        model(tokens, cache, "last")
        return ledger.snapshot() - before, sum(x.size for x in held.values()), ledger.live_bytes

    totals = [0, 0]
    for device, (counts, held, live) in zip(paper, on_each(size, run), strict=True):
        assert device.parameters.total() == held
        assert device.held["weights"] == live["weights"] == 4 * held
        for kept in ("kv_cache", "state"):
            assert device.held.get(kept, 0) == live[kept]
        passed = counts.where(operation=SENT)
        sent = sum(passed.bytes_read.values())
        assert sum(device.sent.values()) == sent
        totals[0] += matmul(counts)
        totals[1] += matmul(device.counts)
        if not config.experts:  # which are met is in the data
            assert device.counts.cost == counts.cost
            assert device.counts.bytes_read == counts.bytes_read
            assert device.counts.bytes_written == counts.bytes_written
    assert totals[0] == totals[1]


STAGED = ["gpt2-xl", "llama-3.1-405b", "deepseek-r1", "falcon-40b", "qwen3-next-80b-a3b"]


@pytest.mark.parametrize("name", STAGED)
def test_stages_do_together_what_one_device_does(name):
    config, rng = PRESETS[name], random.Random(name)
    sizes = Pass(T=rng.randint(1, 9), N=rng.randint(0, 99), B=rng.randint(1, 3))
    [alone] = on_devices(config, sizes, Split())
    model = config.parameters
    assert alone.parameters.total() == model
    for tensor, pipeline in ((1, 3), (2, 2), (8, 2), (16, 1)):
        devices = on_devices(config, sizes, Split(tensor, pipeline))
        assert len(devices) == tensor * pipeline
        stages = [d.layers for d in devices if d.rank == 0]
        assert [i for layers in stages for i in layers] == list(range(config.layers))
        held = sum((d.parameters for d in devices), type(alone.parameters)())
        assert all(held[name] >= n for name, n in alone.parameters.items())
        if tensor == 1:
            tied = config.tie_word_embeddings
            table = config.vocab_size * config.width if tied else 0
            assert held.total() == model + table
            assert sum(matmul(d.counts) for d in devices) == matmul(alone.counts)
            assert sum(d.held["kv_cache"] for d in devices) == alone.held["kv_cache"]


def test_whole_numbers_are_what_products_of_the_llama_405b_come_to():
    """Of 8 devices that share its 8 heads of keys and values, by hand."""
    config = PRESETS["llama-3.1-405b"]
    devices = on_devices(config, Pass(N=4095), Split(8))
    C, F, V, L, D, H = 16384, 53248, 128256, 126, 128, 128
    layer = 2 * C * H * D // 8 + 2 * C * D + 3 * C * F // 8
    products = 2 * (L * layer + V // 8 * C) + L * 4 * (H // 8) * D * 4096
    ring = 2 * 7 * (C // 8) * 2  # bytes of one sum
    for device in devices:
        assert matmul(device.counts) == products
        assert device.parameters.total() == L * (layer + 2 * C) + 2 * V // 8 * C + C
        assert device.held["kv_cache"] == 2 * L * D * 4096 * 2
        assert device.sent == {"all_reduce": (2 * L + 1) * ring, "all_gather": 7 * V // 8 * 2}


def test_a_norm_over_all_heads_sends_one_number_a_token():
    """Of OLMo 2 7B on 8 devices, by hand: 8 rows of queries and 8 of keys are a number each."""
    C, V, L = 4096, 100352, 32
    for device in on_devices(PRESETS["olmo-2-7b"], Pass(T=8), Split(8)):
        normed = 2 * L * 2 * 7 * 1 * 2  # bytes
        sums = (2 * L + 1) * 2 * 7 * (8 * C // 8) * 2
        assert device.sent == {"all_reduce": sums + normed, "all_gather": 7 * 8 * V // 8 * 2}


def test_a_parallel_block_adds_up_its_branches_and_then_the_devices():
    """Half the bytes of one branch after the other; biases are added once."""
    one = PRESETS["pythia-6.9b"]
    other = one.but(use_parallel_residual=False)
    C, L = 4096, 32
    at_once, in_turn = (on_devices(config, Pass(N=7), Split(4)) for config in (one, other))
    ring = 2 * 3 * (C // 4) * 2
    for first, second in zip(at_once, in_turn, strict=True):
        assert first.sent["all_reduce"] == (L + 1) * ring
        assert second.sent["all_reduce"] == (2 * L + 1) * ring
        assert first.parameters == second.parameters
    added = [device.counts.total("add") for device in at_once]
    assert added[1:] == [added[0] - 2 * C * L] * 3


# The ring.


@pytest.mark.parametrize("seed", range(8))
def test_a_ring_adds_and_gathers(seed):
    rng = np.random.default_rng(seed)
    size, dtype = int(rng.integers(1, 6)), rng.choice(["float32", "float64"])
    shape = tuple(rng.integers(1, 5, rng.integers(1, 4)))
    xs = [rng.normal(size=shape).astype(dtype) for _ in range(size)]
    widths = [int(n) for n in rng.integers(0, 4, size)]
    parts = [rng.normal(size=(*shape, n)).astype(dtype) for n in widths]

    def run(ring):
        ledger = Ledger((*CATEGORIES, "wire"))
        total = all_reduce(Counted(xs[ring.rank], ledger), ring)
        summed = ledger.snapshot()
        row = all_gather(Counted(parts[ring.rank], ledger), widths, ring)
        return total.data, row.data, summed, ledger.snapshot() - summed

    found, n = on_each(size, run), math.prod(shape)
    for rank, (total, row, summed, gathered) in enumerate(found):
        np.testing.assert_allclose(total, sum(xs), rtol=1e-5, atol=1e-6)
        assert np.array_equal(total, found[0][0])
        assert np.array_equal(row, np.concatenate(parts, axis=-1))
        item = np.dtype(dtype).itemsize
        if size > 1:
            passed = summed.where(operation=SENT)
            assert sum(f[2].total("add") for f in found) == (size - 1) * n
            assert sum(sum(f[2].where(operation=SENT).bytes_read.values()) for f in found) == (
                2 * (size - 1) * n * item
            )
            received = (sum(widths) - widths[rank]) * n * item
            assert sum(gathered.where(operation=SENT).bytes_written.values()) == received
            if n % size == 0:
                assert sum(passed.bytes_read.values()) == 2 * (size - 1) * n // size * item


@pytest.mark.parametrize("seed", range(20))
def test_a_part_of_a_size_is_that_part_of_what_it_is_a_size_of(seed):
    rng = random.Random(seed)
    H, D, P = rng.randint(1, 9), rng.randint(1, 5), rng.randint(1, 5)
    rank = rng.randrange(P)
    part = Shard.of(H, rank, P)
    mine = np.zeros(H, bool)
    mine[list(part.indices())] = True
    laid = [
        (part * D, np.repeat(mine, D)),
        (3 * part, np.tile(mine, 3)),
        (3 * part * D, np.repeat(np.tile(mine, 3), D)),
        (part + 2 * part, np.tile(mine, 3)),
        (part + 2, np.concatenate([mine, [True, True]])),
        (part * (part + 1), np.outer(mine, [*mine, True]).reshape(-1)),
    ]
    for size, which in laid:
        assert (size, size.total) == (which.sum(), which.size)
        assert [*size.indices()] == [*np.flatnonzero(which)]
    assert np.array_equal(cut(np.arange(H * D), (part * D,)), np.flatnonzero(np.repeat(mine, D)))


def test_of_no_other_device_shapes_alone_come():
    ring = OnPaper(1, 3)
    ledger = Ledger((*CATEGORIES, "wire"))
    total = all_reduce(Counted(ShapeArray((2, 5)), ledger), ring)
    assert (total.shape, total.dtype) == ((2, 5), np.float32)
