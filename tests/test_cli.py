"""The `minigpt` command, as a user, a script and a terminal meet it."""

import importlib.metadata
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from unittest import mock

import pexpect
import pytest
import typer
from checkpoints import (
    MINIGPT,
    assert_contract,
    checkpoint,
    complaint,
    ends_at_once,
    environment,
    minigpt,
)
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt import cli, generate, load
from minigpt.commands.terminal import LiveText

PROMPT = "To be, or not to be"
SHORT = "--max-new-tokens", "6", "--seed", "1"


@pytest.fixture(scope="module")
def said():
    """What the shipped model says with SHORT."""
    steps = generate(load(), PROMPT, max_new_tokens=6, seed=1)
    return PROMPT + "".join(step.text for step in steps)


@pytest.fixture
def model(tmp_path):
    return str(checkpoint(tmp_path / "model"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def command(monkeypatch, capfd, here):
    """Runs minigpt in this process: its status, what it printed, what it said beside."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["minigpt", *map(str, args)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return subprocess.CompletedProcess(args, exit.value.code or 0, *capfd.readouterr())

    return run


def lines_of(log):
    """The records of a log, all of them whole lines."""
    text = log.read_text()
    assert text.endswith("}\n")
    return [json.loads(line) for line in text.splitlines()]


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


@pytest.mark.parametrize("args", [("generate", PROMPT, *SHORT), ("count", "gpt2")])
def test_nothing_is_folded_in_a_pipe(here, args):
    wide, narrow = (
        minigpt(*args, cwd=here, env=environment(COLUMNS=columns)) for columns in ("300", "20")
    )
    shown = [(result.stderr + result.stdout).decode().splitlines() for result in (wide, narrow)]
    assert [len(lines) for lines in shown] == [max(map(len, shown))] * 2
    assert max(map(len, shown[1])) > 60
    assert "…" not in "".join(shown[1])


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


def commands(group, path=()):
    """All commands below a group, by the words that name them."""
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = [(), *commands(typer.main.get_command(cli.app))]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_in_whole_sentences(command, words):
    short, long = (command(*words, option) for option in ("-h", "--help"))
    assert short.stdout == long.stdout
    assert (long.returncode, long.stderr) == (0, "")
    lines = long.stdout.splitlines()
    assert lines[0].startswith(f"Usage: {' '.join(('minigpt', *words))} [OPTIONS]")
    assert not [line for line in lines[1:] if line.endswith("...")]


def test_the_version(command):
    version = importlib.metadata.version("minigpt-counting")
    assert command("--version").stdout == f"minigpt {version}\n"


def test_a_shell_completes_commands_and_options(here):
    def completed(*words):
        asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        env = environment(_MINIGPT_COMPLETE="complete_bash", **asked)
        return minigpt(cwd=here, env=env).stdout.decode().split()

    assert completed("minigpt", "gen") == ["generate"]
    assert completed("minigpt", "bench", "dec") == ["decode"]
    assert completed("minigpt", "generate", "--te") == ["--temperature"]


def test_help_needs_none_of_the_heavy_packages():
    heavy = {"numpy", "sympy", "tokenizers", "huggingface_hub", "safetensors", "cupy", "torch"}
    code = f"""
import sys, minigpt.cli
for args in [], ["generate"], ["download"], ["bench"], ["bench", "overhead"]:
    minigpt.cli.app([*args, "--help"], standalone_mode=False)
assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


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
    "a log in no folder": (("a", "--log", "no/such/run.jsonl"), "cannot write the log no/such"),
    "a log that is a folder": (("a", "--log", "."), "cannot write the log .: Is a directory"),
    "a log of two lines": (("a", "--log", "no\n\x1b[31m/x"), "cannot write the log no [31m/x: No"),
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
    "two on one stream": (("a", "--json", "--log", "-"), "--log - and --json both print"),
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
        (("dance",), "No such command 'dance'"),
        (("--frobnicate",), "No such option: --frobnicate"),
        (("download",), "Missing argument"),
        (("download", "no such name"), "'no such name' is no file"),
        (("download", "model.bin"), "loading a pickle can run any code"),
        (("bench", "overhead", "gpt3"), "unknown model 'gpt3'"),
        (("genrate", "a"), "'genrate'. Did you mean 'generate'? (see minigpt --help)"),
        (("bench", "decoed"), "Did you mean 'decode'? (see minigpt bench --help)"),
        (("count", "gpt2", "--bach", "2"), "did you mean --batch? (see minigpt count --help)"),
        (("count", "Llama-3.1-8B"), "; did you mean llama-3.1-8b?"),
        (("plan", "GPT2-XL", "--gpu", "t4"), "; did you mean gpt2-xl?"),
        (("plan", "gpt2", "--gpu", "RTX-4090"), "; did you mean rtx-4090?"),
        (("plan", "gpt2", "--gpu", "rtx-306"), "; did you mean rtx-3060-12gb?"),
        (("formulas", "gpt2xl"), "; did you mean gpt2-xl?"),
        (("verify", "Gpt2"), "; did you mean gpt2?"),
        (("step", "a", "--model", "Shakespeare"), "; did you mean shakespeare?"),
        (("bench", "decode", "--engine", "lama.cpp"), "; did you mean llama.cpp?"),
        (("formulas", "llama-3.1-8b"), "llama-3.1-8b is no GPT-2: minigpt count says"),
        (("formulas", "--latex", "--python"), "--latex and --python are different forms"),
        (("formulas", "--python", "--json"), "--python and --json are different forms"),
        (
            ("count", "gpt2", "--cache", "compressed"),
            "only DeepSeek's latent attention has a choice",
        ),
        (("step", "a", "--temperature", "0", "--top-p", "0.5"), "--top-p would do nothing beside"),
        (
            ("bench", "prefill", "--sweep", "--tokens", "9"),
            "--tokens would do nothing beside --sweep",
        ),
    ],
    ids=str,
)
def test_a_bad_command_gets_one_line(command, args, line):
    result = command(*args)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert line in result.stderr


def test_a_file_of_a_gpu_that_is_not_asked_about_is_refused(command, here):
    (here / "mine.json").write_text(
        json.dumps({"flops": {"float32/float32": 1e12}, "bandwidth": 1e9, "memory": 2**34})
    )
    result = command("plan", "gpt2", "--gpu", "t4", "--gpu-file", "mine.json")
    assert (result.returncode, result.stderr) == (
        2,
        "minigpt: mine.json would do nothing beside the GPU t4: leave one of them out\n",
    )
    assert command("plan", "gpt2", "--gpu", "mine", "--gpu-file", "mine.json").returncode == 0


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


def test_no_command_shows_the_help(command):
    result = command()
    assert (result.returncode, result.stderr) == (2, "")
    assert "generate" in result.stdout


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


# The streams of a shell.


def shell(line, cwd, **env):
    """Runs a line of bash in which `minigpt` is the command."""
    define = f'minigpt() {{ {shlex.join(MINIGPT)} "$@"; }}\n'
    env = environment(**env)
    return subprocess.run(
        ["bash", "-c", define + line], cwd=cwd, env=env, capture_output=True, timeout=60
    )


@pytest.mark.parametrize(
    ("line", "status", "printed", "said"),
    [
        ("minigpt generate ab --quiet | head -c 1; exit ${PIPESTATUS[0]}", 1, "a", ""),
        ("minigpt generate ab --json | true; exit ${PIPESTATUS[0]}", 1, "", ""),
        ("minigpt --help | true; exit ${PIPESTATUS[0]}", 1, "", ""),
        ("minigpt generate ab --log - | head -c 9; exit ${PIPESTATUS[0]}", 1, '{"schema"', ""),
        (
            "minigpt generate ab --log - > /dev/full",
            2,
            "",
            "minigpt: [Errno 28] No space left on device\n",
        ),
        ("minigpt generate ab > /dev/full", 2, "", "minigpt: [Errno 28] No space left on device\n"),
        (
            "minigpt generate ab --json > /dev/full",
            2,
            "",
            "minigpt: [Errno 28] No space left on device\n",
        ),
        ("minigpt generate ab --max-new-tokens 1 --quiet >&-", 0, "", ""),
        ("minigpt generate ab --max-new-tokens 1 --json 2>&- | head -c 1", 0, "{", ""),
        ("minigpt generate - <&-", 2, "", "minigpt: the prompt is empty: give at least one token"),
    ],
)
def test_a_stream_that_is_closed_or_full_makes_no_traceback(here, line, status, printed, said):
    result = shell(line, here)
    assert (result.returncode, result.stdout.decode()) == (status, printed)
    assert result.stderr.decode().startswith(said)
    assert result.stderr.count(b"\n") == said.count("\n") + (status == 2 and said[-1:] != "\n")


def test_text_that_the_encoding_of_the_output_lacks_is_printed_with_question_marks(here):
    result = shell("minigpt generate Ünï€ --max-new-tokens 1", here, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert result.stdout.startswith(b"?n??")


# Ctrl-C.


def test_ctrl_c_keeps_the_text_the_log_and_the_table(here):
    args = [*MINIGPT, "generate", PROMPT, "--max-new-tokens", "240", "--log", "run.jsonl"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(args, cwd=here, env=environment(), bufsize=0, **pipes) as process:
        begun = b""
        while len(begun) < len(PROMPT) + 8:
            begun += process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        text, tables = process.communicate(timeout=60)
    assert process.returncode == 130
    records = lines_of(here / "run.jsonl")
    assert 0 < len(records) < 240
    said = PROMPT + "".join(record["text"] for record in records)
    assert (begun + text).decode() == f"{said}\n"
    (total,) = re.findall(r"^total +([\d,]+)", tables.decode(), re.M)
    assert int(total.replace(",", "")) == sum(record["flops"] for record in records)


# A terminal.


class Screen:
    """What a terminal of so many columns shows: the sequences that minigpt sends, no more."""

    def __init__(self, columns):
        self.columns, self.rows, self.row, self.column = columns, [[]], 0, 0

    def feed(self, sent):
        for params, code, char in re.findall(r"\x1b\[([?\d;]*)(\w)|([^\x1b])", sent, re.S):
            n = int(params) if params.isdigit() else 1
            if code == "A":
                self.row -= n
                assert self.row >= 0
            elif code == "C":
                self.column = min(self.column + n, self.columns - 1)
            elif code == "J":
                del self.rows[self.row + 1 :], self.rows[self.row][self.column :]
            elif code == "K":
                self.rows[self.row].clear()
            elif char == "\r":
                self.column = 0
            elif char == "\n":  # with the carriage return that the tty adds
                self.column = 0
                self._down()
            elif char:
                self._put(char)
        return self

    def _down(self):
        self.row += 1
        self.rows += [[]] * (self.row == len(self.rows))

    def _put(self, char):
        wide = cell_len(char)
        if self.column + wide > self.columns:
            self.column = 0
            self._down()
        row = self.rows[self.row]
        row += " " * (self.column - len(row))
        row[self.column : self.column + wide] = [char] + [""] * (wide - 1)
        self.column += wide

    @property
    def lines(self):
        return ["".join(row).rstrip() for row in self.rows]


@given(
    st.lists(st.text("ab \nあ", max_size=9), min_size=1, max_size=9),
    st.lists(st.text("xyz", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(4, 12),
)
def test_the_status_leaves_the_text_as_it_is(parts, status, columns):
    with (
        mock.patch("minigpt.commands.terminal.get_terminal_size", return_value=(columns, 24)),
        mock.patch("sys.stdout", io.StringIO()) as stdout,
    ):
        live = LiveText()
        for i, part in enumerate(parts):
            live.write(part, *status)
            text = Screen(columns).feed("".join(parts[: i + 1]))
            shown = Screen(columns).feed(stdout.getvalue())
            assert (shown.row, shown.column) == (text.row, text.column)
            assert shown.lines[: len(text.lines)] == text.lines
            below = "".join(shown.lines[len(text.lines) :])
            assert below.startswith(status[0]) if text.column < columns else not below
        live.write("\n")
    assert (
        Screen(columns).feed(stdout.getvalue()).lines
        == Screen(columns).feed("".join(parts) + "\n").lines
    )


def test_control_characters_do_not_reach_the_terminal(capsys):
    LiveText().write("a\x1b[2Jb\x07\r\n\tc\x9b")
    assert capsys.readouterr().out == "\x1b[Ja\ufffd[2Jb\ufffd\n    c\ufffd"


def test_a_terminal_shows_a_line_on_each_pass_and_is_left_clean(here, said):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", PROMPT, *SHORT], cwd=str(here),
        env=environment(TERM="xterm"), dimensions=(24, 80), encoding="utf-8", timeout=60,
    )  # fmt: skip
    sent = child.read()
    child.close()
    assert child.exitstatus == 0
    for token in range(1, 7):
        assert f"token\xa0{token}/6" in sent
    for unit in ("FLOP", "KV", "peak", "tokens/s", "FLOP/s", "B/s"):
        assert unit in sent
    lines = Screen(80).feed(sent).lines
    assert "\n".join(lines).startswith(f"{said}\n\ncomponent ")
    table = lines[lines.index("") + 1 :]
    ends = {len(line) for line in table[: table.index("")]}
    assert len(ends) == 1  # the last column is flush
    assert max(ends) <= 80


def test_ctrl_c_on_a_terminal_ends_with_the_table(here):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", PROMPT, "--max-new-tokens", "240"], cwd=str(here),
        env=environment(TERM="xterm"), dimensions=(24, 80), encoding="utf-8", timeout=60,
    )  # fmt: skip
    child.expect("token\xa03/240")
    child.sendintr()
    rest = child.read()
    child.close()
    assert child.exitstatus == 130
    assert "component" in rest
    assert "Traceback" not in rest


def test_a_terminal_that_cannot_move_its_cursor_gets_the_bare_text(here, said):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", PROMPT, *SHORT, "--quiet"], cwd=str(here),
        env=environment(TERM="dumb"), dimensions=(24, 80), encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert child.read() == f"{said}\n".replace("\n", "\r\n")
