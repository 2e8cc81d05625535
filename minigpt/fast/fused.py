"""Kernels in the place of composites: each gives what the composite's own text gives.

Where a kernel does not fit (another array, dtype or width), the text itself runs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from counting.composite import composite
from minigpt.fast.kernels.attention import TOGETHER, WIDE, WORDS
from minigpt.fast.kernels.machine import SOME, Machine, address
from minigpt.fast.kernels.rows import copy_float32
from minigpt.fast.packed import DTYPES
from minigpt.models import ops

FLOAT = np.dtype(np.float32)
KEYS = ("float32", "float16", "bfloat16")  # what keys and values may be stored in
Run = Callable[..., Any]


def install(machine: Machine) -> None:
    """Puts the kernels of `machine` in the place of the composites of `ops`."""
    for function, run in twins(machine).items():
        function.run = run


def twins(machine: Machine) -> dict[composite, Run]:
    """What runs in the place of the composites of `ops`, on `machine`."""
    lanes, empty = machine.lanes, machine.empty

    def fits(x: Any) -> bool:
        return (
            type(x) is np.ndarray
            and x.dtype == FLOAT
            and x.flags.c_contiguous
            and x.size > 0
            and x.shape[-1:] != ()
            and x.shape[-1] % lanes == 0
        )

    def in_a_row(x: Any) -> Any:
        """`x`, copied if its numbers do not lie one after another."""
        if type(x) is np.ndarray and x.dtype == FLOAT and x.ndim and not x.flags.c_contiguous:
            y = empty(x.shape, FLOAT)
            return y if machine.move(copy_float32, y, x) else x
        return x

    def elementwise(twin_of: composite) -> Run:
        job = machine.job(twin_of.function.__name__, "qq")
        text = machine.otherwise(twin_of.function)

        def run(x: Any) -> Any:
            x = in_a_row(x)
            if not fits(x):
                return text(x)
            y = empty(x.shape, FLOAT)
            job(x.size // lanes, SOME // lanes, address(x), address(y))
            return y

        return run

    def norm(twin_of: composite, parameters: int) -> Run:
        job = machine.job(twin_of.function.__name__, "qq" + "q" * parameters + "qf")
        text = machine.otherwise(twin_of.function)

        def run(x: Any, *others: Any) -> Any:
            *weights, epsilon = others
            x = in_a_row(x)
            if not (fits(x) and all(fits(w) and w.shape == x.shape[-1:] for w in weights)):
                return text(x, *others)
            y, d = empty(x.shape, FLOAT), x.shape[-1]
            places = [address(array) for array in (x, *weights, y)]
            job(x.size // d, max(1, SOME // d), *places, d, epsilon)
            return y

        return run

    one_by_one, together = (
        {DTYPES[name]: machine.job(f"attention_{name}{way}", WORDS) for name in KEYS}
        for way in ("", "_together")
    )

    text = machine.otherwise(ops.attention.function)
    plans: dict[Any, Any] = {}  # what a call takes beside addresses, by what its arrays look like

    def plan(q: Any, k: Any, v: Any, mask: Any) -> Any:
        head = _from_head_to_head(k)
        if (
            not fits(q)
            or q.ndim < 3
            or head is None
            or k.dtype not in together
            or (k.shape, k.strides, k.dtype) != (v.shape, v.strides, v.dtype)
            or (*k.shape[:-3], k.shape[-1]) != (*q.shape[:-3], q.shape[-1])
            or k.shape[-3] not in (1, q.shape[-3])
            or mask.shape != (q.shape[-2], k.shape[-2])
            or mask.dtype != bool
            or not mask.flags.c_contiguous
        ):
            return None
        (T, S), D = mask.shape, q.shape[-1]
        sizes = (T, S, D, q.shape[-3] // k.shape[-3], head, D**-0.5)
        queries = q.size // D
        if T < TOGETHER or D > WIDE:
            return one_by_one[k.dtype], queries, sizes
        return together[k.dtype], queries // T * -(-T // lanes), sizes

    def attention(q: Any, k: Any, v: Any, mask: Any) -> Any:
        if not (type(q) is type(k) is type(v) is type(mask) is np.ndarray):
            return text(q, k, v, mask)
        q = in_a_row(q)
        looks = tuple((x.shape, x.strides, x.dtype) for x in (q, k, v, mask))
        if looks not in plans:
            if len(plans) > 1000:  # one for each number of keys
                plans.clear()
            plans[looks] = plan(q, k, v, mask)
        if plans[looks] is None:
            return text(q, k, v, mask)
        job, items, sizes = plans[looks]
        y = empty(q.shape, FLOAT)
        job(items, 1, *map(address, (q, k, v, mask, y)), *sizes)
        return y

    return {
        ops.gelu: elementwise(ops.gelu),
        ops.silu: elementwise(ops.silu),
        ops.layer_norm: norm(ops.layer_norm, 2),
        ops.rms_norm: norm(ops.rms_norm, 1),
        ops.attention: attention,
    }


def _from_head_to_head(x: Any) -> int | None:
    """Elements from one (S, D) of x (..., S, D) to the next, if that is one number."""
    if (
        type(x) is not np.ndarray
        or x.ndim < 3
        or x.strides[-2:] != (x.shape[-1] * x.itemsize, x.itemsize)
    ):
        return None
    outer = [(n, step) for n, step in zip(x.shape[:-2], x.strides[:-2], strict=True) if n > 1]
    even = all(outer[i][1] == outer[i + 1][0] * outer[i + 1][1] for i in range(len(outer) - 1))
    return (outer[-1][1] // x.itemsize if outer else 0) if even else None
