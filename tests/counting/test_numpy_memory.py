"""NumPy's allocator against the ledger: weights and KV cache to the byte, activations explained."""

import tracemalloc
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
from configs import configs
from helpers import SMALL, array, numbers, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category
from counting.numpy_memory import Allocations
from counting.scope import place
from minigpt.models.architectures import build


class Moment(NamedTuple):
    """The most bytes held while an operation ran, over what was held at the start.

    Attributes:
        path, operation: which, as in `Counts`.
        ledger: by the ledger: what was alive before, and its temporaries or its result.
        real: by the allocator.
    """

    path: str
    operation: str
    ledger: int
    real: int


class Watched(dict):
    """The prices of a ledger; each operation asks for its own just before it runs."""

    def __init__(self, ledger, allocations):
        super().__init__(ledger.charges)
        self._ledger, self._allocations = ledger, allocations
        self._start = self._before()
        self.moments = []
        self._running = None

    def _before(self):
        return sum(self._ledger.live_bytes.values()), self._allocations.live

    def close(self):
        """Enters the operation that ran last."""
        if self._running:
            real = self._allocations.peak - self._start[1]
            self.moments.append(Moment(*self._running, real))
        self._running = None

    def get(self, key, default=None):
        self.close()
        charge = super().get(key)
        if charge is not None:
            held = charge.grows + charge.over
            ledger = self._before()[0] - self._start[0] + held
            self._running = (place.get().path, charge.operation, ledger)
            self._allocations.reset_peak()
        return charge


def moments(ledger, run, allocations):
    """What ledger and allocator say of each operation of `run`, in order.

    It runs twice: finding the prices of operations, the first time, makes small arrays itself.
    Arrays of `run` must be born inside `allocations`, or the two do not see the same.
    """
    run()
    charges = ledger.charges
    watched = Watched(ledger, allocations)
    ledger.charges = ledger.hot = watched
    try:
        run()
        watched.close()
    finally:
        ledger.charges = ledger.hot = charges
    return watched.moments


def transients(moments):
    """The bytes that each operation held beyond what the ledger knows of, at most; none at 0.

    In float32 on NumPy 2.1 and 2.4 they are, each tried alone: for a number among the operands 4,
    the array that it is made into (more where the result is as small, for it is float64 first);
    `np.where` with a number 12, both; `np.ones_like` 12 for its 1, of bool 16; `np.mean` 16 for
    its number of elements; `np.tril` a mask of one byte an element, and its 0; float16 differs in
    `np.mean`, which adds up in float32. Below 0 would be a temporary of 256 KiB or more that NumPy
    writes over: `x * x * x` on bare arrays.
    """
    beyond = {}
    for moment in moments:
        if differs := moment.real - moment.ledger:
            beyond[moment.operation] = max(differs, beyond.get(moment.operation, differs))
    return beyond


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
    assert found == {"helpers.py": weights, "cache.py": cache.nbytes, "parts.py": logits.nbytes}


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
