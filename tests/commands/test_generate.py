"""`minigpt generate`, as a user and a script meet it."""

import json
import re
import signal
import subprocess
import sys

import pytest
from checkpoints import (
    MINIGPT,
    PROMPT,
    SHORT,
    assert_contract,
    checkpoint,
    complaint,
    ends_at_once,
    environment,
    lines_of,
    minigpt,
)

from minigpt import load


@pytest.fixture
def model(tmp_path):
    return str(checkpoint(tmp_path / "model"))


# What is printed, and where.


def test_piped_it_prints_the_text_and_nothing_else(here, said):
    result = minigpt("generate", PROMPT, *SHORT, cwd=here)
    assert (result.returncode, result.stdout.decode()) == (0, f"{said}\n")
    tables = result.stderr.decode()
    assert {"component", "operation", "memory", "attn.c_attn", "kv_cache"} <= set(tables.split())
    assert "5,066,752 parameters · 12,288 bytes of KV cache a token" in tables
    assert re.search(r"^total .*\nsample +36,858 +0 ", tables, re.M)  # 6 (6 V - 1)
    assert "sample, beside the total, is without its sort" in tables
    assert max(map(len, tables.splitlines())) <= 80
    assert not list(here.iterdir())


def test_quiet_is_the_text_alone(command, said):
    result = command("generate", PROMPT, *SHORT, "--quiet")
    assert (result.stdout, result.stderr) == (f"{said}\n", "")


def test_json_is_one_document_that_says_all(command, said):
    result = command("generate", PROMPT, *SHORT, "--json")
    assert result.stderr == ""
    summary = json.loads(result.stdout)
    assert summary["texts"] == [said]
    assert [len(tokens) for tokens in summary["tokens"]] == [6]
    assert summary["parameters"] == 5_066_752
    assert summary["kv_bytes_per_token"] == 12_288
    assert summary["flops"] == sum(summary["flops_by_component"].values())
    assert summary["flops"] == sum(summary["kinds"].values()) + summary["kinds"]["fma"]


def test_the_time_stays_on_the_terminal_and_in_json(command, here):
    run = "generate", "abc", "--prompt", "xyz", "--model", "m", "--ignore-eos"
    checkpoint(here / "m")
    told = json.loads(command(*run, "--max-new-tokens", "4", "--json", "--log", "l").stdout)
    first, *rest = (r for r in lines_of(here / "l") if r["sequence"] == 0)
    seconds, rates = told["seconds"], told["tokens_per_second"]
    assert list(seconds) == ["loading", "prefill", "decode", "total"]
    assert seconds["prefill"] == first["seconds"]
    assert seconds["decode"] == pytest.approx(sum(r["seconds"] for r in rest))
    assert sum(seconds.values()) - seconds["total"] < seconds["total"]
    assert rates == {
        "prefill": pytest.approx(6 / seconds["prefill"]),
        "decode": pytest.approx(6 / seconds["decode"]),
    }
    table = command(*run, "--max-new-tokens", "4").stderr
    for row in (
        r"time +tokens +seconds +tokens/s",
        r"loading +\d+\.\d{4}",
        r"prefill +6 +\d+\.\d{4} +[\d,]+\.\d",
        r"decode +6 +\d+\.\d{4} +[\d,]+\.\d",
        r"in all +\d+\.\d{4}",
    ):
        assert re.search(rf"^{row} *$", table, re.M)
    one = json.loads(command(*run, "--max-new-tokens", "1", "--json").stdout)
    assert (one["seconds"]["decode"], one["tokens_per_second"]["decode"]) == (0, None)


@pytest.mark.parametrize(
    ("fast", "there", "said"), [("1", False, 1), ("0", False, 0), ("1", True, 0)]
)
def test_kernels_are_only_praised_where_they_are_wanted_and_missing(
    command, model, monkeypatch, fast, there, said
):
    monkeypatch.setenv("MINIGPT_FAST", fast)
    monkeypatch.setattr("minigpt.fast.find_spec", lambda name: there or None)
    monkeypatch.setattr("minigpt.fast.enabled", lambda: False)
    result = command("generate", "ab", "--model", model, "--max-new-tokens", "1")
    line = "NumPy multiplies: pip install -e '.[fast]' in the clone for kernels of this processor"
    assert result.stderr.splitlines().count(line) == said


def test_a_text_whose_seed_was_drawn_can_be_had_again(command, here):
    run = "generate", PROMPT, "--max-new-tokens", "9", "--temperature", "3"
    first = command(*run)
    [seed] = re.findall(r"^drawn with (--seed \d+)$", first.stderr, re.M)
    again = command(*run, *seed.split())
    assert again.stdout == first.stdout
    assert "drawn with" not in again.stderr
    assert "drawn with" not in command(*run[:-1], "0").stderr
    told = json.loads(command(*run, "--json").stdout)
    [text] = json.loads(command(*run, "--json", "--seed", told["seed"]).stdout)["texts"]
    assert text == told["texts"][0]


def test_a_seed_may_stand_beside_a_temperature_of_zero(command):
    run = "generate", PROMPT, "--max-new-tokens", "3", "--temperature", "0", "--quiet"
    assert command(*run, "--seed", "1").stdout == command(*run).stdout != ""


def test_the_log_on_standard_output_is_all_that_is_there(command, here):
    run = "generate", PROMPT, *SHORT
    printed = command(*run, "--log", "-")
    command(*run, "--log", "l", "--quiet")
    for a, b in zip(
        map(json.loads, printed.stdout.splitlines()), lines_of(here / "l"), strict=True
    ):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    assert "attn.c_attn" in printed.stderr
    assert command(*run, "--log", "-", "--quiet").stderr == ""


def test_the_log_satisfies_its_contract(command, here, said):
    assert command("generate", PROMPT, *SHORT, "--quiet", "--log", "run.jsonl").returncode == 0
    lm, records = load(), lines_of(here / "run.jsonl")
    for i, record in enumerate(records):
        assert_contract(record, lm.config, first=i == 0)
    assert PROMPT + "".join(record["text"] for record in records) == said


def test_log_text_and_json_tell_of_one_run(command, here):
    summary = json.loads(command("generate", PROMPT, *SHORT, "--json", "--log", "l").stdout)
    records = lines_of(here / "l")
    assert summary["tokens"] == [[record["token"] for record in records]]
    for key in ("flops", "matmul_flops"):
        assert summary[key] == sum(record[key] for record in records)
    drawn = [record["sample"]["flops"] for record in records]
    assert summary["sample"]["flops"] == sum(drawn) == 6 * (6 * 1024 - 1)
    assert summary["peak_bytes"] == records[-1]["peak_bytes"]


def test_prompts_of_a_batch_are_continued_one_by_one(command, model):
    options = "--model", model, "--max-new-tokens", "3", "--temperature", "0"
    alone = [command("generate", text, *options).stdout for text in ("ab", "cd")]
    both = command("generate", "ab", "--prompt", "cd", *options)
    assert both.stdout == f"{alone[0]}\n{alone[1]}"
    assert command("generate", "--prompt", "ab", "--prompt", "cd", *options).stdout == both.stdout


def test_the_end_of_text_ends_it_unless_ignored(command, tmp_path):
    model = checkpoint(tmp_path / "m", ends_at_once())
    options = "--model", model, "--max-new-tokens", "3", "--temperature", "0", "--quiet"
    assert command("generate", "ab", *options).stdout == "ab\n"
    assert command("generate", "ab", *options, "--ignore-eos").stdout == (
        "ab<|endoftext|><|endoftext|><|endoftext|>\n"
    )


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_dash_reads_the_prompt(here, said, ending):
    prompt = f"{PROMPT}{ending}".encode()
    result = minigpt("generate", "-", *SHORT, "--quiet", cwd=here, input=prompt)
    assert result.stdout.decode() == f"{said}\n"


# Bad input: one line, status 2, nothing lost.

BAD = {
    "no prompt": ((), "the prompt is empty"),
    "an empty prompt": (("",), "the prompt is empty"),
    "an unequal prompt": (("a", "--prompt", "ab"), "equally many tokens"),
    "a long prompt": (("a" * 99,), "99 tokens, but the context"),
    "too many tokens": (("a", "--max-new-tokens", "99"), "at most 16 new ones"),
    "no tokens": (("a", "--max-new-tokens", "0"), "max_new_tokens is 0"),
    "a token and a half": (("a", "--max-new-tokens", "1.5"), "'--max-new-tokens'"),
    "temperature": (("a", "--temperature", "-1"), "temperature is -1.0"),
    "not a temperature": (("a", "--temperature", "nan"), "temperature is nan"),
    "not a number": (("a", "--temperature", "warm"), "'--temperature'"),
    "top-k": (("a", "--top-k", "0"), "top_k is 0"),
    "top-k of more than all": (("a", "--top-k", "261"), "top_k is 261"),
    "top-p": (("a", "--top-p", "1.5"), "top_p is 1.5"),
    "seed": (("a", "--seed", "-1"), "seed is -1"),
    "dtype": (("a", "--dtype", "int4"), "unknown dtype 'int4'"),
    "device": (("a", "--device", "abacus"), "unknown device 'abacus'"),
    "no such file": (("a", "--model", "./none"), "'./none' is no file"),
    "a file of two lines": (("a", "--model", "./\n\x1b[31mred\u202e"), "is no file, no folder"),
    "a pickle": (("a", "--model", "model.bin"), "loading a pickle can run any code"),
    "a folder without a model": (("a", "--model", "."), "has no config.json"),
    "no model": (("a", "--model", ""), "'' is no file"),
    "a name too long": (("a", "--model", "./" + "x" * 5000), "xxx"),
    "a revision of a folder": (("a", "--revision", "main"), "only a hub name has revisions"),
    "a log in no folder": (
        ("a", "--log", "no/such/run.jsonl"),
        "no folder no/such: make it",
    ),
    "a log that is a folder": (("a", "--log", "."), "cannot write the log .: it is a folder"),
    "a log of two lines": (
        ("a", "--log", "no\n\x1b[31m/x"),
        "the log no ␛[31m/x: there is no folder",
    ),
    "a log on a full disk": (("a", "--log", "/dev/full"), "cannot write the log /dev/full: No spa"),
    "an unknown option": (("a", "--frobnicate"), "No such option: --frobnicate"),
    "an option misspelt": (("a", "--tempreature", "1"), "; did you mean --temperature?"),
    "text that begins with a dash": (("-5 is",), "; text that begins with - comes after --"),
    "a model misspelt": (("a", "--model", "Shakespeare"), "; did you mean shakespeare?"),
    "top-k of one": (
        ("a", "--temperature", "0", "--top-k", "3"),
        "--top-k would do nothing beside",
    ),
    "top-p of one": (("a", "--temperature", "0", "--top-p", "1"), "beside --temperature 0: leave"),
    "quiet json": (("a", "--json", "--quiet"), "--quiet would do nothing beside --json"),
    "json of no table": (
        ("a", "--json", "--trace-allocator"),
        "--trace-allocator would do nothing",
    ),
    "no table": (("a", "--quiet", "--trace-allocator"), "do nothing beside --quiet"),
    "two on one stream": (("a", "--json", "--log", "-"), "--log - and --json print"),
    "an option without its value": (("a", "--log"), "'--log' requires an argument"),
    "one word too many": (("a", "b"), "unexpected extra argument"),
    "a prompt without quotes": (("hi", "there"), '; quote the prompt: minigpt generate "hi'),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_nothing_is_lost(command, here, model, case):
    options, line = BAD[case]
    (here / "old.jsonl").write_text("kept\n")
    given = () if {"--model"} & set(options) else ("--model", model, "--max-new-tokens", "2")
    log = () if {"--log"} & set(options) else ("--log", "old.jsonl")
    result = command("generate", *given, *log, *options)
    said = result.stderr.rstrip("\n")
    assert (result.returncode, "\n" in said) == (2, False)
    assert said.startswith("minigpt: ")
    assert said.isprintable()
    assert line in said
    assert (here / "old.jsonl").read_text() == "kept\n"
    if case != "a log on a full disk":
        assert result.stdout == ""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((), "the prompt is empty: give a text to continue, or - to read one"),
        (("",), "the prompt is empty: give at least one token"),
        (("a", "--max-new-tokens", "0"), "max_new_tokens is 0"),
        (("a", "--temperature", "nan"), "temperature is nan"),
        (("a", "--top-k", "0"), "top_k is 0"),
        (("a", "--top-p", "2"), "top_p is 2"),
        (("a", "--seed", "-1"), "seed is -1"),
    ],
    ids=str,
)
def test_what_needs_no_model_is_said_before_one_is_fetched(command, monkeypatch, args, line):
    monkeypatch.setattr("minigpt.commands.generate.load", lambda *_, **__: pytest.fail("loaded"))
    result = command("generate", *args)
    assert (result.returncode, result.stdout) == (2, "")
    assert line in result.stderr


@pytest.mark.parametrize(("prompt", "read"), [("-", b"\xff\xfe"), (b"\xff", b"")])
def test_what_is_no_text_is_no_prompt(here, prompt, read):
    result = minigpt("generate", prompt, cwd=here, input=read)
    assert complaint(result) == "minigpt: the prompt is not UTF-8 text"


def test_cuda_without_cupy_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = command("generate", "a", "--device", "cuda")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "minigpt: --device cuda needs CuPy: pip install -e '.[cuda13]' (or cuda12) in the clone\n"
    )


# Ctrl-C.


def test_ctrl_c_keeps_the_text_the_log_and_the_table(here):
    args = [*MINIGPT, "generate", PROMPT, "--max-new-tokens", "240", "--log", "run.jsonl"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(args, cwd=here, env=environment(), bufsize=0, **pipes) as process:
        begun = b""
        while len(begun) < len(PROMPT) + 8:
            begun += process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        text, tables = process.communicate(timeout=300)
    assert process.returncode == 130
    records = lines_of(here / "run.jsonl")
    assert 0 < len(records) < 240
    said = PROMPT + "".join(record["text"] for record in records)
    assert (begun + text).decode() == f"{said}\n"
    (total,) = re.findall(r"^total +([\d,]+)", tables.decode(), re.M)
    assert int(total.replace(",", "")) == sum(record["flops"] for record in records)
