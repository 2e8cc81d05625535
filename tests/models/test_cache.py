"""The KV cache: what it reserves, what of it is filled, and what a token writes."""

import numpy as np
import pytest
from helpers import SMALL, numbers

from counting import Counted, Ledger, ShapeArray, category
from minigpt.models.architectures import build
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config


@pytest.mark.parametrize("name", SMALL)
def test_a_token_writes_what_the_cache_says_and_no_more(name):
    case, ledger = SMALL[name], Ledger()
    make = numbers(0, case.config.vocab_size)
    with category("weights"):
        weights = {k: Counted(make(s, np.float32), ledger) for k, s in case.config.shapes().items()}
    model = build(case.config, weights)
    cache = model.new_cache(case.batch, case.capacity)
    reserved = ledger.live_bytes["kv_cache"]
    assert cache.nbytes == reserved == case.capacity * cache.token_bytes
    assert cache.filled_bytes == 0
    for length in range(1, case.capacity + 1):
        before = ledger.snapshot()
        model(np.zeros((case.batch, 1), int), cache)
        written = (ledger.snapshot() - before).bytes_written["kv_cache"]
        assert written == cache.token_bytes
        assert cache.filled_bytes == length * cache.token_bytes
        assert ledger.live_bytes["kv_cache"] == reserved  # nothing is allocated anew


# One token after 1023, 12 layers of 12 heads of 64 in float32: GPT-2.
LAYERS, OLD, NEW = 12, (1, 12, 1023, 64), (1, 12, 1, 64)
TOKEN = 73_728


def test_a_token_of_gpt2_is_all_that_ours_writes():
    ledger = Ledger()
    like = Counted(ShapeArray((1,)), ledger)
    cache = KVCache([LayerCache(like, (1, 12, 1024, 64)) for _ in range(LAYERS)], 1024)
    k = Counted(ShapeArray(NEW), ledger)
    for layer in cache.layers:
        layer.length = 1023
        layer.append(k, k)
    assert ledger.snapshot().bytes_written["kv_cache"] == cache.token_bytes == TOKEN
    assert cache.filled_bytes == cache.nbytes == 1024 * TOKEN


def test_the_cache_of_transformers_writes_a_thousand_times_as_much():
    torch = pytest.importorskip("torch", reason="PyTorch, a witness, is not installed")
    transformers = pytest.importorskip("transformers", reason="so is transformers")
    from torch.utils._python_dispatch import TorchDispatchMode

    class Written(TorchDispatchMode):
        nbytes = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if not function.is_view:
                self.nbytes += result.nbytes
            return result

    cache, old, new = transformers.DynamicCache(), torch.zeros(OLD), torch.zeros(NEW)
    for layer in range(LAYERS):
        cache.update(old, old, layer)
    with Written() as written:
        for layer in range(LAYERS):
            cache.update(new, new, layer)
    assert written.nbytes == 1024 * TOKEN == 75_497_472  # all of it anew, 75,423,744 for the old


def test_a_cache_longer_than_the_context_is_refused():
    config = GPT2Config(vocab_size=3, n_positions=4, n_embd=2, n_layer=1, n_head=1)
    weights = {key: ShapeArray(shape) for key, shape in config.shapes().items()}
    with pytest.raises(ValueError, match="5 tokens exceed the context of 4"):
        GPT2(config, weights).new_cache(1, 5)
