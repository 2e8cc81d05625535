"""Downloads from a server that lies, fails, stands still, or is no hub; and wrong settings."""

import hashlib
import importlib.util
import random
import re
from pathlib import Path

import pytest
from checkpoints import SINGLE, complaint
from loopback import NEEDED, generate, speaks

from minigpt.checkpoint.received import wrong
from minigpt.checkpoint.settings import check
from minigpt.errors import InputError

pytestmark = pytest.mark.once  # servers that are waited for


def cached(tmp_path):
    """The files in the cache, and nothing beside it."""
    return {p.name for p in (tmp_path / "hf").rglob("snapshots/*/*") if p.is_file()}


@pytest.mark.parametrize("seed", [1, 2])
def test_content_that_is_not_what_was_promised_is_refused_and_comes_anew(
    hub, there, command, tmp_path, seed
):
    rng = random.Random(seed)
    wrong = bytearray((there / SINGLE).read_bytes())
    wrong[rng.randrange(len(wrong) - 5000, len(wrong))] ^= 1 << rng.randrange(8)
    hub.large, hub.instead = {SINGLE}, {SINGLE: bytes(wrong)}
    line = complaint(command(*generate("owner/name")))
    assert f"owner/name: what came as {SINGLE} is damaged, or something else" in line
    assert "its SHA-256 is not the one that the hub promised" in line
    assert SINGLE not in cached(tmp_path)
    hub.instead = {}
    assert speaks(command(*generate("owner/name")))


@pytest.mark.parametrize("name", NEEDED)
def test_a_page_in_place_of_a_file_is_refused_and_comes_anew(hub, there, command, tmp_path, name):
    hub.instead = {name: b"<!DOCTYPE html><title>Sign in</title>"}
    line = complaint(command(*generate("owner/name")))
    assert f"what came as {name} is damaged, or something else: " in line
    assert name not in cached(tmp_path)
    hub.instead = {}
    assert speaks(command(*generate("owner/name")))


def test_a_download_fetches_what_is_damaged_in_the_cache(hub, there, command, tmp_path):
    assert command("download", "owner/name").returncode == 0
    [held] = (tmp_path / "hf").rglob(f"snapshots/*/{SINGLE}")
    held.resolve().write_bytes(b"<!DOCTYPE html>")
    assert "get it again" in complaint(command(*generate("owner/name")))
    assert command("download", "owner/name").returncode == 0
    assert hub.fetched() == [*NEEDED, SINGLE]
    assert speaks(command(*generate("owner/name")))


OUT = [  # what names a file of the cache, and would have it elsewhere
    ("ETag", "../../../../out"),
    ("ETag", ".."),
    ("ETag", ".hidden"),
    ("ETag", "\xe9" * 199),
    ("X-Linked-Etag", "/tmp/out"),
    ("X-Linked-Etag", "a/../../out"),
    ("X-Repo-Commit", "../../out"),
    ("X-Repo-Commit", "main"),
]


@pytest.mark.parametrize(("header", "out"), OUT)
def test_a_header_that_would_lead_out_of_the_cache_is_refused(
    hub, there, command, tmp_path, header, out
):
    refused_for_a_header(hub, command, tmp_path, header, out)


def test_a_commit_by_which_it_is_noted_that_a_file_is_missing_is_refused_too(
    hub, there, command, tmp_path
):
    (there / "config.json").unlink()
    refused_for_a_header(hub, command, tmp_path, "X-Repo-Commit", "../../out")


def refused_for_a_header(hub, command, tmp_path, header, out):
    before = {path for path in tmp_path.rglob("*") if "hf" not in path.parts}
    hub.headers = {header.replace("-", "_"): out if "Commit" in header else f'"{out}"'}
    line = complaint(command("download", "owner/name"))
    assert f"answers with {header} " in line
    assert "which cannot be: is HF_ENDPOINT the address of a hub?" in line
    assert {path for path in tmp_path.rglob("*") if "hf" not in path.parts} == before
    assert not [path for path in (tmp_path / "hf").rglob("*") if path.is_file()]


WAYS = {
    401: "the hub answers 401: your token is not valid: hf auth login, or unset HF_TOKEN",
    403: "the hub answers 403: your token may not read it: hf auth whoami",
    404: "the hub answers 404: nothing is there: is HF_ENDPOINT the address of a hub",
    407: "the hub answers 407: a proxy asks who you are: HTTPS_PROXY can have a name and a pass",
    418: "the hub answers 418: it says no more",
    429: "the hub answers 429: it was asked too often: wait, or set HF_TOKEN",
    451: "the hub answers 451: the law forbids that you get it here",
    503: "the hub answers 503: it fails: try again later",
}


@pytest.mark.parametrize("status", WAYS)
def test_what_the_hub_answers_is_said_in_one_line_with_the_way_out(hub, command, status):
    hub.status = status
    line = complaint(command(*generate("owner/name")))
    assert f"owner/name is not on this machine and {WAYS[status]}" in line
    assert "cannot be reached" not in line


@pytest.mark.parametrize("seed", range(3))
def test_so_it_is_where_content_is_refused_that_was_promised(hub, there, command, seed):
    rng = random.Random(seed)
    name, status = rng.choice(NEEDED), rng.choice(list(WAYS))
    hub.refused = {name: status}
    line = complaint(command(*generate("owner/name")))
    assert f"owner/name: {name} cannot be fetched: {WAYS[status]}" in line


@pytest.mark.parametrize("seed", [1, 2])
def test_a_line_that_goes_dead_is_taken_up_again_or_said_in_one_line(hub, there, command, seed):
    hub.cut = {SINGLE: random.Random(seed).randrange(1, 5000)}
    result = command(*generate("owner/name"))
    if result.returncode:
        assert SINGLE in complaint(result)
        result = command(*generate("owner/name"))
    assert speaks(result)


def test_content_that_drips_and_lies_elsewhere_comes_whole(hub, there, command):
    hub.drip, hub.elsewhere, hub.large = 0.2, {SINGLE}, {SINGLE}
    assert speaks(command(*generate("owner/name")))
    assert any(path.startswith("/other/") for _, path in hub.asked)


IMPATIENT = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}


def test_an_answer_that_never_begins_is_given_up_though_some_of_it_comes(hub, there, command):
    hub.slow_head = {"config.json"}
    line = complaint(command(*generate("owner/name"), **IMPATIENT))
    assert "owner/name is not on this machine and the hub cannot be reached (no answer in" in line
    assert "look at HF_ENDPOINT" in line


def test_so_is_a_header_of_weights_that_never_begins_to_come(hub, there, command):
    hub.slow_head = {SINGLE}
    result = command("count", "owner/name", **IMPATIENT)
    assert result.returncode == 0, result.stderr
    assert f"the header of {SINGLE} cannot be read: no answer in" in " ".join(
        result.stdout.decode().split()
    )


def test_content_that_stands_still_is_given_up(hub, there, command):
    hub.still = {SINGLE}
    line = complaint(command(*generate("owner/name"), **IMPATIENT))
    assert f"owner/name: {SINGLE} cannot be fetched: nothing more came for " in line


def test_what_has_come_serves_where_the_hub_fails_later_on(hub, there, command):
    rng = random.Random(1)
    assert command("download", "owner/name").returncode == 0
    hub.failing = {rng.choice(NEEDED[1:]): rng.choice([408, 429, 500, 503])}
    assert speaks(command(*generate("owner/name")))


def test_a_hub_that_says_to_wait_for_an_hour_is_not_waited_for(hub, there, command):
    status = random.Random(2).choice([429, 503])
    hub.failing = {"tokenizer.json": status}
    line = complaint(command(*generate("owner/name")))
    assert f"owner/name is not on this machine and the hub answers {status}: " in line


def test_content_is_not_asked_for_where_an_answer_says_that_it_lies(hub, there, command):
    hub.headers = {
        "X_Xet_Hash": "b" * 64,
        "Link": f'<{hub.url}/own/xet/resolve/main/token>; rel="xet-auth"',
    }
    assert speaks(command(*generate("owner/name")))
    assert not any("xet" in path for _, path in hub.asked)


@pytest.mark.parametrize("way", ["zipped", "endless"])
def test_more_than_was_promised_is_not_taken_in(hub, there, command, tmp_path, way):
    name = random.Random(way).choice(NEEDED)
    if way == "zipped":
        hub.zipped = {name: bytes(1 << 26)}
    else:
        hub.endless = {name}
    line = complaint(command(*generate("owner/name")))
    size = (there / name).stat().st_size
    assert line.startswith(
        f"minigpt: owner/name: {name} cannot be fetched: more came than the {size:,} bytes"
    )
    assert not [path for path in tmp_path.glob("hf/**/*") if name in path.name]
    assert not list(tmp_path.glob("hf/**/*.incomplete"))


def test_a_file_that_the_disk_has_no_room_for_is_one_line(hub, there, command):
    hub.headers = {"X_Linked_Size": str(random.Random(1).randrange(10**15, 10**18))}
    line = complaint(command(*generate("owner/name")))
    assert "owner/name: config.json cannot be fetched: Not enough free disk space" in line


def test_a_text_longer_than_any_that_is_read_is_not_fetched(hub, there, command):
    hub.headers = {"X_Linked_Size": str((1 << 28) + 1)}
    line = complaint(command(*generate("owner/name")))
    assert line.endswith("it has 268,435,457 bytes, and 268,435,456 are fetched at most")


@pytest.mark.parametrize("missing", ["ETag", "X_Repo_Commit"])
def test_answers_that_are_none_of_a_hub_are_one_short_line(hub, there, command, missing):
    hub.headers = {missing: None}
    line = complaint(command(*generate("owner/name")))
    assert line.endswith("names no ETag or no X-Repo-Commit: is HF_ENDPOINT the address of a hub?")


def test_a_file_that_the_cache_shares_between_models_is_held_to_its_own_name(tmp_path):
    content = b"some bytes"
    (tmp_path / "shared").mkdir()
    shared, blob, path = tmp_path / "shared" / ("c" * 64), tmp_path / "blob", tmp_path / "weights"
    shared.write_bytes(content)
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.symlink_to(shared)
    path.symlink_to(blob)
    assert wrong(path) is None
    shared.write_bytes(content + b".")
    assert wrong(path) == "its SHA-256 is not the one that the hub promised"


# An environment that is wrong.

WRONG = [
    ("HF_ENDPOINT", "http://127.0.0.1:99999"),
    ("HF_ENDPOINT", "junk"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "10s"),
    ("HF_TOKEN", "h\xe9"),
    ("HF_HOME", "/dev/null"),
    ("SSL_CERT_FILE", "/nosuch"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_setting_of_the_hub_that_is_wrong_is_named(there, command, name, value):
    line = complaint(command(*generate("owner/name"), **{name: value}))
    assert re.search(rf"\b{name}\b", line)
    assert name != "HF_TOKEN" or value not in line


@pytest.mark.parametrize("seed", range(20))
def test_a_setting_with_which_the_library_does_not_start_is_named(monkeypatch, seed):
    rng = random.Random(seed)
    name = rng.choice(["HF_ENDPOINT", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
    value = rng.choice(["abc", "", "-3", "10s", "9" * 20])
    if name == "HF_ENDPOINT":
        value = rng.choice(
            ["http://[::1", "http://x:99999", "http://x:-1", "http://x:p", "http://["]
        )
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"^{name} {re.escape(repr(value))} is not a"):
        check()


@pytest.mark.parametrize("seed", range(2))
def test_whatever_the_settings_of_the_hub_are_no_more_than_a_line_is_said(there, command, seed):
    rng = random.Random(seed)
    source = Path(importlib.util.find_spec("huggingface_hub").origin).with_name("constants.py")
    names = sorted(set(re.findall(r'"(HF_[A-Z_]+)"', source.read_text())) - {"HF_HOME"})
    values = [
        "",
        "abc",
        "-1",
        "1e9",
        "\xe9",
        "[",
        "9" * 30,
        "/dev/null",
        "/nosuch",
        "1",
        "~x",
        "$y",
    ]
    wrong = {name: rng.choice(values) for name in rng.sample(names, 5)}
    result = command(*generate("owner/name"), **wrong, HF_HUB_VERBOSITY="loud")
    if result.returncode:
        complaint(result)
    else:
        assert result.stderr == b""
