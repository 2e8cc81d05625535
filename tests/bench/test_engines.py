"""Which engines there are, at which precisions, and that all of them say the same."""

import numpy as np
import pytest
from checkpoints import CONFIG, cache_in

from minigpt.bench import engines
from minigpt.bench.engines import ENGINES, Entry, entries
from minigpt.bench.rounds import start
from minigpt.bench.worker import Case, Job, work
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.errors import InputError
from minigpt.inference.generate import generate
from minigpt.inference.load import load
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

A = Entry("minigpt", "float32")
PEERS = [name for name, engine in ENGINES.items() if engine.packages]


def test_entries_are_the_installed_engines_at_the_precisions_that_they_have(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: package != "llama_cpp")
    found = entries((), ("float32", "int8"))
    assert {entry.engine for entry in found} == set(ENGINES) - {"llama.cpp"}
    assert {e.engine for e in found if e.dtype == "int8"} == {
        "minigpt",
        "minigpt-counted",
        "ctranslate2",
    }
    assert entries(("numpy", "minigpt"), ("float32",)) == [Entry("numpy", "float32"), A]


@pytest.mark.parametrize(
    ("names", "dtypes", "line"),
    [
        (("abacus",), ("float32",), "unknown engine 'abacus': minigpt, "),
        (("minigpt",), ("int3",), "unknown dtype 'int3': float32, "),
        (("numpy",), ("int8",), "none of numpy runs in int8"),
        (("llama.cpp",), ("int8",), "not installed: pip install llama-cpp-python gguf"),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(monkeypatch, names, dtypes, line):
    monkeypatch.setattr(engines, "find_spec", lambda package: None)
    with pytest.raises(InputError, match=line):
        entries(names, dtypes)


@pytest.mark.parametrize("engine", ["minigpt", "minigpt-counted", "numpy"])
def test_this_program_as_an_engine_says_what_generate_says(folder, engine):
    job = Job(engine, "float32", str(folder), 1, CONFIG.vocab_size, (Case(3), Case(3, 3)), 4)
    alone, together = work(job).cases
    prompt = [7, (7 + 7919) % 260, (7 + 2 * 7919) % 260]
    lm = load(folder)
    text = lm.tokenizer.decode(prompt, skip_special_tokens=False)
    assert lm.tokenizer.encode(text).ids == prompt
    steps = generate(lm, text, max_new_tokens=4, temperature=0, ignore_eos=True)
    assert alone.tokens == [[step.token for step in steps]]
    assert together.tokens[0] == alone.tokens[0]
    assert [len(sequence) for sequence in together.tokens] == [4, 4, 4]
    assert (len(alone.between_s), len(together.between_s)) == (3, 3)


SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "gpt2": GPT2Config(300, 32, 64, 2, 2, eos_token_id=299),
    "llama": llama(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=32,
        rope_scaling=SCALED | {"original_max_position_embeddings": 16},
        eos_token_id=299,
        bos_token_id=298,
        pad_token_id=None,
        tie_word_embeddings=True,
    ),
}


@pytest.mark.parametrize("engine", PEERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_peer_says_the_same(tmp_path, monkeypatch, engine, model):
    for package in ENGINES[engine].packages:
        pytest.importorskip(package)
    monkeypatch.setenv("XDG_CACHE_HOME", cache_in(tmp_path / "cache"))
    write_checkpoint(MODELS[model], tmp_path / "m", seed=1)
    cases = Case(5), Case(9), Case(9, 3), Case(9, 2)
    job = Job("minigpt", "float32", str(tmp_path / "m"), 1, 300, cases, 8)
    ours = work(job).cases
    theirs = start(job._replace(engine=engine))[0].cases
    assert [case.tokens for case in theirs] == [case.tokens for case in ours]
    if model == "llama":  # the other says one token over and over
        assert len({*map(tuple, ours[2].tokens)}) == 3, "each sequence has a prompt of its own"
    assert [len(case.between_s) for case in theirs] == [7] * 4
    for dtype in ENGINES[engine].dtypes[1:]:
        other = start(job._replace(engine=engine, dtype=dtype))[0].cases
        assert [np.shape(case.tokens) for case in other] == [(1, 8), (1, 8), (3, 8), (2, 8)]


def test_a_warm_job_runs_every_length_of_prompt(folder):
    cases = Case(1), Case(8)
    job = Job("minigpt", "float32", str(folder), 1, CONFIG.vocab_size, cases, warm=True)
    assert [np.shape(case.tokens) for case in work(job).cases] == [(1, 1), (1, 1)]
