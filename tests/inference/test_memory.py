"""The most memory that a process takes, from the first start on, against what `plan` says."""

import json
import random
import subprocess
import sys

import pytest
from checkpoints import cache_in, environment
from families import read

from counting.process_memory import resident
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.accelerators import Accelerator
from minigpt.planning.plan import Plan

pytestmark = pytest.mark.skipif(resident() is None, reason="the system does not say what is taken")

MOST = 1.25  # times what is planned
NEW = 8
START = f"""
import json, sys
from counting.process_memory import resident
from minigpt import fast, generate, load

fast.machine()
before = resident().total
lm = load(sys.argv[1], dtype=sys.argv[2])
options = dict(max_new_tokens={NEW}, temperature=0, ignore_eos=True)
steps = list(generate(lm, "so much depends upon " * 3, **options))
print(json.dumps([before, resident().peak, steps[0].new_tokens]))
"""


def gpt2(draw):
    heads, layers = draw.randint(11, 12), draw.randint(9, 11)
    size = heads * draw.randint(66, 78)
    return GPT2Config(draw.randint(30_000, 50_257), 96, size, layers, heads)


def llama(draw):
    heads, layers = 2 * draw.randint(5, 6), draw.randint(9, 10)
    values = {
        "vocab_size": draw.randint(40_000, 60_000),
        "hidden_size": heads * 64,
        "intermediate_size": draw.randint(2000, 2800),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "max_position_embeddings": 96,
    }
    return read("llama", values)


@pytest.mark.parametrize(
    ("family", "stored", "dtypes"),
    [
        (gpt2, "float32", ("float32", "bfloat16", "float16", "int8")),
        (llama, "bfloat16", ("bfloat16", "int8")),
    ],
)
def test_the_peak_is_little_more_than_weights_cache_and_activations(
    family, stored, dtypes, tmp_path
):
    """Of the process, over what interpreter, libraries and kernels take before anything is loaded.

    Weights are as `plan` counts them: each parameter at the dtype, no scales, nothing in float32.
    """
    seed = random.randrange(2**32)
    config, folder = family(random.Random(seed)), tmp_path / "model"
    write_checkpoint(config, folder, stored)
    found = {}
    for dtype in dtypes:
        for start in ("first", "second"):
            before, peak, prompt = started(folder, dtype, tmp_path / "cache")
            found[dtype, start] = (peak - before) / planned(config, dtype, prompt)
    print(f"seed {seed}: {config.parameters:,} parameters, {found}")
    assert max(found.values()) <= MOST
    assert min(found.values()) >= 1  # or it was not measured


def started(folder, dtype, cache):
    """Of a process that loads and generates: memory before, the most, tokens of the prompt."""
    run = subprocess.run(
        [sys.executable, "-c", START, folder, dtype],
        env=environment(XDG_CACHE_HOME=cache_in(cache)),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(run.stdout)


def planned(config, dtype, prompt):
    """Bytes of weights at `dtype`, of the cache as it is held beside them, of activations."""
    here = Accelerator("cpu", {}, 0.0, 0, "")
    cache = "float32" if dtype == "int8" else dtype
    held, run = (
        Plan("", config, here, 1, of, weights, prompt + NEW - 1, 1, prompt, 0).memory
        for of, weights in ((cache, dtype), ("float32", "float32"))
    )
    return held.weights + held.kv_cache + run.activations
