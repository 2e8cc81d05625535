"""What all commands have: help, completion, one line for what is wrong, the streams of a shell."""

import importlib.metadata
import json
import shlex
import subprocess
import sys

import pytest
import typer
from checkpoints import MINIGPT, PROMPT, SHORT, environment, minigpt

from minigpt import cli


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
    assert completed("minigpt", "generate", "--tem") == ["--temperature"]


@pytest.mark.peers
def test_help_needs_none_of_the_heavy_packages():
    heavy = {"numpy", "sympy", "tokenizers", "huggingface_hub", "safetensors", "cupy", "torch"}
    code = f"""
import sys, minigpt.cli
for args in [], ["generate"], ["download"], ["bench"], ["bench", "overhead"]:
    minigpt.cli.app([*args, "--help"], standalone_mode=False)
assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("args", [("generate", PROMPT, *SHORT), ("count", "gpt2")])
def test_nothing_is_folded_in_a_pipe(here, args):
    wide, narrow = (
        minigpt(*args, cwd=here, env=environment(COLUMNS=columns)) for columns in ("300", "20")
    )
    shown = [(result.stderr + result.stdout).decode().splitlines() for result in (wide, narrow)]
    assert [len(lines) for lines in shown] == [max(map(len, shown))] * 2
    assert max(map(len, shown[1])) > 60
    assert "…" not in "".join(shown[1])


# Bad input: one line, status 2.


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
        (("bench", "deocde"), "Did you mean 'decode'? (see minigpt bench --help)"),
        (("count", "gpt2", "--bach", "2"), "did you mean --batch? (see minigpt count --help)"),
        (("count", "Llama-3.1-8B"), "; did you mean llama-3.1-8b?"),
        (("plan", "GPT2-XL", "--gpu", "t4"), "; did you mean gpt2-xl?"),
        (("plan", "gpt2", "--gpu", "RTX-4090"), "; did you mean rtx-4090?"),
        (("plan", "gpt2", "--gpu", "rtx-306"), "; did you mean rtx-3060-12gb?"),
        (("formulas", "gpt2xl"), "; did you mean gpt2-xl?"),
        (("verify", "Gpt2"), "; did you mean gpt2?"),
        (("step", "a", "--model", "Shakespeare"), "; did you mean shakespeare?"),
        (("bench", "decode", "--engine", "lama.cpp"), "; did you mean llama.cpp?"),
        (
            ("formulas", "qwen3-next-80b-a3b"),
            "has no closed forms; minigpt count says what it costs",
        ),
        (("formulas", "--latex", "--python"), "--latex and --python are different forms"),
        (("formulas", "--python", "--json"), "--python and --json are different forms"),
        (
            ("count", "gpt2", "--cache", "compressed"),
            "only DeepSeek's latent attention has a choice",
        ),
        (("step", "a", "--temperature", "0", "--top-p", "0.5"), "--top-p would do nothing beside"),
        (("verify", "gpt2", "--prompt", "0"), "prompt is 0; it must be"),
        (("verify", "gpt2", "--past=-1"), "past is -1; it must be"),
        (("verify", "nosuch.py", "--peers"), "there is no file nosuch.py"),
        (("count", "nosuch.gguf"), "there is no file nosuch.gguf"),
        (("count", "/etc/passwd"), "is neither a config.json nor a .safetensors file"),
        (
            ("gpus", "--gpu-file", "."),
            "as TOML or JSON: it is a folder, not a file",
        ),
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


@pytest.mark.parametrize("length", [300, 3000])
@pytest.mark.parametrize(
    "before",
    [
        ("count",),
        ("plan", "gpt2", "--gpu"),
        ("generate", "x", "--dtype"),
        ("generate", "x", "--engine"),
        ("count", "gpt2", "--dtype"),
    ],
    ids=str,
)
def test_a_long_name_is_not_said_at_length(command, before, length):
    result = command(*before, "x" * length)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert len(result.stderr) < 500


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


def test_no_command_shows_the_help(command):
    result = command()
    assert (result.returncode, result.stderr) == (2, "")
    assert "generate" in result.stdout


# The streams of a shell.


def shell(line, cwd, **env):
    """Runs a line of bash in which `minigpt` is the command."""
    define = f'minigpt() {{ {shlex.join(MINIGPT)} "$@"; }}\n'
    env = environment(**env)
    return subprocess.run(
        ["bash", "-c", define + line], cwd=cwd, env=env, capture_output=True, timeout=300
    )


FULL = "minigpt: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("line", "status", "printed", "said"),
    [
        ("minigpt generate ab --quiet | head -c 1; exit ${PIPESTATUS[0]}", 1, "a", ""),
        ("minigpt generate ab --json | true; exit ${PIPESTATUS[0]}", 1, "", ""),
        ("minigpt --help | true; exit ${PIPESTATUS[0]}", 1, "", ""),
        ("minigpt generate ab --log - | head -c 9; exit ${PIPESTATUS[0]}", 1, '{"schema"', ""),
        ("minigpt generate ab --log - > /dev/full", 2, "", FULL),
        ("minigpt generate ab > /dev/full", 2, "", FULL),
        ("minigpt generate ab --json > /dev/full", 2, "", FULL),
        ("minigpt gpus --json > /dev/full", 2, "", FULL),
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
