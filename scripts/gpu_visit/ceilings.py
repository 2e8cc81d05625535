"""What the machine can do at best, and what a call costs: leads for every floor and every gap."""

import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import cupy
import numpy as np

from counting import Counted, Ledger
from gpu_visit.stages import Result
from gpu_visit.visit import Run, Visit
from minigpt.fast.cublas_array import CublasArray, matmul

SOURCE = Path(__file__).with_name("kernels.cu")
PHASES = 243  # of a decoded token of GPT-2 XL that wait for each other: 5 a layer, and 3


def kernel(name: str) -> cupy.RawKernel:
    """A kernel of `kernels.cu`."""
    return cupy.RawKernel(SOURCE.read_text(encoding="utf-8"), name)


def calls(visit: Visit) -> Iterator[Result]:
    """What a call costs: on the host until it returns, and on the device in a row."""
    times = 100 if visit.dry else 5000
    x = cupy.ones_like(cupy.empty((1, visit.config.n_embd), np.float32))
    weight = CublasArray(cupy.zeros((visit.config.n_embd, 16), np.float16))
    counted, nothing = Counted(x, Ledger()), kernel("nothing")
    runs: dict[str, Run] = {
        "CuPy add": lambda: x + x,
        "CuPy add, counted": lambda: counted + counted,
        "CuPy mean": lambda: x.mean(axis=-1, keepdims=True),
        "product of a CublasArray": lambda: x @ weight,
        "RawKernel": lambda: nothing((1,), (32,), ()),
    }
    for name, run in runs.items():
        for _ in range(10):
            run()
        cupy.cuda.get_current_stream().synchronize()
        stop, began = visit.device.stopwatch(), time.perf_counter()
        for _ in range(times):
            run()
        host, device = 1e6 * (time.perf_counter() - began) / times, 1e6 * stop() / times
        row = (f"a call: {name}", f"{host:.2f} µs of host", f"{device:.2f} µs in a row")
        yield {name: {"host_us": host, "device_us": device}, "rows": [row]}


def ceilings(visit: Visit) -> Iterator[Result]:
    """Bandwidth of reading, of a copy and of pinned memory; a float16 product."""
    count, size = (2**16, 64) if visit.dry else (2**28, 8192)
    source = visit.rng.standard_normal((count,), dtype=np.float32)
    target = cupy.empty(source.shape, source.dtype)
    a, b = (
        visit.rng.standard_normal((size, size), dtype=np.float32).astype(np.float16)
        for _ in range(2)
    )
    pinned = source.nbytes // 16  # a power of two: CuPy would round it up to one
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(pinned), np.float32, pinned // 4)
    host[:] = 1.0
    part, read_all = target[: host.size], kernel("read_all")
    read = (8 * max(1, _processors()),), (256,), (source, np.int64(count // 4), target)
    runs: dict[str, Run] = {
        "read": lambda: read_all(*read),
        "copy": lambda: cupy.copyto(target, source),
        "pinned": lambda: part.set(host),
        "product": lambda: matmul(a, b),
    }
    times, _ = visit.interleaved(runs, {}, 3 if visit.dry else 20)
    seconds = {name: times[name]["median_s"] for name in runs}
    found = {
        "read_bytes_per_s": source.nbytes / seconds["read"],
        "copy_bytes_per_s": 2 * source.nbytes / seconds["copy"],
        "pinned_bytes_per_s": host.nbytes / seconds["pinned"],
        "float16_flop_per_s": 2 * size**3 / seconds["product"],
    }
    rows = [
        ("reading on the device", f"{found['read_bytes_per_s'] / 1e9:,.0f} GB/s", "16 B a load"),
        ("copy on the device", f"{found['copy_bytes_per_s'] / 1e9:,.0f} GB/s", "read and written"),
        ("pinned memory to the device", f"{found['pinned_bytes_per_s'] / 1e9:,.1f} GB/s", ""),
        (
            f"product of {size} x {size} float16",
            f"{found['float16_flop_per_s'] / 1e12:,.1f} TFLOP/s",
            "cuBLAS, float32 sums",
        ),
    ]
    yield {**found, "times": times, "rows": rows}


def barriers(visit: Visit) -> Iterator[Result]:
    """What a phase of the fast step costs where it computes nothing: by barrier, by launch."""
    done, meet, nothing = cupy.zeros(1, np.uint32), kernel("barriers"), kernel("nothing")
    blocks = _processors()

    def met() -> None:
        done.fill(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # CuPy launches fewer blocks where these do not fit
            args = (done, np.int32(PHASES))
            meet.kernel((blocks,), (1024,), args, enable_cooperative_groups=True)

    def launched() -> None:
        for _ in range(PHASES):
            nothing((blocks,), (1024,), ())

    times, _ = visit.interleaved({"barriers": met, "launches": launched}, {}, 20)
    each = {name: 1e6 * spread["median_s"] / PHASES for name, spread in times.items()}
    rows = [(f"{PHASES} empty {name}", f"{us:.2f} µs each", "") for name, us in each.items()]
    yield {"us_each": each, "blocks": blocks, "times": times, "rows": rows}


def _processors() -> int:
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.get_device_id())
    return int(properties["multiProcessorCount"])
