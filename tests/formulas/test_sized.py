"""Polynomials of a model of given sizes: evaluated, they are what runs on shapes say."""

import random

import pytest

from minigpt.commands.count import document
from minigpt.errors import InputError
from minigpt.formulas.sized import B, U, n, p, q, s, sized
from minigpt.models.architectures import PRESETS
from minigpt.models.routing import expected
from minigpt.planning.accelerators import GPUS
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.options import Options
from minigpt.planning.plan import plan

NONE = "qwen3-next-80b-a3b"  # has no closed forms
FAMILIES = {PRESETS[name].values().get("model_type"): name for name in PRESETS if name != NONE}


def busiest(config, tokens):
    """How many experts that many tokens meet, and how many of them the busiest one."""
    segments = expected(config.experts, tokens).segments
    return len(segments), max(end - first for _, first, end in segments)


@pytest.mark.parametrize("model", FAMILIES.values())
def test_they_are_what_count_and_plan_say(model):
    config, rng = PRESETS[model], random.Random(model)
    dtype = rng.choice(("float16", "float32"))
    found = sized(config, dtype)
    for context in (1, rng.randint(2, 300), rng.randint(2, config.n_positions)):
        batch = rng.choice((1, rng.randint(2, 300)))
        made = plan(model, config, GPUS["b200"], Options(1, dtype, None, context, batch))
        at = {n: context, B: batch, p: made.prompt}
        if config.experts:
            at[U], at[s] = busiest(config, batch)
            at[q] = busiest(config, made.prompt)[1]
        value = {name: max(int(e.xreplace(at)) for e in of) for name, of in found.items()}
        step = document(count(model, Pass(1, context - 1, batch, dtype=dtype)))
        prompt = document(count(model, Pass(made.prompt, logits="last", dtype=dtype)))
        last, about = made.last, made.last.estimate
        where = (context, batch)
        for of, said in (("", step), ("prompt_", prompt)):
            for name in ("flops", "matmul_flops"):
                assert (value[of + name], where) == (said[name], where)
        assert (value["kv_cache"] * batch, where) == (made.memory.kv_cache, where)
        assert (value["activations"], where) == (made.memory.activations, where)
        assert (value["weights_read"], where) == (about.weight_bytes, where)
        assert (value["kv_moved"], where) == (about.kv_bytes, where)
        ways = [
            (value[f"{a}matmul_flops"], value[f"{k}weights_once"], value[f"{k}kv_cache"] * batch)
            for a, k in (("", ""), ("expanded_", "expanded_"), ("expanded_", ""))
        ]
        assert (last.flops, last.weight_bytes, last.kv_bytes) in ways, where


def test_linear_attention_in_chunks_has_none():
    with pytest.raises(InputError, match="in chunks of 64 tokens, and has no closed forms"):
        sized(PRESETS[NONE])
