"""The parts of `cupy.cuda` that are used: runtime, pool, hooks, streams, events, cuBLAS.

`FAKE_CUDA` says what machine it is: a JSON object with `driver`, `wheel`, `devices`,
`capability`, `memory` in bytes, `libraries`, `nccl`, and `kernels`: those that end in an error, a
crash or never, by name. As on a GPU an error is raised by the next call, and by all that follow.
"""

import ctypes
import json
import os
import signal
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np

from cupy.nccl import nccl

MACHINE = {
    "driver": 13000,
    "wheel": 13000,
    "devices": 1,
    "capability": "86",
    "memory": 12 * 2**30,
    "libraries": True,
    "nccl": True,
    "kernels": {},
} | json.loads(os.environ.get("FAKE_CUDA", "{}"))

nccl.available = MACHINE["nccl"]
NAME = b"stand-in for a GPU (no GPU code ran)"
CONTEXT = 300_000_000  # bytes that the driver takes for itself


class CUDARuntimeError(RuntimeError):
    pass


BROKEN = []


def _alive():
    """Raises the error of this process that came first, if one did."""
    if BROKEN:
        raise CUDARuntimeError(BROKEN[0])


def _device_count():
    if not MACHINE["devices"]:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return MACHINE["devices"]


def _memory():
    taken = POOL.total_bytes() + CONTEXT
    return MACHINE["memory"] - taken, MACHINE["memory"]


def _memcpy(dst, src, size, kind):
    _alive()
    ctypes.memmove(dst, src, size)


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    memcpyHostToDevice=1,
    memcpyDeviceToHost=2,
    memcpy=_memcpy,
    CUDA_R_32F=0,
    CUDA_R_16F=2,
    CUDA_R_16BF=14,
    driverGetVersion=lambda: MACHINE["driver"],
    runtimeGetVersion=lambda: MACHINE["wheel"],
    getDeviceCount=_device_count,
    getDeviceProperties=lambda device: {"name": NAME, "l2CacheSize": 0, "multiProcessorCount": 1},
    memGetInfo=_memory,
    deviceSynchronize=lambda: None,
)


class Function:
    """A kernel: takes its launches and runs none."""

    def __init__(self, name):
        self.name = name

    def __call__(
        self, grid, block, args, shared_mem=0, stream=None, enable_cooperative_groups=False
    ):
        _alive()
        end = MACHINE["kernels"].get(self.name)
        if end == "error":
            BROKEN.append("cudaErrorIllegalAddress: an illegal memory access was encountered")
            if os.environ.get("CUDA_LAUNCH_BLOCKING") == "1":
                _alive()
        elif end == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif end == "never":
            time.sleep(1000)


profiler = SimpleNamespace(start=lambda: None, stop=lambda: None)


# Memory


class MemoryHook:
    name = "MemoryHook"

    def __enter__(self):
        if self.name in HOOKS:
            raise KeyError(f"memory hook {self.name} already exists")
        HOOKS[self.name] = self
        return self

    def __exit__(self, *_):
        del HOOKS[self.name]

    def _ignore(self, **kwargs):
        pass

    malloc_preprocess = malloc_postprocess = free_preprocess = free_postprocess = _ignore
    alloc_preprocess = alloc_postprocess = _ignore


HOOKS = {}


class MemoryPointer:
    def __init__(self, mem, ptr):
        self.mem, self.ptr = mem, ptr


class PooledMemory:
    def __init__(self, pool, size):
        self.pool, self.size = pool, size
        self.buffer = np.empty(size, np.uint8)
        self.ptr = self.buffer.ctypes.data

    def __del__(self):
        if self.size:
            self.pool._free(self)


class MemoryPool:
    def __init__(self):
        self._used = self._free_bytes = 0

    def malloc(self, size):
        _alive()
        rounded = -(-size // 512) * 512
        told = {"device_id": 0, "size": size, "mem_size": rounded}
        hooks = list(HOOKS.values())
        for hook in hooks:
            hook.malloc_preprocess(**told)
        room = MACHINE["memory"] - CONTEXT - self._used
        mem = PooledMemory(self, rounded) if rounded <= room else None
        found = {"mem_ptr": mem.ptr, "pmem_id": id(mem)} if mem else {"mem_ptr": 0, "pmem_id": 0}
        for hook in hooks:
            hook.malloc_postprocess(**told, **found)
        if mem is None:
            raise OutOfMemoryError(f"Out of memory allocating {rounded:,} bytes")
        self._free_bytes -= min(rounded, self._free_bytes)
        self._used += rounded
        return MemoryPointer(mem, mem.ptr)

    def _free(self, mem):
        told = {"device_id": 0, "mem_size": mem.size, "mem_ptr": mem.ptr, "pmem_id": id(mem)}
        hooks = list(HOOKS.values())
        for hook in hooks:
            hook.free_preprocess(**told)
        self._used -= mem.size
        self._free_bytes += mem.size
        for hook in hooks:
            hook.free_postprocess(**told)

    def used_bytes(self):
        return self._used

    def free_bytes(self):
        return self._free_bytes

    def total_bytes(self):
        return self._used + self._free_bytes

    def free_all_blocks(self):
        self._free_bytes = 0


class OutOfMemoryError(MemoryError):
    pass


POOL = MemoryPool()
memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError, MemoryPool=MemoryPool)


class PinnedMemory(np.ndarray):
    """A block of bytes that goes back to its pool with its last user."""

    def __del__(self):
        PINNED.free[self.size] += 1


class PinnedMemoryPool:
    """Blocks of powers of two, each size kept by itself; `held` bytes never go back."""

    def __init__(self):
        self.held, self.free = 0, Counter()

    def malloc(self, size):
        rounded = 1 << (max(size, 512) - 1).bit_length()
        if self.free[rounded]:
            self.free[rounded] -= 1
        else:
            self.held += rounded
        return np.ndarray.__new__(PinnedMemory, rounded, np.uint8)


PINNED = PinnedMemoryPool()
alloc_pinned_memory = PINNED.malloc


# Time


class Event:
    def __init__(self, block=False, disable_timing=False):
        self.time = None

    def record(self, stream=None):
        _alive()
        self.time = time.perf_counter()

    def synchronize(self):
        _alive()
        if self.time is None:
            raise CUDARuntimeError("cudaErrorInvalidResourceHandle: never recorded")


def get_elapsed_time(start_event, end_event):
    return 1000 * (end_event.time - start_event.time)


class Stream:
    null = None
    ptr = 0

    def __init__(self, null=False, non_blocking=False):
        pass

    def synchronize(self):
        _alive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


_STREAM = Stream()


def get_current_stream():
    return _STREAM


# The device and its libraries


USED = []  # numbers of devices that were made the current one


class Device:
    def __init__(self, device=0):
        self.id = device

    compute_capability = property(lambda self: MACHINE["capability"])

    def use(self):
        USED.append(self.id)

    def synchronize(self):
        pass


def get_device_id():
    return 0


def _library():
    if not MACHINE["libraries"]:
        raise ImportError('Failure finding "libcublas.so"\nmore lines')
    return 1


def get_cublas_handle():
    return _library()


try:
    import ml_dtypes
except ModuleNotFoundError:  # as where only what a GPU needs is installed
    _BFLOAT16 = {}
else:
    _BFLOAT16 = {14: np.dtype(ml_dtypes.bfloat16)}

nvrtc = SimpleNamespace(getVersion=lambda: (_library(), 13)[1:])

_DTYPES = {0: np.dtype("f4"), 2: np.dtype("f2"), **_BFLOAT16}


def _column_major(address, code, rows, columns, leading):
    """The matrix at an address as BLAS sees one: column by column."""
    if leading < rows:
        raise RuntimeError("CUBLAS_STATUS_INVALID_VALUE: leading dimension below the rows")
    dtype = _DTYPES[code]
    count = leading * (columns - 1) + rows
    flat = np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype)
    strides = (dtype.itemsize, leading * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)


def gemm_ex(handle, ta, tb, m, n, k, *rest):
    alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc, compute, _algo = rest
    factors = [ctypes.c_float.from_address(address).value for address in (alpha, beta)]
    if factors != [1, 0] or compute != cublas.CUBLAS_COMPUTE_32F or at != bt or ct != 0:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED in the stand-in")
    left = _column_major(a, at, *((k, m) if ta else (m, k)), lda).astype("f4")
    right = _column_major(b, bt, *((n, k) if tb else (k, n)), ldb).astype("f4")
    out = _column_major(c, ct, m, n, ldc)
    with np.errstate(all="ignore"):
        out[...] = (left.T if ta else left) @ (right.T if tb else right)


def gemm_strided_batched_ex(handle, ta, tb, m, n, k, *rest):
    alpha, a, at, lda, by_a, b, bt, ldb, by_b, beta, c, ct, ldc, by_c, count, *how = rest
    for i in range(count):
        x = a + i * by_a * _DTYPES[at].itemsize
        y = b + i * by_b * _DTYPES[bt].itemsize
        z = c + i * by_c * _DTYPES[ct].itemsize
        given = alpha, x, at, lda, y, bt, ldb, beta, z, ct, ldc, *how
        gemm_ex(handle, ta, tb, m, n, k, *given)


cublas = SimpleNamespace(
    CUBLAS_OP_N=0,
    CUBLAS_OP_T=1,
    CUBLAS_COMPUTE_32F=68,
    CUBLAS_GEMM_DEFAULT=-1,
    gemmEx=gemm_ex,
    gemmStridedBatchedEx=gemm_strided_batched_ex,
    getVersion=lambda handle: 0,
)
