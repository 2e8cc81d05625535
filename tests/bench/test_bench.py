"""The benchmarks: what is made of times, never how long anything takes."""

import json
from itertools import cycle

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint, complaint, minigpt
from hypothesis import given
from hypothesis import strategies as st

from minigpt.bench import engines, rounds
from minigpt.bench import subject as models
from minigpt.bench.convert import converted
from minigpt.bench.engines import ENGINES, PRECISIONS, Entry, entries
from minigpt.bench.measure import SWEEP, Result, agreement, cliff_lines, measure
from minigpt.bench.overhead import overhead
from minigpt.bench.report import Row, cliffs, compared, floor_bytes, table
from minigpt.bench.rounds import bandwidth, interleaved, start
from minigpt.bench.worker import Job, Outcome, work
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.errors import InputError
from minigpt.inference.generate import generate
from minigpt.inference.load import load
from minigpt.models.gpt2_config import GPT2Config

A, B = Entry("minigpt", "float32"), Entry("transformers", "float32")
PEERS = [name for name, engine in ENGINES.items() if engine.packages]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny checkpoint, and a cache folder that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return checkpoint(tmp_path / "tiny")


def row(engine, dtype, *times, phase="decode", floor=1.0, model="m"):
    return Row(Entry(engine, dtype), model, phase, times, floor)


# Which engines.


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


# In turn, at one speed of the memory.


def turns(speeds, count, number=2):
    """`interleaved` on made-up speeds of the memory; what was run, and what came of it."""
    order, speeds = [], iter(speeds)

    def run(entry):
        order.append(entry)
        return Outcome({}, [], [], None), float(len(order))

    return order, interleaved([A, B][:number], count, run, lambda: next(speeds))


def test_runs_take_turns():
    order, measured = turns(cycle([30.0]), 3)
    assert order == [A, B, A, B, A, B]
    assert (len(measured.runs), measured.repeated, measured.outside) == (6, 0, 0)


@pytest.mark.parametrize("speed", [20, 50])
def test_a_run_in_a_slow_or_a_fast_spell_is_repeated(speed):
    # the third probe is the one between the first run of B and the second of A: both are repeated
    order, measured = turns([30, 30, speed, 30, 30, 30, 30], 2)
    assert order == [A, B, A, B, A, B]
    assert (len(measured.runs), measured.repeated, measured.outside) == (4, 2, 0)
    assert all(run.bandwidths == (30, 30) for run in measured.runs)
    assert [run.answer_s for run in measured.runs if run.entry == A] == [1.0, 5.0]
    assert measured.bandwidth == 30


def test_repeating_ends_and_what_is_always_outside_is_kept_and_said():
    order, measured = turns(cycle([60, 30]), 2, number=1)  # it changes during every run
    assert order == [A] * 4  # as many again, and no more
    assert (len(measured.runs), measured.repeated, measured.outside) == (4, 2, 4)
    assert measured.bandwidth == 45


@given(st.lists(st.floats(1, 2), min_size=13, max_size=13), st.integers(1, 3))
def test_whatever_the_speeds_every_entry_has_runs(speeds, count):
    order, measured = turns(speeds, count)
    assert len(order) == 2 * count + measured.repeated <= 4 * count
    assert {run.entry for run in measured.runs} == {A, B}


def test_bandwidth_is_bytes_over_seconds(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: 0.5 * next(clock))
    assert bandwidth(2, nbytes=8000) == 16000


def test_a_worker_that_fails_says_why_in_one_line(tmp_path):
    job = Job("minigpt", "float32", str(tmp_path), 1, 260, (3,))
    with pytest.raises(InputError, match=r"^minigpt float32 failed \(1\): .* has no config.json$"):
        start(job)


# What is made of the times.


def test_a_row_is_the_median_of_its_runs():
    assert row("minigpt", "int8", 2.0, 9.0, 4.0, floor=1.0).record() == {
        "engine": "minigpt",
        "dtype": "int8",
        "model": "m",
        "phase": "decode",
        "ms_per_token": 4.0,
        "tokens_per_second": 250.0,
        "percent_of_floor": 25.0,
        "ratio_to": {},
    }


def test_peak_memory_is_a_figure_of_loading():
    assert (
        row("minigpt", "int8", 2.0, phase="load")._replace(peak_bytes=7).record()["peak_bytes"] == 7
    )


def test_ratios_are_to_peers_of_the_same_precision_and_phase():
    found = compared(
        [
            row("minigpt", "float16", 2.0),
            row("minigpt", "int8", 1.0),
            row("transformers", "bfloat16", 5.0),
            row("llama.cpp", "bfloat16", 3.0),
            row("llama.cpp", "bfloat16", 7.0, phase="prefill"),
            row("numpy", "float32", 8.0),
        ]
    )
    assert [r.ratio_to for r in found] == [
        {"transformers": 2.5, "llama.cpp": 1.5},
        {},
        {"llama.cpp": 0.6},
        {"transformers": 5 / 3},
        {},
        {},
    ]
    assert table(found).row_count == 6


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_floor_is_every_weight_and_the_cache_once(dtype, tied):
    config = GPT2Config(11, 16, 8, 2, 2, tie_word_embeddings=tied)
    new, past = 1, 5
    tables = 16 * 8 + 11 * 8 * (not tied)  # of which a token looks up a row each
    elements = config.parameters - tables + 2 * new * 8  # a tied one is read as the head too
    cached = 2 * config.n_layer * config.n_embd * (past + new)
    sizes = PRECISIONS[dtype]
    assert floor_bytes(config, dtype, new, past) == elements * sizes.weight + cached * sizes.cache


def test_a_cliff_is_what_takes_longer_than_smaller_passes_would():
    assert cliffs({1: 10.0, 2: 33.0, 4: 33.0, 8: 33.0}) == {2: 1.65}
    assert cliffs({1: 10.0, 2: 11.0, 4: 12.0, 8: 24.5}) == {}
    assert cliffs({2: 10.0, 3: 30.0}) == {3: 1.5}


def test_cliffs_are_said_of_each_engine():
    rows = [row("minigpt", "float32", ms, phase=f"prefill-{n}") for n, ms in ((1, 10.0), (2, 16.5))]
    rows += [row("numpy", "float32", ms, phase=f"prefill-{n}") for n, ms in ((1, 10.0), (2, 6.0))]
    result = Result(rows, rounds.Measured([], 0, 0), [])
    assert cliff_lines(result) == [
        "minigpt float32: a cliff: 2 rows 1.65 times what fewer take",
        "numpy float32: no cliff",
    ]


def test_agreement_counts_the_leading_tokens():
    runs = [
        rounds.Run(A, Outcome({}, [], [1, 2, 3, 4], None), 1.0, (1.0, 1.0)),
        rounds.Run(Entry("numpy", "float32"), Outcome({}, [], [1, 2, 9, 4], None), 1.0, (1.0, 1.0)),
    ]
    result = Result([row("minigpt", "float32", 1.0)], rounds.Measured(runs, 0, 0), [])
    assert agreement(result) == [
        "minigpt float32: first 4 of 4 greedy tokens as minigpt float32",
        "numpy float32: first 2 of 4 greedy tokens as minigpt float32",
    ]


# Checkpoints.


def test_random_weights_are_made_once(folder, monkeypatch):
    monkeypatch.setitem(models.GPT2_SIZES, "gpt2", CONFIG)
    made = models.subject("gpt2")
    lm = load(made.folder)
    assert (made.config, lm.config) == (CONFIG, CONFIG)
    written = (made.folder / "model.safetensors").stat().st_mtime_ns
    assert models.subject("gpt2") == made
    assert (made.folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_checkpoint_is_whole_or_not_there(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(CONFIG, tmp_path / "m", progress=interrupt)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/m cannot be written: Not a directory"):
        write_checkpoint(CONFIG, tmp_path / "file" / "m")


def test_a_copy_is_made_once_for_each_checkpoint(folder):
    made = []

    def make(path):
        made.append(path)
        path.write_text("copy")

    first = converted(folder, "a", make)
    assert (converted(folder, "a", make), first.read_text(), len(made)) == (first, "copy", 1)
    checkpoint(folder, wider())
    assert converted(folder, "a", make) != first
    with pytest.raises(ZeroDivisionError):
        converted(folder, "b", lambda path: (path.mkdir(), 1 / 0))
    assert sorted(path.name for path in first.parent.parent.rglob("[ab]*")) == ["a", "a"]


def wider():
    """Weights of another checkpoint, in a file of another size."""
    config = GPT2Config(260, 16, 16, 1, 2)
    return {key: np.zeros(shape, np.float32) for key, shape in config.shapes().items()}


# Engines.


@pytest.mark.parametrize("engine", ["minigpt", "minigpt-counted", "numpy"])
def test_this_program_as_an_engine_says_what_generate_says(folder, engine):
    job = Job(engine, "float32", str(folder), 1, CONFIG.vocab_size, (3,), 4)
    outcome = work(job)
    prompt = [7, (7 + 7919) % 260, (7 + 2 * 7919) % 260]
    lm = load(folder)
    text = lm.tokenizer.decode(prompt, skip_special_tokens=False)
    assert lm.tokenizer.encode(text).ids == prompt
    steps = generate(lm, text, max_new_tokens=4, temperature=0, ignore_eos=True)
    assert outcome.tokens == [step.token for step in steps]
    assert (list(outcome.prompt_s), len(outcome.between_s)) == (["3"], 3)


@pytest.mark.parametrize("engine", PEERS)
def test_a_peer_says_the_same(tmp_path, monkeypatch, engine):
    for package in ENGINES[engine].packages:
        pytest.importorskip(package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = GPT2Config(300, 32, 64, 2, 2, eos_token_id=299)
    write_checkpoint(config, tmp_path / "m", seed=1)
    job = Job("minigpt", "float32", str(tmp_path / "m"), 1, 300, (5, 9), 8)
    ours = work(job)
    theirs, _ = start(job._replace(engine=engine))
    assert theirs.tokens == ours.tokens
    assert (theirs.prompt_s.keys(), len(theirs.between_s)) == (ours.prompt_s.keys(), 7)
    for dtype in ENGINES[engine].dtypes[1:]:
        assert len(start(job._replace(engine=engine, dtype=dtype))[0].tokens) == 8


def test_a_warm_job_runs_every_length_of_prompt(folder):
    job = Job("minigpt", "float32", str(folder), 1, CONFIG.vocab_size, (1, 8), warm=True)
    outcome = work(job)
    assert (list(outcome.prompt_s), len(outcome.tokens)) == (["1", "8"], 1)


# The commands.

KEYS = ["engine", "dtype", "model", "phase", "ms_per_token", "tokens_per_second"]
KEYS += ["percent_of_floor", "ratio_to"]


def bench(folder, *options):
    """The document of a benchmark of this program alone, and the lines above it."""
    alone = () if "peers" in options else ("--engine", "minigpt", "--rounds", "1")
    command, *rest = options
    result = minigpt(
        *("bench", command, str(folder), *alone, "--dtype", "float32", *rest, "--json"), cwd=folder
    )
    assert (result.returncode, result.stderr) == (0, b"")
    *lines, last = result.stdout.decode().splitlines()
    return json.loads(last), lines


def assert_document(document, phases):
    assert list(document) == ["schema", "rows", "bandwidth_gb_s"]
    assert document["schema"] == 1
    assert document["bandwidth_gb_s"] > 0
    assert [row["phase"] for row in document["rows"]] == phases
    for found in document["rows"]:
        assert list(found)[: len(KEYS)] == KEYS
        assert (found["engine"], found["dtype"]) == ("minigpt", "float32")
        assert found["ms_per_token"] * found["tokens_per_second"] == pytest.approx(1000)
        assert found["percent_of_floor"] > 0


def test_decode(folder):
    document, lines = bench(folder, "decode", "--prompt-tokens", "4", "--new-tokens", "3")
    assert_document(document, ["decode"])
    assert lines[1].startswith("minigpt  float32  decode")


def test_prefill(folder):
    document, _ = bench(folder, "prefill", "--tokens", "8")
    assert_document(document, ["prefill"])


def test_prefill_of_many_lengths(tmp_path, folder):
    write_checkpoint(GPT2Config(260, 70, 8, 1, 2), tmp_path / "long")
    document, lines = bench(tmp_path / "long", "prefill", "--sweep")
    assert_document(document, [f"prefill-{n}" for n in SWEEP])
    assert lines[-1].startswith("minigpt float32: ")


def test_load(folder):
    document, _ = bench(folder, "load", "--prompt-tokens", "4")
    assert_document(document, ["load"])
    assert document["rows"][0]["peak_bytes"] > 2**20


def test_overhead(folder):
    found = overhead(str(folder), pairs=3, keys=5)
    assert (found.model, found.dtype, found.keys, found.pairs) == (str(folder), "float32", 5, 3)
    assert found.operations > 50
    low, high = found.percent_quartiles
    assert low <= found.percent <= high
    with pytest.raises(InputError, match="keys from 1 to 12 with 3 pairs"):
        overhead(str(folder), keys=13, pairs=3)


def test_the_figures_of_a_row_follow_from_its_runs(folder, monkeypatch):
    seconds = iter([0.5, 0.002, 0.004, 0.009])  # the first start is not measured

    def fake(job):
        if job.engine == "numpy":
            raise InputError("numpy float32 failed (1): no")
        took = next(seconds)
        return Outcome({str(n): took * n for n in job.rows}, [took, took, 9.0], [1], 5), took

    monkeypatch.setattr("minigpt.bench.measure.start", fake)
    engines, dtypes = ("minigpt", "numpy"), ("float32",)
    monkeypatch.setattr("minigpt.bench.measure.bandwidth", lambda threads: 1e6)
    result = measure("decode", str(folder), entries(engines, dtypes), 3, (4,), 6)
    assert result.notes == ["left out: numpy float32 failed (1): no"]
    [found] = result.document()["rows"]
    assert (found["model"], found["ms_per_token"]) == (str(folder), pytest.approx(4))
    floor = floor_bytes(CONFIG, "float32", 1, 4 + 3) / 1e6  # half way through the new tokens
    assert found["percent_of_floor"] == pytest.approx(100 * floor / 0.004)
    assert result.document()["bandwidth_gb_s"] == 0.001


def test_no_engine_that_starts_is_an_error(folder, monkeypatch):
    def fake(job):
        raise InputError(f"{job.engine} failed")

    monkeypatch.setattr("minigpt.bench.measure.start", fake)
    with pytest.raises(InputError, match="left out: minigpt failed; left out: numpy failed"):
        measure("decode", str(folder), entries(("minigpt", "numpy"), ("float32",)), 1, (4,), 2)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("decode", "gpt3"), "unknown model 'gpt3': gpt2, "),
        (("decode", "tiny", "--engine", "abacus"), "unknown engine 'abacus'"),
        (("prefill", "tiny", "--dtype", "int3"), "unknown dtype 'int3'"),
        (("decode", "tiny", "--rounds", "0"), "rounds is 0"),
        (("decode", "tiny", "--new-tokens", "1"), "there must be at least 2"),
        (("prefill", "tiny"), "512 prompt tokens and 1 new ones"),
        (("load", "tiny", "--prompt-tokens", "0"), "there must be at least 1"),
        (("overhead", "tiny", "--pairs", "0"), "pairs must be at least 1"),
        (
            ("overhead", "tiny", "--dtype", "int3", "--keys", "3", "--pairs", "2"),
            "unknown dtype 'int3'",
        ),
    ],
    ids=str,
)
def test_bad_input_gets_one_line(folder, args, line):
    assert line in complaint(minigpt("bench", *args, cwd=folder.parent))
