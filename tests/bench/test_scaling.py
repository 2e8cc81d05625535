"""Processes that share a model: what each has to do is counted, and nothing is said of times."""

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checkpoints import MINIGPT, complaint, environment, minigpt
from ranks import mpiexec
from rings import on_each

from counting.views import flops, matmul
from minigpt.bench import scaling as bench
from minigpt.bench.rank import Found, Job, draw, work
from minigpt.bench.scaling import grown, markdown, notes, scaling
from minigpt.errors import InputError
from minigpt.models.architectures import configuration
from minigpt.models.shard import Shard
from minigpt.parallel.communicators import Alone
from minigpt.planning.devices import Split, on_devices
from minigpt.planning.forward import Pass


def drawn(seed):
    """The values of the config.json of a small random dense model."""
    rng = random.Random(seed)
    K, D = rng.randint(1, 3), 2 * rng.randint(1, 4)
    values = {"model_type": rng.choice(["llama", "qwen2", "qwen3", "gemma2", "phi3"])}
    values |= {"vocab_size": rng.randint(9, 99), "hidden_size": 2 * rng.randint(3, 20)}
    values |= {"num_hidden_layers": rng.randint(1, 3), "num_key_value_heads": K, "head_dim": D}
    values |= {"num_attention_heads": K * rng.randint(1, 3), "eos_token_id": None}
    values |= {"intermediate_size": rng.randint(4, 40), "max_position_embeddings": 32}
    return values | {"tie_word_embeddings": rng.random() < 0.5, "pad_token_id": None}


def on_paper(config, P, keys):
    return on_devices(config, Pass(N=keys, logits="last", dtype="float32"), Split(P))


def assert_counted(counts, device):
    """What a process counted is what its part of the pass costs on shapes."""
    assert counts["matmul_flops"] == matmul(device.counts)
    assert counts["flops"] == flops(device.counts)
    assert counts["bytes_read"]["weights"] == device.counts.bytes_read["weights"]
    assert counts["live_bytes"]["weights"] == device.held["weights"]
    assert counts["bytes_sent"] == device.sent


@pytest.mark.parametrize("seed", range(8))
def test_each_of_the_processes_has_the_share_of_one_alone(seed):
    values, keys, P = drawn(seed), 1 + seed, 2 + seed % 3
    one = configuration(values, Path("drawn"))
    config = grown(one, P)
    assert (config.layers, config.width, config.head_dim) == (one.layers, one.width, one.head_dim)
    job = Job(config.values(), P, keys, 2)
    found = on_each(P, partial(work, job))
    [alone] = on_paper(one, 1, keys)
    for part, device in zip(found, on_paper(config, P, keys), strict=True):
        assert_counted(part.counts, device)
        assert part.counts["matmul_flops"] == matmul(alone.counts)
        assert part.counts["bytes_read"]["weights"] == alone.counts.bytes_read["weights"]
        assert device.parameters == alone.parameters
        assert len(part.pass_s) == len(part.exchange_s) == 2
        assert all(0 < b < a for a, b in zip(part.pass_s, part.exchange_s, strict=True))


@pytest.mark.parametrize("seed", range(8, 14))
def test_of_a_model_as_it_is_each_has_its_part(seed):
    values, keys, P = drawn(seed), seed, 2 + seed % 3
    found = on_each(P, partial(work, Job(values, P, keys, 1)))
    devices = on_paper(configuration(values, Path("drawn")), P, keys)
    for part, device in zip(found, devices, strict=True):
        assert_counted(part.counts, device)


def test_a_process_alone_exchanges_nothing():
    found = work(Job(drawn(3), 1, 4, 3), Alone())
    assert found.exchange_s == [0, 0, 0]
    assert found.counts["bytes_sent"] == {}


def test_what_several_devices_have_is_drawn_alike():
    rng = random.Random(5)
    for number in range(20):
        total, rows = rng.randint(4, 12), rng.randint(1, 5)
        parts = [draw(number, (Shard.of(total, rank, 2), rows)) for rank in range(2)]
        assert parts[0].shape == (total // 2, rows)
        assert not np.isin(parts[0], parts[1]).any()
        whole = draw(number, (total, rows))
        assert (whole == draw(number, (total, rows))).all()
        assert not np.isin(whole, draw(number + 1, (total, rows))).any()


def found_of(P, took, waited):
    """What processes say that took such seconds, the last of them the longest."""
    counts = {"flops": 9 * P, "matmul_flops": 8, "bytes_read": {"weights": 4}}
    counts |= {"bytes_sent": {"all_reduce": P - 1}, "live_bytes": {"weights": 400}}
    return [Found(counts, [took * (1 + i) / P] * 3, [waited * (1 + i)] * 3) for i in range(P)]


@pytest.mark.parametrize("strong", [False, True])
def test_the_figures_of_a_row_follow_from_the_rounds(monkeypatch, tmp_path, strong):
    (tmp_path / "config.json").write_text(json.dumps(values := drawn(1)))
    asked, turns = [], 0
    took = {1: [0.2, 0.4, 0.3], 2: [0.4, 0.4, 0.9], 3: [1.0, 2.0, 0.6]}

    def answer(command, more, name):
        P = int(command[2])
        assert (command[1], name) == ("-n", f"mpiexec -n {P}")
        assert more["OPENBLAS_NUM_THREADS"] == "1"
        assert json.loads(command[-1])["processes"] == P
        asked.append(P)
        return json.loads(json.dumps(found_of(P, took[P][turns], 0.03))), 9.0

    def bandwidth(threads):
        nonlocal turns
        turns += threads == 1
        return 2e9 * threads**0.5

    monkeypatch.setattr(bench, "answer", answer)
    monkeypatch.setattr(bench, "bandwidth", bandwidth)
    monkeypatch.setattr(bench, "threads", lambda: 2)
    monkeypatch.setattr(bench, "find_spec", lambda name: True)
    monkeypatch.setattr(bench.shutil, "which", lambda name, path=None: "mpiexec")
    document = scaling(str(tmp_path / "config.json"), [3, 2], 3, 5, 4, strong)
    assert asked == [1, 2, 3, 3, 2, 1, 1, 2, 3]
    assert document["bandwidth_gb_s"] == {"1": 2, "2": pytest.approx(2 * 2**0.5)}
    parameters = configuration(values, Path("drawn")).parameters
    for row in document["rows"]:
        P = row["processes"]
        parts = P if strong else 1
        ratios = [a / b / parts for a, b in zip(took[1], took[P], strict=True)]
        assert row["ms_per_token"] == pytest.approx(1000 * statistics.median(took[P]))
        assert row["ms_range"] == pytest.approx([1000 * min(took[P]), 1000 * max(took[P])])
        assert row["exchange_ms"] == pytest.approx(15 * (P + 1))
        assert row["efficiency"] == pytest.approx(statistics.median(ratios))
        assert row["efficiency_range"] == pytest.approx([min(ratios), max(ratios)])
        assert (row["matmul_flops"], row["weight_bytes_read"], row["bytes_sent"]) == (8, 4, P - 1)
        if strong or P == 1:
            assert row["weight_bytes_replicated"] == 400 * P - 4 * parameters
    lines = markdown(document).splitlines()
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert [row[1] for row in shown[2:]] == ["0.5", "1", "1.5, in turns"]
    assert shown[3][5:8] == ["400.0", "400.0-900.0", "45.0"]
    told = " ".join(notes(document))
    assert ("t(1) / (P t(P))" in told) is strong
    assert "no network" in told
    assert "2.0 GB/s by one core and 2.8 by 2: where no more than that counts, efficiency" in told
    assert "efficiency is 0.71" in told
    assert "more than 2 processes take turns on 2 cores" in told
    few = document | {"rows": document["rows"][:2]}
    assert "turns" not in " ".join(notes(few))


# In processes of mpiexec.


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(drawn(2)))
    return tmp_path


@pytest.fixture
def mpi():
    mpiexec(1, "")


def test_processes_count_what_shapes_cost(tiny, mpi):
    few = "--rounds", "1", "--passes", "2", "--keys", "3", "--tensor-parallel", "2"
    asked = "bench", "scaling", str(tiny), *few, "--markdown", "--json"
    result = minigpt(*asked, cwd=tiny, timeout=240)
    assert (result.returncode, result.stderr) == (0, b"")
    *lines, last = result.stdout.decode().splitlines()
    document = json.loads(last)
    assert "\n".join(lines) == markdown(document)
    assert [row["processes"] for row in document["rows"]] == [1, 2]
    shown = [line.split(" | ") for line in lines if re.match(r"\| \d", line)]
    for cells, row in zip(shown, document["rows"], strict=True):
        P = row["processes"]
        config = grown(configuration(drawn(2), tiny), P)
        devices = on_paper(config, P, 3)
        for counts, device in zip(row["ranks"], devices, strict=True):
            assert_counted(counts, device)
        device = devices[0]  # as all are
        counted = [matmul(device.counts), device.counts.bytes_read["weights"]]
        counted.append(sum(device.sent.values()))
        assert cells[2:5] == [f"{number:,}" for number in counted]
        held = sum(device.held["weights"] for device in devices)
        assert row["weight_bytes_replicated"] == held - 4 * config.parameters
        assert 0 <= row["exchange_ms"] < row["ms_per_token"]
    assert document["rows"][0]["efficiency"] == 1


def ranks_below(tree):
    """The processes below one, and theirs, that run a rank."""
    found, waiting = [], [tree]
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:  # it has ended
                continue
        found += [pid for pid in waiting if pid not in found]
    return [pid for pid in found if b"minigpt.bench.rank" in command_of(pid)]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes(tiny, mpi, number):
    asked = "bench", "scaling", str(tiny), "--keys", "3", "--passes", "100000000"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    running = subprocess.Popen([*MINIGPT, *asked], cwd=tiny, env=environment(), **pipes)
    end = time.monotonic() + 120
    while len(ranks := ranks_below(running.pid)) < 3:  # mpiexec, a rank's watch, and the rank
        assert running.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(running.pid, number)
    assert running.communicate(timeout=120) == (b"", b"")
    assert running.returncode == 128 + number
    while any(map(command_of, ranks)):
        assert time.monotonic() < end + 120
        time.sleep(0.05)


# Bad input.


def test_bad_input_gets_one_line(tiny):
    few = "bench", "scaling", str(tiny), "--tensor-parallel"
    for number, line in {
        "two": "unable to parse string as an integer",
        "0": "must be 1 to",
    }.items():
        assert line in complaint(minigpt(*few, number, "--keys", "3", cwd=tiny))


@pytest.mark.parametrize(
    ("model", "given", "line"),
    [
        ("tiny", {"processes": [2000]}, "tensor parallel is 2000; it must be 1 to 256"),
        ("tiny", {"processes": [100], "strong": True}, "100 devices cannot share a vocabulary"),
        ("tiny", {"rounds": 0}, "rounds is 0; it must be at least 1"),
        ("tiny", {"passes": 0}, "passes is 0; it must be at least 1"),
        ("tiny", {"keys": 32}, "32 past and 1 new tokens are 33; the model's context is 32"),
        ("llama-3.1-405b", {}, "with 1 of them the weights take 1,623,413,555,200 bytes, more"),
        ("gpt2", {}, "of gpt2, each of 2 processes has another share than one alone"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused(tiny, model, given, line):
    asked = {"processes": [2], "rounds": 1, "passes": 1, "keys": 3} | given
    with pytest.raises(InputError, match=re.escape(line)):
        scaling(str(tiny) if model == "tiny" else model, **asked)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "falcon-7b", "pythia-70m"])
def test_a_model_that_does_not_grow_with_its_processes_is_refused(monkeypatch, name):
    monkeypatch.setattr(bench, "memory_here", lambda: (0, ""))
    with pytest.raises(InputError, match="each of 4 processes has another share than one alone"):
        scaling(name, [4], 1, 1, 3)


@pytest.mark.parametrize("missing", ["mpiexec", "mpi4py"])
def test_without_mpi_a_line_says_what_brings_it(monkeypatch, tiny, missing):
    there = None if missing == "mpiexec" else "mpiexec"
    monkeypatch.setattr(bench.shutil, "which", lambda name, path=None: there)
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    how = rf"several processes need MPI: pip install .* in the clone \(there is no {missing}\)"
    with pytest.raises(InputError, match=how):
        scaling(str(tiny), [2], 1, 1, 3)


def test_an_mpiexec_of_another_mpi_is_an_error():
    with pytest.raises(InputError, match="mpiexec started 2 processes, and MPI knows of 1"):
        work(Job(drawn(0), 2, 3, 1), Alone())
