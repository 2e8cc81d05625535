"""What was allocated, by the modules that asked for it."""

from importlib.util import find_spec

from minigpt import generate, load
from minigpt.commands import allocator
from minigpt.inference.device import witness


def test_the_modules_that_bytes_are_told_apart_by_exist():
    assert all(map(find_spec, (*allocator._CATEGORIES, *allocator._OUTSIDE)))


def test_what_is_live_in_a_pass_is_what_the_ledger_says(monkeypatch):
    monkeypatch.setenv("MINIGPT_FAST", "0")
    lm = load()
    with witness("cpu") as allocations, allocator.witnessing(lm, allocations) as witnessed:
        for step in generate(lm, "To be", max_new_tokens=2, seed=1):
            assert witnessed.look()["kv_cache"] == step.live_bytes["kv_cache"] > 0
        assert f"{allocations.peak:,} bytes at most" in witnessed.report()
    with allocator.witnessing(lm, None) as nobody:
        assert nobody is None
