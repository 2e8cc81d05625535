"""The GPU's own counters, read by Nsight Compute, against what the ledger counted.

Each part runs in a process of its own under `ncu`, which sees only the kernels between two marks.
"""

import csv
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from gpu_visit.visit import Result, Row, Visit
from minigpt.fast.cublas_array import CublasArray
from minigpt.models.gpt2_config import GPT2Config

LAYERS = 4  # of the model that is profiled; ncu runs each kernel several times

# What a metric counts; names differ between GPUs, so those that there are get asked for first.
METRICS = {
    "dram": (r"dram__bytes_(read|write)", 1),
    "fp32": (r"smsp__sass_thread_inst_executed_op_f(add|mul)_pred_on", 1),
    "fp32 fma": (r"smsp__sass_thread_inst_executed_op_ffma_pred_on", 2),
    "fp16": (r"smsp__sass_thread_inst_executed_op_h(add|mul)_pred_on", 1),
    "fp16 fma": (r"smsp__sass_thread_inst_executed_op_hfma_pred_on", 2),
    "tensor": (r"sm__ops_path_tensor_src_fp16_dst_fp32", 1),
}


def counters(visit: Visit) -> Result:
    """A calibration of known work, a decode step and a prefill, counted by hardware."""
    ncu = shutil.which("ncu")
    if ncu is None:
        return {"missing": "ncu", "rows": [("hardware counters", "not read", "there is no ncu")]}
    metrics = available(subprocess.run([ncu, "--query-metrics"], **_CAPTURED).stdout)
    found: Result = {"metrics": metrics}
    rows: list[Row] = []
    for part, known in expected(small(visit.config, visit.dry)).items():
        left = visit.ends - time.monotonic()
        if left < 20 and not visit.dry:
            rows.append((f"counters: {part}", "not read", "no time was left"))
            continue
        command = [ncu, "--clock-control", "none", "--profile-from-start", "off", "--csv"]
        command += [
            "--page",
            "raw",
            "--print-units",
            "base",
            "--target-processes",
            "all",
            "--metrics",
            ",".join(metrics),
        ]
        command += [sys.executable, str(Path(sys.argv[0]).resolve()), "--profiled", part]
        command += ["--dry-run"] if visit.dry else []
        done = subprocess.run(command, **_CAPTURED, timeout=max(left, 20))
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            rows.append((f"counters: {part}", "not read", said[-1] if said else "ncu failed"))
            continue
        hardware = totals(done.stdout)
        found[part] = {"hardware": hardware, "counted": known}
        rows += compared(part, hardware, known)
    return {**found, "rows": rows}


_CAPTURED: dict[str, Any] = {"capture_output": True, "text": True}


def small(config: GPT2Config, dry: bool) -> Visit:
    """A visit with few layers of the model, for what is profiled."""
    return Visit(replace(config, n_layer=min(LAYERS, config.n_layer)), dry, 0.0)


def expected(visit: Visit) -> dict[str, dict[str, int]]:
    """FLOP by unit and bytes of each part, as known or as a ledger counts them."""
    size, count = _sizes(visit.dry)
    known = {
        "a product of known size": {"tensor": 2 * size**3},
        "an addition of known size": {"fp32": count, "bytes": 12 * count},
    }
    for name, run in _passes(visit).items():
        run()
        before = visit.ledger.snapshot()
        run()
        counts = visit.ledger.snapshot() - before
        cost = counts.cost
        moved = (*counts.bytes_read.values(), *counts.bytes_written.values())
        known[name] = {
            "tensor": 2 * cost["fma"],
            "fp32": sum(n for kind, n in cost.items() if kind not in ("fma", "cmp")),
            "bytes": int(sum(moved)),
        }
    return known


def _sizes(dry: bool) -> tuple[int, int]:
    return (64, 2**12) if dry else (4096, 2**27)


def _passes(visit: Visit) -> dict[str, Any]:
    layers = f"{visit.config.n_layer} layers"
    return {
        f"decode at {visit.keys[1]} keys, {layers}": visit.decoder(visit.model, visit.keys[1]),
        f"prefill of {visit.prompt}, {layers}": visit.prefill(visit.model),
    }


def profiled(visit: Visit, part: str) -> None:
    """Runs one part between the marks: what a process under ncu does."""
    size, count = _sizes(visit.dry)
    x = visit.rng.standard_normal((count,), dtype=np.float32)
    a = visit.rng.standard_normal((size, size), dtype=np.float32)
    w = CublasArray(a.astype(np.float16))
    runs = {
        "a product of known size": lambda: a @ w,
        "an addition of known size": lambda: x + x,
        **_passes(visit),
    }
    runs[part]()  # kernels are compiled and prices found outside of the marks
    cupy.cuda.get_current_stream().synchronize()
    cupy.cuda.profiler.start()
    runs[part]()
    cupy.cuda.get_current_stream().synchronize()
    cupy.cuda.profiler.stop()


def available(listing: str) -> list[str]:
    """The metrics of `METRICS` that this GPU has, as sums."""
    names = re.findall(r"^(\w+__\w+)", listing, re.MULTILINE)
    wanted = [pattern for pattern, _ in METRICS.values()]
    return [f"{name}.sum" for name in names if any(re.fullmatch(p, name) for p in wanted)]


def totals(output: str) -> dict[str, float]:
    """The sum over all kernels of each metric, from ncu's raw page as CSV, in base units."""
    lines = output.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith('"ID"'))
    header, _units, *kernels = csv.reader(lines[begin:])
    found: dict[str, float] = defaultdict(float)
    for row in kernels:
        for name, value in zip(header, row, strict=True):
            if "__" in name:
                found[name.removesuffix(".sum")] += float(value.replace(",", "") or 0)
    return {**found, "kernels": len(kernels)}


def compared(part: str, hardware: dict[str, float], known: dict[str, int]) -> list[Row]:
    """Counted beside hardware, with the reasons that are known for what differs."""

    def total(*kinds: str) -> float:
        return sum(
            factor * n
            for kind in kinds
            for pattern, factor in [METRICS[kind]]
            for name, n in hardware.items()
            if re.fullmatch(pattern, name)
        )

    measured = {
        "tensor": total("tensor"),
        "fp32": total("fp32", "fp32 fma", "fp16", "fp16 fma"),
        "bytes": total("dram"),
    }
    reasons = {
        "tensor": "tiles are padded; a product of one row may leave the tensor cores",
        "fp32": "exp, tanh and division are many instructions each; products outside tensor cores",
        "bytes": "caches serve what is read again; casts and copies that CuPy makes",
    }
    return [
        (
            f"counters: {part}: {kind}",
            f"{measured[kind]:,.0f} by hardware",
            f"{n:,} counted, {measured[kind] / n:.3f} of it; {reasons[kind]}",
        )
        for kind, n in known.items()
        if n
    ]
