"""What is made of the times: rows, ratios, floors and cliffs."""

import pytest

from minigpt.bench import rounds
from minigpt.bench.engines import PRECISIONS, Entry
from minigpt.bench.measure import Result, agreement, cliff_lines
from minigpt.bench.report import Row, cliffs, compared, floor_bytes, markdown, table
from minigpt.bench.worker import Outcome, Timed
from minigpt.models.gpt2_config import GPT2Config


def row(engine, dtype, *times, phase="decode", floor=1.0, model="m"):
    return Row(Entry(engine, dtype), model, phase, times, floor)


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
        "peak_bytes": None,
        "tokens": 1,
    }
    assert row("minigpt", "int8", 2.0)._replace(peak_bytes=7).record()["peak_bytes"] == 7


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
    rows = 2 * new * 8  # that two more sequences look up; positions are the same for all
    assert (
        floor_bytes(config, dtype, new, past, batch=3)
        == (elements + rows) * sizes.weight + 3 * cached * sizes.cache
    )


def test_a_cliff_is_what_takes_longer_than_smaller_passes_would():
    assert cliffs({1: 10.0, 2: 33.0, 4: 33.0, 8: 33.0}) == {2: 1.65}
    assert cliffs({1: 10.0, 2: 11.0, 4: 12.0, 8: 24.5}) == {}
    assert cliffs({2: 10.0, 3: 30.0}) == {3: 1.5}


def test_cliffs_are_said_of_each_engine():
    rows = [
        row("minigpt", "float32", ms / n)._replace(tokens=n) for n, ms in ((1, 10.0), (2, 33.0))
    ]
    rows += [row("numpy", "float32", ms / n)._replace(tokens=n) for n, ms in ((1, 10.0), (2, 12.0))]
    result = Result(rows, rounds.Measured([], 0, 0), [])
    assert cliff_lines(result) == [
        "minigpt float32: a cliff: 2 rows 1.65 times what fewer take",
        "numpy float32: no cliff",
    ]


def test_agreement_counts_the_leading_tokens_of_each_sequence():
    def run(engine, *sequences):
        outcome = Outcome([Timed(1.0, [], tokens) for tokens in sequences], None)
        return rounds.Run(Entry(engine, "float32"), outcome, 1.0, (1.0, 1.0))

    runs = [
        run("minigpt", [[1, 2, 3, 4]], [[1, 2], [5, 6]]),
        run("numpy", [[1, 2, 9, 4]], [[3, 2], [5, 6]]),
    ]
    rows = [row("minigpt", "float32", 1.0), row("numpy", "float32", 1.0)]
    result = Result(rows, rounds.Measured(runs, 0, 0), [])
    assert agreement(result) == [
        "minigpt float32: 8 of 8 greedy tokens before one that differs from minigpt float32",
        "numpy float32: 4 of 8 greedy tokens before one that differs from minigpt float32",
    ]


def test_a_table_in_markdown_has_a_row_for_each_pass():
    rows = compared(
        [
            row("minigpt", "int8", 5.0)._replace(peak_bytes=2**30),
            row("llama.cpp", "int8", 8.0),
            row("ctranslate2", "int8", 6.0)._replace(peak_bytes=2**29),
            row("minigpt", "int8", 2.0, phase="decode-4", floor=0.5)._replace(tokens=4),
            row("minigpt", "int8", 700.0, phase="load"),
            row("llama.cpp", "bfloat16", 1.0, phase="prefill")._replace(tokens=512),
        ]
    )
    document = {
        "rows": [row.record() for row in rows],
        "bandwidth_gb_s": 31.25,
        "processor": "Z80",
        "cores": 2,
        "versions": {"minigpt": "", "llama.cpp": "l 1, torch 2", "ctranslate2": "c 3, torch 2"},
        "notes": ["left out: one"],
    }
    assert markdown(document).splitlines() == [
        "Z80, 2 cores, memory 31.2 GB/s;",
        "l 1, torch 2, c 3.",
        "",
        "| model | pass | dtype | minigpt, ms | llama.cpp, ms | ctranslate2, ms | x fastest peer "
        "| floor, ms | minigpt, GiB | llama.cpp, GiB | ctranslate2, GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| m | decode | int8 | 5.0 | 8.0 | 6.0 | 1.20 | 1.0 | 1.00 |  | 0.50 |",
        "| m | decode 4 | int8 | 8.0 |  |  |  | 2.0 |  |  |  |",
        "| m | start to first token | int8 | 700 |  |  |  | 1.0 |  |  |  |",
        "| m | prefill 512 | bfloat16 |  | 512 |  |  |  |  |  |  |",
        "",
        "left out: one.",
    ]
