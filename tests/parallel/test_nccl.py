"""GPUs that pass arrays on by NCCL, on a stand-in that carries bytes between threads.

No GPU code runs. `tests/inference/test_cupy.py` binds each call to the installed library's.
"""

import gc
import json
import random
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from checkpoints import MINIGPT, ROOT, checkpoint, environment
from gpu import FAKES, stand_in  # noqa: F401
from helpers import numbers
from rings import on_each
from safetensors.numpy import save_file
from worlds import in_processes

from counting import Counted, Ledger
from counting.ledger import CATEGORIES
from minigpt import InputError, generate, load
from minigpt.checkpoint.tensors import tensors
from minigpt.formulas.drawn import draw
from minigpt.inference.rank import Rank
from minigpt.models.architectures import PRESETS, build
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.divide import divided

DTYPES = ("float32", "float64", "float16", "int8", "int64", "bool", ml_dtypes.bfloat16)


@pytest.fixture(name="nccl")
def joined(cupy, monkeypatch):
    """The stand-in for NCCL, on a machine of four GPUs; what it was asked is in `CALLS`."""
    monkeypatch.setitem(cupy.cuda.MACHINE, "devices", 4)
    return cupy.nccl


def drawn(rank, seed, widths, dtype, step):
    """What a rank sends: a vector, every so many of a longer one."""
    values = np.random.default_rng((rank, seed)).integers(-99, 99, widths[rank] * step)
    return values.astype(dtype)[::step]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_sent_arrives_at_the_next(nccl, seed):
    from minigpt.parallel.nccl import NCCL

    draw = random.Random(seed)
    size, dtype, step = draw.randint(1, 4), draw.choice(DTYPES), draw.randint(1, 3)
    widths = [draw.choice((0, 1, 2, 7, 5000)) for _ in range(size)]

    def run(world):
        import cupy

        ring, before = NCCL(world), (world.rank - 1) % size
        whole = drawn(world.rank, seed, widths, dtype, 1)
        x = cupy.array(np.repeat(whole, step))[::step]
        assert x.flags.c_contiguous == (step == 1 or x.size < 2)
        came = ring.exchange(x, widths[before])
        assert (x.get() == whole).all()
        return came.dtype, came.get()

    for rank, (found, came) in enumerate(in_processes(size, run)):
        before = (rank - 1) % size
        assert found == np.dtype(dtype)
        assert np.array_equal(came, drawn(before, seed, widths, dtype, 1))
    nbytes = [width * np.dtype(dtype).itemsize for width in widths]
    for rank in range(size):
        expected = [(rank, "send", nbytes[rank], (rank + 1) % size)]
        expected += [(rank, "recv", nbytes[rank - 1], (rank - 1) % size)]
        calls = [call for call in nccl.CALLS if call[0] == rank]
        assert calls == [call for call in expected if call[2]]


def test_a_message_without_the_other_would_wait(nccl, cupy):
    """The stand-in says so: each exchange is a group, so that what follows is right about NCCL."""
    x = cupy.zeros(3, np.uint8)
    one = nccl.NcclCommunicator(1, nccl.get_unique_id(), 0)
    with pytest.raises(nccl.NcclError, match="for ever"):
        one.send(x.data.ptr, 3, 1, 0, 0)
    nccl.groupStart()
    with pytest.raises(nccl.NcclError, match="invalid argument"):
        one.send(0, 0, 1, 0, 0)


def test_a_ring_is_kept_until_the_process_ends(nccl):
    """To let go of it, as where an error ends a process, waits for GPUs that wait for it."""
    from minigpt.parallel.nccl import NCCL

    kept = [weakref.ref(ring._ring) for ring in in_processes(2, NCCL)]
    gc.collect()
    assert all(ring() for ring in kept)


@pytest.mark.parametrize("seed", range(4))
def test_sums_and_rows_are_those_of_another_ring(nccl, cupy, seed):
    from minigpt.parallel.nccl import NCCL

    draw, rng = random.Random(seed), np.random.default_rng(seed)
    size, n = draw.randint(2, 4), draw.randint(1, 9)
    widths = [draw.randrange(5) for _ in range(size)]
    xs = [rng.normal(size=(2, n)).astype("f4") for _ in range(size)]
    rows = [rng.normal(size=(2, width)).astype("f4") for width in widths]

    def run(ring, array):
        ledger = Ledger((*CATEGORIES, "wire"))
        x, row = (Counted(array(x[ring.rank]), ledger) for x in (xs, rows))
        found = all_reduce(x, ring).data, all_gather(row, widths, ring).data
        return found, dict(ledger.snapshot())

    here = on_each(size, lambda ring: run(ring, np.copy))
    there = in_processes(size, lambda world: run(NCCL(world), cupy.array))
    for (arrays, counts), (on_gpu, counted) in zip(here, there, strict=True):
        assert counts == counted
        for x, y in zip(arrays, on_gpu, strict=True):
            assert np.array_equal(x, y.get())


@pytest.mark.parametrize(("dtype", "size"), [("float32", 3), ("float16", 2), ("bfloat16", 2)])
def test_the_shipped_model_on_several_gpus_says_what_it_says_on_one(nccl, cupy, dtype, size):
    def steps(**options):
        lm = load(device="cuda", dtype=dtype, **options)
        return [*generate(lm, "To be", max_new_tokens=5, seed=1)], lm.ledger.live_bytes["weights"]

    one, whole = steps()
    ranks = in_processes(size, lambda world: steps(ring=world))
    for found, held in ranks:
        assert [step.token for step in found] == [step.token for step in one]
        assert 0 < held < whole * (1 / size + 0.1)
    for each in zip(one, *(found for found, _ in ranks), strict=True):
        assert each[0].matmul_flops == sum(step.matmul_flops for step in each[1:])
    on_cpu = on_each(size, lambda ring: [*generate(load(ring=ring), "To be", max_new_tokens=5)])
    for (found, _), there in zip(ranks, on_cpu, strict=True):
        for a, b in zip(found, there, strict=True):
            assert a.counts.cost == b.counts.cost
            assert a.counts.bytes_read["wire"] == b.counts.bytes_read["wire"]
            assert a.counts.bytes_written["wire"] == b.counts.bytes_written["wire"]
    assert sorted(cupy.cuda.USED) == list(range(size))


FAMILIES = "cohere2", "deepseek_v3", "gemma3_text", "gpt_neox", "gpt_oss", "mixtral", "qwen3"


@pytest.mark.parametrize("family", FAMILIES)
def test_families_find_on_two_gpus_what_numpy_finds(nccl, tmp_path, family):
    rng = random.Random(family)
    preset = next(x for x in PRESETS.values() if x.values()["model_type"] == family)
    config = draw(preset, rng).config
    while config.vocab_size < 2 or any(0 in shape for shape in shapes_of(config, 2)):
        config = draw(preset, rng).config
    make, file = numbers(0, config.vocab_size), tmp_path / "model.safetensors"
    weights = {key: make(shape, "f4") for key, shape in config.shapes().items()}
    save_file(weights, file)
    prompts = [make((2, T), int) for T in (3, 2, 1)]

    def logits(forward, model):
        cache = model.new_cache(2, 6)
        return [forward(tokens, cache, "all") for tokens in prompts]

    def run(world):
        rank, ledger = Rank(world, "cuda", "float32", None), Ledger((*CATEGORIES, "wire"))
        held = rank.hold(config, dict(tensors(file)), "float32", lambda *_: None)
        held = {key: Counted(array, ledger) for key, array in held}
        model = rank.build(config, held)
        return [x.data.get() for x in logits(rank.forward(model, held), model)]

    one = build(config, weights)
    here, ranks = logits(one, one), in_processes(2, run)
    for found in ranks:
        for x, y, z in zip(found, here, ranks[0], strict=True):
            np.testing.assert_allclose(x, y, atol=1e-4 * max(1, np.abs(y).max()))
            assert np.array_equal(x, z)


def shapes_of(config, size):
    """Of every tensor, of every part."""
    return [x for rank in range(size) for x in divided(config, rank, size).shapes().values()]


# What is wrong.


def refused(run, size=2):
    with pytest.raises(InputError) as error:
        in_processes(size, run)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_missing_is_said_with_the_way_out(nccl, cupy, monkeypatch):
    def run(world):
        return load(device="cuda", ring=world)

    assert refused(run, 5) == (
        "each of 5 processes on a machine needs a GPU of its own, and it has 4: "
        "mpiexec -n 4, or more machines"
    )
    monkeypatch.setattr(cupy.cuda.nccl, "available", False)
    assert refused(run) == ("CuPy finds no NCCL, which joins GPUs: pip install nvidia-nccl-cu13")


@pytest.mark.parametrize("when", ["NcclCommunicator", "groupEnd"])
def test_what_nccl_says_is_one_line(nccl, cupy, monkeypatch, when):
    def broken(*_):
        raise nccl.NcclError("NCCL_ERROR_INVALID_USAGE: invalid usage (run with ...)")

    monkeypatch.setattr(cupy.cuda.nccl, when, broken)
    assert refused(lambda world: [*generate(load(device="cuda", ring=world), "a")]) == (
        "NCCL: NCCL_ERROR_INVALID_USAGE: invalid usage (run with ...)"
    )


def test_the_installed_library_says_that_there_is_no_gpu():
    cupy = pytest.importorskip("cupy")
    if cupy.is_available() or not pytest.importorskip("cupy.cuda.nccl").available:
        pytest.skip("a GPU is here, or NCCL is not")
    from minigpt.parallel.nccl import NCCL

    with pytest.raises(InputError, match=r"^NCCL: NCCL_ERROR_\w+: .+$"):
        in_processes(1, NCCL)


def test_more_gpus_than_heads_are_refused(nccl, tmp_path):
    folder = checkpoint(tmp_path / "model")
    said = refused(lambda world: load(folder, device="cuda", ring=world), 3)
    assert re.fullmatch("of 3 GPUs one would have no part of h.0.attn.*: take fewer", said)
    assert len(in_processes(2, lambda world: load(folder, device="cuda", ring=world))) == 2


@pytest.mark.parametrize("asked", [{"dtype": "int8"}, {"engine": "fast", "dtype": "float16"}])
def test_what_gpus_do_not_do_in_parts_is_refused(nccl, asked):
    assert "not " in refused(lambda world: load(device="cuda", ring=world, **asked))


# The command, in processes.


def command(size, *args, cwd, **machine):
    """The command in processes of mpiexec, whose GPUs and NCCL are the stand-in's."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    beside = str(Path(sys.executable).parent)
    if not (mpiexec := shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")):
        pytest.skip("there is no mpiexec")
    asked = [mpiexec, "-n", str(size), *MINIGPT, "generate", "O", "--tensor-parallel", *args]
    env = environment(
        PYTHONPATH=f"{FAKES}:{ROOT}",
        FAKE_CUDA=json.dumps({"devices": 2} | machine),
        OPENBLAS_NUM_THREADS="1",
        HOME=str(cwd),
    )
    return subprocess.run(asked, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_processes_each_on_a_gpu_say_what_one_says(tmp_path):
    asked = "--max-new-tokens", "4", "--seed", "3", "--json"
    ran = command(2, *asked, "--device", "cuda", "--dtype", "float16", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    told = json.loads(ran.stdout)
    steps = [*generate(load(), "O", max_new_tokens=4, seed=3)]
    assert told["tokens"] == [[step.token for step in steps]]
    assert sum(rank["matmul_flops"] for rank in told["ranks"]) == sum(
        step.matmul_flops for step in steps
    )
    assert all(rank["bytes_sent"]["all_reduce"] > 0 for rank in told["ranks"])


@pytest.mark.parametrize(
    ("size", "machine", "says"),
    [
        (3, {}, "each of 3 processes on a machine needs a GPU of its own, and it has 2: "),
        (2, {"nccl": False}, "CuPy finds no NCCL, "),
        (2, {"devices": 0}, "--device cuda finds no GPU: cudaErrorNoDevice"),
    ],
)
def test_what_is_wrong_for_all_is_said_once(tmp_path, size, machine, says):
    ran = command(size, "--device", "cuda", cwd=tmp_path, **machine)
    assert (ran.returncode, ran.stdout) == (2, "")
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"minigpt: {says}")
