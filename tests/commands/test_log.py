"""The files that `generate` writes: one writer at a time, and a refusal loses nothing."""

import json
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import checkpoint, environment

from minigpt import InputError
from minigpt.storage.outputs import lines

RUN = "generate", "ab", "--model", "m", "--max-new-tokens", "2", "--seed", "1", "--quiet"

HOLDER = """
import sys
from pathlib import Path
from minigpt.storage.outputs import lines
with lines(Path(sys.argv[1]), "it") as write:
    for line in sys.stdin.buffer:
        write(line.rstrip(b"\\n"))
        print(flush=True)
"""


@pytest.fixture
def model(here):
    return checkpoint(here / "m")


def same(path):
    return path


def symbolic(path):
    path.with_name("link").symlink_to(path)
    return path.with_name("link")


def hard(path):
    os.link(path, path.with_name("link"))
    return path.with_name("link")


ALIASES = [same, symbolic, hard]


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("option", ["--log", "--record"])
def test_a_file_that_another_process_writes_is_refused(command, here, model, option, alias):
    rng, file = random.Random(f"{option} {alias.__name__}"), here / "file"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, file],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    written = [json.dumps("x" * rng.randrange(9000)).encode() for _ in range(6)]

    def write(some):
        for line in some:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n"

    write(written[:3])
    result = command(*RUN, option, name := alias(file))
    write(written[3:])
    process.communicate(timeout=300)
    what = {"--log": "log", "--record": "recording"}[option]
    said = f"minigpt: cannot write the {what} {name}: another process is writing it\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", said)
    assert file.read_bytes().splitlines() == written
    assert command(*RUN, option, name).returncode == 0
    assert all(json.loads(line) != "x" for line in file.read_text().splitlines())


@pytest.mark.parametrize("seed", range(5))
def test_of_writers_at_once_one_has_the_file_and_its_lines_are_whole(tmp_path, seed):
    rng, file = random.Random(seed), tmp_path / "file"
    file.write_bytes(before := b"old\n" * rng.randrange(3))
    with lines(file, "it") as write:
        expected = before
        for line in (rng.randbytes(rng.randrange(50)).hex().encode() for _ in range(10)):
            if rng.random() < 0.5:
                with pytest.raises(InputError, match="another process"), lines(file, "it") as other:
                    other(b"never")
                assert file.read_bytes() == expected
            write(line)
            expected = b"" if expected is before else expected
            expected += line + b"\n"
    assert file.read_bytes() == expected
    with lines(file, "it"):
        pass
    assert file.read_bytes() == b""


def nowhere(here):
    return Path("nodir", "file")


def onto_the_model(here):
    return Path("m", "config.json")


def a_folder(here):
    return Path("m")


def a_pipe(here):
    os.mkfifo("pipe")
    return Path("pipe")


def in_circles(here):
    Path("loop").symlink_to("loop")
    return Path("loop")


CLOSED = "/dev/fd/1000000"


def a_closed_descriptor(here):
    return Path(CLOSED)


def below_a_file(here):
    return Path("m", "config.json", "file")


REFUSED = {
    nowhere: "there is no folder nodir: make it first",
    onto_the_model: "m/config.json cannot be written: it is in use; choose another",
    a_folder: "it is a folder: name a file in it",
    a_pipe: "nobody reads it",
    in_circles: "loop cannot be written: Too many levels of symbolic links",
    below_a_file: "m/config.json/file cannot be written: Not a directory",
    a_closed_descriptor: f"{CLOSED}: No such file or directory",
}


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("options", [("--log", "--record"), ("--record", "--log")])
def test_a_command_that_is_refused_has_emptied_neither_file(command, here, model, refused, options):
    (here / "old").write_text("old\n")
    config = (model / "config.json").read_bytes()
    result = command(*RUN, options[0], "old", options[1], refused(here))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert REFUSED[refused] in result.stderr
    assert (here / "old").read_text() == "old\n"
    assert (model / "config.json").read_bytes() == config


@pytest.mark.parametrize("alias", [symbolic, hard])
def test_two_names_of_one_file_are_no_log_and_recording(command, here, model, alias):
    (here / "old").write_text("old\n")
    result = command(*RUN, "--log", here / "old", "--record", alias(here / "old"))
    why = f"{here / 'old'} cannot be both the log and the recording: choose another"
    assert (result.returncode, result.stderr) == (2, f"minigpt: {why}\n")
    assert (here / "old").read_text() == "old\n"


def test_a_log_is_no_file_that_is_mapped(command, here, model):
    """As libraries are that belong to a module and are none."""
    file = here / "with a space.so"
    file.write_bytes(b"code" * 100)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ):
        result = command(*RUN, "--log", file)
        assert (result.returncode, "in use" in result.stderr) == (2, True)
        assert file.read_bytes() == b"code" * 100
