"""The tape of the CPU's pool, recorded for a GPU: its jobs by name, read as the GPU's own."""

import struct
from math import prod
from typing import Any

import numpy as np

from minigpt.fast import tape
from minigpt.fast.cuda.job import Job, Span
from minigpt.fast.cuda.source import numbers
from minigpt.fast.kernels import attention
from minigpt.fast.kernels.machine import Machine, Multiply
from minigpt.fast.tape import Tape, Unrecordable

NUMBERS = numbers()
AXES = NUMBERS["AXES"]

# Rows by the name that the tape gives them: the formula, and how many operands it has.
FORMULAS = {
    **{name: (name, 2) for name in ("add", "subtract", "multiply", "divide")},
    **{name: (name, 1) for name in ("tanh", "cos", "sin")},
    "copy_float32": ("copy", 1),
    "copy_float16": ("copy", 1),
}
FORMATS = {"layer_norm": "qqqqqf", "rms_norm": "qqqqf", "attention_float16": attention.WORDS}


class Recorder(Machine):
    """Names in the place of kernels: nothing here runs."""

    def __init__(self) -> None:
        self._code: Any = _Names()
        self.lanes = 8  # a GPU takes 8 numbers of 16 bits at a time
        self.pairs = self.shorts = False

    def product(
        self, stored: np.ndarray, scale: np.ndarray | None, turned: bool
    ) -> Multiply | None:
        """As `Machine.product`, of weights that lie (out, in)."""
        return super().product(stored, scale, turned) if turned else None


class _Names(dict):
    def __missing__(self, name: str) -> str:
        return name


class DeviceTape(Tape):
    """A tape whose results lie each in memory of its own, so that jobs can change places."""

    def _choose(self, size: int) -> int:
        return self._new(size)


def read(job: tape.Job) -> Job:
    """A job of a tape as one of the GPU's.

    Raises:
        Unrecordable: the GPU has no job that does this.
    """
    name: Any = job.address
    kinds = FORMATS.get(name, "q" * (len(job.words) // 8))
    words = struct.unpack("".join({"q": "q", "f": "f4x"}[kind] for kind in kinds), job.words)
    if name in FORMULAS:
        return _rows(name, job.total, words)
    if name in _READERS:
        return _READERS[name](name, job.total, *words)
    raise Unrecordable(f"no job does {name}")


def floats(address: int, n: int) -> Span:
    """What n numbers of 32 bits take."""
    return Span(address, address + 4 * n)


def halves(address: int, n: int) -> Span:
    """What n numbers of 16 bits take."""
    return Span(address, address + 2 * n)


def _rows(name: str, rows: int, words: tuple[int, ...]) -> Job:
    formula, operands = FORMULAS[name]
    places, (d, *lengths), strides = (
        words[: operands + 1],
        words[operands + 1 : operands + 1 + AXES],
        words[operands + 1 + AXES :],
    )
    half = name == "copy_float16"
    fields = {"code": NUMBERS[formula.upper()], "half": half, "rows": rows, "d": d}
    fields |= {f"length{i}": n for i, n in enumerate(lengths, 1)}
    shape, spans = (rows // prod(lengths), *lengths, d), []
    for k, (array, place) in enumerate(zip(("to", "a", "b"), places, strict=False)):
        own = strides[k * (AXES + 1) : (k + 1) * (AXES + 1)]
        fields |= {array: place} | {f"{array}{i}": step for i, step in enumerate(own)}
        spans.append(_reach(place, shape, own, 2 if half and not k else 4))
    return Job("Rows", fields, spans[1:], spans[:1])


def _reach(place: int, shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> Span:
    """From the first to the last byte of rows that lie anywhere."""
    ways = [(n - 1) * step * size for n, step in zip(shape, strides, strict=True)]
    begin = place + sum(way for way in ways if way < 0)
    return Span(begin, place + sum(way for way in ways if way > 0) + size)


def _elementwise(name: str, units: int, x: int, y: int) -> Job:
    n = units * 8
    fields = {"code": NUMBERS[name.upper()], "rows": 1, "d": n, "to": y, "a": x}
    fields |= {f"length{i}": 1 for i in (1, 2, 3)} | {f"to{AXES}": 1, f"a{AXES}": 1}
    return Job("Rows", fields, [floats(x, n)], [floats(y, n)])


def _norm(name: str, rows: int, x: int, gain: int, *others: Any) -> Job:
    *shift, y, d, epsilon = others
    fields = {"rows": rows, "d": d, "x": x, "gain": gain, "y": y, "epsilon": epsilon}
    fields |= {"shift": shift[0]} if shift else {}
    reads = [floats(x, rows * d), floats(gain, d), *(floats(at, d) for at in shift)]
    return Job("Norm", fields, reads, [floats(y, rows * d)])


def _product(name: str, tiles: int, *words: int) -> Job:
    w, scales, x, factors, y, K, N, rows, *_ = words
    if (scales, factors, rows) != (0, 0, 1):
        raise Unrecordable("no job multiplies these")
    fields = {"K": K, "N": N, "w": w, "x": x, "y": y}
    return Job("Product", fields, [halves(w, N * K), floats(x, K)], [floats(y, N)])


def _attention(name: str, queries: int, *words: Any) -> Job:
    q, k, v, mask, y, sinks, T, S, D, heads, group, head, scale, cap = words
    if (T, sinks, cap) != (1, 0, 0) or heads != queries or D % 8 or 256 % D:
        raise Unrecordable("no job does this attention")
    fields = {"heads": heads, "group": group, "S": S, "D": D, "head": head, "scale": scale}
    fields |= {"q": q, "k": k, "v": v, "mask": mask, "y": y}
    stored = (heads // group - 1) * head + S * D
    reads = [floats(q, heads * D), halves(k, stored), halves(v, stored), Span(mask, mask + S)]
    return Job("Attention", fields, reads, [floats(y, heads * D)])


def _gathered(name: str, rows: int, table: int, scale: int, index: int, y: int, d: int) -> Job:
    if rows != 1:
        raise Unrecordable("no job gathers several rows")
    fields = {"d": d, "table": table, "index": index, "y": y}
    return Job("Gathered", fields, [Span(index, index + 8)], [floats(y, d)])


def _position(name: str, n: int, y: int, value: int) -> Job:
    return Job("Position", {"n": value, "y": y}, [], [floats(y, 1)])


_READERS: dict[str, Any] = {
    **dict.fromkeys(("gelu", "gelu_exact", "silu", "relu"), _elementwise),
    **dict.fromkeys(("layer_norm", "rms_norm"), _norm),
    "product_float16": _product,
    "attention_float16": _attention,
    "gathered_float16": _gathered,
    "position": _position,
}
