"""Packed weights on disk are those of the checkpoint, whatever happened to either meanwhile."""

import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from checkpoints import SINGLE, checkpoint, environment, tensors
from ml_dtypes import float8_e4m3fn
from packs import assert_holds, files, no_packing, packed, prepared, tokens

from minigpt import load, notes
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.checkpoint.tensors import tensors as stored_tensors
from minigpt.errors import InputError
from minigpt.fast import store
from minigpt.fast.packed import packed_blocks
from minigpt.fast.packing import Pack
from minigpt.models.gpt2_config import GPT2Config

DTYPE = "int8"
STRANGER = 12345
PAGE = 4096


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_FAST", "0")
    notes.note.cache_clear()
    return prepared(tmp_path, monkeypatch)


def other_weights(seed=1):
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(x.shape, np.float32) for key, x in tensors().items()}


def written(file, offset, data):
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def written_through_a_map(file, offset, data):
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        mapped[offset : offset + len(data)] = data


# The checkpoint changes.


@pytest.mark.parametrize("seed", range(4))
def test_a_scale_of_quantised_weights_changed_alone_is_packed_anew(folder, seed):
    rng, key = np.random.default_rng(seed), "wte.weight"
    weights, numbers = tensors(), rng.standard_normal((260, 8)).astype(float8_e4m3fn)
    scales = rng.random((3, 1), np.float32)
    checkpoint(folder, weights | {key: numbers, f"{key}_scale_inv": scales})
    for _ in range(2):
        wide = numbers.astype("f4") * scales.repeat(128, 0)[:260]
        assert_holds(load(folder, dtype=DTYPE), weights | {key: wide}, DTYPE)
        [where] = (t for k, t in stored_tensors(folder / SINGLE) if k.endswith("_scale_inv"))
        scales[rng.integers(3)] += 1
        written(folder / SINGLE, where.offset, scales.tobytes())


@pytest.mark.parametrize("write", [written, written_through_a_map])
@pytest.mark.parametrize("seed", range(6))
def test_a_checkpoint_changed_inside_is_packed_anew(folder, write, seed):
    """Same file, same size, same time: one number is another."""
    draw = random.Random(seed)
    file = folder / SINGLE
    before = load(folder, dtype=DTYPE)
    where = dict(stored_tensors(file))
    key = draw.choice(list(packed(before)))
    at = draw.randrange(where[key].count)
    when, weights = file.stat(), tensors()
    weights[key].reshape(-1)[at] = 7
    write(file, where[key].offset + 4 * at, np.float32(7).tobytes())
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (when.st_size, when.st_mtime_ns)
    assert_holds(load(folder, dtype=DTYPE), weights, DTYPE)
    assert len(files(folder)) == 1


@pytest.mark.parametrize("when", ["packed", "looked at again"])
@pytest.mark.parametrize("seed", range(3))
def test_a_page_written_again_before_the_disk_has_it_is_packed_anew(
    folder, monkeypatch, when, seed
):
    """Through a map, whose second write changes no time of the file."""
    if not noticed_once_synced(folder):
        pytest.skip("a file system that notices no such write, as tmpfs: see SECURITY.md")
    monkeypatch.setattr("minigpt.fast.packing.SAMPLE", 0)  # samples do not decide
    draw, file, weights = random.Random(seed), folder / SINGLE, tensors()
    key = draw.choice(["wte.weight", "h.1.attn.c_attn.weight", "h.1.mlp.c_proj.weight"])
    where, flat = dict(stored_tensors(file))[key], weights[key].reshape(-1)
    at = draw.randrange(where.count)
    begin, first = where.offset + where.dtype.itemsize * at, 5
    if when == "looked at again":
        load(folder, dtype=DTYPE)
        first = flat[at]
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        for number in (first, 7):
            flat[at] = number
            mapped[begin : begin + where.dtype.itemsize] = flat[at].tobytes()
            time.sleep(0.02)  # two ticks of the clock of files
            assert_holds(load(folder, dtype=DTYPE), weights, DTYPE)


def noticed_once_synced(folder):
    """Whether a file system notices a write through a map to a page that the disk has."""
    file = folder / "probe"
    file.write_bytes(bytes(PAGE))
    times = []
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        for _ in range(2):
            mapped[0] = 1
            os.fsync(stream.fileno())
            times.append(file.stat().st_mtime_ns)
            time.sleep(0.02)
    return times[0] != times[1]


@pytest.mark.parametrize("way", ["in its place", "renamed over it", "another folder"])
def test_models_of_one_age_are_told_apart(folder, way):
    """As images of containers and reproducible archives have them: all from 1970."""
    weights, file = other_weights(), folder / SINGLE
    os.utime(file, ns=(0, 0))
    load(folder, dtype=DTYPE)
    if way == "another folder":
        file = checkpoint(folder.parent / "other", weights) / SINGLE
    elif way == "in its place":
        checkpoint(folder, weights)
    else:
        (checkpoint(folder.parent / "other", weights) / SINGLE).replace(file)
    os.utime(file, ns=(0, 0))
    assert_holds(load(file.parent, dtype=DTYPE), weights, DTYPE)
    if way == "another folder":
        assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)
        assert len(files(folder)) == 2
    else:
        assert len(files(folder)) == 1


def touched(file):
    os.utime(file, ns=(10**9, 10**9))


def copied(file):
    shutil.copy2(file, file.with_suffix(".copy"))
    file.with_suffix(".copy").replace(file)


def linked(file):
    os.link(file, file.with_suffix(".other"))
    file.with_suffix(".other").unlink()


def chmodded(file):
    file.chmod(0o400)


@pytest.mark.parametrize("change", [touched, copied, linked, chmodded])
@pytest.mark.parametrize("of", ["checkpoint", "pack"])
def test_what_changed_on_the_outside_alone_is_not_packed_again(folder, monkeypatch, change, of):
    load(folder, dtype=DTYPE)
    [pack] = files(folder)
    change(folder / SINGLE if of == "checkpoint" else pack)
    monkeypatch.setattr(Pack, "write", no_packing)
    looks = []
    monkeypatch.setattr("minigpt.fast.packing.whole", lambda *x: looks.append(x) or True)
    for _ in range(2):
        assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)
    assert len(looks) == 1  # a complete look, once


def test_a_checkpoint_that_changes_while_it_is_packed_is_not_kept(folder, monkeypatch):
    def meanwhile(*matrix):
        touched(folder / SINGLE)
        return packed_blocks(*matrix)

    monkeypatch.setattr(store, "packed_blocks", meanwhile)
    with pytest.raises(InputError, match="changed while"):
        load(folder, dtype=DTYPE)
    monkeypatch.setattr(store, "packed_blocks", packed_blocks)
    assert files(folder) == []
    assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)


# The pack changes.


@pytest.mark.parametrize("seed", range(6))
def test_pages_of_zeros_are_noticed(folder, seed, caplog):
    draw = random.Random(seed)
    expected = tokens(load(folder, dtype=DTYPE))
    [pack] = files(folder)
    content, when = pack.read_bytes(), pack.stat()
    page = draw.randrange(1, len(content) // 512)
    nbytes = min(draw.choice([512, PAGE]), len(content) - 512 * page)
    written(pack, 512 * page, bytes(nbytes))
    assert pack.read_bytes() != content
    os.utime(pack, ns=(when.st_atime_ns, when.st_mtime_ns))
    lm = load(folder, dtype=DTYPE)
    assert_holds(lm, tensors(), DTYPE)
    assert tokens(lm) == expected
    assert files(folder) == [pack]
    assert pack.read_bytes() == content
    assert "is damaged: weights are packed anew" in caplog.text


def pipe(file):
    file.unlink()
    os.mkfifo(file)


def link(file):
    file.rename(file.parents[3] / "elsewhere")
    file.symlink_to(file.parents[3] / "elsewhere")


def of_others(file):
    file.chmod(0o666)


def of_a_stranger(file):
    os.chown(file, STRANGER, STRANGER)


PLANTED = [pipe, link, of_others, os.unlink] + [of_a_stranger] * (os.geteuid() == 0)


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_what_is_not_this_users_alone_is_packed_anew(folder, plant, suffix):
    load(folder, dtype=DTYPE)
    [pack] = files(folder)
    plant(pack.with_suffix(suffix))
    assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)
    for file in (pack, pack.with_suffix(".json")):
        assert file.is_file()
        assert not file.is_symlink()
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (os.geteuid(), 0o600)
    assert not list(pack.parent.glob(".*"))


def test_a_folder_in_the_place_of_a_pack_is_said_and_done_without(folder, caplog):
    load(folder, dtype=DTYPE)
    [pack] = files(folder)
    pack.unlink()
    pack.mkdir()
    assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)
    assert "weights are packed at every start" in caplog.text


def test_another_pack_of_the_same_size_is_not_taken(folder):
    """The pack of another model, put in the place of this one's."""
    load(folder, dtype=DTYPE)
    [pack] = files(folder)
    other = checkpoint(folder.parent / "other", other_weights())
    load(other, dtype=DTYPE)
    [others] = set(files(folder)) - {pack}
    others.replace(pack)
    assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)


# Several at once.


@pytest.fixture
def wide(folder):
    """A checkpoint whose matrices are larger than what a stream holds back."""
    config = GPT2Config(300, 64, 64, 2, 4, eos_token_id=299)
    write_checkpoint(config, folder.parent / "wide")
    return folder.parent / "wide"


def sums(lm):
    """The sum of the bytes of each matrix."""
    blocks = [(b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj) for b in lm.model.h]
    matrices = [lm.model.wte.weight, *(part.weight for block in blocks for part in block)]
    return [int(matrix.data.stored.view("u1").sum()) for matrix in matrices]


def test_threads_that_load_at_once_all_get_the_weights(wide, monkeypatch):
    """One ends while the others are in the midst, each of them at another matrix."""
    monkeypatch.setattr(store, "READ", 1 << 29)  # what is read is what was there at that moment
    monkeypatch.setattr(store, "SMALL", 10**9)
    expected = sums(load(wide, dtype=DTYPE))  # in memory
    monkeypatch.setattr(store, "SMALL", 0)
    halfway = [threading.Event() for _ in range(4)]
    halfway[0].set()
    found, turn = [], threading.local()

    def in_turn(*matrix):
        turn.matrices += 1
        if turn.matrices == 5:
            halfway[turn.number + 1].set()
        time.sleep(0.05 * (turn.number + 1))  # who begins first ends first
        return packed_blocks(*matrix)

    monkeypatch.setattr(store, "packed_blocks", in_turn)

    def start(number):
        turn.number, turn.matrices = number, 0
        halfway[number].wait()
        found.append(sums(load(wide, dtype=DTYPE)))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3
    assert len(files(wide)) == 1
    monkeypatch.setattr(Pack, "write", no_packing)
    assert sums(load(wide, dtype=DTYPE)) == expected


BY_STEPS = """
import sys
from minigpt import load
from minigpt.fast import store
packed_blocks = store.packed_blocks

def by_steps(*matrix):
    print("packing", flush=True)
    sys.stdin.readline()
    return packed_blocks(*matrix)

store.SMALL, store.packed_blocks = 0, by_steps
lm = load(sys.argv[1], dtype="int8")
blocks = [(b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj) for b in lm.model.h]
matrices = [lm.model.wte.weight, *(part.weight for block in blocks for part in block)]
print([int(matrix.data.stored.view("u1").sum()) for matrix in matrices])
"""
UNSHARE = ["unshare", "-Urpf", "--mount-proc"]


def loading(folder, *before):
    """A process that packs one matrix for each line that it is given."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", BY_STEPS, str(folder)],
        env=environment(MINIGPT_FAST="0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def step(process, times=1):
    for _ in range(times):
        assert process.stdout.readline() == "packing\n"
        process.stdin.write("\n")
        process.stdin.flush()


def ended(process):
    """The sums of the matrices of a process that may go on to its end."""
    output, errors = process.communicate("\n" * 20, timeout=300)
    assert (errors, process.returncode) == ("", 0)
    return output.splitlines()[-1]


def test_containers_that_share_a_cache_all_get_the_weights(wide):
    """Each is process 1 of its own namespace, and one ends while the other is in the midst."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespace of process ids can be made here")
    alone = ended(loading(wide))
    for file in (wide.parent / "cache" / "minigpt" / "packed").iterdir():
        file.unlink()
    one = loading(wide, *UNSHARE)
    step(one, 6)
    other = loading(wide, *UNSHARE)
    step(other, 2)
    assert ended(one) == alone
    assert ended(other) == alone
    assert str(sums(load(wide, dtype=DTYPE))) == alone


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_packing_it_leaves_nothing_for_long(folder, seed):
    process = loading(folder)
    step(process, random.Random(seed).randint(1, 8))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    room = folder.parent / "cache" / "minigpt" / "packed"
    [left] = room.iterdir()
    assert_holds(load(folder, dtype=DTYPE), tensors(), DTYPE)
    assert not left.exists()
    assert len(files(folder)) == 1  # and nothing beside it
