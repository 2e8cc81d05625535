"""The NumPy line that each job of the fast step must equal, of arrays on the host."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigpt.fast.cuda.source import numbers
from minigpt.models import ops

NUMBERS = numbers()
Given = Mapping[str, Any]
EXACT = 2e-6  # float32, sums in another order
ROUNDED = 2e-4  # an operand computed here: what falls between two halves may fall otherwise
ONLINE = 1e-5  # of softmax, exponentials of differences

NAMES = ("add", "subtract", "multiply", "divide", "tanh", "cos", "sin")
ACTS = ("gelu", "gelu_exact", "silu", "relu")
FORMULAS: dict[int, Callable[..., Any]] = {
    NUMBERS["COPY"]: np.positive,
    **{NUMBERS[name.upper()]: getattr(np, name) for name in NAMES},
    **{NUMBERS[name.upper()]: getattr(ops, name) for name in ACTS},
}


def line(structure: str, given: Given) -> dict[str, np.ndarray]:
    """What a job leaves in memory, by the fields that say where.

    Args:
        structure: the name of its structure.
        given: its fields, arrays in the place of addresses; those that are 0 may be left out.
    """
    return _LINES[structure](given)


def within(structure: str, given: Given) -> float:
    """The relative error that float32 explains, of the norm of all that a job leaves."""
    if structure == "Attention":
        return ONLINE
    return ROUNDED if given.get("made_of") else EXACT


def joined(parts: np.ndarray) -> np.ndarray:
    """What the splits of attention (heads, splits, 2 + D) found together: (heads, D)."""
    most, total, values = parts[..., :1], parts[..., 1:2], parts[..., 2:]
    weights = np.exp(most - most.max(1, keepdims=True))
    return (weights * values).sum(1) / (weights * total).sum(1)


def halved(x: np.ndarray) -> np.ndarray:
    """As the left operand of a product is rounded."""
    return x.astype(np.float16).astype(np.float32)


def times(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """`x @ w.T`, exactly but for rounding x before and what comes out."""
    return (w.astype(np.float64) @ halved(x).astype(np.float64)).astype(np.float32)


def _product(job: Given) -> dict[str, np.ndarray]:
    y = times(_operand(job), job["w"]) + job.get("bias", 0)
    return {"y": FORMULAS[job.get("act", 0)](y) + job.get("residual", 0)}


def _operand(job: Given) -> np.ndarray:
    made_of, x = job.get("made_of", NUMBERS["PLAIN"]), job["x"]
    if made_of == NUMBERS["LAYER_NORM"]:
        return ops.layer_norm(x, job["gain"], job["shift"], job["epsilon"])
    if made_of == NUMBERS["RMS_NORM"]:
        return ops.rms_norm(x, job["gain"], job["epsilon"])
    if made_of == NUMBERS["GATED"]:
        return FORMULAS[job["gate"]](x) * job["up"]
    return joined(x).reshape(-1) if made_of == NUMBERS["PARTS"] else x


def _attention(job: Given) -> dict[str, np.ndarray]:
    S, D, group = job["S"], job["D"], job["group"]

    def turned(x: np.ndarray) -> np.ndarray:
        return x * job["cos"] + np.roll(x, -(D // 2), -1) * job["sin"] if "cos" in job else x

    caches = {name: job[name][:, :S].copy() for name in "kv"}
    if "new_k" in job:
        caches["k"][:, -1], caches["v"][:, -1] = turned(job["new_k"]), job["new_v"]
    k, v = (np.repeat(x.astype(np.float32), group, 0) for x in caches.values())
    q = halved(turned(job["q"]))[:, None]
    y = np.ones((job["heads"], job["splits"], D + 2), np.float32)
    y[..., 2:] = ops.attention(q, k, v, job["mask"][None], job["scale"])  # as if each saw all keys
    return {"y": y} | (caches if "new_k" in job else {})


def _rows(job: Given) -> dict[str, np.ndarray]:
    y = FORMULAS[job.get("code", 0)](*(job[name] for name in "ab" if name in job))
    return {"to": y.astype(job["to"].dtype)}


def _norm(job: Given) -> dict[str, np.ndarray]:
    if "shift" in job:
        return {"y": ops.layer_norm(job["x"], job["gain"], job["shift"], job["epsilon"])}
    return {"y": ops.rms_norm(job["x"], job["gain"], job["epsilon"])}


def _gathered(job: Given) -> dict[str, np.ndarray]:
    return {"y": job["table"][job["index"][0]].astype(np.float32) + job.get("bias", 0)}


def _position(job: Given) -> dict[str, np.ndarray]:
    return {"y": np.array([job.get("n", 0)], np.float32)}


_LINES: dict[str, Callable[[Given], dict[str, np.ndarray]]] = {
    "Product": _product,
    "Attention": _attention,
    "Rows": _rows,
    "Norm": _norm,
    "Gathered": _gathered,
    "Position": _position,
}
