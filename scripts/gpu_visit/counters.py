"""The GPU's own counters, read by Nsight Compute, against what the ledger counted.

Each part runs in a process of its own under `ncu`, which sees only the kernels between two marks.
"""

import csv
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from gpu_visit import fast
from gpu_visit.stages import Result, Row
from gpu_visit.visit import MARGIN, Run, Visit
from minigpt.fast.cublas_array import CublasArray

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


def counters(visit: Visit) -> Iterator[Result]:
    """A calibration of known work, a decode step and a prefill, counted by hardware."""
    ncu = shutil.which("ncu")
    if ncu is None:
        yield {"missing": "ncu", "rows": [("hardware counters", "not read", "there is no ncu")]}
        return
    listing = subprocess.run([ncu, "--query-metrics"], **_CAPTURED, timeout=60).stdout
    metrics = available(listing)
    yield {"metrics": metrics, "rows": []}
    if not metrics:
        why = "ncu names no metric that is known: " + " ".join(listing.split())[:200]
        yield {"rows": [("hardware counters", "not read", why)]}
        return
    for part, known in expected(small(visit)).items():
        command = [ncu, "--clock-control", "none", "--profile-from-start", "off", "--csv"]
        command += ["--page", "raw", "--print-units", "base", "--target-processes", "all"]
        command += ["--metrics", ",".join(metrics)]
        command += [sys.executable, str(Path(sys.argv[0]).resolve()), "--profiled", part]
        command += ["--model", visit.name, *(["--dry-run"] if visit.dry else [])]
        left = visit.ends - time.monotonic() - MARGIN
        yield _read(part, command, left, known)


def _read(part: str, command: list[str], left: float, known: dict[str, int]) -> Result:
    """What the hardware counted of a part beside what is known of it, or why it did not."""
    what = f"counters: {part}"
    if left <= 0:
        return {"rows": [(what, "not read", "no time was left")]}
    try:
        done = subprocess.run(command, **_CAPTURED, timeout=left)
    except subprocess.TimeoutExpired:
        return {"rows": [(what, "not read", f"ncu ran past {left:.0f} s")]}
    hardware = totals(done.stdout)
    if done.returncode or not hardware:
        said = (done.stderr.strip() or done.stdout.strip() or "it is silent").splitlines()
        errors = [line for line in said if "error" in line.lower()]
        why = f"ncu ended with status {done.returncode}: {(errors or said)[-1]}"
        return {"rows": [(what, "not read", why)]}
    found = {"hardware": hardware, "counted": known}
    return {part: found, "rows": compared(part, hardware, known)}


_CAPTURED: dict[str, Any] = {"capture_output": True, "text": True}


def small(visit: Visit) -> Visit:
    """A visit with few layers of the model, for what is profiled."""
    config = replace(visit.config, n_layer=min(LAYERS, visit.config.n_layer))
    return Visit(config, visit.name, visit.dry)


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


def _passes(visit: Visit) -> dict[str, Run]:
    layers = f"{visit.config.n_layer} layers"
    step, _ = fast.engine(visit)
    keys, passes = visit.keys[1], {}
    passes[f"decode at {keys} keys, {layers}"] = visit.decoder(visit.model, keys)
    if step:
        passes[f"fast decode at {keys} keys, {layers}"] = step.called(keys)
    passes[f"prefill of {visit.prompt}, {layers}"] = visit.prefill(visit.model)
    return passes


def parts(visit: Visit) -> dict[str, Run]:
    """What runs under ncu; an addition reads both operands only where they are two."""
    size, count = _sizes(visit.dry)
    x, y = (visit.rng.standard_normal((count,), dtype=np.float32) for _ in range(2))
    a = visit.rng.standard_normal((size, size), dtype=np.float32)
    w = CublasArray(a.astype(np.float16))
    known = {"a product of known size": lambda: a @ w, "an addition of known size": lambda: x + y}
    return known | _passes(visit)


def profiled(visit: Visit, part: str) -> None:
    """Runs one part between the marks: what a process under ncu does."""
    run = parts(small(visit))[part]
    run()  # kernels are compiled and prices found outside of the marks
    cupy.cuda.get_current_stream().synchronize()
    cupy.cuda.profiler.start()
    run()
    cupy.cuda.get_current_stream().synchronize()
    cupy.cuda.profiler.stop()


def available(listing: str) -> list[str]:
    """The metrics of `METRICS` that this GPU has, as sums."""
    names = re.findall(r"^(\w+__\w+)", listing, re.MULTILINE)
    wanted = [pattern for pattern, _ in METRICS.values()]
    return [f"{name}.sum" for name in names if any(re.fullmatch(p, name) for p in wanted)]


def totals(output: str) -> dict[str, float | None]:
    """The sum over all kernels of each metric, from ncu's raw page as CSV, in base units.

    Nothing, where it has no kernel; None for a metric that could not be read of one of them.
    """
    lines = output.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    header, _units, *kernels = [*csv.reader(lines[begin:])] or [[], []]
    if not kernels:
        return {}
    found: dict[str, float | None] = {"kernels": len(kernels)}
    for name, *values in zip(header, *kernels, strict=True):
        if "__" in name:
            found[name.removesuffix(".sum")] = _sum(value.replace(",", "") for value in values)
    return found


def _sum(values: Iterable[str]) -> float | None:
    """Of numbers as ncu writes them; None if one is "n/a"."""
    try:
        return sum(map(float, values))
    except ValueError:
        return None


def compared(part: str, hardware: dict[str, float | None], known: dict[str, int]) -> list[Row]:
    """Counted beside hardware, with the reasons that are known for what differs."""

    def total(*kinds: str) -> float | None:
        read = [
            None if n is None else factor * n
            for kind in kinds
            for pattern, factor in [METRICS[kind]]
            for name, n in hardware.items()
            if re.fullmatch(pattern, name)
        ]
        return None if None in read or not read else sum(read)

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
    rows: list[Row] = []
    for kind, n in known.items():
        what, read = f"counters: {part}: {kind}", measured[kind]
        if read is None:
            rows.append((what, "not read", f"{n:,} counted; ncu gave no number"))
        elif n:
            beside = f"{n:,} counted, {read / n:.3f} of it; {reasons[kind]}"
            rows.append((what, f"{read:,.0f} by hardware", beside))
    return rows
