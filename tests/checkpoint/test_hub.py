"""Downloads, against a server on this machine that speaks the part of the hub's API in use."""

import hashlib
import http.server
import json
import re
import threading
from functools import partial
from pathlib import Path

import pytest
from checkpoints import INDEX, SINGLE, checkpoint, complaint, environment, minigpt, sharded

from minigpt.checkpoint.hub import download, find
from minigpt.errors import InputError

COMMIT, OLD = "a" * 40, "b" * 40
NEEDED = ["config.json", "tokenizer.json", SINGLE]


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in folders: `repos[name][revision]` is one."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.asked = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fetched(self):
        """The files that were sent."""
        return [path.rsplit("/", 1)[1] for method, path in self.asked if method == "GET"]


class Handler(http.server.BaseHTTPRequestHandler):
    """HEAD and GET of /{repo}/resolve/{revision}/{file}."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        repo, resolve, place = self.path[1:].partition("/resolve/")
        if not resolve:  # huggingface_hub asks for lists of its own too
            return self.answer(404)
        self.server.asked.append((self.command, self.path))
        revision, _, file = place.partition("/")
        if "/" not in repo and f"openai-community/{repo}" in self.server.repos:
            return self.answer(307, Location=f"/openai-community/{repo}/resolve/{place}")
        if repo not in self.server.repos:
            return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="not found")
        if revision not in self.server.repos[repo]:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, folder = self.server.repos[repo][revision]
        if not (folder / file).is_file():
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = (folder / file).read_bytes()
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        return self.answer(200, data, ETag=etag, X_Repo_Commit=commit)

    do_GET = do_HEAD

    def answer(self, status, data=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def there(tmp_path, hub):
    """A tiny model on the hub, in one file."""
    folder = checkpoint(tmp_path / "there")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    hub.repos["owner/name"] = {"main": (COMMIT, folder)}
    return folder


@pytest.fixture
def command(tmp_path, hub):
    """Runs minigpt in an empty folder with an empty cache of the hub's files."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*args, **env):
        home = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url}
        return minigpt(*args, cwd=here, env=environment(**home | env))

    return run


def speaks(result):
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"ab")
    return True


def generate(model):
    return "generate", "ab", "--model", model, "--max-new-tokens", "2", "--quiet"


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
    assert line.startswith(f"minigpt: {config} cannot be written: it is the same file as {config}")
    assert speaks(command(*generate("owner/name")))


def test_a_model_in_shards_comes_with_its_index(hub, command, tmp_path):
    hub.repos["owner/name"] = {"main": (COMMIT, sharded(tmp_path / "there"))}
    assert speaks(command(*generate("owner/name")))
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert hub.fetched() == ["config.json", "tokenizer.json", INDEX, *shards]
    assert speaks(command(*generate("owner/name"), HF_HUB_OFFLINE="1"))
    assert command("download", "owner/name", "--to", "d", HF_HUB_OFFLINE="1").returncode == 0
    assert speaks(command(*generate("d"), HF_HUB_OFFLINE="1"))


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
    assert find(str(folder)).files == tuple(folder / name for name in [*NEEDED, *beside])


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
    monkeypatch.setattr("minigpt.checkpoint.hub._on_hub", lambda *_: lambda name: None)
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
