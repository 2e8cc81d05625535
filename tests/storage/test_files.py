"""The cache folder: where it is, whose it must be, and files that are written whole or not."""

import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from checkpoints import environment

from minigpt.checkpoint.files import filled
from minigpt.storage.files import beside, cache_folder, sweep, written_whole
from minigpt.storage.kept import kept
from minigpt.storage.private import PrivateFolder, unusable

STRANGER = 12345

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")


@pytest.fixture
def base(tmp_path, monkeypatch):
    """What $XDG_CACHE_HOME says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Where it is.


@pytest.mark.parametrize("relative", ["", ".", "cache", "../cache", "~/cache"])
def test_a_relative_cache_home_is_ignored(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert cache_folder() == tmp_path / "home" / ".cache" / "minigpt"


def test_a_relative_home_is_ignored_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", ".")
    assert cache_folder().is_absolute()
    assert tmp_path not in cache_folder().parents


# Whose it must be.


def written(name="one", content=b"content"):
    with PrivateFolder("room") as folder:
        folder.write(name, content)
    return cache_folder() / "room" / name


def read(name="one"):
    with PrivateFolder("room") as folder:
        return folder.read(name)


def test_what_is_sealed_is_read_again_and_nobody_else_sees_it(base):
    for content in (b"", b"content", bytes(10**6)):
        file = written(content=content)
        assert read() == content
    for path in (base, base / "minigpt", base / "minigpt" / "key", file.parent, file):
        assert path.stat().st_mode & 0o077 == 0
    assert read("another") is None


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o702, 0o722, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(base, level, mode):
    file = written()
    shared = [base, base / "minigpt", file.parent][level]
    shared.chmod(mode)
    if level == 0 and mode == 0o1777:  # as /tmp: others cannot touch what is not theirs
        assert read() == b"content"
        return
    with pytest.raises(PermissionError, match="others may write to it") as error:
        read()
    assert error.value.filename == str(shared)
    shared.chmod(0o755)
    assert read() == b"content"


@as_root
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_folder_of_another_user_is_refused(base, level):
    file = written()
    os.chown([base, base / "minigpt", file.parent][level], STRANGER, STRANGER)
    with pytest.raises(PermissionError, match=f"it belongs to user {STRANGER}"):
        read()


@pytest.mark.parametrize("level", [1, 2])
def test_a_folder_that_is_a_link_is_refused(base, tmp_path, level):
    file = written()
    folder = [None, base / "minigpt", file.parent][level]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a link"):
        read()


def test_the_folder_that_the_user_names_may_be_a_link(base, tmp_path, monkeypatch):
    written()
    (tmp_path / "link").symlink_to(base)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    assert read() == b"content"


def plant_link(file):
    file.rename(file.with_name("away"))
    file.symlink_to("away")


def plant_pipe(file):
    file.unlink()
    os.mkfifo(file)


def plant_folder(file):
    file.unlink()
    file.mkdir()


PLANTED = {
    "a link": plant_link,
    "a pipe": plant_pipe,
    "a folder": plant_folder,
    "others may write": lambda file: file.chmod(0o666),
    "its group may write": lambda file: file.chmod(0o660),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "one bit": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"u"),
    "another file's": lambda file: written("other", b"other").replace(file),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_what_this_user_did_not_write_there_is_not_read(base, plant):
    file = written()
    plant(file)
    assert read() is None


@as_root
def test_a_file_of_another_user_is_not_read(base):
    os.chown(written(), STRANGER, STRANGER)
    assert read() is None


def test_what_was_sealed_for_another_folder_is_not_read(base):
    file = written()
    with PrivateFolder("other"):
        file.rename(base / "minigpt" / "other" / "one")
    with PrivateFolder("other") as folder:
        assert folder.read("one") is None


def show_key(key):
    key.chmod(0o644)


KEYS = PLANTED | {"readable": show_key, "gone": Path.unlink}
del KEYS["a folder"]  # nothing can be put in its place, and that is said


@pytest.mark.parametrize("plant", KEYS.values(), ids=KEYS)
def test_another_key_opens_nothing_and_a_new_one_is_made(base, plant):
    written()
    key = base / "minigpt" / "key"
    before = key.read_bytes()
    plant(key)
    assert read() is None
    written()
    assert read() == b"content"
    assert key.is_file()
    assert not key.is_symlink()
    assert key.read_bytes() != before
    assert key.stat().st_mode & 0o777 == 0o600


def test_first_starts_at_once_agree_on_one_key(base):
    barrier, threads, failed = threading.Barrier(8), [], []

    def start(name):
        barrier.wait()
        written(name, name.encode())

    for i in range(8):
        threads.append(threading.Thread(target=start, args=(f"file{i}",)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    failed = [i for i in range(8) if read(f"file{i}") != f"file{i}".encode()]
    assert not failed


# Written whole.


def test_writers_of_one_file_never_meet_whatever_their_process_id(tmp_path, monkeypatch):
    """As in two containers that share a disk: each has its own process 7."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    barrier = threading.Barrier(4)
    file, errors = tmp_path / "file", []

    def write(letter):
        try:
            with written_whole(file) as part, part.open("xb") as stream:
                for _ in range(20):
                    barrier.wait()
                    stream.write(letter * 100)
                    stream.flush()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [
        threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    content = file.read_bytes()
    assert len(content) == 2000
    assert len(set(content)) == 1
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with written_whole(file) as part:
        part.write_bytes(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    with suppress(KeyboardInterrupt), written_whole(file) as part:
        part.write_bytes(b"newer")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_the_disk_has_all_of_a_file_before_its_name(tmp_path, monkeypatch):
    """Or a machine that loses power may keep the name and pages of zeros."""
    done = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(fd):
        done.append(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2])
        real_sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(
        Path, "replace", lambda part, path: (done.append("replace"), real_replace(part, path))
    )
    if not Path("/proc/self/fd").exists():
        pytest.skip("nothing here says what a descriptor stands for")
    with written_whole(tmp_path / "file") as part:
        part.write_bytes(b"content")
    with written_whole(tmp_path / "folder") as part:
        (part / "inner").mkdir(parents=True)
        (part / "inner" / "leaf").write_bytes(b"content")
    assert done[:3] == ["file", "replace", tmp_path.name]
    assert set(done[3:6]) == {"folder", "inner", "leaf"}
    assert done[6:] == ["replace", tmp_path.name]


WRITER = """
import sys, time
from pathlib import Path
from minigpt.storage.files import written_whole
with written_whole(Path(sys.argv[1])) as part:
    part.write_bytes(bytes(1000))
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def writer(file, seconds, *before):
    """A process that is in the midst of writing."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", WRITER, str(file), str(seconds)],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    return process


def test_what_a_killed_process_left_is_taken_away_and_nothing_else(tmp_path):
    killed, busy = writer(tmp_path / "one", 60), writer(tmp_path / "two", 60)
    others = [tmp_path / ".hidden.part", tmp_path / "x.part"]
    for other in others:
        other.write_bytes(b"somebody's")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=300)
    assert len(os.listdir(tmp_path)) == 4
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - {other.name for other in others}
    assert len(left) == 1
    assert left.pop().startswith(".two.")
    busy.kill()
    busy.communicate(timeout=300)
    with written_whole(tmp_path / "two") as part:
        part.write_bytes(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"two", *(other.name for other in others)}


UNSHARE = ["unshare", "-Urpf", "--mount-proc"]


def test_processes_of_two_namespaces_share_a_disk(tmp_path):
    """The process id is the same in both, and each tells that the other is writing."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespace of process ids can be made here")
    processes = [writer(tmp_path / "file", 1.5, *UNSHARE) for _ in range(3)]
    with beside(tmp_path / "file"):
        assert len(list(tmp_path.iterdir())) == 4
    for process in processes:
        assert process.wait(timeout=300) == 0
        process.stdout.close()
    assert (tmp_path / "file").read_bytes() == bytes(1000)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("seed", range(10))
def test_a_hidden_folder_of_the_users_own_is_never_taken_away(tmp_path, seed):
    """Whatever its name, even one that the program could have made, and whatever is in it."""
    rng = random.Random(seed)
    names = [".out.csv.mine.part", ".out.csv.abcdefgh.part", ".out.csv..part", "..part", ".x.part"]
    for name in names:
        (tmp_path / name).mkdir()
        for entry in rng.sample(["a.txt", "out.csv", ".hidden"], rng.randrange(4)):
            (tmp_path / name / entry).write_bytes(rng.randbytes(20))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with written_whole(tmp_path / "out.csv") as part:
        part.write_bytes(b"whole")
    with filled(tmp_path, ["out.csv"]) as folder:
        (folder / "out.csv").write_bytes(b"whole")
    (tmp_path / "out.csv").unlink()
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_what_was_left_of_one_name_goes_when_another_is_written(tmp_path):
    killed = writer(tmp_path / "one", 60)
    killed.kill()
    killed.communicate(timeout=300)
    assert len(os.listdir(tmp_path)) == 1
    with written_whole(tmp_path / "another") as part:
        part.write_bytes(b"whole")
    assert os.listdir(tmp_path) == ["another"]


BEGINNING = """
import os, sys
from pathlib import Path
from minigpt.storage.files import beside
Path.mkdir = lambda *_: os._exit(9)
with beside(Path(sys.argv[1])):
    pass
"""


@pytest.mark.parametrize("marked", [False, True], ids=["never marked", "not marked any more"])
def test_what_was_left_without_a_mark_goes_when_it_is_old_and_nothing_else(tmp_path, marked):
    """By a process that was killed before it made one, or after it took it away."""
    if marked:
        with beside(tmp_path / "a.html") as folder:
            pass
        folder.parent.mkdir()
    else:
        killed = [sys.executable, "-c", BEGINNING, tmp_path / "a.html"]
        assert subprocess.run(killed, env=environment(), timeout=300).returncode == 9
    (left,) = tmp_path.iterdir()
    (own := tmp_path / ".mine.part").mkdir()
    (own / "file").write_text("somebody's")
    sweep(tmp_path)
    assert left.is_dir()
    for path in (left, own):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [*tmp_path.rglob("*")] == [own, own / "file"]


# What names and places may be.


@pytest.mark.parametrize("name", [b"\xff.json", b"a\xc3", "é".encode(), b"\x01\n.json"])
def test_a_file_of_any_name_is_sealed_and_read(base, name):
    name = os.fsdecode(name)
    written(name)
    assert read(name) == b"content"
    file = cache_folder() / "room" / name
    file.write_bytes(b"planted" * 10)
    assert read(name) is None


def test_a_link_to_itself_is_no_folder_for_a_cache(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "loop"))
    for look in (read, written, kept):
        with pytest.raises(OSError, match="it is a link") as error:
            look()
        assert error.value.filename == str(tmp_path / "loop")


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_plain_file_where_the_cache_should_be_is_what_is_named(tmp_path, monkeypatch, below):
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain" / below))
    said = set()
    for look in (read, written, kept):
        with pytest.raises(OSError, match="no folder") as error:
            look()
        said.add(unusable(error.value))
    assert said == {f"{tmp_path / 'plain'} cannot be used, it is a link, or no folder"}
