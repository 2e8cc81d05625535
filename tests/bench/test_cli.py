"""The commands of the benchmarks, their documents and their bad input."""

import json

import pytest
from checkpoints import CONFIG, complaint, minigpt

from minigpt.bench.engines import entries
from minigpt.bench.measure import SWEEP, measure
from minigpt.bench.operations import OPERATIONS, operations
from minigpt.bench.overhead import in_turn, overhead
from minigpt.bench.record import record
from minigpt.bench.report import floor_bytes, markdown
from minigpt.bench.worker import Case, Outcome, Timed
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.errors import InputError
from minigpt.models.gpt2_config import GPT2Config

KEYS = ["engine", "dtype", "model", "phase", "ms_per_token", "tokens_per_second"]
KEYS += ["percent_of_floor", "ratio_to", "peak_bytes", "tokens"]
DOCUMENT = ["schema", "rows", "bandwidth_gb_s", "processor", "cores", "versions", "notes"]


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
    assert list(document) == DOCUMENT
    assert document["schema"] == 1
    assert document["bandwidth_gb_s"] > 0
    assert [row["phase"] for row in document["rows"]] == phases
    for found in document["rows"]:
        assert list(found) == KEYS
        assert (found["engine"], found["dtype"]) == ("minigpt", "float32")
        assert found["ms_per_token"] * found["tokens_per_second"] == pytest.approx(1000)
        assert found["percent_of_floor"] > 0


def test_decode(folder):
    document, lines = bench(folder, "decode", "--prompt-tokens", "4", "--new-tokens", "3")
    assert_document(document, ["decode"])
    assert lines[1].startswith("minigpt  float32  decode")
    assert lines[-1].startswith("minigpt float32: 3 of 3 greedy tokens")
    assert document["processor"]
    assert document["cores"] >= 1
    assert document["versions"] == {"minigpt": ""}


def test_decoding_several_sequences_together(folder):
    options = ("--prompt-tokens", "4", "--new-tokens", "3", "--batch", "4", "--batch", "1")
    document, lines = bench(folder, "decode", *options)
    assert_document(document, ["decode", "decode-4"])
    assert [row["tokens"] for row in document["rows"]] == [1, 4]
    assert lines[-2].startswith("minigpt float32: 15 of 15 greedy tokens")
    assert "cliff" in lines[-1]


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


def test_all_in_one_table(tmp_path, folder):
    for name in ("long", "other"):
        write_checkpoint(GPT2Config(260, 520, 8, 1, 2), tmp_path / name)
    models = ("--model", str(tmp_path / "long"), "--model", str(tmp_path / "other"))
    options = ("--engine", "minigpt", "--rounds", "1", "--dtype", "int8", "--json")
    found = minigpt("bench", "all", *models, *options, "--markdown", cwd=folder)
    assert (found.returncode, found.stderr) == (0, b"")
    *lines, last = found.stdout.decode().splitlines()
    document = json.loads(last)
    assert "\n".join(lines) == markdown(document)
    phases = ["decode", *(f"decode-{n}" for n in (2, 4, 8, 16)), "prefill", "load"]
    expected = [(str(tmp_path / "long"), phase) for phase in phases]
    expected.append((str(tmp_path / "other"), "decode"))
    assert [(row["model"], row["phase"]) for row in document["rows"]] == expected
    assert all(row["peak_bytes"] > 2**20 for row in document["rows"])
    line = complaint(minigpt("bench", "all", *models, "--dtype", "float32", cwd=folder))
    assert line.endswith("other is not measured in float32: another --dtype")


def test_overhead(folder):
    found = overhead(str(folder), pairs=3, keys=5)
    assert (found.model, found.dtype, found.keys, found.pairs) == (str(folder), "float32", 5, 3)
    assert found.operations > 50
    low, high = found.percent_quartiles
    assert low <= found.percent <= high
    with pytest.raises(InputError, match="keys from 1 to 12 with 3 pairs"):
        overhead(str(folder), keys=13, pairs=3)


def test_what_recording_adds(folder):
    found = record(str(folder), pairs=3)
    assert (found.model, found.dtype, found.pairs) == (str(folder), "float32", 3)
    low, high = found.percent_quartiles
    assert low <= found.percent <= high
    assert min(found.counted_ms, found.recorded_ms) > 0
    with pytest.raises(InputError, match="pairs must be at least 1: 0"):
        record(str(folder), pairs=0)
    with pytest.raises(InputError, match="do not fit the context"):
        record(str(folder), pairs=1000)


def test_times_in_turn_are_those_of_pairs(monkeypatch):
    """On a clock that the two move on by what they take, each other pair the other way round."""
    now, took = 0.0, []

    def taking(name, seconds):
        def step():
            nonlocal now
            took.append(name)
            now += next(seconds)

        return step

    monkeypatch.setattr("time.perf_counter", lambda: now)
    first, second = taking("a", iter([2.0, 4.0, 8.0])), taking("b", iter([3.0, 4.0, 10.0]))
    times = in_turn(first, second, 3)
    assert "".join(took) == "baabba"
    assert (times.first_ms, times.second_ms) == (4000, 4000)
    assert times.percent == 25
    assert times.percent_quartiles == (0, 50)


def test_what_counting_adds_to_single_operations(tmp_path):
    found = operations(rounds=3, calls=20)
    assert [row.operation for row in found] == [*OPERATIONS]
    assert len(found) == 20
    assert all(row.bare_us > 0 and row.counted_us > 0 for row in found)
    with pytest.raises(InputError, match="at least 1 of each: 0 rounds"):
        operations(rounds=0)
    result = minigpt("bench", "operations", "--rounds", "1", "--json", cwd=tmp_path)
    assert len(json.loads(result.stdout)["operations"]) == 20
    told = minigpt("bench", "operations", "--rounds", "1", cwd=tmp_path).stdout.decode()
    assert told.split()[:7] == ["operation", "bare", "µs", "counted", "µs", "added", "µs"]


def test_the_figures_of_a_row_follow_from_its_runs(folder, monkeypatch):
    seconds = iter([0.5, 0.002, 0.004, 0.009])  # the first start is not measured

    def fake(job):
        if job.engine == "numpy":
            raise InputError("numpy float32 failed (1): no")
        took = next(seconds)
        return Outcome([Timed(9.0, [took, took, 9.0], [[1]]) for _ in job.cases], 5), took

    monkeypatch.setattr("minigpt.bench.measure.start", fake)
    engines, dtypes = ("minigpt", "numpy"), ("float32",)
    monkeypatch.setattr("minigpt.bench.measure.bandwidth", lambda threads: 1e6)
    result = measure("decode", str(folder), entries(engines, dtypes), 3, [Case(4), Case(4, 2)], 6)
    assert result.notes == ["left out: numpy float32 failed (1): no"]
    found, together = result.document()["rows"]
    assert (found["model"], found["ms_per_token"]) == (str(folder), pytest.approx(4))
    assert (together["phase"], together["tokens"]) == ("decode-2", 2)
    assert together["ms_per_token"] == pytest.approx(2)
    floor = floor_bytes(CONFIG, "float32", 1, 4 + 3) / 1e6  # half way through the new tokens
    assert found["percent_of_floor"] == pytest.approx(100 * floor / 0.004)
    both = floor_bytes(CONFIG, "float32", 1, 4 + 3, batch=2) / 1e6
    assert together["percent_of_floor"] == pytest.approx(100 * both / 0.004)
    assert result.document()["bandwidth_gb_s"] == 0.001


def test_no_engine_that_starts_is_an_error(folder, monkeypatch):
    def fake(job):
        raise InputError(f"{job.engine} failed")

    monkeypatch.setattr("minigpt.bench.measure.start", fake)
    with pytest.raises(InputError, match="left out: minigpt failed; left out: numpy failed"):
        measure("decode", str(folder), entries(("minigpt", "numpy"), ("float32",)), 1, [Case(4)], 2)


FEW = ("--prompt-tokens", "4", "--new-tokens", "3")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("decode", "gpt3"), "unknown model 'gpt3': gpt2, "),
        (("decode", "tiny", "--engine", "abacus"), "unknown engine 'abacus'"),
        (("prefill", "tiny", "--dtype", "int3"), "unknown dtype 'int3'"),
        (("decode", "tiny", "--rounds", "0"), "rounds is 0"),
        (("decode", "tiny", "--batch", "0"), "the batch is 0; it must be from 1 to 256"),
        (("decode", "tiny", "--batch", "1000", "--batch", "4", *FEW), "the batch is 1000"),
        (("prefill", "tiny", "--batch", "4"), "No such option: --batch"),
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
