"""What a floor leaves out, and no more, held against models that run: every family, drawn sizes."""

import math

import numpy as np
import pytest
from families import CASES, read, small
from helpers import numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category
from counting.views import matmul
from minigpt.models.architectures import PRESETS, build
from minigpt.planning.accelerators import GPUS
from minigpt.planning.devices import Split, on_devices
from minigpt.planning.forward import Pass, forward, kv_bytes
from minigpt.planning.roofline import Roofline, needed

CONFIGS = {name: read(name, small(name)) for name in CASES}
H100 = GPUS["h100"]


def roofline(config, gpus=1, gpu=H100):
    return Roofline(config, gpu, gpus, "float32", "float32")


def blocks(model):
    """Each block's mixer and feed-forward."""
    if hasattr(model, "layers"):
        return [(block.mixer, block.feed_forward) for block in model.layers]
    return [(block.attn, block.mlp) for block in model.h]


def real(config, seed=0, dtype="f8"):
    make = numbers(seed, config.vocab_size)
    return build(config, {key: make(shape, dtype) for key, shape in config.shapes().items()})


def after(part, change):
    """Changes what a part gives."""
    run = part.forward
    part.forward = lambda *given: change(run(*given))


# Sums: a GPU must wait for the others' parts where something is made of their sum.


@pytest.mark.parametrize("name", CONFIGS)
def test_a_block_sums_twice_where_its_feed_forward_sees_what_the_mixer_gave(name):
    config = CONFIGS[name]
    tokens = np.arange(5)[None]
    seen = []
    for factor in (1, 3):
        model = real(config)
        inputs = []
        for mixer, feed in blocks(model):
            after(mixer, lambda y, factor=factor: y * factor)
            run = feed.forward
            feed.forward = lambda x, run=run, inputs=inputs: inputs.append(x) or run(x)
            break  # what a later block is given is of the first one's mixer anyway
        model(tokens, model.new_cache(1, 5))
        seen.append(inputs[0])
    assert config.sums[0] == (1 if np.array_equal(*seen) else 2)
    assert {*config.sums} == {config.sums[0]}  # of these families


@given(name=st.sampled_from(list(CONFIGS)), gpus=st.integers(2, 4), B=st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_the_wire_carries_each_sum_once(name, gpus, B):
    config = CONFIGS[name]
    floor = roofline(config, gpus).floor(1, 3, B)
    assert floor.wire_bytes == sum(config.sums) * B * config.width * 4
    sizes = Pass(1, 3, B, "last", "float32")
    sent = {sum(device.sent.values()) for device in on_devices(config, sizes, Split(gpus))}
    assert floor.estimate.wire_bytes in sent
    assert min(sent) > floor.wire_bytes  # each twice but for a part, and the table, and logits


# Positions: what a layer gives for those before matters neither to the last logits nor to caches.


def remembered(config, layer, before, T):
    """The last logits and all caches, if what a layer gives for positions `before` is garbage."""
    model = real(config)
    part = (model.layers if hasattr(model, "layers") else model.h)[layer]

    def spoil(x):
        x = x.copy()
        x[:, :before] = 7 * np.cos(np.arange(x[:, :before].size)).reshape(x[:, :before].shape)
        return x

    after(part, spoil)
    cache = model.new_cache(1, T)
    logits = model(np.arange(T)[None] % config.vocab_size, cache)
    return [logits, *(part for held in cache.layers for part in (held.k, held.v))]


def same(one, other):  # but for the order in which experts' rows are added up
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(one, other, strict=True))


WINDOWS = [name for name in CONFIGS if any(CONFIGS[name].windows)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "deepseek_v3", *WINDOWS])
@pytest.mark.parametrize("T", [3, 9, 14])
def test_a_floor_computes_each_position_that_anything_depends_on_and_no_other(name, T):
    config = CONFIGS[name]
    positions = needed(config.windows, T)
    assert positions[-1] == 1
    for layer, n in enumerate(positions):
        whole = remembered(config, layer, 0, T)
        for before in {0, T - n}:
            kept = remembered(config, layer, before, T)
            assert same(whole, kept)
        spoilt = remembered(config, layer, T - n + 1, T)
        assert not same(whole, spoilt)


def hidden(config, layer, T, N):
    """The share of a layer's scores that no query may see: counted pair by pair."""
    window = config.windows[layer] or N + T
    keys = range(N - min(N, window - 1), N + T)
    pairs = [p - window < key <= p for p in range(N, N + T) for key in keys]
    return pairs.count(False) / len(pairs)


def least(config, T, N, B, cache=None):
    """FLOP of each layer run for the positions it must compute, and of all outside of layers."""

    def layers(T, N):
        counts = forward(config, Pass(T, N, B, "last", "float32", cache)).counts
        found = {}
        for (path, operation), _ in counts.items():
            number = [int(s) for s in path.split(".") if s.isdigit()][:1]
            found.setdefault(*number or [None], {})[path, operation] = counts[path, operation]
        return {i: type(counts)(counts.columns, rows) for i, rows in found.items()}

    total = matmul(layers(T, N)[None])
    for layer, n in enumerate(needed(config.windows, T)):
        run = layers(n, N + T - n)[layer]
        scores = matmul(run.where("*.qk")) + matmul(run.where("*.av", "matmul"))
        chunks = matmul(run.where("*.chunk"))  # of linear attention, which can go one by one
        total += matmul(run) - chunks - scores * hidden(config, layer, n, N + T - n)
    return round(total)


SIZES = st.tuples(st.integers(1, 12), st.just(0)) | st.tuples(st.just(1), st.integers(0, 12))


@pytest.mark.parametrize("name", CONFIGS)
@given(sizes=SIZES, B=st.integers(1, 8))
@settings(max_examples=2)
def test_the_arithmetic_is_that_of_layers_run_for_what_they_must_compute(name, sizes, B):
    config = CONFIGS[name]
    floor = roofline(config).floor(*sizes, B)
    caches = ("compressed", "expanded") if config.latent_cache else (None,)
    assert floor.flops in [least(config, *sizes, B, cache) for cache in caches]


# Bytes: each tensor of the checkpoint once, whatever reads it.


def weights(config, T):
    """Numbers that a pass of T tokens must read, by the shapes of the checkpoint alone."""
    shapes, experts = config.shapes(), config.experts
    first = next(iter(shapes))
    total = 0
    for key, shape in shapes.items():
        size = math.prod(shape)
        if key == first and not config.tie_word_embeddings:
            continue  # rows of it, looked up
        if "wpe" in key or "embed_positions" in key:
            size = T * shape[1]
        if ".experts." in key:  # one of them, or all of a layer: at least those of one token
            size *= experts.num_experts_per_tok / experts.n_routed_experts
        total += size
    return round(total)


TRUE_SIZED = "deepseek-v2-lite gpt-oss-20b opt-125m command-r7b gemma-3-4b gpt2-xl falcon-40b"


@pytest.mark.parametrize("name", [*CONFIGS, *TRUE_SIZED.split()])
def test_each_tensor_is_read_once(name):
    config = CONFIGS[name] if name in CONFIGS else PRESETS[name]
    for T, B in ((1, 3), (5, 1)):
        assert roofline(config).floor(T, 0, B).weight_bytes == 4 * weights(config, T)


def on_data(config, cache, T, N, B, seed):
    """A pass on random numbers, the N before it done, and the bytes of cache that it has then.

    A state is read and written, so it is none of them.
    """
    ledger, make = Ledger(), numbers(seed, config.vocab_size)
    with category("weights"):
        held = {k: Counted(make(s, "f4"), ledger) for k, s in config.shapes().items()}
    model = build(config, held, cache)
    filled = model.new_cache(B, N + T)
    if N:
        model(make((B, N), int), filled)
    before = ledger.snapshot()
    model(make((B, T), int), filled)
    return ledger.snapshot() - before, ledger.live_bytes["kv_cache"]


@pytest.mark.parametrize("name", CONFIGS)
@given(sizes=SIZES, B=st.integers(1, 8), gpus=st.sampled_from((1, 2, 8)), seed=st.integers(0, 99))
@settings(max_examples=2)
def test_no_run_on_data_does_less(name, sizes, B, gpus, seed):
    config, gpu = CONFIGS[name], H100._replace(cache=0)
    floor = roofline(config, gpus, gpu).floor(*sizes, B)
    ways = ("compressed", "expanded") if config.latent_cache else ("compressed",)
    for cache in ways:
        run, cached = on_data(config, cache, *sizes, B, seed)
        rows = run.where(operation="take").bytes_read["weights"]
        read = run.bytes_read["weights"] - rows
        assert cached <= run.bytes_read["kv_cache"] + run.bytes_written["kv_cache"]
        assert gpus * floor.weight_bytes <= read
        state = run.bytes_read["state"] + run.bytes_written["state"]
        assert gpus * floor.state_bytes <= state
        cached += state
        kv = cached - state
        assert len(ways) == 2 or gpus * floor.flops <= matmul(run)
        assert len(ways) == 2 or gpus * floor.kv_bytes <= kv
        parts = matmul(run) / gpu.flops[roofline(config).fastest], (read + cached) / gpu.bandwidth
        assert floor.seconds <= max(*(part / gpus for part in parts), floor.wire_s)


# Latents: kept or made keys of, whichever is faster.


@given(
    H=st.integers(1, 3),
    P=st.integers(1, 6),
    E=st.sampled_from((2, 4, 8)),
    D=st.integers(1, 6),
    R=st.integers(1, 40),
    layers=st.integers(1, 3),
    N=st.integers(0, 4000),
    B=st.integers(1, 300),
    gpu=st.sampled_from([H100, H100._replace(bandwidth=1e9, cache=0), GPUS["h200"]]),
)
@settings(max_examples=30)
def test_no_way_to_attend_to_latents_is_faster_than_the_floor(H, P, E, D, R, layers, N, B, gpu):
    sizes = {"qk_nope_head_dim": P, "qk_rope_head_dim": E, "v_head_dim": D, "kv_lora_rank": R}
    sizes |= {"num_hidden_layers": layers, "num_attention_heads": H}
    sizes |= {"max_position_embeddings": 4096}
    config = read("deepseek_v2", small("deepseek_v2") | sizes)
    it = roofline(config, gpu=gpu._replace(cache=0))
    floor = it.floor(1, N, B)
    flops, held = {}, {"compressed": R + E, "expanded": H * (P + E + D)}
    for cache, each in held.items():
        flops[cache] = matmul(forward(config, Pass(1, N, B, "last", "float32", cache)).counts)
        held[cache] = layers * (N + 1) * B * each * 4
    ways = [(cache, cache) for cache in held]
    if N == 0:  # what is made of the latents is at hand, whichever is kept
        ways.append(("expanded", "compressed"))
    rate, speed = it.gpu.flops[it.fastest], it.gpu.bandwidth
    seconds = [max(flops[a] / rate, (floor.weight_bytes + held[c]) / speed) for a, c in ways]
    assert floor.seconds == pytest.approx(min(seconds), rel=1e-12)


def test_a_model_of_few_heads_reads_less_of_keys_than_of_latents():
    values = small("deepseek_v2") | {"num_attention_heads": 1, "kv_lora_rank": 512}
    config = read("deepseek_v2", values)
    keys, latents = (kv_bytes(config, 41, "float32", c) for c in ("expanded", "compressed"))
    assert roofline(config).floor(1, 40, 2).kv_bytes == 2 * keys < 2 * latents
