"""Where arrays live: this machine's memory, or that of an NVIDIA GPU by way of CuPy."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from minigpt.checks import shown
from minigpt.errors import InputError
from minigpt.models.cache import KVCache

if TYPE_CHECKING:  # nothing of files is needed to make a model on a device
    from minigpt.checkpoint.tensors import Held, Progress, Stored

DTYPES = ("float32", "float16", "bfloat16")  # of matrices and KV cache on a GPU
ENGINES = ("reference", "fast")
STAGING = 32 * 2**20  # bytes of pinned memory that weights pass through


class Forward(Protocol):
    """What runs a pass, as a model does when it is called."""

    def __call__(self, tokens: Any, cache: KVCache, logits: str = "last", /) -> Any:
        """Logits (B, 1, V) of the "last" of the tokens (B, T), or (B, T, V) of "all" of them."""


class Device(Protocol):
    """Where the arrays of a model live, see `place`.

    Attributes:
        name: "cpu", or what its driver calls it.
    """

    name: str

    def hold(self, config: Any, stored: "Stored", dtype: str, progress: "Progress") -> "Held":
        """The tensors of a checkpoint as the model is to hold them, one after another."""

    def forward(self, model: Any, weights: Mapping[str, Any]) -> Forward:
        """What runs the passes of a model of these weights: as `model` does, maybe faster."""

    def free(self) -> int | None:
        """Bytes that may still be asked for, if that is known."""

    def stopwatch(self) -> Callable[[], float]:
        """Starts a measurement; calling what it gives ends it and says the seconds."""


class Host:
    """This machine: arrays stay what they are, time is the wall clock. See `Device`."""

    name = "cpu"

    def hold(self, config: Any, stored: "Stored", dtype: str, progress: "Progress") -> "Held":
        """The tensors of a checkpoint, read, mapped, or packed in `dtype`."""
        from minigpt.fast.store import hold

        return hold(config, stored, dtype, progress)

    def forward(self, model: Any, weights: Mapping[str, Any]) -> Any:
        """With kernels if there are any, decode steps recorded."""
        from minigpt.fast import machine

        if kernels := machine():
            from minigpt.fast.replay import Replayed

            return Replayed(model, weights, kernels)
        return model

    def free(self) -> None:
        """It is not known: the operating system says when memory runs out."""

    def stopwatch(self) -> Callable[[], float]:
        """By the wall clock."""
        began = time.perf_counter()
        return lambda: time.perf_counter() - began


class Cuda:
    """An NVIDIA GPU. See `Device`.

    Args:
        dtype: of matrices and KV cache.
        engine: what runs a pass: the model's own code, "reference", or in its place, "fast", one
            kernel for a decode step where it knows all of a step. No GPU has run that kernel yet.
        among: which of how many processes of this machine it is for: each takes the GPU of its
            number. Without, it is the current one.

    Attributes:
        name: what its driver calls it.
        capability: of its instruction set, 86 for 8.6.

    Raises:
        InputError: CuPy, its libraries, the driver or a GPU is missing or too old; or the dtype
            is none of `DTYPES`, or not of this GPU; or there is no such engine, or not for this
            dtype.
    """

    def __init__(
        self,
        dtype: str = "float16",
        engine: str = "reference",
        among: tuple[int, int] | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(
                f"--device cuda holds weights in {', '.join(DTYPES)}, not in {dtype}: "
                "cuBLAS multiplies what it is given, and knows no scale of a row"
            )
        if engine not in ENGINES:
            raise InputError(f"unknown engine {shown(engine)}: {' or '.join(ENGINES)}")
        if engine == "fast" and dtype != "float16":
            raise InputError(f"--engine fast multiplies float16, not {dtype}")
        if engine == "fast" and not find_spec("llvmlite"):
            raise InputError("--engine fast records a step: pip install -e '.[fast]' in the clone")
        self._cupy, self.engine = _cupy(among), engine
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._cupy.cuda.get_device_id())
        self.name = properties["name"].decode()
        self.capability = int(self._cupy.cuda.Device().compute_capability)
        if dtype == "bfloat16" and self.capability < 80:
            raise InputError(
                f"{self.name} multiplies no bfloat16, its compute capability is "
                f"{self.capability / 10} and not 8.0 or more: --dtype float16"
            )

    def hold(self, config: Any, stored: "Stored", dtype: str, progress: "Progress") -> "Held":
        """The tensors of a checkpoint on the GPU, those that multiply in `dtype`."""
        from minigpt.checkpoint.dtypes import NUMPY

        total, done = sum(tensor.nbytes for tensor in stored.values()), 0
        for key, tensor in stored.items():
            matrix = multiplies(config, key, len(tensor.shape))
            held = self.put(tensor.read(NUMPY[dtype if matrix else "float32"]), matrix)
            if self.engine == "fast" and config.layout(key, len(tensor.shape)) == "columns":
                held.data = held.data.T.copy(order="C").T  # its rows one after another, (out, in)
            yield key, held
            done += tensor.nbytes
            progress(done, total)

    def put(self, array: np.ndarray, matrix: bool = False) -> Any:
        """A host array on the GPU, by way of pinned memory; a `matrix` as one that multiplies."""
        from minigpt.fast.cublas_array import CublasArray

        cuda = self._cupy.cuda
        target = self._cupy.empty(array.shape, array.dtype)
        source, flat = array.reshape(-1), target.reshape(-1)
        # Always of one size: CuPy keeps blocks of pinned memory, of each power of two by itself.
        pinned, step = cuda.alloc_pinned_memory(STAGING), STAGING // array.itemsize
        staged = np.frombuffer(pinned, array.dtype, step)
        for begin in range(0, array.size, step):
            part = source[begin : begin + step]
            staged[: part.size] = part
            flat[begin : begin + step].set(staged[: part.size])
            cuda.get_current_stream().synchronize()  # the next part is staged in the same place
        return CublasArray(target) if matrix else target

    def forward(self, model: Any, weights: Mapping[str, Any]) -> Any:
        """The model itself, or what replays its decode steps."""
        if self.engine == "reference":
            return model
        from minigpt.fast.cuda.launch import Compiled
        from minigpt.fast.cuda.step import Fast

        return Fast(model, weights, Compiled())

    def free(self) -> int:
        """What the driver has left, and what CuPy's pool holds ready."""
        pool = self._cupy.get_default_memory_pool()
        return int(self._cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes())

    def stopwatch(self) -> Callable[[], float]:
        """By CUDA events."""
        cuda = self._cupy.cuda
        began, ended = cuda.Event(), cuda.Event()
        began.record()

        def stop() -> float:
            ended.record()
            ended.synchronize()
            return float(cuda.get_elapsed_time(began, ended)) / 1000

        return stop


def place(device: str, dtype: str = "float32", engine: str | None = None) -> Host | Cuda:
    """The device called "cpu" or "cuda", ready to be used for matrices of `dtype`.

    Args:
        engine: of "cuda" alone, see there.

    Raises:
        InputError: there is no such device here.
    """
    if device == "cpu":
        if engine is not None:
            raise InputError("--engine is for --device cuda; MINIGPT_FAST=0 is NumPy alone on cpu")
        return Host()
    if device == "cuda":
        return Cuda(dtype, engine or "reference")
    raise InputError(f"unknown device {shown(device)}: cpu or cuda")


def multiplies(config: Any, key: str, axes: int) -> bool:
    """Whether a tensor of so many axes is held as a matrix on a GPU.

    What is cut before it multiplies is one: a view of these can do too.
    """
    return config.layout(key, axes) is not None or key.endswith("kv_b_proj.weight")


def witness(device: str) -> AbstractContextManager[Any]:
    """What is told of every allocation on `device` in a `with` block: `Allocations` or `Pool`.

    Raises:
        InputError: there is no such device here.
    """
    if device != "cuda":
        from counting.numpy_memory import Allocations

        return Allocations()
    _cupy()
    from counting.cupy_memory import Pool

    return Pool()


def to_host(array: Any) -> np.ndarray:
    """A bare array as a NumPy array."""
    return array.get() if hasattr(array, "get") else array


def _cupy(among: tuple[int, int] | None = None) -> Any:
    """CuPy, once it is known to work here, on the GPU that `Cuda` says.

    Raises:
        InputError: it does not, and what to do.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        raise InputError(
            "--device cuda needs CuPy: pip install -e '.[cuda13]' (or cuda12) in the clone"
        ) from None
    except ImportError as error:
        raise InputError(f"CuPy is installed but cannot be loaded: {_line(error)}") from None
    runtime = cupy.cuda.runtime
    driver, wheel = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if driver == 0:
        raise InputError("--device cuda needs an NVIDIA GPU and its driver: no driver was found")
    if driver // 1000 < wheel // 1000:
        raise InputError(
            f"the driver here serves CUDA {_version(driver)}, CuPy is built for {_version(wheel)}: "
            f"in its place, pip install -e '.[cuda{driver // 1000}]' in the clone, "
            "or a newer driver"
        )
    try:
        found = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise InputError(f"--device cuda finds no GPU: {_line(error)}") from None
    if not found:
        raise InputError("--device cuda needs an NVIDIA GPU: the driver finds none")
    if among:
        number, processes = among
        if processes > found:
            raise InputError(
                f"each of {processes} processes on a machine needs a GPU of its own, and it has "
                f"{found}: mpiexec -n {found}, or more machines"
            )
        cupy.cuda.Device(number).use()
    capability = int(cupy.cuda.Device().compute_capability)
    least = 75 if wheel >= 13000 else 53  # what CUDA 13 compiles for; what multiplies float16
    if capability < least:
        raise InputError(
            f"this GPU's compute capability is {capability / 10}, CuPy for CUDA "
            f"{_version(wheel)} needs {least / 10} or more"
        )
    try:
        cupy.cuda.get_cublas_handle()
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # its loader raises what it likes
        name = f"cupy-cuda{wheel // 1000}x[ctk]"
        raise InputError(
            f"CuPy finds no cuBLAS or NVRTC: pip install '{name}' ({_line(error)})"
        ) from None
    return cupy


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
