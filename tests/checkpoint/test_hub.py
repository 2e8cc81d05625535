"""Downloads, against a server on this machine that speaks the part of the hub's API in use."""

import json
import re
from pathlib import Path

import pytest
from checkpoints import INDEX, SINGLE, checkpoint, complaint, sharded
from loopback import COMMIT, NEEDED, generate, speaks

from minigpt.checkpoint.hub import download, find
from minigpt.errors import InputError

OLD = "b" * 40


def test_a_download_fetches_what_is_needed_and_serves_without_the_network(hub, there, command):
    result = command("download", "owner/name")
    said, folder = result.stdout.decode().rstrip().split(" is in ")
    assert (result.returncode, said) == (0, "owner/name")
    assert hub.fetched() == NEEDED
    assert speaks(command(*generate("owner/name"), HF_HUB_OFFLINE="1"))
    assert speaks(command(*generate(folder), HF_HUB_OFFLINE="1"))
    assert hub.fetched() == NEEDED
    hub.shutdown()  # a cable is pulled
    hub.socket.close()
    assert speaks(command(*generate("owner/name")))


def test_a_download_to_a_folder_is_a_model(hub, there, command, tmp_path):
    assert command("download", "owner/name", "--to", "a/b").returncode == 0
    folder = tmp_path / "here" / "a" / "b"
    assert sorted(file.name for file in folder.iterdir()) == sorted(NEEDED)
    assert not any(file.is_symlink() for file in folder.iterdir())
    assert speaks(command(*generate("a/b"), HF_HUB_OFFLINE="1"))
    assert complaint(command("download", "owner/name", "--to", "a/b/config.json")).endswith(
        "a/b/config.json cannot be written: File exists"
    )


def test_a_download_goes_onto_no_file_of_the_hubs_cache(there, command):
    folder = command("download", "owner/name").stdout.decode().rstrip().split(" is in ")[1]
    line = complaint(command("download", "owner/name", "--to", folder))
    config = f"{folder}/config.json"
    assert line.startswith(f"minigpt: {config} cannot be written: it is in use; ")
    assert speaks(command(*generate("owner/name")))


def test_a_model_in_shards_comes_with_its_index(hub, command, tmp_path):
    hub.repos["owner/name"] = {"main": (COMMIT, sharded(tmp_path / "there"))}
    assert speaks(command(*generate("owner/name")))
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert hub.fetched() == ["config.json", "tokenizer.json", INDEX, *shards]
    assert speaks(command(*generate("owner/name"), HF_HUB_OFFLINE="1"))
    assert command("download", "owner/name", "--to", "d", HF_HUB_OFFLINE="1").returncode == 0
    assert speaks(command(*generate("d"), HF_HUB_OFFLINE="1"))


@pytest.mark.parametrize("length", [250, 300, 4096])
def test_a_shard_of_a_name_that_no_file_can_have_is_one_line(hub, command, tmp_path, length):
    there = sharded(tmp_path / "there")
    name = "x" * length + ".safetensors"
    (there / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    assert complaint(command(*generate(there))).startswith(f"minigpt: {there} has no xxx")
    hub.repos["owner/name"] = {"main": (COMMIT, there)}
    assert complaint(command(*generate("owner/name"))).startswith("minigpt: owner/name: xxx")


def test_what_lies_beside_comes_along_and_serves_without_the_network(hub, there, command, tmp_path):
    beside = {
        "generation_config.json": '{"eos_token_id": 7}',
        "tokenizer_config.json": '{"add_prefix_space": true}',
        "special_tokens_map.json": '{"pad_token": "<pad>"}',
        "added_tokens.json": "{}",
        "chat_template.jinja": "{{ messages[0].content }}",
    }
    for name, text in beside.items():
        (there / name).write_text(text)
    assert speaks(command(*generate("owner/name")))
    assert sorted(hub.fetched()) == sorted([*NEEDED, *beside])
    assert command("download", "owner/name", "--to", "d", HF_HUB_OFFLINE="1").returncode == 0
    folder = tmp_path / "here" / "d"
    assert {name: (folder / name).read_text() for name in beside} == beside
    assert find(str(folder)).files == {name: folder / name for name in [*NEEDED, *beside]}


def test_a_vocabulary_and_its_merges_come_in_place_of_a_tokenizer_json(hub, there, command):
    made = json.loads((there / "tokenizer.json").read_text())
    (there / "tokenizer.json").unlink()
    (there / "vocab.json").write_text(json.dumps(made["model"]["vocab"]))
    (there / "merges.txt").write_text("#version: 0.2\n")
    assert speaks(command(*generate("owner/name")))
    assert hub.fetched() == ["config.json", "vocab.json", "merges.txt", SINGLE]
    assert command("download", "owner/name", "--to", "d", HF_HUB_OFFLINE="1").returncode == 0
    assert speaks(command(*generate("d"), HF_HUB_OFFLINE="1"))


def test_without_the_hub_a_model_speaks_that_was_fetched_without_what_lies_beside(
    hub, there, command, tmp_path
):
    assert command("download", "owner/name").returncode == 0
    for mark in (tmp_path / "hf").glob("**/.no_exist/**/*.json*"):  # as if never asked for
        mark.unlink()
    for mark in (tmp_path / "hf").glob("**/.no_exist/**/*.jinja"):
        mark.unlink()
    assert speaks(command(*generate("owner/name"), HF_HUB_OFFLINE="1"))
    said = command(*generate("owner/name")[:-1], HF_HUB_OFFLINE="1").stderr.decode()
    assert "whether it has a generation_config.json is not known without the hub" in said


ADAPTERS = {
    '{"peft_type": "LORA", "base_model_name_or_path": "gpt2"}': "an adapter (LoRA) of gpt2",
    '{"peft_type": "IA3", "base_model_name_or_path": "a/b"}': "an adapter (IA3) of a/b",
    '{"peft_type": "LORA", "base_model_name_or_path": null}': "(LoRA) of a model that it does not",
    "[]": "an adapter, as its adapter_config.json says",
    "{": "an adapter, as its adapter_config.json says",
}


@pytest.mark.parametrize("text", ADAPTERS)
@pytest.mark.parametrize("missing", ["config.json", SINGLE])
def test_an_adapter_is_named_with_what_it_is_of(there, text, missing):
    (there / missing).unlink()
    (there / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match=rf"^{there} is .*: merge it first") as error:
        find(str(there))
    assert ADAPTERS[text] in str(error.value)


def test_an_adapter_on_the_hub_is_named_too(there, command):
    (there / "config.json").unlink()
    (there / "adapter_config.json").write_text(next(iter(ADAPTERS)))
    for asked in ("generate", "count"):
        words = generate("owner/name") if asked == "generate" else (asked, "owner/name")
        assert "owner/name is an adapter (LoRA) of gpt2: merge" in complaint(command(*words))


def test_a_name_without_an_owner_is_a_name(hub, there, command):
    hub.repos["openai-community/gpt2"] = hub.repos.pop("owner/name")
    assert speaks(command(*generate("gpt2")))
    assert hub.fetched() == NEEDED


def test_a_pinned_revision_is_the_one_that_comes(hub, there, command, tmp_path):
    old = checkpoint(tmp_path / "old", layer_norm_epsilon=0.5)
    hub.repos["owner/name"] |= {"v1": (OLD, old), OLD: (OLD, old)}
    for revision in ("v1", OLD):
        folder = command("download", "owner/name", "--revision", revision).stdout.decode()
        assert folder.rstrip().endswith(OLD)
    assert all("/main/" not in path for _, path in hub.asked)
    assert complaint(command("download", "owner/name", "--revision", "v2")) == (
        "minigpt: owner/name has no revision 'v2' on the hub"
    )


def test_an_unknown_name_says_so(command):
    for model in ("owner/other", "nobody"):
        assert complaint(command("download", model)) == (
            f"minigpt: {model} is no file, no folder and no model on the hub"
        )


def test_a_pickle_on_the_hub_is_refused_unfetched(hub, there, command):
    (there / SINGLE).unlink()
    line = complaint(command("download", "owner/name"))
    assert "no model.safetensors" in line
    assert "pytorch_model.bin is refused: loading a pickle can run any code" in line
    assert "pytorch_model.bin" not in hub.fetched()


@pytest.mark.parametrize("missing", NEEDED)
def test_a_file_that_is_missing_is_named(hub, there, command, missing):
    (there / missing).unlink()
    (there / "pytorch_model.bin").unlink()
    assert f"owner/name has no {missing}" in complaint(command("download", "owner/name"))


@pytest.mark.parametrize(
    "env",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_ENDPOINT": "http://127.0.0.1:1"},
        {"HF_ENDPOINT": "no address"},
        {"HF_ENDPOINT": "ftp://127.0.0.1"},
    ],
    ids=str,
)
def test_without_a_network_the_line_says_what_to_run_where_there_is_one(command, env):
    line = complaint(command(*generate("owner/name"), **env))
    assert "owner/name is not on this machine and the hub cannot be reached (" in line
    assert "run: minigpt download owner/name --to DIR" in line


def test_a_download_that_fails_leaves_no_folder_that_hides_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minigpt.checkpoint.hub.on_hub", lambda *_: lambda name: None)
    with pytest.raises(InputError):
        download("gpt2-xl", to=Path("gpt2-xl"))
    assert not Path("gpt2-xl").exists()
    Path("gpt2-xl").mkdir()  # there already, and empty: no model, and not taken away
    with pytest.raises(InputError, match="gpt2-xl"):
        download("gpt2-xl", to=Path("gpt2-xl"))
    assert Path("gpt2-xl").is_dir()


def test_an_empty_folder_that_can_be_no_hub_name_is_one_without_a_config(tmp_path):
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))} has no config\.json$"):
        find(str(tmp_path))
