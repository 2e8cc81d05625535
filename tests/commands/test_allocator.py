"""What was allocated, by the modules that asked for it."""

from importlib.util import find_spec

import pytest
from checkpoints import checkpoint, tensors
from families import CASES, read, small

from minigpt import generate, load
from minigpt.commands import allocator
from minigpt.inference.device import witness


def test_the_modules_that_bytes_are_told_apart_by_exist():
    assert all(map(find_spec, (*allocator._CATEGORIES, *allocator._OUTSIDE)))


@pytest.mark.parametrize("model", ["shakespeare", "qwen3_next"])
def test_what_is_live_in_a_pass_is_what_the_ledger_says(monkeypatch, model, tmp_path):
    monkeypatch.setenv("MINIGPT_FAST", "0")
    if model in CASES:
        values = small(model) | {"model_type": model, "vocab_size": 260}
        model = checkpoint(tmp_path, tensors(read(model, values)), **values)
    lm = load(model)
    with witness("cpu") as allocations, allocator.witnessing(lm, allocations) as witnessed:
        for step in generate(lm, "To be", max_new_tokens=2, seed=1):
            assert witnessed.look()["kv_cache"] == step.live_bytes["kv_cache"] > 0
            assert witnessed.look().get("state", 0) == step.live_bytes["state"]
            assert (step.live_bytes["state"] > 0) == (lm.config.state_heads > 0)
        assert f"{allocations.peak:,} bytes at most" in witnessed.report()
    with allocator.witnessing(lm, None) as nobody:
        assert nobody is None
