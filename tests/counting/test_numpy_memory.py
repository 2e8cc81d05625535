"""NumPy's allocator against the ledger: weights and KV cache to the byte, activations explained."""

import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
from configs import configs
from helpers import SMALL, array, numbers, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category
from counting.numpy_memory import Allocations, moments, transients
from minigpt.models.architectures import build


def built(config, ledger, dtype=np.float32):
    """A model of `config` whose weights are random."""
    make = numbers(0, config.vocab_size)
    with category("weights"):
        weights = {key: Counted(make(s, dtype), ledger) for key, s in config.shapes().items()}
    return build(config, weights)


@given(configs(), st.integers(1, 3), st.sampled_from((np.float32, np.float16)), st.data())
@settings(max_examples=40, deadline=None)
def test_weights_cache_and_logits_are_live_to_the_byte(config, batch, dtype, data):
    T = data.draw(st.integers(1, config.n_positions - 1))
    prompts = [np.zeros((batch, n), int) for n in (T, 1)]
    ledger = Ledger()
    with Allocations() as allocations, np.errstate(all="ignore"):
        model = built(config, ledger, dtype)
        assert allocations.live == ledger.live_bytes["weights"]
        assert allocations.live == config.parameters * np.dtype(dtype).itemsize
        cache = model.new_cache(batch, config.n_positions)
        held = ledger.live_bytes["weights"] + cache.nbytes
        assert allocations.live == held
        for prompt in prompts:
            logits = model(prompt, cache)
            assert allocations.live == sum(ledger.live_bytes.values()) == held + logits.nbytes
        del logits, cache, model
        assert allocations.live == sum(ledger.live_bytes.values()) == 0


FIRST_FLOAT64 = 8 * (np.lib.NumpyVersion(np.__version__) < "2.5.0")  # then of the result's dtype


def alone(operation):
    """The bytes that an operation holds, called on a (3, 4) array, beyond what the ledger knows."""
    ledger = Ledger()
    with Allocations() as allocations:
        x = Counted(array((3, 4)), ledger)
        return transients(moments(ledger, lambda: operation(x), allocations))


@pytest.mark.parametrize(
    ("operation", "beyond"),
    [
        (lambda x: x + x, {}),
        (lambda x: x @ x.T, {}),
        (lambda x: np.exp(x), {}),
        (lambda x: x.max(axis=-1, keepdims=True), {}),
        (lambda x: x.sum(axis=-1, keepdims=True), {}),
        (lambda x: x.copy(), {}),
        (lambda x: x + 1.0, {"add": 4}),  # 1.0 is made an array
        (lambda x: x[:1, :1] + 1.0, {"add": 8}),  # of float64 first, more than the result takes
        (lambda x: np.where(x, x, -np.inf), {"where": FIRST_FLOAT64 + 4}),  # -inf is made an array
        (lambda x: np.ones_like(x), {"ones_like": 12}),
        (lambda x: x.mean(axis=-1, keepdims=True), {"mean": 16}),  # how many there are
        (lambda x: np.tril(x), {"tril": 12 + 4}),  # a mask of bool, a zero
    ],
)
def test_what_an_operation_holds_beyond_its_result(operation, beyond):
    assert alone(operation) == beyond


def test_a_scalar_is_live_to_the_ledger_alone():
    ledger = Ledger()
    with Allocations() as allocations:
        total = Counted(array((3, 4)), ledger).sum()
        assert ledger.live_bytes["activations"] - allocations.live == total.nbytes == 4


NAMED = {"add", "subtract", "multiply", "divide", "where", "ones_like", "mean", "tril"}
NAMED |= {"gelu", "silu", "softmax", "layer_norm", "rms_norm"}  # made of them


@pytest.mark.parametrize("composites", [nullcontext, opened])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize(("T", "N"), [(3, 0), (1, 3)])
def test_the_peak_is_the_ledgers_and_what_has_a_name(name, T, N, composites):
    ledger = Ledger()
    before, prompt = np.zeros((2, 3), int), np.zeros((2, T), int)
    with Allocations() as allocations:
        model = built(SMALL[name].config, ledger)
        cache = model.new_cache(2, 5)
        model(before, cache)

        def run():
            for layer in cache.layers:
                layer.length = N
            return model(prompt, cache)

        base = allocations.live
        allocations.reset_peak()
        run()
        peak = allocations.peak - base
        with composites():
            each = moments(ledger, run, allocations)
    highest, extra = max(each, key=lambda moment: moment.real), transients(each)
    assert highest.real == peak
    assert highest.real - highest.ledger <= extra.get(highest.operation, 0)
    assert extra.keys() <= NAMED
    most = {"tril": T * (N + T) + 16}  # its mask, as large as what it masks
    assert all(0 < n <= most.get(operation, 16) for operation, n in extra.items())


def test_the_moments_are_those_of_the_ledger():
    ledger = Ledger()
    with Allocations() as allocations:
        model = built(SMALL["gpt2"].config, ledger)
        cache = model.new_cache(1, 1)
        each = moments(ledger, lambda: step(model, cache), allocations)
    assert max(moment.ledger for moment in each) == ledger.peak_bytes["activations"]
    assert [moment.path for moment in each][:2] == ["wte", "wpe"]


def step(model, cache):
    for layer in cache.layers:
        layer.length = 0
    return model(np.zeros((1, 1), int), cache)


def test_files_tell_what_asked_for_the_bytes():
    ledger = Ledger()
    with Allocations() as allocations:
        model = built(SMALL["gpt2"].config, ledger)
        cache = model.new_cache(1, 4)
        logits = step(model, cache)
        found = {file.name: n for file, n in allocations.by_file().items()}
    weights = ledger.live_bytes["weights"]
    assert found == {"helpers.py": weights, "cache.py": cache.nbytes, "ops.py": logits.nbytes}


def test_only_array_data_is_seen():
    with Allocations() as allocations:
        kept = [object() for _ in range(1000)]
        assert allocations.peak == 0
        x = np.empty((3, 5), np.float32)
        assert (allocations.live, allocations.peak) == (60, 60)
        traces = tracemalloc.take_snapshot().traces
        assert {trace.domain for trace in traces} == {np.lib.tracemalloc_domain}
        assert sum(trace.size for trace in traces) == 60
        del x
        assert (allocations.live, allocations.peak) == (0, 60)
        allocations.reset_peak()
        assert allocations.peak == 0
    assert len(kept) == 1000


def test_python_and_tracemalloc_are_left_as_they_were():
    with pytest.raises(ZeroDivisionError), Allocations():
        np.ones(9)[0] / (1 // 0)
    assert not tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        kept = [object() for _ in range(1000)]
        assert tracemalloc.get_traced_memory()[0] > 16 * len(kept)
        with pytest.raises(RuntimeError, match="already"), Allocations():
            pass
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
