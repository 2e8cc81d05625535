"""Fused kernels in the place of composites: each gives what the composite's own code gives.

Where a kernel does not fit (another array, dtype or width), the fallback runs: the code itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from counting.composite import composite
from minigpt.fast.kernels.attention import TOGETHER, WIDE, WORDS
from minigpt.fast.kernels.machine import SOME, Machine, address
from minigpt.fast.packed import DTYPES, FLOAT
from minigpt.models import ops

KEYS = [name for name in DTYPES if name != "int8"]  # what keys and values may be stored in
PLANS = 1000  # calls of attention that are remembered: one for each number of keys
Run = Callable[..., Any]


def fused_kernels(machine: Machine) -> dict[composite, Run]:
    """What runs in the place of the composites of `ops`, on `machine`."""
    return {
        **{f: _elementwise(machine, f) for f in (ops.gelu, ops.gelu_exact, ops.silu, ops.relu)},
        ops.layer_norm: _norm(machine, ops.layer_norm, weights=2),
        ops.rms_norm: _norm(machine, ops.rms_norm, weights=1),
        ops.attention: _Attention(machine, ops.attention),
        ops.capped_attention: _Attention(machine, ops.capped_attention),
        ops.sink_attention: _Attention(machine, ops.sink_attention),
    }


def _elementwise(machine: Machine, function: composite) -> Run:
    job, lanes = machine.job(function.function.__name__, "qq"), machine.lanes
    empty, fallback = machine.executor.empty, machine.executor.fallback(function.function)

    def run(x: Any) -> Any:
        x = _contiguous(machine, x)
        if not _fits(machine, x):
            return fallback(x)
        y = empty(x.shape, FLOAT)
        job(x.size // lanes, SOME // lanes, address(x), address(y))
        return y

    return run


def _norm(machine: Machine, function: composite, weights: int) -> Run:
    job = machine.job(function.function.__name__, "qq" + "q" * weights + "qf")
    empty, fallback = machine.executor.empty, machine.executor.fallback(function.function)

    def run(x: Any, *others: Any) -> Any:
        *given, epsilon = others
        x = _contiguous(machine, x)
        if not (_fits(machine, x) and all(_fits(machine, w, x.shape[-1:]) for w in given)):
            return fallback(x, *others)
        y, d = empty(x.shape, FLOAT), x.shape[-1]
        job(x.size // d, max(1, SOME // d), *map(address, (x, *given, y)), d, epsilon)
        return y

    return run


class _Attention:
    """Attention: queries one by one, or as many of a head together as fill a vector.

    Args:
        function: `ops.attention`, or one that takes a cap or sinks after the same operands.
    """

    def __init__(self, machine: Machine, function: composite) -> None:
        self._machine, self._empty, self._of = machine, machine.executor.empty, function
        self._fallback = machine.executor.fallback(function.function)
        self._one_by_one, self._together = (
            {DTYPES[name]: machine.job(f"attention_{name}{way}", WORDS) for name in KEYS}
            for way in ("", "_together")
        )
        self._plans: dict[Any, Any] = {}  # by what the arrays of a call look like

    def __call__(self, q: Any, k: Any, v: Any, mask: Any, scale: float, *others: Any) -> Any:
        if not (type(q) is type(k) is type(v) is type(mask) is np.ndarray):
            return self._fallback(q, k, v, mask, scale, *others)
        q = _contiguous(self._machine, q)
        looks = tuple((x.shape, x.strides, x.dtype) for x in (q, k, v, mask))
        try:
            plan = self._plans[looks]
        except KeyError:
            if len(self._plans) > PLANS:
                self._plans.clear()
            plan = self._plans[looks] = self._plan(q, k, v, mask)
        cap = others[0] if self._of is ops.capped_attention else 0.0
        sinks = others[0] if self._of is ops.sink_attention else None
        if plan is None or not (sinks is None or _one_a_head(sinks, q)):
            return self._fallback(q, k, v, mask, scale, *others)
        job, items, sizes = plan
        y = self._empty(q.shape, FLOAT)
        where = 0 if sinks is None else address(sinks)
        job(items, 1, *map(address, (q, k, v, mask, y)), where, *sizes, scale, cap)
        return y

    def _plan(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        """The job, how many items it has, its words beside addresses; None if no kernel fits."""
        head = _head_stride(k)
        if (
            not _fits(self._machine, q)
            or q.ndim < 3
            or head is None
            or k.dtype not in self._together
            or (k.shape, k.strides, k.dtype) != (v.shape, v.strides, v.dtype)
            or (*k.shape[:-3], k.shape[-1]) != (*q.shape[:-3], q.shape[-1])
            or k.shape[-3] not in (1, q.shape[-3])
            or mask.shape != (q.shape[-2], k.shape[-2])
            or mask.dtype != bool
            or not mask.flags.c_contiguous
        ):
            return None
        (T, S), D = mask.shape, q.shape[-1]
        heads = q.size // (q.shape[0] * T * D) if q.ndim > 3 else q.shape[0]
        sizes = (T, S, D, heads, q.shape[-3] // k.shape[-3], head)
        queries = q.size // D
        if T < TOGETHER or D > WIDE:
            return self._one_by_one[k.dtype], queries, sizes
        return self._together[k.dtype], queries // T * -(-T // self._machine.lanes), sizes


def _one_a_head(sinks: Any, q: np.ndarray) -> bool:
    """Whether sinks are one number for each head of q (B, ..., T, D), and lie as kernels read."""
    fits = type(sinks) is np.ndarray and sinks.dtype == FLOAT and sinks.flags.c_contiguous
    return fits and q.ndim > 3 and sinks.shape == (*q.shape[1:-2], 1, 1)


def _fits(machine: Machine, x: Any, shape: tuple[int, ...] | None = None) -> bool:
    """Whether kernels take an operand: rows of float32 that fill vectors, maybe of this shape."""
    return (
        type(x) is np.ndarray
        and x.dtype == FLOAT
        and x.flags.c_contiguous
        and x.size > 0
        and x.shape[-1:] != ()
        and x.shape[-1] % machine.lanes == 0
        and shape in (None, x.shape)
    )


def _contiguous(machine: Machine, x: Any) -> Any:
    """`x`, copied by a kernel if its numbers do not lie one after another."""
    if type(x) is np.ndarray and x.dtype == FLOAT and x.ndim and not x.flags.c_contiguous:
        y = machine.executor.empty(x.shape, FLOAT)
        return y if machine.move("copy_float32", y, x) else x
    return x


def _head_stride(x: np.ndarray) -> int | None:
    """Elements from one (S, D) of x (..., S, D) to the next, if that is one number."""
    if x.ndim < 3 or x.strides[-2:] != (x.shape[-1] * x.itemsize, x.itemsize):
        return None
    outer = [(n, step) for n, step in zip(x.shape[:-2], x.strides[:-2], strict=True) if n > 1]
    even = all(outer[i][1] == outer[i + 1][0] * outer[i + 1][1] for i in range(len(outer) - 1))
    return (outer[-1][1] // x.itemsize if outer else 0) if even else None
