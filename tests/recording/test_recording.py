"""Recordings: what is written is what ran, and what is read is what was written."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from recordings import FAMILIES, drawn, recorded

from counting import category, scope
from counting.views import flops
from minigpt import InputError, generate, load
from minigpt.models.architectures import READERS
from minigpt.recording.memory import moments
from minigpt.recording.read import read

OLD = Path(__file__).with_name("version-1.jsonl")


@pytest.mark.parametrize("ops", [False, True])
@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_what_is_written_is_what_ran(seed, ops, tmp_path):
    lm, prompts, new = drawn(seed, tmp_path)
    before = lm.ledger.snapshot()
    steps, found = recorded(lm, prompts, tmp_path / "run.jsonl", ops, max_new_tokens=new)
    assert [
        step.record().items() <= token.items()
        for step, token in zip(steps, found.tokens, strict=True)
    ]
    assert found.end["tokens"] == len(steps) == new * len(prompts)
    assert len(found.passes) == new
    ran = lm.ledger.snapshot() - before
    assert dict(found.counts()) == dict(ran)
    for phase in ("prefill", "decode"):
        passes = [one for one in found.passes if one["phase"] == phase]
        counts = found.counts(phase)
        assert flops(counts) == sum(one["flops"] for one in passes)
        assert counts.bytes_read == total(passes, "bytes_read", lm)
        assert counts.bytes_written == total(passes, "bytes_written", lm)
    assert not found.notes
    if not ops:
        assert not found.operations


def total(lines, field, lm):
    """The sum of a field by category over lines that name those alone that moved any bytes."""
    return {name: sum(line[field].get(name, 0) for line in lines) for name in lm.ledger.memory}


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_operations_are_the_pass_one_by_one_and_their_memory_is_the_ledgers(seed, tmp_path):
    lm, prompts, new = drawn(seed, tmp_path)
    steps, found = recorded(lm, prompts, tmp_path / "run.jsonl", True, max_new_tokens=new)
    for number, one in enumerate(found.passes):
        ran = [line for line in found.operations if line["pass"] == number]
        assert sum(line["flops"] for line in ran) == one["flops"]
        assert total(ran, "bytes_read", lm) == one["bytes_read"]
        assert total(ran, "bytes_written", lm) == one["bytes_written"]
        assert sum(line["seconds"] for line in ran[1:]) <= one["seconds"]
        assert ran[-1]["start"] + ran[-1]["seconds"] <= one["at"]
    peak = Counter(found.header["live_bytes"])
    for moment in moments(found):
        peak |= Counter(moment.live)
        made = Counter()
        for line in moment.alive.values():
            made[line["category"]] += line["bytes"]
        assert Counter(moment.live) == made + Counter(found.header["live_bytes"])
    assert peak == Counter(found.end["peak_bytes"])
    assert moment.live == moment.line["live_bytes"] == steps[-1].live_bytes


def rows(found):
    return {phase: dict(found.counts(phase)) for phase in ("cache", "prefill", "decode")}


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_of_two_recordings_in_threads_each_is_what_it_is_alone(seed, tmp_path):
    lm, prompts, new = drawn(seed, tmp_path)
    together = Barrier(2)

    def record(name, started=lambda: None):
        started()
        return rows(recorded(lm, prompts, tmp_path / name, max_new_tokens=new + 4)[1])

    alone = record("alone.jsonl")
    assert all(alone.values())
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(record, f"{n}.jsonl", lambda: together.wait(60)) for n in range(2)]
    assert [each.result() for each in both] == [alone] * 2


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_in_a_scope_and_category_of_its_caller_a_recording_is_what_it_is_alone(seed, tmp_path):
    def told(line):
        return {key: value for key, value in line.items() if key not in ("start", "seconds")}

    lm, prompts, new = drawn(seed, tmp_path)
    for ops in (False, True):
        _, alone = recorded(lm, prompts, tmp_path / "alone.jsonl", ops, max_new_tokens=new)
        with scope("my run, 2"), category("weights"):
            _, found = recorded(lm, prompts, tmp_path / "run.jsonl", ops, max_new_tokens=new)
        assert rows(found) == rows(alone)
        assert [*map(told, found.operations)] == [*map(told, alone.operations)]


def test_a_recording_says_how_to_have_the_run_again(tmp_path):
    lm = load()
    _, found = recorded(lm, ["To be, or not"], tmp_path / "run.jsonl", max_new_tokens=5)
    header = found.header
    [prompt] = header["prompts"]
    assert "".join(prompt["pieces"]) == prompt["text"] == "To be, or not"
    again = generate(
        load(header["model"], dtype=header["dtype"]),
        prompt["text"],
        seed=header["seed"],
        temperature=header["temperature"],
        max_new_tokens=header["max_new_tokens"],
    )
    assert [step.token for step in again] == [token["token"] for token in found.tokens]
    read_again = READERS[header["config"]["model_type"]](header["config"], "the recording")
    assert read_again == lm.config


@pytest.mark.parametrize("seed", range(20))
def test_a_recording_may_end_anywhere(seed, tmp_path):
    whole = OLD.read_bytes()
    first = whole.index(b"\n") + 1
    cut = tmp_path / "cut.jsonl"
    end = int(np.random.default_rng(seed).integers(first, len(whole) - 1))
    cut.write_bytes(whole[:end])
    found = read(cut)
    lines = whole[:end].splitlines(keepends=True)
    complete = [line for line in lines if line.endswith((b"\n", b"}"))]
    rows = sum(b'"type": "row"' in line for line in complete)  # some alone would mislead
    read_of = 1 + len(found.tokens) + len(found.operations) + rows
    assert read_of in (len(complete), len(complete) - 1)
    assert not found.rows
    assert "did not end" in found.notes[-1]
    if lines[-1].endswith(b"\n"):
        assert len(found.notes) == 1
    elif read_of == len(lines) - 1:
        assert found.notes[0] == f"the last line, {len(lines)}, is cut: it is left out"


def test_a_recording_of_version_1_is_read(capsys):
    found = read(OLD)
    assert (found.header["recording"], found.header["model"]) == (1, "./model")
    assert len(found.tokens) == 2
    assert found.operations
    assert found.end["tokens"] == 2
    assert flops(found.counts()) == sum(one["flops"] for one in found.passes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no recording"),
        ("{", "line 1, is no JSON object"),
        ('{"type": "token"}\n', "is no recording"),
        ('{"flops": 3}\n', "minigpt generate --record FILE writes one"),
        ('{"type": "run", "recording": 2}\n', "version 2; this program reads version 1"),
        ('{"type": "run", "recording": 1}\n', "line 1: a run without 'model'"),
        ("[" * 100_000, "line 1, is no JSON object"),
        ("{}\n\n{}\n", "is no recording"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_line(text, says, tmp_path):
    file = tmp_path / "odd.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(says)):
        read(file)


def test_lines_of_a_kind_that_is_not_known_yet_are_passed_over(tmp_path):
    first, *rest = OLD.read_text().splitlines(keepends=True)
    newer = tmp_path / "newer.jsonl"
    newer.write_text(first + '{"type": "thought", "of": "later"}\n' + "".join(rest))
    assert read(newer).rows == read(OLD).rows


def test_bad_bytes_in_the_midst_are_named(tmp_path):
    lines = OLD.read_bytes().splitlines(keepends=True)
    lines[3] = b"\xff\x00 what\n"
    file = tmp_path / "bad.jsonl"
    file.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match="line 4, is no JSON object"):
        read(file)
