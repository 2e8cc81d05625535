"""Folders that models are put into: what is read from one afterwards is of one model."""

import json
import random
import shutil
import signal
import subprocess
import sys

import pytest
from checkpoints import INDEX, ROOT, SINGLE, checkpoint, environment

from minigpt.checkpoint import hub
from minigpt.checkpoint.files import BESIDE
from minigpt.checkpoint.hub import download, find
from minigpt.errors import InputError


def drawn(draw, folder):
    """A model of drawn files, each of which holds its own path; gives its folder."""
    names = {"config.json", *(name for name in BESIDE if draw.random() < 0.4)}
    names |= draw.choice([{"tokenizer.json"}, {"vocab.json", "merges.txt"}])
    shards = draw.choice([0, 1, 2, 3])
    tensors = [f"model-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]
    folder.mkdir()
    for name in names | {*(tensors or [SINGLE])}:
        (folder / name).write_text(f"{folder.name}/{name}")
    if tensors:
        index = {"weight_map": dict(enumerate(tensors)), "metadata": folder.name}
        (folder / INDEX).write_text(json.dumps(index))
    return folder


def contents(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def read(folder):
    """What is read of the model in a folder, by name."""
    return {name: file.read_text() for name, file in find(str(folder)).files.items()}


@pytest.mark.parametrize("seed", range(60))
def test_a_folder_is_of_the_new_model_or_left_as_it_was(tmp_path, seed):
    """What would be read of both is seen by putting them together."""
    draw = random.Random(seed)
    old, new = (drawn(draw, tmp_path / name) for name in ("old", "new"))
    to, both = tmp_path / "to", tmp_path / "both"
    download(str(old), to=to)
    assert contents(to) == contents(old)
    (to / "README.md").write_text("of nobody")
    (to / "consolidated.safetensors").write_text("in no index")
    kept = contents(to)
    for folder in (old, new):
        shutil.copytree(folder, both, dirs_exist_ok=True)
    more = sorted(read(both).keys() - contents(new).keys())
    for _ in range(2):  # the same once more is no other model
        if more:
            with pytest.raises(InputError, match="remove it, or choose another folder") as error:
                download(str(new), to=to)
            assert str(error.value).startswith(tuple(f"{to / name} " for name in more))
            assert contents(to) == kept
        else:
            download(str(new), to=to)
            assert contents(to) == kept | contents(new)
            assert read(to) == read(new) == contents(new)


@pytest.mark.parametrize("seed", range(20))
def test_a_model_is_put_into_a_clone_of_itself(tmp_path, seed):
    """That has files which are not read, as those of gpt2 and of Mistral."""
    there = drawn(random.Random(seed), tmp_path / "there")
    unread = ["consolidated.safetensors", "tokenizer.model", "pytorch_model.bin"]
    if (there / "tokenizer.json").exists():
        unread += ["vocab.json", "merges.txt"]
    if (there / SINGLE).exists():
        unread += [INDEX, "model-00001-of-00002.safetensors"]
    for name in unread:
        (there / name).write_text(f"there/{name}")
    to, before = tmp_path / "to", read(there)
    shutil.copytree(there, to)
    (to / "config.json").write_text("an older one")
    download(str(there), to=to)
    assert read(to) == before
    assert contents(to) == contents(there)


def test_what_tells_another_model_is_seen_before_its_tensors_are_fetched(tmp_path, monkeypatch):
    def recording(*model):
        fetch = here(*model)
        return lambda name: (asked.append(name), fetch(name))[1]

    here = hub.source
    monkeypatch.setattr(hub, "source", recording)
    for seed in range(20):
        draw, asked = random.Random(seed), []
        new = drawn(draw, tmp_path / f"new {seed}")
        to = tmp_path / f"to {seed}"
        to.mkdir()
        beside = {*BESIDE} - contents(new).keys()
        if not (new / "tokenizer.json").exists():
            beside.add("tokenizer.json")
        if not (new / SINGLE).exists():
            beside.add(SINGLE)
        name = draw.choice(sorted(beside))
        (to / name).write_text("of another")
        with pytest.raises(InputError, match=f"{name} is of another model"):
            download(str(new), to=to)
        tensors = {file.name for file in new.glob("*.safetensors")}
        assert tensors
        assert not tensors.intersection(asked)


def test_a_file_of_another_name_is_put_where_it_is_found(tmp_path):
    folder = drawn(random.Random(0), tmp_path / "m")
    (folder / SINGLE).write_text("another one")
    (folder / "mine.safetensors").write_text("mine")
    download(str(folder / "mine.safetensors"), to=tmp_path / "to")
    assert read(tmp_path / "to")[SINGLE] == "mine"
    assert not (tmp_path / "to" / INDEX).exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from minigpt.checkpoint import files
from minigpt.checkpoint.hub import download

moves, replace = int(sys.argv[1]), files.replace

def killed(*paths):
    global moves
    if not moves:
        os.kill(os.getpid(), signal.SIGKILL)
    moves -= 1
    replace(*paths)

files.replace = killed
download("new", to=Path("to"))
"""


@pytest.mark.once
def test_killed_while_it_is_filled_a_folder_is_no_model(tmp_path):
    """With weights of the one and config.json of the other it would be one, and a wrong one."""
    old, new, to = (checkpoint(tmp_path / name) for name in ("old", "new", "to"))
    for file in new.iterdir():
        file.write_text(f"new {file.name}")
    for moves in range(4):
        shutil.rmtree(to)
        download(str(old), to=to)
        command = [sys.executable, "-c", KILLED, str(moves)]
        ended = subprocess.run(command, cwd=tmp_path, env=environment(), timeout=120)
        if moves < 3:
            assert ended.returncode == -signal.SIGKILL
            with pytest.raises(InputError, match=r"has no config\.json"):
                find(str(to))
            download(str(new), to=to)
        assert read(to) == read(new) == contents(to)


@pytest.mark.once
@pytest.mark.parametrize("script", ["make_checkpoint", "train_shakespeare"])
def test_scripts_that_make_models_leave_none_of_another_beside(tmp_path, script):
    if script == "train_shakespeare":
        pytest.importorskip("torch", reason="training needs torch: .[train]")
    to = drawn(random.Random(1), tmp_path / "to")
    (to / "vocab.json").write_text("of another")
    before = contents(to)
    (tmp_path / "text").write_text("To be, or not to be")
    words = ["gpt2", to] if script == "make_checkpoint" else ["text", to]
    command = [sys.executable, ROOT / "scripts" / f"{script}.py", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert done.stderr.startswith(f"{script}: {to}/".encode())
    assert contents(to) == before
