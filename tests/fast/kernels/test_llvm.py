"""Compiled code from the cache: only what this user compiled is run, and what is not is said."""

import ctypes
import hashlib
import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from checkpoints import environment, minigpt

pytest.importorskip("llvmlite")

from minigpt import notes
from minigpt.fast.kernels.llvm import Target, function
from minigpt.fast.kernels.types import i64, pointer, whole

STRANGER = 12345


def giving(number):
    def build(module, target):
        with function(module, "answer", pointer) as (b, (to,)):
            b.write(whole(number), to, 0, i64)

    return mock.Mock(side_effect=build)


def answer(code):
    given = ctypes.c_int64()
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code["answer"])(ctypes.addressof(given))
    return given.value


EVIL = Target().compile(giving(666))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Compiled code that gives 42, kept in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    notes.note.cache_clear()
    assert answer(Target().load(giving(42), [])) == 42
    [file] = tmp_path.rglob("*.o")
    return file


def link_to_evil(file):
    other = file.parents[2] / "evil"
    other.write_bytes(EVIL)
    file.unlink()
    file.symlink_to(other)


def folder_of_evil(file):
    """A link to a folder with a file of the right name, which can be computed."""
    elsewhere = file.parents[3] / "elsewhere"
    file.parent.rename(elsewhere)
    (elsewhere / file.name).write_bytes(EVIL)
    file.parent.symlink_to(elsewhere)


def shared(file):
    file.parent.chmod(0o777)


def shared_above(file):
    file.parents[1].chmod(0o777)


def shared_far_above(file):
    file.parents[2].chmod(0o777)


def pipe(file):
    file.unlink()
    os.mkfifo(file)


def strangers(file):
    os.chown(file, STRANGER, STRANGER)


def strangers_folder(file):
    os.chown(file.parent, STRANGER, STRANGER)


ATTACKS = {
    "bare code": lambda file: file.write_bytes(EVIL),
    "with the digest that anybody can compute": lambda file: file.write_bytes(
        hashlib.sha256(EVIL).digest() + EVIL
    ),
    "garbage with that digest": lambda file: file.write_bytes(
        hashlib.sha256(b"garbage").digest() + b"garbage"
    ),
    "with the seal of what was there": lambda file: file.write_bytes(file.read_bytes()[:32] + EVIL),
    "a link": link_to_evil,
    "a folder that is a link": folder_of_evil,
    "a pipe": pipe,
    "a file that others may write": lambda file: file.chmod(0o666),
    "a folder that others may write to": shared,
    "the same, above": shared_above,
    "the same, above that": shared_far_above,
}
AS_ROOT = {"a file of another user": strangers, "a folder of another user": strangers_folder}
if os.geteuid() == 0:
    ATTACKS |= AS_ROOT


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_another_may_have_put_there_is_compiled_anew_and_said(file, attack, caplog):
    attack(file)
    build = giving(42)
    assert answer(Target().load(build, [])) == 42
    assert build.call_count == 1
    [record] = caplog.records
    assert record.name == "minigpt"
    assert "\n" not in record.message
    assert str(file.parents[2]) in record.message


@pytest.mark.parametrize("moment", ["os.open", "os.fstat", "builtins.open", "hmac.digest"])
def test_a_swap_between_check_and_load_is_of_no_use(file, monkeypatch, moment):
    """What was opened is what is checked, and what is checked is what is run."""
    module, _, name = moment.rpartition(".")
    module = sys.modules[module]
    real = getattr(module, name)

    def swapping(*args, **options):
        found = real(*args, **options)
        with mock.patch.object(module, name, real):
            evil = file.with_suffix(".evil")
            evil.write_bytes(hashlib.sha256(EVIL).digest() + EVIL)
            evil.replace(file)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(module, name, swapping)
        code = Target().load(giving(42), [])
    assert answer(code) == 42


def test_in_the_folder_of_a_stranger_no_cache_is_looked_for(tmp_path, monkeypatch):
    """A relative $XDG_CACHE_HOME would be one wherever the program is started."""
    home, hostile = tmp_path / "home", tmp_path / "hostile"
    hostile.mkdir()
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    build = giving(42)
    for _ in range(2):
        assert answer(Target().load(build, [])) == 42
    assert build.call_count == 1
    assert list(hostile.iterdir()) == []
    assert len(list(home.rglob("*.o"))) == 1


# What is said.

GENERATE = ["generate", "To be", "--max-new-tokens", "1", "--seed", "1"]


@pytest.fixture(scope="module")
def unusable(tmp_path_factory):
    """An environment whose cache cannot be written."""
    file = tmp_path_factory.mktemp("unusable") / "file"
    file.touch()
    return environment(XDG_CACHE_HOME=str(file))


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path, unusable):
    result = minigpt(*GENERATE, cwd=tmp_path, env=unusable)
    assert result.returncode == 0
    lines = [line for line in result.stderr.decode().splitlines() if "cannot be used" in line]
    assert len(lines) == 1
    assert lines[0].startswith("minigpt: every start compiles its kernels: ")
    assert unusable["XDG_CACHE_HOME"] in lines[0]


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_nothing_is_said_where_nothing_is_to_be_said(tmp_path, unusable, option):
    result = minigpt(*GENERATE, option, cwd=tmp_path, env=unusable)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_second_load_says_nothing_more(unusable, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", unusable["XDG_CACHE_HOME"])
    notes.note.cache_clear()
    for _ in range(2):
        Target().load(giving(42), [])
    assert len(caplog.records) == 1


def test_compiled_code_is_kept_and_what_is_damaged_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build = giving(42)
    assert answer(Target().load(build, [])) == 42
    assert answer(Target().load(build, [])) == 42
    assert build.call_count == 1
    [file] = tmp_path.rglob("*.o")
    whole_file = file.read_bytes()
    half, last = whole_file[: len(whole_file) // 2], bytes([whole_file[-1] ^ 1])
    for damaged in (b"", half, whole_file[:-1] + last):
        file.write_bytes(damaged)
        assert answer(Target().load(build, [])) == 42
        assert file.read_bytes() == whole_file
    assert build.call_count == 4


def test_compiled_code_is_for_its_sources_and_its_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, build = tmp_path / "source.py", giving(42)
    for text in ("one", "two"):
        source.write_text(text)
        Target().load(build, [source])
    Target(["sse2"]).load(build, [source])
    assert (build.call_count, len(list(tmp_path.rglob("*.o")))) == (3, 3)
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".py", ".o"}


def gives_42(module, target):
    giving(42)(module, target)


def test_code_that_is_compiled_in_another_process_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(Target, "compile", None)  # not here
    code = Target().load(gives_42, [], apart=True)
    assert answer(code) == 42


def test_nothing_that_lies_in_the_folder_is_run_in_the_other_process(tmp_path, monkeypatch):
    """As a command is started anywhere, and finds its own modules elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *filter(None, sys.path)])
    monkeypatch.setattr(Target, "compile", None)  # not here
    monkeypatch.chdir(tmp_path)
    for module in ("llvmlite", "numpy", "minigpt"):
        (tmp_path / f"{module}.py").write_text("open('ran', 'w')")
    assert answer(Target().load(gives_42, [], apart=True)) == 42
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("python", ["/nowhere/python3", "/bin/false", "/bin/true"])
def test_where_no_other_process_compiles_this_one_does(tmp_path, monkeypatch, python):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", python)
    assert answer(Target().load(gives_42, [], apart=True)) == 42


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert answer(Target().load(giving(42), [])) == 42
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
