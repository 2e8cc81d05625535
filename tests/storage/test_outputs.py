"""What is written: never onto a file that is read, and whole lines or an error."""

import errno
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from unittest import mock

import pytest
from checkpoints import INDEX, MINIGPT, ROOT, SINGLE, checkpoint, complaint, environment, minigpt
from checkpoints import sharded as in_shards
from hypothesis import given
from hypothesis import strategies as st

from minigpt import InputError
from minigpt.storage.outputs import check_apart, lines

SHARDS = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
FILES = {"one": ("config.json", "tokenizer.json", SINGLE)}
FILES["shards"] = ("config.json", "tokenizer.json", INDEX, *SHARDS)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to be in, with the model m in it."""
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "m")
    return tmp_path


@pytest.fixture
def command(command):
    """Runs minigpt in this process; the line that bad input gets, or what came of it."""

    def run(*args):
        said = command(*args)
        said.stdout, said.stderr = said.stdout.encode(), said.stderr.encode()
        return complaint(said) if said.returncode == 2 else said

    return run


def symbolic(path):
    Path("link").symlink_to(path)
    return "link"


def twice_symbolic(path):
    Path("folder").symlink_to(path.parent)
    Path("link").symlink_to(Path("folder", path.name))
    return "link"


def hard(path):
    os.link(path, "link")
    return "link"


ALIASES = {
    "itself": str,
    "the long way round": lambda path: f"m/../{path}",
    "its whole path": lambda path: str(path.absolute()),
    "a symbolic link": symbolic,
    "links to links": twice_symbolic,
    "a hard link": hard,
}


@pytest.mark.parametrize(("kind", "name"), [(k, name) for k in FILES for name in FILES[k]])
@pytest.mark.parametrize("alias", ALIASES)
def test_a_log_is_no_file_of_the_model(command, here, kind, name, alias):
    if kind == "shards":
        in_shards(here / "m")
    file = Path("m", name)
    before, changed, log = file.read_bytes(), file.stat().st_mtime_ns, ALIASES[alias](file)
    line = command("generate", "ab", "--model", "m", "--max-new-tokens", "2", "--log", log)
    also = "" if log == f"m/{name}" else f"the same file as m/{name}, which is "
    assert line == f"minigpt: {log} cannot be written: it is {also}in use; choose another"
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, changed)


def shipped(here):
    return ROOT / "weights" / "shakespeare" / "model.safetensors"


def packed(here):
    file = here / "cache" / "minigpt" / "packed" / "some.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return file


def source(here):
    file = here / "part_of_the_program.py"
    file.write_text("1\n")
    sys.path.insert(0, str(here))
    try:
        importlib.import_module(file.stem)
    finally:
        sys.path.remove(str(here))
    return file


@pytest.mark.parametrize("what", [shipped, packed, source])
def test_a_log_is_no_other_file_that_the_program_reads(command, here, monkeypatch, what):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    file = what(here)
    before = file.read_bytes()
    # Were it not refused: a copy of what may not be lost takes the blow.
    if what is shipped:
        monkeypatch.setattr("minigpt.commands.log.lines", mock.Mock(side_effect=AssertionError))
    line = command("generate", "ab", "--model", "m", "--max-new-tokens", "2", "--log", file)
    assert re.search(
        rf"{file} cannot be written: it is (the same file as .*, which is )?in use", line
    )
    assert file.read_bytes() == before


def shell(line, cwd):
    define = f'minigpt() {{ {" ".join(map(repr, MINIGPT))} "$@" --model m --max-new-tokens 2; }}\n'
    run = ["bash", "-c", define + line]
    return subprocess.run(run, cwd=cwd, env=environment(), capture_output=True, timeout=300)


@pytest.mark.parametrize(
    ("line", "stream"),
    [
        ("minigpt generate - --log f <f", "input"),
        ("minigpt generate - --log /dev/stdin <f", "input"),
        ("minigpt generate ab --log /proc/self/fd/3 <f 3<f", "input"),
        ("minigpt generate ab --log f >>f", "output"),
        ("minigpt generate ab --json --log /dev/stdout >>f", "output"),
        ("minigpt generate ab --log f 2>>f", "error"),
    ],
)
def test_a_log_is_no_file_that_a_stream_comes_from_or_goes_to(here, line, stream):
    (here / "f").write_text("kept\n")
    result = shell(line, here)
    said = (result.stderr.decode() or (here / "f").read_text()).splitlines()[-1]
    assert result.returncode == 2
    assert f"the same file as standard {stream}, which is in use" in said
    assert (here / "f").read_text().startswith("kept\n")


@pytest.mark.parametrize(
    "line",
    [
        "minigpt generate - --log /dev/null </dev/null <<<ab",
        "minigpt generate ab --log /dev/null >/dev/null",
    ],
)
def test_a_device_is_written_to_whoever_else_does(here, line):
    assert shell(line, here).returncode == 0


def test_a_log_beside_the_model_is_fine(command, here):
    for _ in range(2):  # the second one replaces the first
        said = command("generate", "ab", "--model", "m", "--max-new-tokens", "2", "--log", "m/log")
        assert said.returncode == 0
        assert len((here / "m" / "log").read_text().splitlines()) == 2


def in_circles(path):
    """Whether a path leads from link to link and nowhere else."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


NAMES = st.sampled_from("abcd")


@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from(("new", "soft", "hard")), NAMES)), NAMES, NAMES
)
def test_names_of_one_file_are_found_through_any_links(made, output, read):
    with tempfile.TemporaryDirectory() as folder:
        for name, (how, other) in made.items():
            path, to = Path(folder, name), Path(folder, other)
            if how == "soft":
                path.symlink_to(to)
            elif how == "hard" and to.is_file() and not path.exists():
                os.link(to.resolve(), path)
            elif not os.path.lexists(path):
                path.write_text("")
        output, read = Path(folder, output), Path(folder, read)
        there = all(os.path.exists(path) for path in (output, read))
        if there and output.samefile(read):
            also = "in use" if output == read else f"the same file as {read}, which is in use"
            with pytest.raises(InputError, match=also):
                check_apart([output], [read])
        elif not in_circles(output):
            check_apart([output], [read])


# The other commands that write.


@pytest.mark.parametrize("alias", ["itself", "a symbolic link", "a hard link"])
def test_a_download_goes_onto_none_of_its_sources(command, here, alias):
    before = {file.name: file.read_bytes() for file in (here / "m").iterdir()}
    if alias == "itself":
        to = here / "m"
    else:
        to = here / "to"
        to.mkdir()
        target = to / "config.json"  # of another one's: to copy this would destroy that
        (target.symlink_to if alias == "a symbolic link" else target.hardlink_to)(
            here / "m" / SINGLE
        )
    line = command("download", "./m", "--to", to)
    assert f"{to / 'config.json'} cannot be written: it is the same file as m/" in line
    assert {file.name: file.read_bytes() for file in (here / "m").iterdir()} == before


def test_a_download_that_finds_no_room_leaves_nothing(here):
    room = 5_000  # bytes of a file, enough for config.json
    result = limited(room, "download", "./m", "--to", "to", cwd=here)
    assert complaint(result) == "minigpt: to cannot be written: File too large"
    assert not list((here / "to").iterdir())


def test_a_made_checkpoint_goes_onto_no_merges_that_it_reads(here):
    (here / "m" / "config.json").rename(here / "vocab.bpe")
    (here / "m" / "config.json").symlink_to(here / "vocab.bpe")
    args = [
        sys.executable,
        ROOT / "scripts" / "make_checkpoint.py",
        "gpt2",
        "m",
        "--merges",
        "vocab.bpe",
    ]
    result = subprocess.run(args, cwd=here, capture_output=True, timeout=300)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == (
        b"make_checkpoint: m/config.json cannot be written: it is the same file as vocab.bpe, "
        b"which is in use; choose another\n"
    )


def test_training_goes_onto_no_text_that_it_reads(here):
    pytest.importorskip("torch", reason="training needs torch: .[train]")
    script = ROOT / "scripts" / "train_shakespeare.py"
    args = [sys.executable, script, "m/tokenizer.json", "m"]
    before = (here / "m" / "tokenizer.json").read_bytes()
    result = subprocess.run(args, cwd=here, capture_output=True, timeout=300)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"train_shakespeare: m/tokenizer.json cannot be written: it is")
    assert (here / "m" / "tokenizer.json").read_bytes() == before


# Whole lines or an error.


def limited(size, *args, **options):
    """Runs minigpt where no file may grow beyond `size` bytes."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return minigpt(*args, env=environment(MINIGPT_FAST="0"), preexec_fn=limit, **options)


@pytest.mark.parametrize("size", [0, 1, 500, 1000, 1700, 3000])
def test_a_disk_that_is_full_leaves_whole_lines_and_says_so(here, size):
    options = "--model", "m", "--max-new-tokens", "9", "--seed", "1", "--ignore-eos", "--quiet"
    result = limited(size, "generate", "ab", *options, "--log", "log", cwd=here)
    assert result.returncode == 2
    assert result.stderr == b"minigpt: cannot write the log log: File too large\n"
    text = (here / "log").read_text()
    assert len(text) <= size
    assert text == "" or text.endswith("}\n")
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["position"] for record in records] == list(range(2, 2 + len(records)))
    assert size < 1000 or records


def test_a_small_disk_that_fills_leaves_whole_lines_and_says_so(here):
    (here / "disk").mkdir()
    mount = "mount -t tmpfs -o size=4k none disk"
    ran = ["unshare", "--mount", "--user", "--map-root-user", "sh", "-c"]
    try:
        possible = subprocess.run([*ran, mount], cwd=here, capture_output=True).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("no small disk can be mounted here")
    command = " ".join(map(repr, MINIGPT))
    options = "--model m --max-new-tokens 9 --ignore-eos --quiet --log disk/log"
    line = f"{mount} && {command} generate ab {options}; status=$?; cat disk/log >log; exit $status"
    result = subprocess.run(
        [*ran, line], cwd=here, env=environment(MINIGPT_FAST="0"), capture_output=True, timeout=300
    )
    assert result.returncode == 2
    assert result.stderr == b"minigpt: cannot write the log disk/log: No space left on device\n"
    text = (here / "log").read_text()
    assert text.endswith("}\n")
    assert all(json.loads(line) for line in text.splitlines())


@given(
    st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=8),
    st.integers(0, 200),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.sampled_from((OSError(errno.ENOSPC, "full"), KeyboardInterrupt())),
)
def test_whatever_a_disk_takes_at_a_time_lines_are_whole(given_lines, room, sizes, end):
    really, taken, calls = os.write, 0, 0

    def write(file, data):
        nonlocal taken, calls
        size = min(len(data), sizes[calls % len(sizes)], room - taken)
        calls += 1
        if not size:
            raise end
        taken += size
        return really(file, data[:size])

    with tempfile.TemporaryDirectory() as folder:
        path, done = Path(folder, "log"), []
        try:
            with lines(path, "it") as line, mock.patch("os.write", write):
                for each in given_lines:
                    line(each)
                    done.append(each)
                    assert path.read_bytes() == b"".join(each + b"\n" for each in done)
        except (InputError, KeyboardInterrupt):
            assert sum(map(len, given_lines)) + len(given_lines) > room
        else:
            assert done == given_lines
        assert path.read_bytes() == b"".join(each + b"\n" for each in done)


def piped(here, lines_read):
    """What comes of a log into a pipe whose reader leaves after so many lines, and what it read."""
    os.mkfifo(here / "pipe")
    read = []

    def reader():
        with open(here / "pipe", "rb") as stream:
            for _ in range(lines_read):
                read.append(stream.readline())

    thread = threading.Thread(target=reader)
    thread.start()
    options = "--model", "m", "--max-new-tokens", "9", "--ignore-eos", "--quiet", "--log", "pipe"
    result = minigpt("generate", "ab", *options, cwd=here)
    thread.join()
    return result, read


def test_a_log_into_a_pipe_is_whole(here):
    result, read = piped(here, 9)
    assert (result.returncode, result.stderr) == (0, b"")
    assert [json.loads(line)["position"] for line in read] == list(range(2, 11))


def test_a_log_into_a_pipe_that_nobody_reads_any_more_is_an_error(here):
    result, read = piped(here, 0)
    assert (result.returncode, read) == (2, [])
    assert result.stderr == b"minigpt: cannot write the log pipe: Broken pipe\n"
