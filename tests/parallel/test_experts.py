"""Experts on devices of their own, as threads: what each group finds, and what it sends for it."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import minigpt
from ranks import run as run_ranks
from rings import on_each

from counting import Counted, Ledger, ShapeArray, category
from counting.ledger import CATEGORIES
from counting.views import matmul
from minigpt.commands.devices import run as run_command
from minigpt.errors import InputError
from minigpt.formulas.drawn import draw
from minigpt.models.architectures import PRESETS, build
from minigpt.models.experts import Choice, Experts
from minigpt.models.routing import bound, expected, expected_experts
from minigpt.parallel.collectives import all_to_all
from minigpt.parallel.communicators import OnPaper
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import SENT, Split, on_devices
from minigpt.planning.forward import Pass
from minigpt.planning.place import spread

PARENTS = {
    "mixtral": "mixtral-8x7b",
    "deepseek": "deepseek-r1",
    "qwen": "qwen3-30b-a3b",
    "gpt-oss": "gpt-oss-20b",
}
COLUMNS = (*CATEGORIES, "wire")


NUMBERS = ("n_routed_experts", "num_experts_per_tok", "expert_layers")


def drawn(name, seed):
    """A small model, groups of devices, devices of each, and tokens of a batch."""
    rng = random.Random(f"{name} {seed}")
    groups, size = rng.randint(2, 4), rng.randint(1, 2)
    while True:
        config = draw(PRESETS[PARENTS[name]], rng).config
        if config.vocab_size >= size and config.experts.n_routed_experts >= groups:
            break
    shape = groups + rng.randint(0, 2), rng.randint(1, 5)
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, shape)
    return config, groups, size, tokens


def weights_of(config, seed):
    rng = np.random.default_rng(seed)
    shapes = config.shapes().items()
    return {key: rng.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes}


def routed(model):
    return [part for part in model.modules() if isinstance(part, Experts)]


def counted(ledger, arrays):
    with category("weights"):
        return {key: Counted(array, ledger) for key, array in arrays.items()}


def passes(model, ledger, tokens):
    """Two passes, each token the likeliest: logits, counts, and of each pass who met whom."""
    found, met = [], []
    cache, before = model.new_cache(tokens.shape[0], tokens.shape[1] + 1), ledger.snapshot()
    for _ in range(2):
        logits = model(Counted(tokens, ledger), cache, "last").data
        found.append(logits)
        met.append([part.dispatch for part in routed(model)])
        tokens = logits[:, -1:].argmax(-1)
    return np.concatenate(found, axis=1), ledger.snapshot() - before, met


def on_all(config, weights, tokens, groups, size):
    """What each device finds, by group and rank there: its batch is `batches[group]`."""

    def run(ring):
        group, rank = divmod(ring.rank, size)
        part, ledger = divided(config, rank, size, group, groups), Ledger(COLUMNS)
        shapes = part.shapes()
        held = counted(ledger, {key: cut(weights[key], shapes[key]) for key in shapes})
        mine = ring.of([group * size + other for other in range(size)])
        column = ring.of([other * size + rank for other in range(groups)])
        model = build_part(config, part, held, mine, column)
        logits, counts, met = passes(model, ledger, batches(tokens, groups)[group])
        has = [set(part.experts) for part in routed(model)]
        elements = sum(array.size for array in held.values())
        return SimpleNamespace(logits=logits, counts=counts, met=met, has=has, elements=elements)

    found = on_each(groups * size, run)
    return [found[group * size :][:size] for group in range(groups)]


def batches(tokens, groups):
    ends = [group * len(tokens) // groups for group in range(groups + 1)]
    return [tokens[start:stop] for start, stop in pairwise(ends)]


def rows(dispatch, experts):
    return sum(stop - start for expert, start, stop in dispatch.segments if expert in experts)


def sent_by_hand(devices, group, rank, width):
    """Bytes that a device sends to those of other groups: numbers of rows, rows, their results."""
    numbers = out = home = 0
    me = devices[group][rank]
    for other, theirs in enumerate(at[rank] for at in devices):
        if other != group:
            for met, their_met in zip(me.met, theirs.met, strict=True):
                for layer, (mine, their) in enumerate(zip(met, their_met, strict=True)):
                    numbers += 8 * len(theirs.has[layer])
                    out += rows(mine, theirs.has[layer]) * width * 4
                    home += rows(their, me.has[layer]) * width * 4
    return numbers, out, home


def of_experts(counts):
    return matmul(counts.where("*.experts.*"))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", PARENTS)
def test_each_group_finds_what_one_device_finds_of_its_sequences(name, seed):
    config, groups, size, tokens = drawn(name, seed)
    weights = weights_of(config, seed)
    ledger = Ledger()
    model = build(config, counted(ledger, weights))
    logits, counts, _ = passes(model, ledger, tokens)
    devices = on_all(config, weights, tokens, groups, size)

    for one, of_group in zip(batches(logits, groups), devices, strict=True):
        for device in of_group:
            np.testing.assert_allclose(device.logits, one, atol=1e-4 * max(1, np.abs(one).max()))
            assert np.array_equal(device.logits, of_group[0].logits)  # to the bit

    everyone = [device for of_group in devices for device in of_group]
    assert sum(of_experts(device.counts) for device in everyone) == of_experts(counts)
    if size == 1:
        assert sum(matmul(device.counts) for device in everyone) == matmul(counts)
    for layer in range(config.experts.expert_layers):
        has = sorted(expert for device in everyone for expert in device.has[layer])
        assert has == [*range(config.experts.n_routed_experts)]

    for group, of_group in enumerate(devices):
        for rank, device in enumerate(of_group):
            sent = device.counts.where("*.all_to_all", operation=SENT)
            parts = (sent.where(f"*.{where}.*") for where in ("sizes", "dispatch", "combine"))
            numbers, both, home = (sum(part.bytes_read.values()) for part in parts)
            by_hand = sent_by_hand(devices, group, rank, config.width)
            assert (numbers, both - numbers, home) == by_hand
            assert sum(sent.bytes_read.values()) == sum(by_hand)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", PARENTS)
def test_on_shapes_it_costs_what_it_costs_on_data_that_meet_the_same_experts(name, seed):
    config, groups, size, tokens = drawn(name, seed)
    weights = weights_of(config, seed)
    devices = on_all(config, weights, tokens, groups, size)
    for group in range(groups):
        for rank in range(size):
            ledger, part = Ledger(COLUMNS), divided(config, rank, size, group, groups)
            arrays = {key: ShapeArray(shape, np.float32) for key, shape in part.shapes().items()}
            held = counted(ledger, arrays)
            model = build_part(config, part, held, OnPaper(rank, size), OnPaper(group, groups))
            B, T = batches(tokens, groups)[group].shape
            cache, before = model.new_cache(B, T + 1), ledger.snapshot()
            for number, new in enumerate((T, 1)):
                for layer, experts in enumerate(routed(model)):
                    met = [at[rank].met[number][layer] for at in devices]
                    segments = [dispatch.segments for dispatch in met]
                    experts.assume = lambda *_, mine=met[group]: mine
                    assumed = segments.__getitem__
                    experts.exchange = replace(experts.exchange, assumed=assumed)
                model(Counted(ShapeArray((B, new), np.int64), ledger), cache, "last")
            counts, ran = ledger.snapshot() - before, devices[group][rank].counts
            assert counts.cost == ran.cost
            assert counts.bytes_read == ran.bytes_read
            assert counts.bytes_written == ran.bytes_written
            assert counts.where(operation=SENT) == ran.where(operation=SENT)


# On paper.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-r1", "qwen3-30b-a3b"])
def test_rows_that_are_spread_evenly_leave_in_a_share_of_E_less_one(name, seed):
    """B T k (E - 1) / E of them, there and back, where that divides."""
    config, rng = PRESETS[name], random.Random(f"{name} {seed}")
    N, k, layers = (getattr(config.experts, x) for x in NUMBERS)
    E, tensor = rng.choice([2, 4, 8]), rng.choice([1, 2])
    while N % (E * tensor):
        tensor = 1
    B, T = E * rng.randint(1, 3), E * tensor * rng.randint(1, 3)
    if rng.random() < 0.5:  # enough for all experts to be met
        T *= N
    T = min(T, config.n_positions)
    sizes = Pass(T=T, B=B, logits="last", assume=bound)
    devices = on_devices(config, sizes, Split(tensor, 1, E))
    row, numbers = config.width * 2, (E - 1) * N // (E * tensor) * 8
    each = 2 * (B * T * k * (E - 1) // E) * row // (E * tensor)
    assert {device.sent["all_to_all"] for device in devices} == {layers * (each + numbers)}
    [alone] = on_devices(config, sizes, Split())
    products = sum(of_experts(device.counts) for device in devices)
    assert products == of_experts(alone.counts)
    if tensor == 1:
        assert {*map(tuple, (device.sent for device in devices))} == {("all_to_all",)}
        assert sum(matmul(device.counts) for device in devices) == matmul(alone.counts)


@pytest.mark.parametrize("seed", range(20))
def test_all_experts_that_are_met_meet_as_many_rows(seed):
    rng = random.Random(seed)
    E = rng.randint(1, 40)
    k, groups, size = rng.randint(1, E), rng.randint(1, min(E, 6)), rng.randint(1, 3)
    tokens = tuple(rng.randint(1, 9) for _ in range(groups))
    experts = Choice(E, k)
    assume = rng.choice([expected, bound])
    found = spread(assume, experts, tokens, size)
    total, D = np.zeros(E, int), groups * size
    for segments, n in zip(found, tokens, strict=True):
        ends = [0]
        for expert, start, stop in segments:
            assert start == ends[-1] < stop
            ends.append(stop)
            total[expert] += stop - start
        assert ends[-1] == n * k
        assert [expert for expert, *_ in segments] == sorted({expert for expert, *_ in segments})
    met = total[total > 0]
    assert len(met) == len(assume(experts, sum(tokens)).segments)
    assert met.max() - met.min() <= 1
    if E % D == 0:
        of_each = (total.reshape(D, -1) > 0).sum(axis=1)
        assert of_each.max() - of_each.min() <= 1


def test_of_deepseek_r1_on_16_devices_all_but_the_experts_is_there_16_times():
    config = PRESETS["deepseek-r1"]
    experts = config.experts.expert_layers * 256 * config.experts.expert_parameters
    rest = config.parameters - experts
    assert experts == 58 * 256 * 3 * 7168 * 2048
    devices = on_devices(config, Pass(B=16), Split(1, 1, 16))
    assert [device.parameters.total() for device in devices] == [rest + experts // 16] * 16
    for groups, stages, batch in ((5, 2, 12), (3, 4, 7)):
        devices = on_devices(config, Pass(B=batch), Split(1, stages, groups))
        assert sum(device.parameters.total() for device in devices) == experts + groups * rest
        first = [device for device in devices if device.stage == 0]
        assert sum(device.sequences for device in first) == batch
        assert {device.sequences for device in first} <= {batch // groups, -(-batch // groups)}
        kept = sum(device.held["kv_cache"] for device in devices)
        assert kept == batch * 70_272


@pytest.mark.parametrize(
    ("model", "sizes", "split", "said"),
    [
        ("llama-3.1-405b", Pass(B=8), Split(8, 2, 8), "^experts is 8; this model has none"),
        ("mixtral-8x7b", Pass(B=9), Split(1, 1, 9), "^experts is 9; it must be 1 to 8"),
        ("mixtral-8x7b", Pass(B=9), Split(1, 1, 0), "^experts is 0; it must be 1 to 8"),
        ("mixtral-8x7b", Pass(B=9), Split(64, 1, 8), "^8 groups of 64 devices are 512: a stage"),
        (
            "deepseek-r1",
            Pass(B=3),
            Split(1, 1, 4),
            "4 groups has .* batch is 3; it must be 4 or more",
        ),
    ],
)
def test_what_cannot_be_divided_is_said(model, sizes, split, said):
    with pytest.raises(InputError, match=said):
        on_devices(PRESETS[model], sizes, split)


def test_the_command_says_what_it_assumes_and_what_each_group_has(capsys):
    sizes, split, config = Pass(B=5), Split(1, 2, 4), PRESETS["mixtral-8x7b"]
    devices, met = on_devices(config, sizes, split), round(expected_experts(config.experts, 5))
    run_command("mixtral-8x7b", sizes, split)
    told = capsys.readouterr().out
    assert "\neach group has 1 or 2 sequence(s) of the batch\n" in told
    assert f"\nassumed: {met} of 8 experts are met in a layer, all by as many rows\n" in told
    assert f"\nthe first sends {devices[0].sent['all_to_all']:,} bytes, all_to_all\n" in told
    run_command("mixtral-8x7b", sizes, split, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["experts"], found["experts_met_in_each_layer"]) == (4, met)
    named = [(at["stage"], at["group"], at["rank"], at["sequences"]) for at in found["devices"]]
    assert named == [(stage, group, 0, 1 + (group == 3)) for stage in (0, 1) for group in range(4)]
    assert [at["bytes_sent"] for at in found["devices"]] == [at.sent for at in devices]
    more = sum(found["parameters_replicated"].values())
    assert sum(at["parameters"] for at in found["devices"]) == found["parameters"] + more


def test_where_the_batch_is_too_small_the_command_ends_with_a_line(tmp_path):
    ran = minigpt("count", "mixtral-8x7b", "--experts", "2", cwd=tmp_path)
    line = b"each of 2 groups has sequences of its own: batch is 1; it must be 2 or more"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, b"", b"minigpt: " + line + b"\n")


def test_a_model_without_experts_is_divided_by_the_rest_and_that_is_said(tmp_path):
    model = "count", "llama-3.1-405b", "--tensor-parallel", "8", "--pipeline", "2"
    alone, asked = (minigpt(*model, *more, cwd=tmp_path) for more in ((), ("--experts", "8")))
    assert (asked.returncode, asked.stdout) == (0, alone.stdout)
    line = b"llama-3.1-405b has no routed experts, so that --experts 8 divides nothing"
    assert asked.stderr == b"minigpt: " + line + b"\n"


@pytest.mark.parametrize("more", [("--new-tokens", "999"), ("--batch", "0"), ("--pipeline", "99")])
def test_nothing_is_said_of_what_cannot_be_counted_but_why(tmp_path, more):
    model = "count", "shakespeare", "--tensor-parallel", "2", "--experts", "3"
    ran = minigpt(*model, *more, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (2, b"", 1)


# Rows that go to other devices.


@pytest.mark.parametrize("seed", range(8))
def test_rows_go_where_they_are_for(seed):
    rng = np.random.default_rng(seed)
    size, inner = int(rng.integers(1, 6)), tuple(rng.integers(1, 4, rng.integers(0, 3)))
    heights = rng.integers(0, 4, (size, size))  # from, to
    parts = [[rng.normal(size=(n, *inner)) for n in of] for of in heights]

    def run(ring):
        ledger, me = Ledger(COLUMNS), ring.rank
        mine = [Counted(part, ledger) for part in parts[me]]
        found = all_to_all(mine, heights[:, me].tolist(), ring)
        return [part.data for part in found], ledger.snapshot()

    for rank, (found, counts) in enumerate(on_each(size, run)):
        for theirs, got in zip(parts, found, strict=True):
            assert np.array_equal(got, theirs[rank])
        others = np.arange(size) != rank
        each = int(np.prod(inner)) * 8
        passed = counts.where(operation=SENT)
        assert sum(passed.bytes_read.values()) == heights[rank, others].sum() * each
        assert sum(passed.bytes_written.values()) == heights[others, rank].sum() * each
        assert not passed.cost


PROCESS = """
import random, sys
from mpi4py import MPI as mpi
import numpy as np
from counting import Counted, Ledger, category
from counting.ledger import CATEGORIES
from minigpt.formulas.drawn import draw
from minigpt.models.architectures import PRESETS, build
from minigpt.parallel.communicators import MPI, Alone
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import SENT

ring, seed, moved = MPI(), int(sys.argv[1]), 0
world, me, size = ring.world, ring.rank, ring.size

class Watched:
    def Sendrecv(self, x, to, *, recvbuf, source):
        global moved
        status = mpi.Status()
        world.Sendrecv(x, to, recvbuf=recvbuf, source=source, status=status)
        moved += status.Get_count(mpi.BYTE)

rng, ring.world = np.random.default_rng(seed), Watched()
config = draw(PRESETS["mixtral-8x7b"], random.Random(seed)).config
shapes = config.shapes()
weights = {key: rng.normal(0, 0.3, shapes[key]).astype("f4") for key in shapes}
tokens = rng.integers(0, config.vocab_size, (size + 1, 4))
model = build(config, weights)
one = model(tokens, model.new_cache(size + 1, 4), "all")
mine = slice(me * (size + 1) // size, (me + 1) * (size + 1) // size)
part, ledger = divided(config, 0, 1, me, size), Ledger((*CATEGORIES, "wire"))
asked = part.shapes()
with category("weights"):
    held = {key: Counted(cut(weights[key], asked[key]), ledger) for key in asked}
model = build_part(config, part, held, Alone(), ring)
logits = model(tokens[mine], model.new_cache(len(tokens[mine]), 4), "all").data
np.testing.assert_allclose(logits, one[mine], atol=1e-4 * max(1, abs(one).max()))
passed = ledger.snapshot().where(operation=SENT)
sent, received = (sum(of.values()) for of in (passed.bytes_read, passed.bytes_written))
assert received == moved > 0
assert sum(world.allgather(sent)) == sum(world.allgather(received))
"""


@pytest.mark.parametrize("size", [2, 3])
def test_processes_find_of_their_sequences_what_one_finds(size, tmp_path):
    program = tmp_path / "rank.py"
    program.write_text(PROCESS)
    ran = run_ranks(size, program, 20 + size)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
