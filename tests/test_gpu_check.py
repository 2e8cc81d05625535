"""The script of a visit to a GPU, dry: a stand-in plays the GPU, and every stage runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import environment
from gpu import FAKES

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"
STAGES = {"memory", "counted", "correctness", "ceilings", "calls", "decode", "prefill"}
STAGES |= {"operations", "counters"}

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


def visit(cwd, *args, **env):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**env),
        timeout=120,
    )
    return result


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """A dry run of everything, with an `ncu` that makes its numbers up."""
    folder = tmp_path_factory.mktemp("visit")
    ncu = folder / "bin" / "ncu"
    ncu.parent.mkdir()
    ncu.write_text(NCU.format(python=sys.executable))
    ncu.chmod(0o755)
    path = {"PATH": f"{ncu.parent}:{environment()['PATH']}"}
    return folder, visit(folder, "--dry-run", "--out", "out", **path)


def test_a_dry_run_says_so_and_ends_with_a_table_and_a_document(dry):
    folder, result = dry
    assert result.returncode == 0, result.stdout + result.stderr
    first, *lines, last = result.stdout.splitlines()
    assert first.startswith("DRY RUN")
    assert "No GPU code ran" in first
    document = json.loads(last)
    assert document["dry_run"]
    assert "No GPU code ran" in document["note"]
    assert "no GPU code ran" in document["gpu"]
    assert set(document["stages"]) == STAGES
    for name, found in document["stages"].items():
        assert not {"error", "skipped", "missing"} & found.keys()
        assert json.loads((folder / "out" / f"{name}.json").read_text()) == found
        assert all(f"| {' | '.join(row)} |" in lines for row in found["rows"])
        assert found["rows"]
    assert json.loads((folder / "out" / "visit.json").read_text()) == document
    assert (folder / "out" / "visit.md").read_text().splitlines() == lines[
        lines.index(first) - 2 : -1
    ]


@pytest.fixture(scope="module")
def stages(dry):
    return json.loads(dry[1].stdout.splitlines()[-1])["stages"]


def test_what_does_not_depend_on_a_gpu_is_true_already(stages):
    memory = stages["memory"]
    assert memory["weights_and_cache_exact"]
    assert memory["ledger"]["weights"] == memory["categories"]["weights"]["asked"]
    assert memory["outside_the_ledger"] == memory["driver"] - memory["pool"]
    assert any(key.endswith("c_attn matmul") for key in memory["hidden"])
    assert stages["counted"]["equal"]
    assert stages["counted"]["gpu"]["decode"]["flops"] > 0
    assert stages["correctness"]["relative_error"]["ours"] < 2e-3
    greedy = stages["correctness"]["greedy"]
    assert greedy["ours"] == greedy["NumPy"]


def test_times_are_taken_in_turn_at_every_number_of_keys(stages):
    decode = stages["decode"]
    assert {"1 keys", "32 keys", "63 keys"} <= decode.keys()
    for keys in (1, 32, 63):
        found = decode[f"{keys} keys"]
        assert {"counted", "bare"} <= found["times"].keys()
        assert all(time["median_s"] > 0 and time["rounds"] == 3 for time in found["times"].values())
        assert found["matmul_flops"] > 0
    more = (decode[f"{keys} keys"]["bytes"] for keys in (63, 32))
    assert next(more) - next(more) == (63 - 32) * 2 * 2 * 48 * 2  # layers, k and v, width, bytes
    calls = {row["operation"]: row["calls"] for row in stages["operations"]["decode at 32 keys"]}
    assert {"matmul", "tanh", "copyto"} <= calls.keys()  # composites are open
    assert {"RawKernel", "CuPy add"} <= stages["calls"]["calls"].keys()


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


def test_stages_are_chosen_and_one_that_fails_stops_no_other(tmp_path):
    said = visit(tmp_path, "--dry-run", "--stages", "counters,calls", PATH="/nowhere")
    assert said.returncode == 0
    document = json.loads(said.stdout.splitlines()[-1])
    assert list(document["stages"]) == ["counters", "calls"]
    assert document["stages"]["counters"]["missing"] == "ncu"
    broken = tmp_path / "ncu"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    said = visit(tmp_path, "--dry-run", "--stages", "counters,calls", PATH=f"{tmp_path}:/bin")
    document = json.loads(said.stdout.splitlines()[-1])
    assert all(row[1] == "not read" for row in document["stages"]["counters"]["rows"])
    assert document["stages"]["calls"]["rows"]


def test_no_stage_begins_once_time_is_up(tmp_path):
    said = visit(tmp_path, "--dry-run", "--stages", "calls", "--seconds", "0")
    assert json.loads(said.stdout.splitlines()[-1])["stages"]["calls"]["skipped"]
    assert "| calls | FAILED | no time was left |" in said.stdout


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
