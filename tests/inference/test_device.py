"""The path to a GPU, on a stand-in for CuPy over NumPy: no GPU code runs here but where it says."""

import json
import math
import re

import numpy as np
import pytest
from checkpoints import assert_contract, checkpoint, complaint, environment, minigpt
from families import read, tiny
from gpu import FAKES, real_cupy, stand_in  # noqa: F401
from helpers import SMALL, Case, numbers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category
from minigpt import InputError, generate, load
from minigpt.checkpoint.dtypes import NUMPY
from minigpt.inference.device import place, to_host
from minigpt.models.architectures import build
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.families.llama import mistral
from minigpt.models.gpt2_config import GPT2Config

PROMPT = "To be, or not to be"
SIZES = dict.fromkeys(("num_attention_heads", "num_hidden_layers", "sliding_window"), 2)
SIZES |= dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), 8)
WINDOW = mistral(**SIZES, num_key_value_heads=1, max_position_embeddings=9)
NEXT = read("qwen3_next", tiny("qwen3_next"))
CASES = {**SMALL, "mistral": Case(WINDOW, 2, (3, 2, 1), 6), "qwen3_next": Case(NEXT, 2, (3, 2), 6)}


def said(**options):
    """What the shipped model says, and the record of each pass."""
    steps = list(generate(load(**options), PROMPT, max_new_tokens=8, seed=1))
    return "".join(step.text for step in steps), steps


def weight_bytes(size):
    """Of the shipped model, its matrices of `size` bytes an element, the rest of 4."""
    config = load().config
    shapes = config.shapes().items()
    return sum(math.prod(s) * (size if config.layout(key, len(s)) else 4) for key, s in shapes)


# The model's code, unchanged.


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_same_tokens_at_the_same_price(cupy, dtype):
    here, there = said(), said(device="cuda", dtype=dtype)
    assert here[0] == there[0]
    for a, b in zip(here[1], there[1], strict=True):
        assert a.counts.cost == b.counts.cost
    size = NUMPY[dtype].itemsize
    assert there[1][0].live_bytes["weights"] == weight_bytes(size)
    assert there[1][0].kv_bytes_per_token == here[1][0].kv_bytes_per_token * size // 4
    assert all(step.seconds > 0 for step in there[1])


def on_device(model, dtype):
    """A small model of each kind of code: its passes in NumPy and on the device, same values."""
    case, device = CASES[model], place("cuda", dtype)
    make = numbers(0, case.config.vocab_size)
    weights = {key: make(shape, NUMPY[dtype]) for key, shape in case.config.shapes().items()}
    prompts = [make((case.batch, T), int) for T in case.chunks]
    matrices = {k for k, x in weights.items() if multiplies(case.config, k, x)}
    here = {key: x.astype(np.float32) for key, x in weights.items()}
    there = {k: device.put(weights[k] if k in matrices else here[k], k in matrices) for k in here}
    return [passes(case, held, prompts) for held in (here, there)]


def multiplies(config, key, x):
    return config.layout(key, x.ndim) or key.endswith("kv_b_proj.weight")


def passes(case, weights, prompts):
    """What was counted, and the logits, on the host."""
    ledger = Ledger()
    with category("weights"):
        model = build(case.config, {key: Counted(x, ledger) for key, x in weights.items()})
    cache = model.new_cache(case.batch, case.capacity)
    logits = [model(tokens, cache, "all") for tokens in prompts]
    assert all(x.dtype == np.float32 for x in logits)
    return ledger.snapshot(), [to_host(x.data) for x in logits]


DTYPES = [("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 8e-2)]


@pytest.mark.parametrize(("dtype", "within"), DTYPES)
@pytest.mark.parametrize("model", CASES)
def test_every_architecture(cupy, monkeypatch, model, dtype, within):
    own = cupy.UFUNCS["matmul"]

    def of_activations(x, y):
        """CuPy's own product would copy what is stored; a chunk's are of activations alone."""
        assert model == "qwen3_next"
        assert x.dtype == y.dtype == np.float32
        return own(x, y)

    monkeypatch.setitem(cupy.UFUNCS, "matmul", of_activations)
    (counts, logits), (on_gpu, gpu_logits) = on_device(model, dtype)
    assert counts.cost == on_gpu.cost
    for way in ("bytes_read", "bytes_written"):
        narrower = 4 // NUMPY[dtype].itemsize
        assert getattr(counts, way)["kv_cache"] == getattr(on_gpu, way)["kv_cache"] * narrower
    for a, b in zip(logits, gpu_logits, strict=True):
        assert np.linalg.norm(b - a) < within * np.linalg.norm(a)


def test_a_token_of_gpt2_xl_takes_307200_bytes_of_cache(cupy):
    config = GPT2Config(7, 2, 1600, 48, 25)
    like = Counted(place("cuda", "float16").put(np.zeros((7, 1600), np.float16), True), Ledger())
    shape = (1, config.n_head, 2, config.head_dim)
    cache = KVCache([LayerCache(like, shape) for _ in range(config.n_layer)], 2)
    assert cache.token_bytes == 307_200


def test_weights_come_in_parts_and_are_never_there_twice(cupy, monkeypatch):
    from counting.cupy_memory import Pool
    from minigpt.inference import device

    monkeypatch.setattr(device, "STAGING", 1000)
    array = np.random.default_rng(0).standard_normal((50, 31)).astype(np.float32)
    with Pool() as pool:
        held = place("cuda").put(array)
        assert (held.get() == array).all()
        assert pool.peak == array.nbytes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_of_all_sizes_take_one_block_of_pinned_memory(cupy, dtype):
    from minigpt.inference.device import STAGING

    load(device="cuda", dtype=dtype)
    assert cupy.cuda.PINNED.held == STAGING


# Products.


def array(draw, shape, dtype):
    return np.random.default_rng(draw(st.integers(0, 9))).standard_normal(shape).astype(dtype)


@st.composite
def products(draw):
    """x, what is stored, how much of it a product sees, and whether transposed."""
    sides = st.integers(1, 4)
    M, K, N = draw(sides), draw(sides), draw(sides)
    lead = draw(st.lists(sides, max_size=3))
    own = [draw(st.sampled_from((1, n))) for n in lead][draw(st.integers(0, len(lead))) :]
    dtype, more = draw(st.sampled_from(("f4", "f2"))), draw(st.integers(0, 2))
    transposed = draw(st.booleans())
    stored = (*own, N, K + more) if transposed else (*own, K + more, N)
    x = array(draw, (*[draw(st.sampled_from((1, n))) for n in lead], M, K), "f4")
    x = np.broadcast_to(x, (*lead, M, K)) if draw(st.booleans()) else x
    return x, array(draw, stored, dtype), K, transposed


ONES = np.ones((3, 2, 4, 5), np.float32)


@given(products())
@example((ONES, np.arange(60, dtype="f4").reshape(1, 2, 5, 6), 5, False))  # a batch read again
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_product_reads_what_is_stored_in_place(cupy, drawn):
    from counting.cupy_memory import Pool
    from minigpt.fast.cublas_array import CublasArray

    x, stored, K, transposed = drawn
    w = CublasArray(cupy.array(stored))
    w = w[..., :K].swapaxes(-1, -2) if transposed else w[..., :K, :]
    seen = stored[..., :K].swapaxes(-1, -2) if transposed else stored[..., :K, :]
    given, whole = cupy.array(np.ascontiguousarray(x)), x.astype(stored.dtype).astype(float)
    with Pool() as pool:
        y = given @ w
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.get(), whole @ seen.astype(float), rtol=1e-5, atol=1e-5)
    copies = 0 if stored.dtype == np.float32 else given.size * 2  # the left operand, rounded
    assert pool.peak == copies + y.nbytes


def test_a_matrix_answers_what_a_model_asks_and_refuses_the_rest(cupy):
    w = place("cuda").put(np.ones((3, 4), np.float32), True)
    x = cupy.array(np.ones((2, 3), np.float32))
    assert (x @ w).get().tolist() == [[3.0] * 4] * 2
    assert w[np.array([2, 0])].shape == (2, 4)
    assert type(np.empty_like(w, shape=(2, 2))) is type(w)
    assert type(np.empty_like(w, shape=(2, 2), dtype=np.float32)) is type(x)
    for refused in (
        lambda: w @ x,
        lambda: np.exp(w),
        lambda: x * w,
        lambda: np.matmul(np.ones((2, 3)), w),
        lambda: np.sum(w),
        lambda: np.asarray(w.data),
        lambda: w.T.reshape(12),
    ):
        with pytest.raises(TypeError):
            refused()
    with pytest.raises(ValueError, match="fit"):
        x @ w.T


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_gathered_is_widened_and_priced_as_done(cupy, dtype):
    ledger = Ledger()
    table = Counted(place("cuda", dtype).put(np.ones((5, 4), dtype), True), ledger)
    rows = table[np.array([1, 2])]
    assert rows.dtype == np.float32
    read, written = sum(ledger.snapshot().bytes_read.values()), 2 * 4 * 4
    if dtype == "float16":
        read, written = read - 2 * 4 * 2, written + 2 * 4 * 2  # between gathering and widening
    assert read == 2 * 4 * np.dtype(dtype).itemsize + 2 * 8
    assert sum(ledger.snapshot().bytes_written.values()) == written


# Nothing goes by in silence.


def test_a_view_that_copies_is_counted_as_the_copy(cupy):
    x = Counted(cupy.array(np.ones((2, 3))), Ledger())
    assert x.reshape(3, 2).base is x
    assert x.T.swapaxes(0, 1).reshape(6).base is x
    assert x.ledger.snapshot().total("calls") == 0
    assert x.T.reshape(6).base is not x
    assert x.ledger.snapshot().bytes_written["activations"] == x.nbytes


def test_host_arrays_do_not_mix_in(cupy):
    x = Counted(cupy.array(np.ones(3)), Ledger())
    for mix in (lambda: x + np.ones(3), lambda: np.ones(3) * x, lambda: np.asarray(x)):
        with pytest.raises(TypeError):
            mix()


# The command.

GPU = {"PYTHONPATH": str(FAKES)}


def on_stand_in(*args, cwd, **machine):
    env = environment(**GPU, FAKE_CUDA=json.dumps(machine))
    return minigpt("generate", *args, "--device", "cuda", cwd=cwd, env=env)


def test_generate_and_its_log(tmp_path):
    options = "--max-new-tokens", "6", "--seed", "1", "--log"
    here = minigpt("generate", PROMPT, *options, "here.jsonl", cwd=tmp_path)
    there = on_stand_in(PROMPT, *options, "there.jsonl", cwd=tmp_path)
    assert (there.returncode, there.stdout) == (0, here.stdout)
    logs = [(tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("here", "there")]
    for i, (a, b) in enumerate(zip(*(map(json.loads, log) for log in logs), strict=True)):
        assert_contract(b, load().config, first=not i)
        assert a["seconds"] > 0
        assert b["seconds"] > 0
        different = {key for key in a if a[key] != b[key]}
        assert different <= {"seconds", "peak_bytes"}


def test_the_memory_report_has_every_witness(tmp_path):
    options = "--max-new-tokens", "4", "--seed", "1", "--dtype", "float16", "--trace-allocator"
    result = on_stand_in(PROMPT, *options, cwd=tmp_path)
    text = result.stderr.decode()
    assert "no GPU code ran" in text  # the name of the device
    ledger, _, device = text.partition("on the device")
    assert re.match(" +asked +rounded to 512 +pool +driver", device)

    def row(name, table):
        found = re.search(rf"^{name} +(.+)$", table, re.MULTILINE).group(1)
        return [int(n.replace(",", "")) for n in found.split()]

    assert row("weights", device)[0] == weight_bytes(2)
    for name in ("weights", "kv_cache", "activations"):
        *_, live, allocated, _ = row(name, ledger[ledger.index("memory") :])
        asked, rounded = row(name, device)
        assert live == allocated == asked <= rounded
    asked, rounded, pool, driver = row("total", device)
    assert asked <= rounded <= pool < driver
    assert row("outside the ledger", device) == [driver - pool]
    assert re.search(r"attn\.c_attn +matmul", device)  # its operand, rounded to float16


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        ({"driver": 0}, "no driver was found"),
        ({"driver": 12040}, r"serves CUDA 12\.4, CuPy is built for 13\.0: .*\[cuda12\]"),
        ({"devices": 0}, "finds no GPU: cudaErrorNoDevice"),
        ({"capability": "61"}, r"compute capability is 6\.1, .* needs 7\.5"),
        ({"libraries": False}, r"no cuBLAS or NVRTC: pip install 'cupy-cuda13x\[ctk\]'"),
        (
            {"memory": 310_000_000},
            r"the model in float32 needs [\d,]+ bytes .* 10,000,000 are free",
        ),
    ],
)
def test_a_machine_that_will_not_do_is_told_in_one_line(tmp_path, machine, says):
    assert re.search(says, complaint(on_stand_in("a", cwd=tmp_path, **machine)))


def test_memory_is_asked_for_before_it_is_taken(cupy, tmp_path):
    lm = load(checkpoint(tmp_path / "model"), device="cuda")
    free = cupy.cuda.runtime.memGetInfo()[0]
    filler = cupy.cuda.POOL.malloc(
        free + cupy.cuda.POOL.free_bytes() - 4096
    )  # below the granularity
    with pytest.raises(InputError, match=r"1 x 13 tokens needs .* 3,840 are free") as error:
        generate(lm, "abc", max_new_tokens=11)
    needed = int(re.search(r"needs ([\d,]+)", str(error.value)).group(1).replace(",", ""))
    assert 3840 < needed < lm.ledger.live_bytes["weights"]  # which are there already
    del filler
    assert len(list(generate(lm, "abc", max_new_tokens=11, ignore_eos=True))) == 11


def test_what_a_gpu_cannot_hold_is_refused_with_the_reason(cupy, monkeypatch):
    with pytest.raises(InputError, match=r"not in int8: .* no scale of a row"):
        place("cuda", "int8")
    monkeypatch.setitem(cupy.cuda.MACHINE, "capability", "75")
    assert place("cuda", "float16").capability == 75
    with pytest.raises(InputError, match=r"no bfloat16, .* is 7\.5 and not 8\.0 .* float16"):
        place("cuda", "bfloat16")


# On a GPU.


def test_on_a_gpu_the_same_tokens_at_the_same_price():
    real_cupy()
    here, there = said(), said(device="cuda")
    assert here[0] == there[0]
    for a, b in zip(here[1], there[1], strict=True):
        assert a.counts.cost == b.counts.cost


@pytest.mark.parametrize(("dtype", "within"), DTYPES)
@pytest.mark.parametrize("model", CASES)
def test_on_a_gpu_every_architecture(model, dtype, within):
    real_cupy()
    (counts, logits), (on_gpu, gpu_logits) = on_device(model, dtype)
    assert counts.cost == on_gpu.cost
    for a, b in zip(logits, gpu_logits, strict=True):
        assert np.linalg.norm(b - a) < within * np.linalg.norm(a)
