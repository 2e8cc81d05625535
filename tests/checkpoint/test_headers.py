"""What is stored, of headers alone: of files here, and of the hub without their weights."""

import json
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import INDEX, SINGLE, checkpoint, complaint, environment, sharded, tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import COMMIT
from safetensors import SafetensorError, safe_open

from minigpt.checkpoint.headers import Stored, stored
from minigpt.checkpoint.resolve import resolve
from minigpt.errors import InputError
from minigpt.inference.load import load

CODES = {"f2": "float16", "f4": "float32", "f8": "float64"}
HUGE = 1 << 30  # bytes of weights that nobody may fetch


def head(file):
    """The bytes of a file as far as its header goes."""
    with file.open("rb") as stream:
        begin = stream.read(8)
        return begin + stream.read(int.from_bytes(begin, "little"))


def padded(file):
    """Makes a file a huge one, of holes, by a tensor that is no weight; gives it."""
    begin = head(file)
    header = json.loads(begin[8:])
    end = max(entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__")
    header["h.0.attn.bias"] = {"dtype": "U8", "shape": [HUGE], "data_offsets": [end, end + HUGE]}
    data = file.read_bytes()[len(begin) :]
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text + data)
        stream.truncate(8 + len(text) + end + HUGE)
    return file


def told(result):
    """What `--json` says is stored."""
    assert (result.returncode, result.stderr) == (0, b"")
    return json.loads(result.stdout)["stored"]


def test_of_one_huge_file_on_the_hub_no_more_than_the_header_is_sent(hub, there, command):
    file = padded(there / SINGLE)
    found = told(command("count", "owner/name", "--json"))
    size = sum(tensor.nbytes for tensor in tensors().values())
    assert (found["bytes"], found["contradiction"]) == (size + HUGE, None)
    assert found["by_dtype"] == {"U8": HUGE, "float32": size}
    config = (there / "config.json").stat().st_size
    assert hub.sent == {"config.json": config, SINGLE: 8 + len(head(file))}


def test_of_shards_on_the_hub_index_and_headers_are_sent(hub, command, tmp_path):
    folder = sharded(tmp_path / "there", tensors(dtype="f2"))
    hub.repos["owner/name"] = {"main": (COMMIT, folder)}
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) == 2
    padded(shards[1])
    result = command("plan", "owner/name", "--gpu", "rtx-3060-12gb", "--json")
    size = sum(tensor.nbytes for tensor in tensors(dtype="f2").values())
    assert told(result)["by_dtype"] == {"U8": HUGE, "float16": size}
    whole = {name: (folder / name).stat().st_size for name in ("config.json", INDEX)}
    assert hub.sent == whole | {shard.name: 8 + len(head(shard)) for shard in shards}


def test_a_server_that_knows_no_ranges_is_left_behind_the_header(hub, there, command):
    padded(there / SINGLE)
    hub.ranges = False
    assert told(command("count", "owner/name", "--json"))["contradiction"] is None
    assert hub.sent[SINGLE] < HUGE / 16  # what the sockets held meanwhile


def test_what_the_cache_holds_is_read_there_without_a_network(hub, there, command):
    assert command("download", "owner/name").returncode == 0
    before = dict(hub.sent)
    online = told(command("count", "owner/name", "--json"))
    offline = told(command("count", "owner/name", "--json", HF_HUB_OFFLINE="1"))
    assert online == offline
    assert hub.sent == before


def test_without_a_network_the_config_json_of_the_cache_is_counted_and_one_line_says_so(
    hub, there, command
):
    assert command("count", "owner/name").returncode == 0  # and its config.json is in the cache
    result = command("count", "owner/name", HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stderr) == (0, b"")
    lines = [line for line in result.stdout.decode().splitlines() if "stored" in line]
    assert len(lines) == 1
    assert "how it is stored is not known: owner/name: the header of model.safetensors" in lines[0]


@pytest.mark.parametrize("asked", [["count"], ["plan", "--gpu", "cpu"]])
def test_names_that_cannot_be_had_are_one_line(hub, there, command, asked):
    hub.repos["closed/name"] = hub.repos["owner/name"]
    hub.gated.add("closed/name")
    hub.repos["private/name"] = hub.repos["owner/name"]
    hub.tokens["private/name"] = "hf_mine"
    for name, line in {
        "closed/name": "closed/name is gated: ask for access on its page, then: hf auth login",
        "private/name": "private/name is no file, no folder and no model on the hub",
        "owner/nothing": "owner/nothing is no file, no folder and no model on the hub",
    }.items():
        assert complaint(command(*asked, name)) == f"minigpt: {line}"
    assert hub.sent == {}
    offline = complaint(command(*asked, "owner/name", HF_HUB_OFFLINE="1"))
    assert "owner/name is not on this machine and the hub cannot be reached (" in offline
    assert told(command("count", "private/name", "--json", HF_TOKEN="hf_mine"))["bytes"]


def test_a_model_of_pickles_alone_is_counted_and_one_line_says_what_is_not_known(there, command):
    (there / SINGLE).unlink()
    result = command("count", "owner/name")
    assert result.returncode == 0
    assert (
        "how it is stored is not known: owner/name has no model.safetensors and no model.safetens"
        "ors.index.json; its pytorch_model.bin is refused"
    ) in result.stdout.decode()


# Several models at once, in one process that asks the hub.

ASK = """
import json, sys
from dataclasses import asdict
from minigpt.checkpoint.headers import Stored, stored
from minigpt.checkpoint.resolve import resolve
for name in sys.argv[1:]:
    found = stored(name, resolve(name))
    print(json.dumps(asdict(found) if isinstance(found, Stored) else found))
"""


@pytest.fixture
def ask(hub, tmp_path):
    """What is stored of each of some folders, when they are models of a hub."""

    def asked(folders):
        names = [f"owner/{folder.name}" for folder in folders]
        for name, folder in zip(names, folders, strict=True):
            hub.repos[name] = {"main": (COMMIT, folder)}
        env = environment(HF_HOME=str(tmp_path / "hf"), HF_ENDPOINT=hub.url)
        command = [sys.executable, "-c", ASK, *names]
        done = subprocess.run(command, env=env, capture_output=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return asked


def test_drawn_models_are_told_alike_here_and_on_the_hub(ask, tmp_path):
    rng, folders, sizes = np.random.default_rng(5), [], []
    for i in range(12):
        weights = {key: x.astype(rng.choice(list(CODES))) for key, x in tensors().items()}
        weights |= {f"h.{n}.attn.bias": np.ones((1, 1, 4, 4), "?") for n in range(rng.integers(2))}
        if rng.integers(2):
            weights = {f"transformer.{key}": x for key, x in weights.items()}
        make = sharded if rng.integers(2) else checkpoint
        folders.append(make(tmp_path / f"drawn{i}", weights))
        size = {}
        for x in weights.values():
            code = CODES.get(x.dtype.str[1:], "BOOL")
            size[code] = size.get(code, 0) + x.nbytes
        sizes.append((sum(x.size for x in weights.values()), size))
    for folder, found, (numbers, size) in zip(folders, ask(folders), sizes, strict=True):
        assert (found["numbers"], found["by_dtype"]) == (numbers, size)
        assert (found["method"], found["scales"], found["contradiction"]) == (None, 0, None)
        here = stored(str(folder), resolve(str(folder)))
        assert isinstance(here, Stored)
        assert vars(here) == found


def wrong(weights):
    """Checkpoints that contradict their config.json, by what is wrong."""
    less = {key: x for key, x in weights.items() if key != "h.1.ln_2.bias"}
    yield "missing", less
    yield "shape", weights | {"wpe.weight": np.ones((8, 16), "f4")}
    yield "unexpected", weights | {"h.2.x": np.ones(1, "f4")}
    yield "twice", weights | {"transformer.ln_f.bias": np.ones(8, "f4")}
    yield "dtype", weights | {"ln_f.bias": np.ones(8, "i4")}
    yield "adapter", {f"base_model.model.{key}": x for key, x in weights.items()}


def test_what_contradicts_the_config_json_is_said_as_loading_says_it(ask, tmp_path):
    cases = dict(wrong(tensors()))
    folders = [checkpoint(tmp_path / name, weights) for name, weights in cases.items()]
    for folder, found in zip(folders, ask(folders), strict=True):
        with pytest.raises(InputError) as error:
            load(folder)
        here = stored(str(folder), resolve(str(folder)))
        assert isinstance(here, Stored)
        assert here.contradiction == str(error.value)
        name = f"owner/{folder.name}"
        snapshot = f"models--owner--{folder.name}/snapshots/{COMMIT}"
        line = found["contradiction"].replace(str(tmp_path / "hf" / "hub" / snapshot), name)
        assert line == here.contradiction.replace(str(folder), name)


def test_a_contradiction_is_one_line_beside_the_count(tmp_path, command):
    folder = checkpoint(tmp_path / "m", tensors() | {"h.2.x": np.ones(1, "f4")})
    result = command("count", folder)
    said = [line for line in result.stdout.decode().splitlines() if line.startswith("its files")]
    assert result.returncode == 0
    assert said == [
        f"its files contradict its config.json: {folder / SINGLE}: unexpected tensor h.2.x, not "
        f"part of {folder / 'config.json'}"
    ]


WRONG = [None, "F4", -1, [1.5], [2, -2], ["8"], [0, 10**30], {}, [5, 3], "BF16"]
TEXTS = [b"[]", b"{", b"null", b"\xff\xfe", b"[" * 9000, b"7", b""]


@st.composite
def corrupt(draw, whole):
    """What comes in the place of the first bytes of a file, (bytes, how many), or of none."""
    begin = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:begin])
    key, value = draw(st.sampled_from(sorted(header))), draw(st.sampled_from(WRONG))
    kind = draw(st.sampled_from(["cut", "length", "text", "entry", "field", "more"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, begin - 1))], len(whole)
    if kind == "length":
        return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little"), 8
    text = draw(st.sampled_from([*TEXTS, whole[8:begin] + b" "]))
    if kind == "entry":
        text = json.dumps(header | {key: value}).encode()
    elif kind == "field":
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        text = json.dumps(header | {key: header[key] | {field: value}}).encode()
    return len(text).to_bytes(8, "little") + text, begin - (kind == "more")


@settings(max_examples=200)
@given(data=st.data())
def test_a_header_that_cannot_be_is_one_line(tiny, data):
    whole = tiny.with_name("whole").read_bytes()
    begin, instead = data.draw(corrupt(whole))
    (tiny / SINGLE).write_bytes(begin + whole[instead:])
    found = stored(str(tiny), resolve(str(tiny)))
    try:
        with safe_open(tiny / SINGLE, "np"):
            pass
    except (SafetensorError, OSError):
        assert isinstance(found, str)
        assert found.startswith(f"{tiny / SINGLE} is not a whole safetensors file (")
        assert "\n" not in found
    else:
        assert isinstance(found, Stored)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model, and beside it the bytes of its tensors."""
    folder = checkpoint(tmp_path_factory.mktemp("tiny") / "m")
    folder.with_name("whole").write_bytes((folder / SINGLE).read_bytes())
    return folder


def test_a_header_on_the_hub_that_cannot_be_is_one_line(ask, tiny, tmp_path):
    whole, folders = tiny.with_name("whole").read_bytes(), []
    cases = [b"", whole[:7], whole[:300], whole[:-1], b"\xff" * 20, whole[:8] + b"[" * len(whole)]
    for i, data in enumerate(cases):
        folders.append(checkpoint(tmp_path / f"broken{i}"))
        (folders[-1] / SINGLE).write_bytes(data)
    for folder, found in zip(folders, ask(folders), strict=True):
        assert f"owner/{folder.name}" in found
        assert "\n" not in found
        assert "is not a whole safetensors file (" in found or "cannot be read: " in found


def test_a_name_and_a_config_json_alone_have_no_files(tiny):
    assert stored("gpt2", resolve("gpt2")) is None
    assert stored(f"{tiny}/config.json", resolve(f"{tiny}/config.json")) is None
