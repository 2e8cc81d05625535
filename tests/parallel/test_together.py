"""`mpiexec -n N minigpt generate --tensor-parallel`: one text, the counts of all, one end."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from checkpoints import MINIGPT, environment, lines_of, minigpt
from safetensors.numpy import save_file

from minigpt import generate, load
from minigpt.checkpoint.hub import find
from minigpt.models.architectures import configuration
from minigpt.recording.read import read

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(not MPIEXEC, reason="there is no mpiexec")

SIZES = {
    "vocab_size": 1024,
    "max_position_embeddings": 32,
    "num_hidden_layers": 2,
    "eos_token_id": None,
    "bos_token_id": None,
    "rope_theta": 10000.0,
}
PATIENCE = 300  # seconds for a run on a machine that is busy
SEED = "3"


def drawn(name, seed):
    """The values of the config.json of a small random model."""
    rng = random.Random(seed)
    K, D = rng.randint(1, 3), 2 * rng.randint(1, 4)
    values = SIZES | {"model_type": name, "num_key_value_heads": K, "head_dim": D}
    values["num_attention_heads"] = H = K * rng.randint(1, 3)
    values |= {"hidden_size": H * D, "intermediate_size": rng.randint(4, 40)}
    if name == "mixtral":
        values["num_local_experts"] = E = rng.randint(3, 6)
        values["num_experts_per_tok"] = rng.randint(1, E - 1)
    return values


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of each model, by name; the shipped one's is its name."""
    found = {"shakespeare": "shakespeare"}
    for seed, name in enumerate(("llama", "mixtral")):
        folder = tmp_path_factory.mktemp(name)
        values, rng = drawn(name, seed), np.random.default_rng(seed)
        shapes = configuration(values, folder).shapes().items()
        weights = {key: rng.normal(0, 0.4, shape) for key, shape in shapes}
        stored = {key: weight.astype(ml_dtypes.bfloat16) for key, weight in weights.items()}
        save_file(stored, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(values))
        shutil.copy(find("shakespeare").tokenizer, folder)
        found[name] = str(folder)
    return found


def run(size, *args, cwd, through=(), given="", **variables):
    """The command in processes of mpiexec, to its end."""
    pipes = {"capture_output": True, "text": True, "input": given, "timeout": PATIENCE}
    asked = command(size, *args, through=through)
    return subprocess.run(asked, cwd=cwd, env=alone(cwd) | variables, **pipes)


def alone(here):
    """The environment of a run whose home is empty, each process on one core."""
    return environment(HOME=str(here), OPENBLAS_NUM_THREADS="1")


def command(size, *args, through=()):
    started = MPIEXEC, "-n", str(size), *through, *MINIGPT
    return [*started, "generate", "--tensor-parallel", *args]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """What a process is started through, so that the bytes of MPI_Sendrecv are counted beside."""
    if sys.platform != "linux" or not (cc := shutil.which("cc")):
        return ()
    library = tmp_path_factory.mktemp("shim") / "sendrecv.so"
    source = Path(__file__).with_name("sendrecv.c")
    subprocess.run([cc, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return "env", f"LD_PRELOAD={library}"


def replicated(values, size, tokens):
    """FLOP of products that several devices do: keys and values of the same head, routers."""
    C, D, K = values["hidden_size"], values["head_dim"], values["num_key_value_heads"]
    more = 2 * 2 * C * D * max(0, size - K)
    more += 2 * C * values.get("num_local_experts", 0) * (size - 1)
    return values["num_hidden_layers"] * more * tokens


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in ("shakespeare", "llama", "mixtral") for size in (1, 2, 3)]
    + [("mixtral", 4)],
)
def test_several_processes_say_what_one_says(tmp_path, models, shim, name, size):
    log, watched = tmp_path / "log", tmp_path / "moved"
    asked = (
        "O",
        "--seed",
        "3",
        "--model",
        models[name],
        "--max-new-tokens",
        "5",
        "--log",
        str(log),
        "--quiet",
    )
    ran = run(size, *asked, cwd=tmp_path, through=shim, MOVED=str(watched))
    assert (ran.returncode, ran.stderr) == (0, "")
    lm = load(models[name])
    steps = [*generate(lm, "O", max_new_tokens=5, seed=3)]
    assert ran.stdout == "O" + "".join(step.text for step in steps) + "\n"
    sent, received = Counter(), Counter()
    for step, line in zip(steps, lines_of(log), strict=True):
        assert (line["token"], line["position"]) == (step.token, step.position)
        ranks = line["ranks"]
        assert len(ranks) == size
        assert {key: line[key] for key in ("flops", "kinds", "bytes_read")} == {
            key: ranks[0][key] for key in ("flops", "kinds", "bytes_read")
        }
        more, K, held = 0, 1, 1
        if name != "shakespeare":
            more, K = replicated(lm.config.given, size, step.new_tokens), lm.config.kv_heads
            held = max(K, size)
        assert sum(rank["matmul_flops"] for rank in ranks) == step.matmul_flops + more
        written = sum(rank["bytes_written"]["kv_cache"] for rank in ranks)
        assert written * K == step.counts.bytes_written["kv_cache"] * held
        for number, rank in enumerate(ranks):
            assert set(rank["bytes_sent"]) == ({"all_reduce", "all_gather"} if size > 1 else set())
            sent[number] += sum(rank["bytes_sent"].values())
            received[number] += rank["bytes_received"]
    if shim and size > 1:
        for number in range(size):
            moved = Path(f"{watched}.{number}").read_text().split()
            assert moved == [str(sent[number]), str(received[number])]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("args", [("--model", "none"), ("--log", "/dev/full")])
def test_what_is_wrong_for_all_is_said_once(tmp_path, args, size):
    ran = run(size, "O", *args, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert ran.returncode == 2
    assert ran.stdout in ("", "O\n")  # the prompt is shown before the first line is written
    [line] = ran.stderr.splitlines()
    assert line.startswith("minigpt: ")


def test_one_prompt_and_one_seed_go_to_all(tmp_path):
    asked = "--prompt", "I", "--max-new-tokens", "4", "--json", "--record", "recording"
    ran = run(2, "-", *asked, cwd=tmp_path, given="A")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    tokens = [[], []]
    for step in generate(load(), ["A", "I"], max_new_tokens=4, seed=told["seed"]):
        tokens[step.sequence].append(step.token)
    assert told["tokens"] == tokens
    assert len(told["ranks"]) == 2
    assert told["ranks"][0]["flops"] == told["flops"]
    recording = read(tmp_path / "recording")
    assert recording.counts().bytes_read == told["bytes_read"]
    assert [len(token["ranks"]) for token in recording.tokens] == [2] * 8
    for to in ("page.html", "run.csv"):
        assert minigpt("report", "recording", "--to", to, cwd=tmp_path).returncode == 0


# Ends.


def children(process):
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def started(here, size):
    """A run that goes on for long, once it has begun its log: mpiexec, and its ranks."""
    asked = command(size, "O", "--max-new-tokens", "250", "--log", "log", "--quiet")
    env = alone(here)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process, end = subprocess.Popen(asked, cwd=here, env=env, text=True, **pipes), time.monotonic()
    log = here / "log"
    while not (log.exists() and log.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < end + PATIENCE
        time.sleep(0.02)
    parents = [parent for proxy in children(process.pid) for parent in children(proxy)]
    ranks = [rank for parent in parents for rank in children(parent)]
    assert len(ranks) == size
    return process, ranks


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")


@linux
@pytest.mark.parametrize("seed", range(3))
def test_a_rank_that_is_killed_ends_all(tmp_path, seed):
    rng = random.Random(seed)
    process, ranks = started(tmp_path, size := rng.randint(2, 3))
    time.sleep(rng.random())
    maps = Path(f"/proc/{ranks[0]}/maps").read_text()
    shared = re.findall(r"/dev/shm/\S+$", maps, re.MULTILINE)
    os.kill(ranks[rng.randrange(size)], signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 137
    assert re.fullmatch(r"minigpt: rank \d was ended by SIGKILL\n", err)
    text = "".join(line["text"] for line in lines_of(tmp_path / "log"))
    assert ("O" + text).startswith(out) or out.startswith("O" + text)
    end = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not [name for name in shared if Path(name).exists()]
    assert 0 < len(lines_of(tmp_path / "log")) < 250


@linux
@pytest.mark.parametrize("whom", ["mpiexec", "a rank"])
def test_a_signal_ends_all_after_a_token(tmp_path, whom):
    process, ranks = started(tmp_path, 2)
    os.kill(*((process.pid, signal.SIGINT) if whom == "mpiexec" else (ranks[1], signal.SIGTERM)))
    out = process.communicate(timeout=PATIENCE)[0]
    out = re.sub(r"\[mpiexec@.*\n", "", out)  # it has a word to say too
    assert process.returncode == (130 if whom == "mpiexec" else 143)
    lines = lines_of(tmp_path / "log")
    assert 0 < len(lines) < 250
    assert out.startswith("O" + "".join(line["text"] for line in lines))
