"""What two recordings differ in is what each says of itself."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint
from families import small
from helpers import numbers

from counting.views import flops
from minigpt import generate, load
from minigpt.formulas.difference import moved
from minigpt.inference.sample import Sampling
from minigpt.models.architectures import READERS
from minigpt.recording.difference import asked, components, memory, phases
from minigpt.recording.read import read
from minigpt.recording.write import recording

OLD = Path(__file__).with_name("version-1.jsonl")
PAIRS = [("gpt2", "gpt2"), ("gpt2", "llama"), ("mixtral", "gemma2"), ("qwen3_next", "llama")]
PAIRS += [("deepseek_v3", "gpt2")]


def recorded(family, seed, folder):
    """A drawn generation of a small model: what phases did in all, and its recording."""
    rng = np.random.default_rng(seed)
    values = {"model_type": family} | small(family) | {"vocab_size": CONFIG.vocab_size}
    make = numbers(seed, CONFIG.vocab_size)
    shapes = READERS[family](values, "drawn").shapes()
    weights = {key: make(shape, np.float32) for key, shape in shapes.items()}
    folder.mkdir()
    lm = load(checkpoint(folder / "model", weights, **values))
    length, batch, new = (int(rng.integers(1, most)) for most in (6, 4, 6))
    prompts, options = ["".join(rng.choice([*"abcdef"], length)) for _ in range(batch)], {}
    options = {"seed": seed, "max_new_tokens": new, "ignore_eos": True}
    did = {phase: Counter() for phase in ("prefill", "decode")}
    file = folder / "run.jsonl"
    with (
        file.open("w") as out,
        recording(
            lambda line: out.write(json.dumps(line) + "\n"), lm, prompts, Sampling(**options)
        ) as record,
    ):
        for step in generate(lm, prompts, **options):
            record(step)
            if step.sequence == 0:
                did[step.phase]["flops"] += flops(step.counts)
                did[step.phase]["bytes"] += moved(step.counts)
                did[step.phase]["tokens"] += batch * step.new_tokens
                did[step.phase]["passes"] += 1
    return did, lm.ledger.peak_bytes, read(file)


@pytest.mark.parametrize(("seed", "families"), [*enumerate(PAIRS)])
def test_phases_and_components_are_what_the_steps_did(seed, families, tmp_path):
    (did_a, peak_a, a), (did_b, peak_b, b) = (
        recorded(family, 2 * seed + i, tmp_path / str(i)) for i, family in enumerate(families)
    )
    told, parts = phases(a, b), components(a, b)
    assert told.keys() == {phase for phase in did_a if did_a[phase] or did_b[phase]}
    for phase, figures in told.items():
        for name in ("flops", "bytes", "tokens", "passes"):
            assert figures[name] == (did_a[phase][name], did_b[phase][name])
        for name in ("flops", "bytes"):
            of = [part[name] for part in parts[phase].values()]
            assert figures[name] == (sum(pair.a for pair in of), sum(pair.b for pair in of))
        for i, one in enumerate((a, b)):
            if figures["tokens"][i]:
                seconds = sum(p["seconds"] for p in one.passes if p["phase"] == phase)
                assert figures["seconds a token"][i] == seconds / figures["tokens"][i]
            else:
                assert figures["seconds a token"][i] is None
    for name, pair in memory(a, b).items():
        assert pair == (peak_a.get(name, 0), peak_b.get(name, 0))
    said = asked(a, b)
    assert said["seed"] == (2 * seed, 2 * seed + 1)
    assert ("config.model_type" in said) == (families[0] != families[1])
    assert "machine.processor" not in said


def test_components_of_two_architectures_have_the_same_names(tmp_path):
    a, b = (recorded(family, 1, tmp_path / family)[2] for family in ("gpt2", "llama"))
    assert {"embed", "qkv", "qk", "mlp", "head"} <= components(a, b)["prefill"].keys()
    assert {"attn.c_attn", "mlp.c_fc", "lm_head"} <= components(a, a)["prefill"].keys()


def test_a_run_beside_itself_differs_in_nothing():
    old = read(OLD)
    assert asked(old, old) == {}
    for figures in (*phases(old, old).values(), memory(old, old)):
        assert all(pair.a == pair.b for pair in figures.values())


def test_a_run_that_was_cut_is_compared_as_far_as_it_goes(tmp_path):
    lines = OLD.read_text().splitlines(keepends=True)
    tokens = [i for i, line in enumerate(lines) if '"type": "token"' in line]
    (tmp_path / "cut").write_text("".join(lines[: tokens[0] + 1]))
    whole, cut = read(OLD), read(tmp_path / "cut")
    assert components(whole, cut) == {}
    assert asked(whole, cut) == {"tokens generated": (2, 1)}
    assert phases(whole, cut)["prefill"]["flops"].difference == 0
    assert phases(whole, cut)["decode"]["passes"] == (1, 0)
    assert memory(whole, cut)["weights"].difference == 0
