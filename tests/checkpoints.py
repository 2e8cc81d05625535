"""Tiny checkpoints on disk, the command run as a user would, and the contract of a log."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from helpers import numbers
from safetensors.numpy import save_file

from minigpt.checkpoint.synthetic import make_tokenizer
from minigpt.models.gpt2_config import GPT2Config

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
SHIPPED = ROOT / "weights" / "shakespeare"

CONFIG = GPT2Config(vocab_size=260, n_positions=16, n_embd=8, n_layer=2, n_head=2, eos_token_id=259)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def tensors(config=CONFIG, dtype="f4"):
    """Random weights by key."""
    make = numbers(0, config.vocab_size)
    return {key: make(shape, dtype) for key, shape in config.shapes().items()}


def checkpoint(folder, weights=None, name=SINGLE, **changes):
    """Writes a model in Hugging Face layout, its config.json with `changes`; gives the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(changes if "model_type" in changes else CONFIG.values() | changes)
    )
    make_tokenizer(CONFIG.vocab_size, None).save(str(folder / "tokenizer.json"))
    save_file(tensors() if weights is None else weights, folder / name)
    return folder


def sharded(folder, weights=None):
    """The same in two files and an index."""
    weights = tensors() if weights is None else weights
    checkpoint(folder, {}).joinpath(SINGLE).unlink()
    shards = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    weight_map = {key: shards[i % 2] for i, key in enumerate(weights)}
    for shard in shards:
        part = {key: tensor for key, tensor in weights.items() if weight_map[key] == shard}
        save_file(part, folder / shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def ends_at_once():
    """Weights whose most likely token is the end of the text, whatever comes before."""
    weights = tensors()
    weights["ln_f.weight"][:] = 0
    weights["ln_f.bias"][:] = 1
    weights["wte.weight"][CONFIG.eos_token_id] = 1
    return weights


# The command.

PROMPT = "To be, or not to be"
SHORT = "--max-new-tokens", "6", "--seed", "1"
MINIGPT = [sys.executable, "-c", "from minigpt.cli import main; main()"]


def environment(**changes):
    """This environment, without what points to a hub, a terminal or unbuffered streams."""
    dropped = re.compile(r"HF_.*|COLUMNS|LINES|PYTHONUNBUFFERED|.*_proxy", re.I)
    return {k: v for k, v in os.environ.items() if not dropped.fullmatch(k)} | changes


def minigpt(*args, cwd, env=None, **options):
    """Runs `minigpt ARGS` to its end; its output is bytes."""
    options = {"capture_output": True, "timeout": 300, "input": b""} | options
    return subprocess.run([*MINIGPT, *args], cwd=cwd, env=env or environment(), **options)


@cache
def _compiled():
    """A folder that a first start left its cache in: the kernels, which take seconds to compile."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    minigpt("generate", PROMPT, *SHORT, cwd=folder, env=environment(XDG_CACHE_HOME=str(folder)))
    return folder


def cache_in(folder):
    """Makes a folder for caches that holds this machine's kernels and nothing else; gives it."""
    if not folder.exists():
        shutil.copytree(_compiled(), folder)
    return str(folder)


def home(folder):
    """Gives a folder as a home: after a first start, the kernels are compiled."""
    cache_in(folder / ".cache")
    return str(folder)


def complaint(result):
    """The one line that bad input gets."""
    *before, line = result.stderr.decode().splitlines()
    assert (result.returncode, result.stdout, before) == (2, b"", [])
    assert line.startswith("minigpt: ")
    return line


# The contract of a log.

KINDS = {"mul", "add", "fma", "div", "exp", "tanh", "sqrt", "cmp"}
CATEGORIES = {"weights", "kv_cache", "state", "activations"}


def lines_of(log):
    """The records of a log, all of them whole lines."""
    text = log.read_text()
    assert text.endswith("}\n")
    return [json.loads(line) for line in text.splitlines()]


def assert_contract(record, config, first):
    """A line of a log: every field, and what must hold between them."""
    r, kinds = record, record["kinds"]
    assert next(iter(r.items())) == ("schema", 1)
    assert type(r["token"]) is int
    assert 0 <= r["token"] < config.vocab_size
    assert type(r["text"]) is str
    assert r["phase"] == ("prefill" if first else "decode")
    assert r["new_tokens"] == (r["position"] if first else 1)
    assert r["keys"] == r["position"]
    assert set(kinds) >= KINDS
    assert r["flops"] == sum(kinds.values()) + kinds["fma"]
    assert r["matmul_flops"] == 2 * kinds["fma"]
    for bytes_by_category in ("bytes_read", "bytes_written", "live_bytes", "peak_bytes"):
        assert set(r[bytes_by_category]) == CATEGORIES
        assert all(type(n) is int and n >= 0 for n in r[bytes_by_category].values())
    assert all(r["live_bytes"][name] <= r["peak_bytes"][name] for name in CATEGORIES)
    assert r["kv_bytes_per_token"] == 2 * config.n_layer * config.n_embd * 4
    assert r["seconds"] > 0
