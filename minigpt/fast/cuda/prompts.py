"""Kernels in the place of composites while a prompt runs by the model's own code on the GPU.

Products stay cuBLAS's. Each gives what the composite's code gives, in float32; where none fits,
that code runs.
"""

from collections.abc import Callable
from typing import Any, Protocol

import cupy
import numpy as np

from counting.composite import composite
from minigpt.fast.cublas_array import CublasArray
from minigpt.fast.cuda.source import numbers
from minigpt.models import ops

Run = Callable[..., Any]
TILE = numbers()["TILE"]
WIDTHS = (64, 128)  # of heads that attention has a kernel for
FEW = 16  # queries below which a tile of them is mostly empty
TENSOR_CORES = 80  # compute capability from which on they multiply what the kernel asks for
THREADS, WAVES = 256, 8  # of a block; blocks for each multiprocessor, at most


class Kernels(Protocol):
    """What launches kernels by name, see `launch.Compiled`.

    Attributes:
        blocks: multiprocessors.
        capability: of the GPU's instruction set.
    """

    blocks: int
    capability: int

    def call(self, name: str, blocks: int, threads: int, *words: Any) -> None:
        """Launches a kernel on arrays of the GPU, None for none, and numbers."""


def composites(kernels: Kernels) -> dict[composite, Run]:
    """What runs in the place of the composites of `ops`."""
    return {
        **{f: _activation(kernels, f) for f in (ops.gelu, ops.gelu_exact, ops.silu, ops.relu)},
        **{f: _norm(kernels, f) for f in (ops.layer_norm, ops.rms_norm)},
        ops.attention: _attention(kernels),
    }


def _activation(kernels: Kernels, function: composite) -> Run:
    code = numbers()[function.function.__name__.upper()]

    def run(x: Any) -> Any:
        if not _fits(x):
            return function.function(x)
        y = cupy.empty(x.shape, np.float32)
        blocks = min(-(-x.size // THREADS), WAVES * kernels.blocks)
        kernels.call("activations", blocks, THREADS, x, y, x.size, code)
        return y

    return run


def _norm(kernels: Kernels, function: composite) -> Run:
    def run(x: Any, gain: Any, *others: Any) -> Any:
        *shift, epsilon = others
        if not (_fits(x) and all(_fits(w) and w.shape == x.shape[-1:] for w in (gain, *shift))):
            return function.function(x, gain, *others)
        y, d = cupy.empty(x.shape, np.float32), x.shape[-1]
        rows = x.size // d
        blocks = min(-(-rows * 32 // THREADS), WAVES * kernels.blocks)  # a warp for a row
        words = x, gain, shift[0] if shift else None, y, rows, d, epsilon
        kernels.call("norms", blocks, THREADS, *words)
        return y

    return run


def _attention(kernels: Kernels) -> Run:
    def run(q: Any, k: Any, v: Any, mask: Any, scale: Any) -> Any:
        if kernels.capability < TENSOR_CORES or not _fit(q, k, v, mask):
            return ops.attention.function(q, k, v, mask, scale)
        (T, S), (B, *lead, _, D) = mask.shape, q.shape
        H = int(np.prod(lead))
        if not _evenly(q):
            q = q.copy()
        y = cupy.empty(q.shape, np.float32)
        batch, head, token = (q.strides[axis] // q.itemsize for axis in (0, -3, -2))
        sizes = H, H // k.shape[1], T, S, batch, head, token, k.data.strides[1] // k.dtype.itemsize
        blocks = B * H * -(-T // TILE)
        words = q, k.data, v.data, mask, y, *sizes, float(scale)
        kernels.call(f"attention_{D}", blocks, 2 * TILE, *words)
        return y

    return run


def _fits(x: Any) -> bool:
    """Whether a kernel takes an operand as it lies."""
    known = isinstance(x, cupy.ndarray) and x.dtype == np.float32 and x.ndim > 0
    return known and x.size > 0 and bool(x.flags.c_contiguous)


def _fit(q: Any, k: Any, v: Any, mask: Any) -> bool:
    """Whether the kernel attends to these: q (B, …, T, D), k and v in a cache of float16."""
    if not (type(k) is type(v) is CublasArray and isinstance(q, cupy.ndarray) and q.ndim > 3):
        return False
    (T, D), S = q.shape[-2:], k.shape[-2]
    return bool(
        D in WIDTHS
        and T >= FEW
        and q.dtype == np.float32
        and k.dtype == v.dtype == np.float16
        and k.shape == v.shape
        and k.data.strides == v.data.strides
        and k.data.strides[-2:] == (2 * D, 2)
        and (k.shape[0] == 1 or k.data.strides[0] == k.shape[1] * k.data.strides[1])
        and (k.ndim, *k.shape[:2], k.shape[-1]) == (q.ndim, *q.shape[:2], D)
        and all(n == 1 for n in k.shape[2:-2])
        and mask.shape == (T, S)
        and mask.dtype == bool
        and mask.flags.c_contiguous
    )


def _evenly(q: Any) -> bool:
    """Whether all heads of a sequence lie evenly, whichever axes they are along."""
    *outer, head = zip(q.shape[1:-2], q.strides[1:-2], strict=True)
    even = all(step == head[0] * head[1] for n, step in outer if n > 1)
    return even and q.strides[-1] == q.itemsize
