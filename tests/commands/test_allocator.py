"""What was allocated, by the modules that asked for it."""

import re
import subprocess
import sys
from importlib.util import find_spec
from io import StringIO
from types import SimpleNamespace

import pytest
from checkpoints import SHORT, cache_in, checkpoint, environment, tensors
from families import CASES, read, small
from rich.console import Console

from counting.process_memory import resident
from minigpt import generate, load
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.commands import allocator
from minigpt.inference.device import witness
from minigpt.models.gpt2_config import GPT2Config


def rendered(report):
    out = Console(file=StringIO(), width=100)
    out.print(report)
    return out.file.getvalue()


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
        assert f"{allocations.peak:,} bytes at most" in rendered(witnessed.report())
    with allocator.witnessing(lm, None) as nobody:
        assert nobody is None


def test_a_run_that_ends_before_its_first_pass_is_reported():
    with witness("cpu") as allocations, allocator.witnessing(load(), allocations) as witnessed:
        assert "NumPy's allocator held" in rendered(witnessed.report())
    moment = SimpleNamespace(
        categories={"weights": (500, 512)}, pool=2048, used=512, driver=9999, outside=7951
    )
    cuda = allocator.Cuda(SimpleNamespace(now=lambda: moment, hidden={}), "a GPU")
    told = rendered(cuda.report())
    assert "7,951" in told
    assert "1,536" in told  # free in the pool


LARGE = GPT2Config(8191, 256, 512, 6, 8, eos_token_id=8190)  # 23 M parameters
SYSTEM = """
import sys
from minigpt.fast import store
store.READ, store.SMALL = int(sys.argv.pop(1)), 0
from minigpt.cli import main
main()
"""
LINE = re.compile(r"(\S.*?\S) {2,}(-?[\d,]+)")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "model"
    write_checkpoint(LARGE, folder)
    return folder


@pytest.mark.skipif(resident() is None, reason="the system does not say what is in memory")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("kernels", ["0", "1"])
@pytest.mark.parametrize("way", ["read", "mapped"])
def test_what_is_resident_is_told_in_parts_that_add_up(large, tmp_path, dtype, kernels, way):
    env = environment(XDG_CACHE_HOME=cache_in(tmp_path / "cache"), MINIGPT_FAST=kernels)
    limit = {"read": 1 << 40, "mapped": 0}[way]
    options = "To be", "--model", large, "--dtype", dtype, *SHORT, "--trace-allocator"
    result = subprocess.run(
        [sys.executable, "-c", SYSTEM, str(limit), "generate", *options],
        env=env | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = result.stderr.partition("in memory, as the system says")[2].splitlines()
    rows = {found[1]: int(found[2].replace(",", "")) for found in map(LINE.match, told) if found}
    *parts, total, private, files, shared, peak = rows.values()
    assert sum(parts) == total == rows["resident (VmRSS)"] == private + files + shared <= peak
    assert min(parts) >= 0

    weights = LARGE.parameters * {"float32": 4, "bfloat16": 2, "int8": 1}[dtype]
    mapped = rows["weights, mapped: what was touched"]
    read = rows.get("weights, NumPy's arrays", 0)
    assert mapped + read <= 1.05 * weights + 2**20  # norms and positions are float32; scales
    assert (mapped if way == "mapped" else read) >= 0.98 * weights
    assert rows["the rest: objects, kernels, what was freed"] < 32 * 2**20
