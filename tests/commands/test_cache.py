"""`minigpt cache`: what is kept, for which model, what of it is whole, and how it goes away."""

import os
import time
from types import SimpleNamespace
from unittest import mock

import pytest
from checkpoints import SINGLE, checkpoint, complaint, environment, minigpt
from packs import files, packed, prepared

from minigpt import InputError, load
from minigpt.bench.convert import converted
from minigpt.commands import cache as cache_command
from minigpt.notes import note
from minigpt.storage import kept
from minigpt.storage.files import cache_folder
from minigpt.storage.kept import bound
from minigpt.storage.private import PrivateFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_FAST", "0")
    return prepared(tmp_path, monkeypatch)


def shown(capsys, status=0, **options):
    """The lines after the first, which says where and how much."""
    assert cache_command.run(**options) == status
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(str(cache_folder()))
    return lines


def kernel():
    with PrivateFolder("kernels") as folder:
        folder.write("code.o", b"code")
    return folder.path / "code.o"


def test_it_shows_what_there_is_and_for_which_model(folder, capsys):
    assert shown(capsys) == []
    assert not cache_folder().exists()  # looking makes nothing
    load(folder, dtype="int8")
    load(folder, dtype="bfloat16")
    kernel()
    converted(folder, "int8.gguf", lambda path: path.write_bytes(bytes(5000)))
    lines = shown(capsys)
    assert len(lines) == 4
    for what in ("int8 weights", "bfloat16 weights"):
        [line] = [line for line in lines if line.startswith(what)]
        assert line.endswith(f"for {folder / SINGLE}")
    assert sum("5.0 kB" in line and "tiny-" in line for line in lines) == 1
    found = kept.kept()
    assert sum(one.nbytes for one in found) + 32 == sum(  # the key is no content
        path.stat().st_size for path in cache_folder().rglob("*") if path.is_file()
    )


def test_names_show_no_control_characters(folder, capsys):
    strange = folder.parent / "a\x1b[31m\nb\u202e"
    checkpoint(strange)
    load(strange, dtype="int8")
    [line] = shown(capsys)
    assert line.isprintable()


@pytest.mark.parametrize("used", [1e13, -1e13, 1e300, -1e300])
def test_a_time_that_no_calendar_has_is_shown_as_none(used, capsys, monkeypatch):
    one = kept.Kept("packed", "name", "int8 weights", "model", (), 5, used)
    monkeypatch.setattr(cache_command, "kept", lambda: [one])
    assert shown(capsys) == ["int8 weights  5 bytes  at no date        for model"]


def test_clearing_leaves_nothing(folder, capsys):
    load(folder, dtype="int8")
    kernel()
    assert shown(capsys, clear=True) == []
    assert not cache_folder().exists()
    assert shown(capsys, clear=True) == []


@pytest.mark.parametrize("clear", [False, True])
def test_a_reader_that_goes_is_no_fault_of_the_cache(folder, monkeypatch, clear):
    load(folder, dtype="int8")
    gone = SimpleNamespace(write=mock.Mock(side_effect=BrokenPipeError))
    monkeypatch.setattr("sys.stdout", gone)
    with pytest.raises(BrokenPipeError):
        cache_command.run(clear=clear)


@pytest.mark.parametrize("at", [100, -1, -3000])
def test_checking_finds_what_a_start_need_not_see(folder, capsys, at):
    """Damage below the file system: no time tells of it."""
    load(folder, dtype="int8")
    file = kernel()
    assert {line.rpartition(": ")[2] for line in shown(capsys, check=True)} == {"whole"}
    [pack] = files(folder)
    content = bytearray(pack.read_bytes())
    content[at] ^= 1
    pack.write_bytes(content)
    file.write_bytes(file.read_bytes()[:-1])
    lines = shown(capsys, status=1, check=True)
    assert [line.rpartition(": ")[2] for line in lines] == ["damaged, removed"] * 2
    assert shown(capsys, check=True) == []
    load(folder, dtype="int8")
    assert len(files(folder)) == 1


def test_checking_says_what_became_of_the_model(folder, capsys):
    load(folder, dtype="int8")
    file = folder / SINGLE
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\1")
    assert "its model has changed" in shown(capsys, check=True)[0]
    file.unlink()
    assert "its model is not there" in shown(capsys, check=True)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_the_cache_of_another_user_is_not_looked_into(folder, tmp_path):
    load(folder, dtype="int8")
    os.chown(cache_folder(), 12345, 12345)
    env = environment(XDG_CACHE_HOME=str(cache_folder().parent))
    line = complaint(minigpt("cache", cwd=tmp_path, env=env))
    assert "belongs to user 12345" in line
    line = complaint(minigpt("cache", "--check", "--clear", cwd=tmp_path, env=env))
    assert "one of them" in line


# What goes first.


def aged(folder, dtype, seconds):
    """A pack that was used so long ago."""
    before = {*files(folder)}
    load(folder, dtype=dtype)
    [pack] = {*files(folder)} - before
    os.utime(pack.with_suffix(".json"), (time.time() - seconds,) * 2)
    return pack


def test_what_was_not_used_for_longest_goes_first(folder, monkeypatch):
    packs = [
        aged(folder, dtype, seconds)
        for dtype, seconds in (("int8", 10), ("bfloat16", 20), ("float16", 30))
    ]
    load(folder, dtype="float16")  # it was the oldest until now
    size = sum(one.nbytes for one in kept.kept())
    monkeypatch.setattr(kept, "LIMIT", size)
    bound()
    assert len(files(folder)) == 3
    monkeypatch.setattr(kept, "LIMIT", size - 1)
    bound()
    assert {*files(folder)} == {packs[0], packs[2]}
    monkeypatch.setattr(kept, "LIMIT", 0)
    bound(but=packs[0])
    assert files(folder) == [packs[0]]


def test_what_is_written_stays_and_what_is_mapped_too(folder, monkeypatch):
    first = load(folder, dtype="int8")
    [before] = files(folder)
    expected = {key: matrix.stored.copy() for key, matrix in packed(first).items()}
    monkeypatch.setattr(kept, "LIMIT", 0)
    load(folder, dtype="bfloat16")
    [left] = files(folder)
    assert left != before
    for key, matrix in packed(first).items():
        assert (matrix.stored == expected[key]).all()


def test_packs_of_an_earlier_version_go_when_one_is_written(folder):
    room = cache_folder() / "packed"
    with PrivateFolder("packed"):
        new, old = room / "new.safetensors", room / "old.safetensors"
    for file in (new, old):
        file.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    load(folder, dtype="int8")
    assert not old.exists()
    assert new.exists()  # whoever is writing it is about to write its record


# What others put there.


@pytest.fixture
def notes(caplog):
    """What was said beside, and may be said again."""
    note.cache_clear()
    caplog.set_level("WARNING", "minigpt")
    return caplog


@pytest.mark.parametrize("options", [{}, {"check": True}, {"clear": True}])
@pytest.mark.parametrize("name", [b"\xff.json", b"\xff", "é".encode()])
@pytest.mark.parametrize("where", ["packed", "kernels"])
def test_a_file_of_any_name_is_shown_checked_and_removed(folder, capsys, where, name, options):
    with PrivateFolder(where) as private:
        file = private.path / os.fsdecode(name)
    file.write_bytes(b"planted" * 10)
    found = shown(capsys, status=int("check" in options), **options)
    assert len(found) == int("clear" not in options)
    assert file.exists() == (not options)


@pytest.mark.parametrize("options", [{}, {"clear": True}])
def test_what_is_said_of_a_planted_pipe_is_true_of_a_look(folder, capsys, notes, options):
    with PrivateFolder("packed") as private:
        pipe = private.path / "fifo.json"
    os.mkfifo(pipe)
    shown(capsys, **options)
    said = [] if options else [f"minigpt: {pipe} is not used: it is no regular file"]
    assert [record.getMessage() for record in notes.records] == said


@pytest.mark.parametrize("name", ["packed", "kernels", "bench", "random"])
@pytest.mark.parametrize("options", [{}, {"check": True}, {"clear": True}])
def test_a_folder_of_the_cache_that_is_a_link_is_not_looked_into(folder, tmp_path, name, options):
    foreign = tmp_path / "foreign" / "file.json"
    foreign.parent.mkdir()
    foreign.write_bytes(bytes(1000))
    kernel()
    link = cache_folder() / name
    if name == "kernels":
        link.rename(tmp_path / "before")
    link.symlink_to(foreign.parent)
    with pytest.raises(InputError, match=f"{link} cannot be used, it is a link"):
        cache_command.run(**options)
    assert foreign.read_bytes() == bytes(1000)


def test_a_cache_that_cannot_be_bounded_is_used_and_that_is_said(folder, notes):
    kernel().parent.chmod(0o777)
    load(folder, dtype="int8")
    [said] = [record.getMessage() for record in notes.records]
    assert said.startswith(
        f"minigpt: the cache may grow above its limit: {cache_folder() / 'kernels'} cannot be used"
    )
    with mock.patch("minigpt.fast.packing.Pack.write", side_effect=AssertionError):
        load(folder, dtype="int8")
