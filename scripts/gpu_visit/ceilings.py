"""What the machine can do at best, and what a call costs: leads for every floor and every gap."""

import time
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from counting import Counted, Ledger
from gpu_visit.visit import Result, Visit
from minigpt.fast.cublas_array import CublasArray, matmul

KERNEL = r"""
extern "C" __global__ void one(float* x) { if (threadIdx.x == 0) x[0] += 1.0f; }
"""


def calls(visit: Visit) -> Result:
    """What a call costs: on the host until it returns, and on the device in a row."""
    times = 100 if visit.dry else 5000
    x = cupy.ones_like(cupy.empty((1, visit.config.n_embd), np.float32))
    weight = CublasArray(cupy.zeros((visit.config.n_embd, 16), np.float16))
    counted, kernel = Counted(x, Ledger()), cupy.RawKernel(KERNEL, "one")
    runs: dict[str, Callable[[], Any]] = {
        "CuPy add": lambda: x + x,
        "CuPy add, counted": lambda: counted + counted,
        "CuPy mean": lambda: x.mean(axis=-1, keepdims=True),
        "product of a CublasArray": lambda: x @ weight,
        "RawKernel": lambda: kernel((1,), (32,), (x,)),
    }
    found = {}
    for name, run in runs.items():
        for _ in range(10):
            run()
        cupy.cuda.get_current_stream().synchronize()
        stop, began = visit.device.stopwatch(), time.perf_counter()
        for _ in range(times):
            run()
        host = (time.perf_counter() - began) / times
        found[name] = {"host_us": 1e6 * host, "device_us": 1e6 * stop() / times}
    rows = [
        (f"a call: {name}", f"{us['host_us']:.2f} µs of host", f"{us['device_us']:.2f} µs in a row")
        for name, us in found.items()
    ]
    return {"calls": found, "rows": rows}


def ceilings(visit: Visit) -> Result:
    """Bandwidth of a device copy (read plus written) and of pinned memory; a float16 product."""
    count, size = (2**16, 64) if visit.dry else (2**28, 8192)
    source = visit.rng.standard_normal((count,), dtype=np.float32)
    target = cupy.empty(source.shape, source.dtype)
    a, b = (
        visit.rng.standard_normal((size, size), dtype=np.float32).astype(np.float16)
        for _ in range(2)
    )
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(source.nbytes // 16), np.float32)
    host[:] = 1.0
    part = target[: host.size]
    runs: dict[str, Callable[[], Any]] = {
        "copy": lambda: cupy.copyto(target, source),
        "pinned": lambda: part.set(host),
        "product": lambda: matmul(a, b),
    }
    times = visit.interleaved(runs, 3 if visit.dry else 20)
    copy, pinned, product = (times[name]["median_s"] for name in runs)
    found = {
        "copy_bytes_per_s": 2 * source.nbytes / copy,
        "pinned_bytes_per_s": host.nbytes / pinned,
        "float16_flop_per_s": 2 * size**3 / product,
    }
    rows = [
        ("copy on the device", f"{found['copy_bytes_per_s'] / 1e9:,.0f} GB/s", "read and written"),
        ("pinned memory to the device", f"{found['pinned_bytes_per_s'] / 1e9:,.1f} GB/s", ""),
        (
            f"product of {size} x {size} float16",
            f"{found['float16_flop_per_s'] / 1e12:,.1f} TFLOP/s",
            "cuBLAS, float32 sums",
        ),
    ]
    return {**found, "times": times, "rows": rows}
