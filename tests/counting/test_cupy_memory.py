"""CuPy's pool as a witness, on the stand-in: what it asks for is what CuPy would; no GPU code."""

import numpy as np
import pytest
from configs import configs
from gpu import real_cupy, stand_in  # noqa: F401
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category, observing, scope
from minigpt.inference.device import place
from minigpt.models.architectures import build
from minigpt.models.gpt2_config import GPT2Config

shared = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ledger_and_pool_agree(config, batch, dtype, T):
    """Weights, cache and logits are live to the byte, through a prefill of T and a decode step."""
    from counting.cupy_memory import Pool

    device, ledger = place("cuda", dtype), Ledger()
    with Pool() as pool:

        def agrees():
            moment, live = pool.now(), ledger.live_bytes
            assert {name: moment.asked.get(name, 0) for name in live} == live
            assert moment.asked.keys() <= live.keys()
            assert all(rounded % 512 == 0 for _, rounded in moment.categories.values())
            held = sum(rounded for _, rounded in moment.categories.values())
            assert held == pool.held.rounded <= moment.used <= moment.pool < moment.driver

        with category("weights"):
            weights = {}
            for key, shape in config.shapes().items():
                matrix = config.layout(key, len(shape)) is not None
                array = np.zeros(shape, dtype if matrix else np.float32)
                weights[key] = Counted(device.put(array, matrix), ledger)
        model = build(config, weights)
        agrees()
        cache = model.new_cache(batch, config.n_positions)
        assert pool.now().asked["kv_cache"] == cache.nbytes
        for n in (T, 1):
            logits = model(np.zeros((batch, n), int), cache)
            agrees()
            assert pool.now().asked["activations"] == logits.nbytes
        del logits, cache, model, weights
        assert pool.held == (0, 0)
        assert not pool.live


@given(configs(), st.integers(1, 3), st.sampled_from(("float32", "float16")), st.data())
@shared
def test_weights_cache_and_logits_are_live_to_the_byte(cupy, config, batch, dtype, data):
    T = data.draw(st.integers(1, config.n_positions - 1))
    ledger_and_pool_agree(config, batch, dtype, T)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_on_a_gpu_they_are_too(dtype):
    real_cupy()
    ledger_and_pool_agree(GPT2Config(3000, 64, 96, 2, 3), 2, dtype, 7)


def hidden(cupy, operation):
    """The most bytes that the one operation of a run took and gave back."""
    from counting.cupy_memory import Pool

    ledger = Ledger()
    with Pool() as pool, observing(ledger, pool), scope("here"):
        operation(lambda array: Counted(cupy.array(array), ledger))
    return {key: (found.times, found.most) for key, found in pool.hidden.items()}


def array(*shape, dtype="f2"):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("operation", "found"),
    [
        # CuPy's own product of float16: a batch is copied to float32, two dimensions are not.
        (lambda put: put(array(2, 3, 4)) @ put(array(2, 4, 5)), ("matmul", 2, 4 * (24 + 40))),
        (lambda put: put(array(3, 4)) @ put(array(4, 5)), None),
        # A head's keys, transposed: copied to lie side by side.
        (
            lambda put: (
                put(array(2, 3, 4, dtype="f4")) @ put(array(2, 5, 4, dtype="f4")).swapaxes(1, 2)
            ),
            ("matmul", 1, 4 * 40),
        ),
        (lambda put: np.tril(put(array(5, 6)), 0), ("tril", 1, 30)),
        (lambda put: put(array(5, 6))[np.array([1, 2])], ("take", 1, 16)),
        (lambda put: np.exp(put(array(5, 6))) + 1.0, None),
    ],
)
def test_what_an_operation_takes_in_secret_has_its_name(cupy, operation, found):
    expected = {("here", found[0]): found[1:]} if found else {}
    assert hidden(cupy, operation) == expected


def test_a_matrix_hides_its_rounded_operand_alone(cupy):
    from counting.cupy_memory import Pool

    device, ledger = place("cuda", "float16"), Ledger()
    w = Counted(device.put(array(4, 5), True), ledger)
    x = Counted(cupy.array(array(2, 3, 4, dtype="f4")), ledger)
    with Pool() as pool, observing(ledger, pool):
        y = x @ w
    assert pool.hidden == {("", "matmul"): (1, 2 * 24)}
    assert pool.now().asked == {"activations": y.nbytes}


def test_what_came_before_the_pool_was_watched_anew_is_of_no_operation(cupy):
    from counting.cupy_memory import Pool

    ledger, pool = Ledger(), Pool()
    x = Counted(cupy.array(array(5, dtype="f4")), ledger)
    with pool:
        cupy.zeros(100)  # born and dead before anything is observed
    with pool, observing(ledger, pool):
        x + x
    assert not pool.hidden


def test_what_is_taken_between_operations_is_of_none(cupy):
    from counting.cupy_memory import Pool

    ledger = Ledger()
    x = Counted(cupy.array(array(5, dtype="f4")), ledger)
    with Pool() as pool, observing(ledger, pool):
        cupy.zeros(100)
        with scope("here"):
            x + x
    assert not pool.hidden


def test_blocks_of_others_and_blocks_that_failed_are_left_out(cupy):
    from counting.cupy_memory import Pool

    before = cupy.zeros(100)
    with Pool() as pool:
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            cupy.empty(2**60, np.int8)
        del before
        empty, held = cupy.zeros(0), cupy.zeros(3)
        assert (pool.held, pool.peak, len(pool.live)) == ((24, 512), 24, 1)
        moment = pool.now()
        assert moment.outside == moment.driver - moment.pool > 0
    del empty, held
    more = cupy.zeros(5)
    assert pool.peak == 24
    pool.reset_peak()
    assert more.size == 5


def test_a_prefill_is_peak_and_not_live(cupy):
    from counting.cupy_memory import Pool

    with Pool() as pool:
        x = cupy.zeros(1000, np.int8)
        del x
        assert (pool.held, pool.peak) == ((0, 0), 1000)
        pool.reset_peak()
        assert pool.peak == 0
