"""The script of a visit to a GPU, dry: a stand-in plays the GPU, and every stage runs."""

import json
import math
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import SimpleNamespace

import emulator
import numpy as np
import pytest
from checkpoints import environment
from gpu import FAKES, stand_in  # noqa: F401

from minigpt.models.gpt2_config import GPT2Config

SCRIPTS = Path(__file__).parents[1] / "scripts"
SCRIPT = SCRIPTS / "gpu_check.py"
STAGES = ["environment", "ceilings", "barriers", "alone", "jobs", "correctness", "counted"]
STAGES += ["memory", "decode", "prefill", "compiled", "operations", "calls", "ring"]
STAGES += ["counters", "sanitizer"]

NCU = """#!{python}
import subprocess, sys
if "--query-metrics" in sys.argv:
    print("Device NVIDIA H200 (GH100)")
    print("dram__bytes_read                    Counter  byte  bytes read from DRAM")
    print("dram__bytes_write                   Counter  byte  bytes written to DRAM")
    print("dram__cycles_active                 Counter  cycle cycles of DRAM")
    print("sm__ops_path_tensor_src_fp16_dst_fp32  Counter     FLOP")
    print("sm__ops_path_tensor_src_fp16_dst_fp32_sparsity_on  Counter     FLOP")
    print("smsp__sass_thread_inst_executed_op_ffma_pred_on  Counter inst FFMA")
    sys.exit()
assert sys.argv[1:3] == ["--clock-control", "none"]
assert sys.argv[sys.argv.index("--print-units") + 1] == "base"
metrics = sys.argv[sys.argv.index("--metrics") + 1].split(",")
command = sys.argv[sys.argv.index("--metrics") + 2:]
done = subprocess.run(command, capture_output=True, text=True)
if done.returncode:
    sys.exit(done.stderr)
print("==PROF== Connected")
print(done.stdout)
print(",".join(f'"{{name}}"' for name in ("ID", "Kernel Name", *metrics)))
units = ["byte" if "dram" in name else "" for name in metrics]
print(",".join(f'"{{unit}}"' for unit in ("", "", *units)))
for kernel in range(2):
    print(",".join(f'"{{value}}"' for value in (kernel, "gemm", *["1,000.5"] * len(metrics))))
"""


SANITIZER = """#!/bin/sh
echo "========= COMPUTE-SANITIZER"
shift 2
"$@" >&2 && echo "========= ERROR SUMMARY: 0 errors"
"""


def visit(cwd, *args, **env):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args, "--out", "out"],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**env),
        timeout=300,
    )


def on_stand_in(cwd, stages, **machine):
    """The stages of a dry run on a machine that is so, and the whole document."""
    said = visit(cwd, "--dry-run", "--stages", stages, FAKE_CUDA=json.dumps(machine))
    return said, json.loads((cwd / "out" / "visit.json").read_text())["stages"]


def tool(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return f"{folder}:{environment()['PATH']}"


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """A dry run of everything, with an `ncu` that makes its numbers up."""
    folder = tmp_path_factory.mktemp("visit")
    tool(folder / "bin", "compute-sanitizer", SANITIZER)
    path = tool(folder / "bin", "ncu", NCU.format(python=sys.executable))
    return folder, visit(folder, "--dry-run", PATH=path)


def test_a_dry_run_says_so_and_leaves_a_table_and_a_document(dry):
    folder, result = dry
    assert result.returncode == 0, result.stdout + result.stderr
    first, *lines, last = result.stdout.splitlines()
    assert first.startswith("DRY RUN")
    assert "No GPU code ran" in first
    assert last == f"{len(STAGES)} stages; all of it is in out/visit.md and visit.json"
    document = json.loads((folder / "out" / "visit.json").read_text())
    table = (folder / "out" / "visit.md").read_text().splitlines()
    assert document["dry_run"]
    assert document["note"] == first
    assert first in table
    assert "no GPU code ran" in table[0]
    assert list(document["stages"]) == STAGES
    for name, found in document["stages"].items():
        assert not {"error", "skipped", "missing"} & found.keys(), found
        assert json.loads((folder / "out" / f"{name}.json").read_text()) == found
        for row in found["rows"]:
            assert f"| {' | '.join(row)} |" in lines
            assert f"| {' | '.join(row)} |" in table
        assert found["rows"]


def test_a_dry_run_says_what_each_stage_would_do_in_how_many_seconds(dry):
    lines = dry[1].stdout.splitlines()
    planned = [re.match(r"  (\w+) +(\d+) s  \w+", line) for line in lines]
    seconds = {found[1]: int(found[2]) for found in planned if found}
    assert list(seconds) == STAGES
    assert f"A visit with gpt2-xl, {sum(seconds.values())} s on an H100:" in lines
    assert sum(seconds.values()) <= 540


@pytest.fixture(scope="module")
def stages(dry):
    return json.loads((dry[0] / "out" / "visit.json").read_text())["stages"]


def test_what_does_not_depend_on_a_gpu_is_true_already(stages):
    memory = stages["memory"]
    assert memory["weights_and_cache_exact"]
    assert memory["ledger"]["weights"] == memory["categories"]["weights"]["asked"]
    assert memory["outside_the_ledger"] == memory["driver"] - memory["pool"]
    assert any(key.endswith("c_attn matmul") for key in memory["hidden"])
    assert not any("empty_like" in key for key in memory["hidden"])  # which takes what it gives
    assert stages["counted"]["equal"]
    assert stages["counted"]["gpu"]["decode"]["flops"] > 0
    correctness = stages["correctness"]
    assert correctness["NumPy"]["positions"] == [0, 16, 31]
    for name, most in (("float32", 1e-6), ("float16", 2e-3)):
        assert len(correctness[name]["relative_error"]) == 3
        assert 0 < max(correctness[name]["relative_error"]) < most
        assert correctness[name]["greedy"] == correctness["NumPy"]["greedy"]
    rows = {what: (result, beside) for what, result, beside in correctness["rows"]}
    assert rows["logits, float32"][1] == "16 of 16 greedy tokens are NumPy's"


def test_each_job_is_run_by_this_cpu_where_gcc_stands(stages):
    alone = stages["alone"]
    if shutil.which("g++"):
        assert alone["wrong"] == 0
        assert {"2 x Attention", "1 x Product 48 x 320 (layer_norm)"} < {
            x[0] for x in alone["rows"]
        }
    else:
        assert [row[1] for row in alone["rows"]] == ["not run"]


def test_times_are_taken_in_turn_at_every_number_of_keys(stages):
    decode = stages["decode"]
    for keys in (1, 32, 63):
        found = decode[f"{keys} keys"]
        assert {"counted", "bare"} <= found["times"].keys()
        assert all(time["median_s"] > 0 and time["rounds"] == 3 for time in found["times"].values())
        assert found["matmul_flops"] > 0
    more = (decode[f"{keys} keys"]["bytes"] for keys in (63, 32))
    assert next(more) - next(more) == (63 - 32) * 2 * 2 * 48 * 2  # layers, k and v, width, bytes
    read = stages["ceilings"]["read_bytes_per_s"]
    rate = decode["1 keys"]["bytes"] / decode["1 keys"]["times"]["bare"]["median_s"]
    beside = next(row[2] for row in decode["rows"] if row[0] == "decode at 1 keys: bare")
    assert f"; {rate / read:.1%} of what can be read, " in beside
    calls = {row["operation"]: row["calls"] for row in stages["operations"]["decode at 32 keys"]}
    assert {"matmul", "tanh", "copyto"} <= calls.keys()  # composites are open
    assert {"RawKernel", "CuPy add"} <= stages["calls"].keys()


def test_transformers_decodes_beside_it_eager_and_compiled(stages):
    pytest.importorskip("transformers")
    for stage, name in (("decode", "transformers"), ("compiled", "transformers, compiled")):
        assert all(name in stages[stage][f"{keys} keys"]["times"] for keys in (1, 32, 63))
    assert max(stages["correctness"]["transformers"]["relative_error"]) < 5e-3


def test_hardware_counters_are_summed_over_kernels_and_set_beside(stages):
    counters = stages["counters"]
    assert counters["metrics"] == [
        "dram__bytes_read.sum",
        "dram__bytes_write.sum",
        "sm__ops_path_tensor_src_fp16_dst_fp32.sum",
        "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    ]
    parts = [found for name, found in counters.items() if isinstance(found, dict)]
    assert len(parts) == 4
    for part in parts:
        hardware = part["hardware"]
        assert hardware["dram__bytes_read"] == hardware["dram__bytes_write"] == 2001
        assert hardware["kernels"] == 2
    assert counters["a product of known size"]["counted"] == {"tensor": 2 * 64**3}
    rows = {what: (result, beside) for what, result, beside in counters["rows"]}
    result, beside = rows["counters: an addition of known size: bytes"]
    assert result == "4,002 by hardware"
    assert beside.startswith(f"49,152 counted, {4002 / 49152:.3f} of it")
    assert rows["counters: an addition of known size: fp32"][0] == "4,002 by hardware"  # 2 an FMA


def test_the_sanitizer_has_the_last_word(stages):
    for tool in ("memcheck", "racecheck", "synccheck"):
        for stage in ("jobs", "counted"):
            assert stages["sanitizer"][f"{tool}, {stage}"] == "ERROR SUMMARY: 0 errors"


# What fails takes nothing else with it.


def test_a_kernel_that_fails_stops_its_own_stage_and_says_where(tmp_path):
    kernels = {"read_all": "error", "barriers": "crash"}
    said, found = on_stand_in(tmp_path, "ceilings,barriers,counted", kernels=kernels)
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1].startswith("4 stages, FAILED: ceilings, barriers; ")
    error = found["ceilings"]["error"]
    assert error.startswith("CUDARuntimeError: cudaErrorIllegalAddress: an illegal memory access")
    assert re.search(r" \[scripts/gpu_visit/ceilings\.py:\d+: .*read_all\(\*read\).*\]$", error)
    assert f"| ceilings | FAILED | {error} |" in said.stdout.splitlines()
    crashed = found["barriers"]["error"]
    assert re.fullmatch(r"ended with status -11 \[scripts/gpu_visit/ceilings\.py:\d+\]", crashed)
    assert found["counted"]["equal"]


def test_a_stage_that_hangs_is_ended_and_says_where(tmp_path, gpu_visit, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA", json.dumps({"kernels": {"barriers": "never"}}))
    options = ["--dry-run", "--out", str(tmp_path)]
    found = gpu_visit("stages").launch("barriers", options, tmp_path / "barriers.json", 6)
    assert re.fullmatch(r"ran past 6 s \[(scripts|minigpt|counting)/.+:\d+\]", found["error"])
    assert json.loads((tmp_path / "barriers.json").read_text()) == found


PEER = """
class GPT2Config:
    def __init__(self, **sizes):
        raise RuntimeError("built for another torch")
GPT2LMHeadModel = GPT2Config
"""
STICKY = """
import cupy
cupy.RawKernel("", "of_the_peer")((1,), (1,), ())
"""


@pytest.mark.parametrize(("torch", "again"), [("", False), (STICKY, True)])
def test_a_peer_that_fails_takes_nothing_of_ours_with_it(tmp_path, monkeypatch, torch, again):
    (tmp_path / "transformers.py").write_text(PEER)
    (tmp_path / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    machine = {"kernels": {"of_the_peer": "error"}}
    _, found = on_stand_in(tmp_path, "decode", **machine)
    decode = found["decode"]
    assert {"counted", "bare"} <= decode["63 keys"]["times"].keys()
    failed = [row for row in decode["rows"] if row[1] == "FAILED"]
    if again:  # CUDA works no more in a process once it failed
        assert failed[0][0] == "decode beside peers"
        assert "cudaErrorIllegalAddress" in failed[0][2]
    else:
        assert failed[0][0] == "transformers"
        assert failed[0][2].startswith("RuntimeError: built for another torch [scripts/")


def test_stages_are_chosen_and_run_by_worth(tmp_path):
    said = visit(tmp_path, "--dry-run", "--stages", "counters,calls", PATH="/nowhere")
    assert said.returncode == 0
    found = json.loads((tmp_path / "out" / "visit.json").read_text())["stages"]
    assert list(found) == ["environment", "calls", "counters"]
    assert found["counters"]["missing"] == "ncu"


def test_no_stage_begins_once_time_is_up(tmp_path):
    said = visit(tmp_path, "--dry-run", "--stages", "calls", "--seconds", "0")
    found = json.loads((tmp_path / "out" / "visit.json").read_text())["stages"]
    assert found["calls"]["skipped"]
    assert "| calls | FAILED | no time was left |" in said.stdout


NEEDED = ("numpy", "cupy-cuda13x", "llvmlite", "typer", "rich", "sympy", "safetensors")
BARE = """
import sys
class Bare:  # what a machine with a GPU has, and no more
    def find_spec(self, name, path=None, target=None):
        if path is None and name in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Bare())
"""


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def brought(names):
    """Distributions of some names that are here, and all that they bring along."""
    found = set()
    for name in names:
        with suppress(PackageNotFoundError):
            asked = [each for each in requires(name) or () if "extra ==" not in each]
            found |= {plain(name)} | brought(re.match(r"[\w.-]+", each)[0] for each in asked)
    return found


@pytest.mark.peers
def test_a_dry_run_needs_a_bare_checkout_and_what_a_gpu_has(tmp_path):
    checkout, site = tmp_path / "checkout", tmp_path / "site"
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=SCRIPTS.parent, capture_output=True)
    if archive.returncode:
        pytest.skip("it is no clone")
    checkout.mkdir()
    subprocess.run(["tar", "x", "-C", checkout], input=archive.stdout, check=True)
    needed, here = brought(NEEDED), packages_distributions()
    refused = {module for module in here if not needed & {*map(plain, here[module])}}
    assert {"ml_dtypes", "tokenizers", "pytest"} <= refused
    refused -= {"minigpt", "counting"}  # installed, and in the checkout
    site.mkdir()
    (site / "sitecustomize.py").write_text(BARE.format(refused=refused))
    done = subprocess.run(
        [sys.executable, "scripts/gpu_check.py", "--dry-run"],
        capture_output=True,
        text=True,
        cwd=checkout,
        env=environment(PYTHONPATH=f"{site}:.", HOME=str(tmp_path)),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((checkout / "gpu_check" / "visit.json").read_text())["stages"]
    assert list(found) == STAGES
    assert not any("error" in stage for stage in found.values())
    assert "No module named 't" in done.stdout  # torch, or transformers


# What stages are made of, in this process.


@pytest.fixture(name="gpu_visit")
def modules(cupy, monkeypatch):
    """Gives the modules of a visit, beside the stand-in."""
    monkeypatch.syspath_prepend(SCRIPTS)
    yield lambda name: import_module(f"gpu_visit.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "gpu_visit"]:
        del sys.modules[name]


QUERY = 'if [ "$1" = --query-metrics ]; then echo "dram__bytes_read  Counter"; exit; fi\n'
HEADER = 'echo \'"ID","Kernel Name","dram__bytes_read.sum"\'; echo \'"","","byte"\'\n'


@pytest.mark.parametrize(
    ("ncu", "says"),
    [
        ("exit 3", "ncu ended with status 3: it is silent"),
        ("echo '==ERROR== no permission' >&2; exit 1", "ncu ended with status 1: ==ERROR== no p"),
        ("echo '==WARNING== No kernels were profiled.'", "ncu ended with status 0: ==WARNING== No"),
        (HEADER, "ncu ended with status 0: "),
        (f'{HEADER}echo \'"0","gemm","n/a"\'', "counted; ncu gave no number"),
        ("sleep 30", "ncu ran past 1 s"),
    ],
)
def test_counters_that_cannot_be_read_say_why(gpu_visit, tmp_path, monkeypatch, ncu, says):
    monkeypatch.setenv("PATH", tool(tmp_path / "bin", "ncu", f"#!/bin/sh\n{QUERY}{ncu}\n"))
    small = tiny(gpu_visit)
    small.ends = time.monotonic() + (6 if "sleep" in ncu else 100)
    monkeypatch.setattr(gpu_visit("counters"), "expected", lambda _: {"part": {"bytes": 12}})
    rows = [row for part in gpu_visit("counters").counters(small) for row in part["rows"]]
    assert [row[1] for row in rows] == ["not read"]
    assert says in rows[0][2]


def tiny(gpu_visit):
    return gpu_visit("visit").Visit(GPT2Config(320, 64, 48, 2, 3), "gpt2-medium", True)


def test_what_is_profiled_is_of_the_model_of_the_visit(gpu_visit, monkeypatch):
    counters, commands = gpu_visit("counters"), []
    monkeypatch.setattr(counters.shutil, "which", lambda name: name)
    listing = SimpleNamespace(stdout="dram__bytes_read  Counter")
    monkeypatch.setattr(counters.subprocess, "run", lambda *_, **__: listing)
    monkeypatch.setattr(
        counters, "_read", lambda part, command, *_: commands.append(command) or {"rows": []}
    )
    list(counters.counters(tiny(gpu_visit)))
    assert len(commands) == 4
    assert all(line[line.index("--model") + 1] == "gpt2-medium" for line in commands)


def test_an_addition_of_known_size_reads_two_arrays(cupy, gpu_visit, monkeypatch):
    pairs = []
    add = gpu_visit("counters").parts(tiny(gpu_visit))["an addition of known size"]
    monkeypatch.setattr(cupy.ndarray, "__add__", lambda *pair: pairs.append(pair))
    add()
    [(x, y)] = pairs
    assert not cupy.may_share_memory(x, y)


def test_greedy_tokens_of_logits_that_are_not_finite_mean_nothing(gpu_visit):
    row = gpu_visit("truth")._row
    assert row("ours", [1e-3, 2e-3], [1, 2, 9, 4], [1, 2, 3, 4])[1:] == (
        "relative error 2.00e-03",
        "2 of 4 greedy tokens are NumPy's",
    )
    assert row("ours", [1e-3, math.inf], [1, 2], [1, 2])[1] == "NOT FINITE"
    assert "of 2" not in row("ours", [1e-3, math.inf], [1, 2], [1, 2])[2]


def test_whatever_a_stage_finds_can_be_written(gpu_visit, tmp_path):
    found = {1: np.float32(0.5), "a": [math.nan, -math.inf], "b": (np.arange(2), {3}), "c": None}
    gpu_visit("stages").write(tmp_path / "stage.json", found)

    def refused(constant):
        raise AssertionError(constant)

    text = (tmp_path / "stage.json").read_text()
    assert json.loads(text, parse_constant=refused) == {
        "1": 0.5,
        "a": ["nan", "-inf"],
        "b": [[0, 1], "{3}"],
        "c": None,
    }


@pytest.fixture
def fast(cupy, gpu_visit, monkeypatch):
    """A small visit with the fast step, its kernels run by this CPU; and what launches them."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    kernels = emulator.Emulator(emulator.built(), 9, 128)
    launch = import_module("minigpt.fast.cuda.launch")
    monkeypatch.setattr(launch, "Compiled", lambda: kernels)
    return gpu_visit("visit").Visit(GPT2Config(311, 40, 64, 2, 4)), kernels


LAYER = [
    "Product 64 x 192 (layer_norm, bias)",
    "Attention",
    "Product 64 x 64 (parts, bias, residual)",
    "Product 64 x 256 (layer_norm, bias, gelu)",
    "Product 256 x 64 (plain, bias, residual)",
]
JOBS = ["Gathered", *LAYER, *LAYER, "Product 64 x 311 (layer_norm)"]
JOBS += ["Norm", "Norm", "Rows", "Rows", "Position"]
FAULTS = {  # of a kernel: the first job that is wrong with it, and how many are
    "": ("", 0),
    "if (job.residual) y += job.residual[at];": ("job 3, Product 64 x 64 (parts, bias, res", 4),
    "row < rows; row += blockDim.x": ("job 1, Product 64 x 192 (layer_norm, bias): rel", 9),
    " * (float)job.scale": ("job 2, Attention: relative error ", 2),
    "case ADD: return a + b;": ("a sum, Rows: relative error ", 1),
}


@pytest.fixture(params=FAULTS)
def fault(request, monkeypatch):
    whole = emulator.source()
    assert request.param in whole
    instead = "row + 1 < rows; row += blockDim.x" if "row <" in request.param else ""
    if request.param:
        text = whole.replace(request.param, instead)
        monkeypatch.setattr(emulator, "source", lambda: text)
    return request.param


def test_each_job_alone_is_its_line_and_the_first_that_is_not_is_named(fault, fast, gpu_visit):
    first, wrong = FAULTS[fault]
    parts = list(gpu_visit("alone").alone(fast[0]))
    assert [x["job"] for part in parts for x in part.values() if isinstance(x, dict)] == JOBS
    said = [part["error"] for part in parts if "error" in part]
    assert [error.startswith(f"FIRST WRONG: {first}") for error in said] == [True] * bool(first)
    assert parts[-1]["wrong"] == wrong
    assert [row[0] for row in parts[-1]["rows"]][-3:] == ["2 x Norm", "2 x Rows", "1 x Position"]


def test_a_job_that_breaks_is_named(fast, gpu_visit, cupy, monkeypatch):
    def broken(jobs, run, *_):
        if run[0] == 2:
            raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorIllegalAddress: ...")
        return own(jobs, run, *_)

    own = fast[1].launch
    monkeypatch.setattr(fast[1], "launch", broken)
    with pytest.raises(RuntimeError, match="FIRST TO BREAK: job 2, Attention: cudaErrorIll"):
        list(gpu_visit("alone").alone(fast[0]))


def test_the_fast_step_is_held_against_the_code_layer_by_layer(fast, gpu_visit, monkeypatch):
    visit, kernels = fast
    _, layers, phases = gpu_visit("fast").jobs(visit)
    assert list(layers["layers"]) == ["h.0 k", "h.0 v", "h.1 k", "h.1 v", "logits"]
    assert 0 < max(layers["layers"].values()) < 5e-3
    assert layers["rows"][0][2] == "all are right"
    assert phases["phases"]["Product 64 x 192"]["weight_bytes"] == 2 * 64 * 192
    assert any(row[0] == "2 x Product 64 x 256" for row in phases["rows"])
    monkeypatch.setattr(kernels, "launch", lambda *_: None)
    _, layers, _ = gpu_visit("fast").jobs(visit)
    assert layers["rows"][0][2] == "FIRST WRONG: h.0 k, inf"


def test_the_fast_step_decodes_beside_the_reference(fast, gpu_visit):
    visit, _ = fast
    visit.rounds = 1
    _, *found = gpu_visit("speed").decode(visit)
    assert {"fast", "fast, kernel", "fast, graph"} <= found[-1]["39 keys"]["times"].keys()


def test_all_gpus_are_a_ring_of_nccl(cupy, gpu_visit, monkeypatch):
    stage = gpu_visit("ring")
    monkeypatch.setitem(cupy.cuda.MACHINE, "devices", 3)
    [found] = stage.ring(tiny(gpu_visit))
    assert found["size"] == 3
    assert found["rows"][0][:2] == ("NCCL 0.0, a ring of 3", "all arrives as it was sent")
    own = stage.NCCL.exchange

    def broken(self, x, width, *_):
        came = own(self, x, width, *_)
        return cupy.zeros(width, x.dtype) if x.dtype == np.float16 else came

    monkeypatch.setattr(stage.NCCL, "exchange", broken)
    [found] = stage.ring(tiny(gpu_visit))
    assert found["error"] == "WRONG: 1 of float16, 1000 of float16, 1000003 of float16"
    monkeypatch.setattr(cupy.cuda.nccl, "available", False)
    [found] = stage.ring(tiny(gpu_visit))
    assert found == {"missing": "nccl", "rows": [("NCCL", "not run", "CuPy finds no NCCL")]}


def test_pinned_memory_is_measured_in_a_block_that_cupy_does_not_round(cupy, gpu_visit):
    list(gpu_visit("ceilings").ceilings(tiny(gpu_visit)))
    assert cupy.cuda.PINNED.held == 2**16 * 4 // 16


@pytest.mark.parametrize(
    ("args", "machine", "status", "says"),
    [
        (["--stages", "decode,nonsense"], {}, 2, "unknown stage nonsense"),
        (["--model", "gpt3"], {}, 2, "unknown model gpt3"),
        ([], {"driver": 0}, 2, "gpu_check: --device cuda needs an NVIDIA GPU and its driver"),
        ([], {"memory": 2**30}, 2, "gpu_check: the model in float16 needs"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(tmp_path, args, machine, status, says):
    said = visit(tmp_path, *args, PYTHONPATH=str(FAKES), FAKE_CUDA=json.dumps(machine))
    assert says in said.stderr.splitlines()[-1]
    assert said.returncode == status
    assert not list(tmp_path.iterdir())
