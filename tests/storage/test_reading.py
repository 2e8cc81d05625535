"""Files of text that others made: regular ones, of a size that can be read, JSON that is clear."""

import gzip
import json
import os
import random
from pathlib import Path

import pytest
from checkpoints import checkpoint, sharded
from hypothesis import given
from hypothesis import strategies as st

from minigpt import load
from minigpt.errors import InputError
from minigpt.models.architectures import read
from minigpt.planning import hardware
from minigpt.recording.read import read as recording
from minigpt.storage.reading import LONGEST, document, parsed, text

READERS = {  # what reads a file that a user names
    "config.json": read,
    "gpu.json": hardware.read,
    "gpu.toml": hardware.read,
    "run.jsonl": recording,
}
BESIDE = [  # what is read of a folder
    *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
]


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path, name):
    pipe, endless = tmp_path / f"pipe-{name}", tmp_path / f"endless-{name}"
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        with pytest.raises(InputError, match=f"{path} .*it is no regular file$"):
            READERS[name](path)
    with pytest.raises(InputError, match=f"{tmp_path} .*it is a folder, not a file$"):
        READERS[name](tmp_path)


@pytest.mark.parametrize("name", [name for name in READERS if name != "run.jsonl"])
def test_a_file_too_long_to_be_one_is_refused_unread(tmp_path, name):
    path = tmp_path / name
    path.touch()
    os.truncate(path, LONGEST + random.Random(name).randrange(1, 1 << 40))
    with pytest.raises(InputError, match=f"{path} .*, and {LONGEST:,} are read at most"):
        READERS[name](path)


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_of_a_folder_that_is_too_long_is_refused_unread(tmp_path, name):
    folder = checkpoint(tmp_path / "m")
    (folder / name).touch()
    os.truncate(folder / name, 1 << 40)
    with pytest.raises(InputError, match=f"{folder / name} .*are read at most"):
        load(folder)


def test_an_index_that_is_too_long_is_refused_unread(tmp_path):
    folder = sharded(tmp_path / "m")
    os.truncate(folder / "model.safetensors.index.json", 1 << 40)
    with pytest.raises(InputError, match="is not a safetensors index"):
        load(folder)


def test_a_line_of_a_recording_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("minigpt.recording.read.LONGEST", 1000)
    path = tmp_path / "run.jsonl"
    path.write_text('{"type": "run", "model": "' + "x" * 2000)
    with pytest.raises(InputError, match=r"line 1, has more than 1,000 characters"):
        recording(path)


SAID = {"model_type": "gpt2", "n_layer": 2}
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
UTF16 = ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
INSTEAD = {  # what is found in the place of a JSON file, and what is said of it
    "a Git LFS pointer": (LFS.encode(), "it is a pointer of Git LFS: run git lfs pull"),
    "HTML": (b"\n<!DOCTYPE html><html>", "it is a page of HTML: get it again"),
    "gzip": (gzip.compress(json.dumps(SAID).encode()), "it is compressed: unpack it"),
    **{name: (json.dumps(SAID).encode(name), "it is not UTF-8 text") for name in UTF16},
    "latin-1": ('{"a": "é"}'.encode("latin-1"), "it is not UTF-8 text"),
    "nothing": (b" \n", "it is empty"),
    "a long number": (b'{"a": ' + b"1" * 5000 + b"}", "it has a number of thousands of digits"),
    "arrays in arrays": (b'{"a": ' + b"[" * 100_000, "it is nested too deep"),
}


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("name", ["config.json", "gpu.json", "tokenizer_config.json"])
def test_what_stands_in_the_place_of_a_json_file_is_named_with_the_way_out(tmp_path, name, instead):
    folder = checkpoint(tmp_path / "m")
    path, (content, said) = folder / name, INSTEAD[instead]
    path.write_bytes(content)
    reader = READERS.get(name) or (lambda path: load(folder))
    with pytest.raises(InputError, match=f"^{path} [^\n]*: {said}[^\n]*$"):
        reader(path)


@pytest.mark.parametrize("instead", ["a Git LFS pointer", "HTML", "gzip", *UTF16, "nothing"])
def test_so_it_is_of_a_tokenizer(tmp_path, instead):
    folder, (content, said) = checkpoint(tmp_path / "m"), INSTEAD[instead]
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=f"tokenizer.json is not a tokenizer: {said}"):
        load(folder)


def test_of_toml_likewise(tmp_path):
    path = tmp_path / "gpu.TOML"
    for content, said in (
        ("a=" + "[" * 5000, "it is nested too deep"),
        ("memory=" + "9" * 5000, "it has a number of thousands of digits"),
        (LFS, "it is a pointer of Git LFS"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=f"^{path} cannot be read as TOML or JSON: {said}"):
            hardware.read(path)


def test_a_mark_of_byte_order_is_no_part_of_a_file(tmp_path):
    folder = checkpoint(tmp_path / "m")
    lines = "bandwidth=1e12\nmemory=17179869184\n[flops]\n'float16/float32'=1e14\n"
    (folder / "gpu.toml").write_text(lines)
    (folder / "gpu.json").write_text(json.dumps(GPU))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "a"}))
    plain = [hardware.read(folder / f"gpu.{kind}") for kind in ("toml", "json")]
    tokens, config = load(folder).tokenizer.to_str(), read(folder / "config.json")
    for path in [*folder.glob("*.json"), folder / "gpu.toml"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [hardware.read(folder / f"gpu.{kind}") for kind in ("toml", "json")] == plain
    assert (load(folder).tokenizer.to_str(), read(folder / "config.json")) == (tokens, config)


@pytest.mark.parametrize("content", ["[]", "3", '"x"', "null"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_json_that_is_no_object_is_said_to_be_none(tmp_path, name, content):
    folder = checkpoint(tmp_path / "m")
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=f"^{folder / name} is no JSON object: get it again$"):
        load(folder)


@pytest.mark.parametrize("name", [name for name in BESIDE if name != "config.json"])
def test_a_folder_in_the_place_of_a_file_is_not_as_if_there_were_none(tmp_path, name):
    folder = checkpoint(tmp_path / "m")
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(InputError, match=f"^{folder / name} is no regular file, nor a link"):
        load(folder)


@pytest.mark.parametrize("name", ["chat_template.jinja", "generation_config.json"])
def test_a_link_to_nothing_is_as_if_there_were_no_file(tmp_path, name):
    folder = checkpoint(tmp_path / "m")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "nothing")
    assert load(folder).chat is None


def test_a_file_that_grows_while_it_is_read_is_bounded():
    with pytest.raises(OSError, match="it has more than 10 bytes"):
        text(Path("/proc/self/status"), longest=10)  # which has a size of 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_no_number_in_json_is_taken_for_none(tmp_path, number):
    found = parsed(f'{{"a": [{number}]}}')
    assert found == {"a": [number]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    given = json.dumps({**GPU, "bandwidth": 1}).replace('"bandwidth": 1', f'"bandwidth": {number}')
    (tmp_path / "gpu.json").write_text(given)
    with pytest.raises(InputError, match=f"bandwidth is '{number}'; it must be a number"):
        hardware.read(tmp_path / "gpu.json")


GPU = {"flops": {"float16/float32": 1e12}, "bandwidth": 1e12, "memory": 2**34}


@given(st.dictionaries(st.text(), st.integers(), min_size=1), st.data())
def test_a_key_that_is_said_twice_is_refused(values, data):
    key = data.draw(st.sampled_from(sorted(values)))
    inner = json.dumps(values)[:-1] + f", {json.dumps(key)}: 0}}"
    with pytest.raises(ValueError, match="twice"):
        parsed(f'{{"a": [{inner}]}}')
    assert parsed(json.dumps(values)) == values


def test_what_nests_too_deep_and_half_a_character_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nested too deep"):
        parsed("[" * 100_000)
    path = tmp_path / "a.json"
    path.write_text('{"name": "\\uD83D"}')
    with pytest.raises(ValueError, match="half a character"):
        document(path)
    path.write_text('{"name": "\\uD83D\\uDE42"}')
    assert document(path) == {"name": "🙂"}


@pytest.mark.parametrize("digits", [19, 30, 400, 4000])
@pytest.mark.parametrize("name", ["memory", "cache", "nominal_memory", "bandwidth"])
def test_hardware_of_a_number_that_cannot_be_is_refused(tmp_path, name, digits):
    number = digits if name != "bandwidth" else digits + 12
    path = tmp_path / "gpu.json"
    path.write_text(
        json.dumps({**GPU, name: 1}).replace(f'"{name}": 1', f'"{name}": 9{"0" * number}')
    )
    with pytest.raises(InputError, match=f"{name} is 90000.*; it must be ") as error:
        hardware.read(path)
    assert len(str(error.value)) < 500
