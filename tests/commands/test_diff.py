"""`minigpt diff`, as a user meets it."""

import json
import os
import random

import pytest
from checkpoints import PROMPT, SHORT, complaint, minigpt

from minigpt.models.architectures import PRESETS

SIZES = "--new-tokens", "5", "--past", "70", "--batch", "2", "--dtype", "float32"


@pytest.fixture
def recording(command, here):
    """What records a short run of the shipped model."""

    def run(name, *options):
        command("generate", PROMPT, *SHORT, "--record", name, "--quiet", *options)
        return name

    return run


@pytest.mark.parametrize("name", ["pipe", "pipe.jsonl"])
def test_a_pipe_is_no_recording_and_nothing_is_read_from_it(recording, here, name):
    recording("run.jsonl")
    os.mkfifo(here / name)
    said = complaint(minigpt("diff", name, "run.jsonl", cwd=here, timeout=100))
    assert name in said
    writer = os.open(here / name, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b'{"type": "run"}')
    assert name in complaint(minigpt("diff", name, "run.jsonl", cwd=here, timeout=100))
    assert os.read(writer, 99) == b'{"type": "run"}'
    os.close(writer)


@pytest.mark.parametrize("seed", range(2))
def test_what_diff_says_of_models_is_what_count_says_of_each(command, seed):
    rng = random.Random(seed)
    names = rng.sample([name for name in PRESETS if name.startswith(("gpt2", "llama"))], 2)
    counted = [json.loads(command("count", name, *SIZES, "--json").stdout) for name in names]
    told = json.loads(command("diff", *names, *SIZES, "--json").stdout)
    assert [told["a"], told["b"]] == [
        {key: value for key, value in one.items() if key != "stored"} for one in counted
    ]
    for figure, total in (
        ("flops", lambda one: one["flops"]),
        ("bytes", lambda one: sum((*one["bytes_read"].values(), *one["bytes_written"].values()))),
    ):
        of_terms = [term["values"] for term in told["terms"][figure]]
        of_parts = [part[figure] for part in told["components"].values()]
        for pairs in (of_terms, of_parts):
            assert [sum(side) for side in zip(*pairs, strict=True)] == [*map(total, counted)]
            assert sum(b - a for a, b in pairs) == total(counted[1]) - total(counted[0])


def rows(text):
    """The cells of tables by their first."""
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_models_as_tables(command):
    said = command("diff", "gpt2", "gpt2-xl", "--past", "100").stdout
    assert rows(said)["L"] == ["L", "12", "48", "layers"]
    [term] = [line.split() for line in said.splitlines() if "16 B T L d²" in line]
    a, b = 16 * 12 * 768**2, 16 * 48 * 1600**2
    assert term[6:9] == [f"{a:,}", f"{b:,}", f"{b - a:+,}"]


def test_a_model_without_closed_forms_is_told_in_numbers(command):
    said = command("diff", "qwen3-next-80b-a3b", "qwen3-30b-a3b").stdout
    assert "linear_attn.state" in said
    assert "by what terms is not known: qwen3_next takes a prompt through linear" in said
    told = json.loads(command("diff", "gpt2", "qwen3-next-80b-a3b", "--json").stdout)
    assert "has no closed forms" in told["why_no_terms"]
    assert "terms" not in told


def test_recordings(command, recording):
    a, b = recording("a"), recording("b.jsonl", "--dtype", "int8", "--max-new-tokens", "3")
    said = command("diff", a, b)
    assert said.returncode == 0
    told = rows(said.stdout)
    assert told["dtype"] == ["dtype", "float32", "int8"]
    assert told["max_new_tokens"] == ["max_new_tokens", "6", "3"]
    assert "decode, by component" in said.stdout
    found = json.loads(command("diff", a, b, "--json").stdout)
    assert found["asked"]["tokens generated"] == [6, 3]
    for phase, passes in (("prefill", [1, 1]), ("decode", [5, 2])):
        assert found["phases"][phase]["passes"] == passes
        parts = [part["flops"] for part in found["components"][phase].values()]
        assert [sum(side) for side in zip(*parts, strict=True)] == found["phases"][phase]["flops"]


def test_a_recording_that_says_anything_does_not_move_the_cursor(command, recording, here):
    a, b = here / recording("a"), here / "b"
    b.write_text(a.read_text().replace('"model": "shakespeare"', '"model": "x\\u001b[2J\\u009b"'))
    said = command("diff", a, b).stdout
    assert "shakespeare" in said
    assert not {"\x1b", "\x9b"} & set(said)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a", "gpt2"), "a is a recording and gpt2 is none: give two files that generate --record"),
        (("gpt2", "a"), "a is a recording and gpt2 is none"),
        (("a", "a", "--past", "3"), "--past would do nothing beside recordings, which say what"),
        (("a", "none.jsonl"), "none.jsonl cannot be read: No such file or directory"),
        (("gpt2", "gpt3"), "unknown model 'gpt3'"),
        (("gpt2", "gpt2-xl", "--past", "1024"), "the model's context is 1024"),
        (("gpt2", "gpt2-xl", "--dtype", "int8"), "unknown dtype 'int8'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(command, recording, words, says):
    recording("a")
    result = command("diff", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
