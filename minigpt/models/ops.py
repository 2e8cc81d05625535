"""What models are built from, each written once, from primitives, its arithmetic visible."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from counting.composite import composite
from counting.scope import at, scope
from minigpt.models.module import Module

Array = Any  # NumPy, CuPy, shapes only, symbolic shapes, counting scalars; bare or counted
Weights = Mapping[str, Array]  # a checkpoint: key -> array


@composite
def softmax(x: Array, mask: Array) -> Array:
    """Softmax over the last axis of x (..., T, S), where mask (T, S) is true; 0 elsewhere."""
    x = np.where(mask, x, -np.inf)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@composite
def attention(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """What each query (..., T, D) finds among keys and values (..., S, D): (..., T, D)."""
    with scope("qk"):
        scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5  # (..., T, S)
    with scope("softmax"):
        pattern = softmax(scores, mask)  # (..., T, S)
    with scope("av"):
        return pattern @ v


@composite
def gelu(x: Array) -> Array:
    """GELU in the tanh approximation that GPT-2 uses ("gelu_new"), any shape."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + np.tanh(inner))


@composite
def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Mean 0 and variance 1 over the last axis of (..., C), then scale and shift by (C,) each."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)  # (..., 1)
    return centred / np.sqrt(variance + epsilon) * weight + bias


Turns = tuple[Array, Array]  # cosines and sines of angles, see `RotaryEmbedding`


@composite
def sigmoid(x: Array) -> Array:
    """The logistic function, any shape."""
    return 1.0 / (1.0 + np.exp(-x))


@composite
def silu(x: Array) -> Array:
    """x * sigmoid(x), any shape."""
    return x / (1.0 + np.exp(-x))


@composite
def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """Mean square 1 over the last axis of (..., C), then scale by (C,) (Zhang & Sennrich, 2019)."""
    mean_square = (x * x).mean(axis=-1, keepdims=True)  # (..., 1)
    return x / np.sqrt(mean_square + epsilon) * weight


@composite
def rope(x: Array, cos: Array, sin: Array) -> Array:
    """Each pair of x (..., T, D) turned by its angle, the pairs' first halves stored first.

    cos and sin are (T, 2, D / 2), of minus the angle and of the angle: see `RotaryEmbedding`.
    """
    pairs = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)  # (a, b) -> (b, a) by [::-1]
    return (pairs * cos + pairs[..., ::-1, :] * sin).reshape(*x.shape)


@composite
def rope_interleaved(x: Array, cos: Array, sin: Array) -> Array:
    """As `rope`, the two of a pair stored side by side; cos and sin are (T, D / 2, 2)."""
    pairs = x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2)
    return (pairs * cos + pairs[..., ::-1] * sin).reshape(*x.shape)


def count_up(x: Array, n: Any) -> Array:
    """0, 1, … n - 1 (n,), an array of the kind of `x` and of at least 32 bits."""
    ones = np.ones_like(x, dtype=np.result_type(x.dtype, np.float32), shape=(n,))
    return np.cumsum(ones, axis=0) - 1.0


def as_dtype_of(x: Array, other: Array) -> Array:
    """`x`, copied if its dtype is not yet that of `other`."""
    if x.dtype == other.dtype:
        return x
    y = np.empty_like(other, shape=x.shape)
    y[...] = x
    return y


def top_k(x: Array, k: int) -> tuple[Array, Array]:
    """The places of the k largest along the last axis (..., k), and x with -inf in those places.

    By k rounds of a maximum: how much a sort or a heap compares depends on the data, this does not.
    """
    places = np.empty_like(x, dtype=int, shape=(*x.shape[:-1], k))
    columns = count_up(x, x.shape[-1])
    for i in range(k):
        best = np.argmax(x, axis=-1, keepdims=True)  # (..., 1)
        places[..., i : i + 1] = best
        x = np.where(columns != best, x, -np.inf)
    return places, x


@composite
def merge_heads(y: Array) -> Array:
    """Heads side by side again: (B, H, T, D) -> (B, T, H * D)."""
    B, H, T, D = y.shape
    return y.swapaxes(1, 2).copy().reshape(B, T, H * D)


class Embedding(Module):
    """Rows of a table, by number."""

    def __init__(self, weights: Weights, path: str) -> None:
        super().__init__(path)
        self.weight = weights[f"{path}.weight"]  # (rows, C)

    def forward(self, rows: Array) -> Array:  # (...) -> (..., C)
        return self.weight[rows]


class Linear(Module):
    """x @ weight + bias, the weight stored (in, out) as GPT-2 stores it."""

    def __init__(self, weights: Weights, path: str) -> None:
        super().__init__(path)
        self.weight = weights[f"{path}.weight"]  # (in, out)
        self.bias = weights[f"{path}.bias"]  # (out,)

    def forward(self, x: Array) -> Array:  # (..., in) -> (..., out)
        return x @ self.weight + self.bias


class Projection(Module):
    """x @ weight.T + bias, the weight stored (out, in) as PyTorch does; the bias if it has one."""

    def __init__(self, weights: Weights, path: str) -> None:
        super().__init__(path)
        self.weight = weights[f"{path}.weight"]  # (out, in)
        self.bias = weights.get(f"{path}.bias")  # (out,) or None

    def forward(self, x: Array) -> Array:  # (..., in) -> (..., out)
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Head(Module):
    """Logits: x against every row of a table, the token embedding's own where they are tied."""

    def __init__(self, table: Array) -> None:
        super().__init__("lm_head")
        self.weight = table  # (V, C)

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., V)
        return x @ self.weight.T


class LayerNorm(Module):
    """`layer_norm` with its weight and bias."""

    def __init__(self, weights: Weights, path: str, epsilon: float) -> None:
        super().__init__(path)
        self.weight = weights[f"{path}.weight"]  # (C,)
        self.bias = weights[f"{path}.bias"]  # (C,)
        self.epsilon = epsilon

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        return layer_norm(x, self.weight, self.bias, self.epsilon)


class RMSNorm(Module):
    """`rms_norm` with its weight."""

    def __init__(self, weights: Weights, path: str, epsilon: float) -> None:
        super().__init__(path)
        self.weight = weights[f"{path}.weight"]  # (C,)
        self.epsilon = epsilon

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        return rms_norm(x, self.weight, self.epsilon)


class SwiGLU(Module):
    """The gated feed-forward layer (Shazeer, 2020)."""

    def __init__(self, weights: Weights, path: str) -> None:
        super().__init__(path)
        self.gate_proj = Projection(weights, f"{path}.gate_proj")
        self.up_proj = Projection(weights, f"{path}.up_proj")
        self.down_proj = Projection(weights, f"{path}.down_proj")

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        gate = self.gate_proj(x)  # (..., F)
        up = self.up_proj(x)  # (..., F)
        with scope("swiglu"):
            x = silu(gate) * up
        return self.down_proj(x)


class RotaryEmbedding(Module):
    """Cosines and sines of the angles of T positions after N, once for all layers of a pass.

    Computed anew in each pass, and counted: a table would hold the whole context. The angles are
    float32, for 16 bits cannot tell far positions apart.

    Args:
        like: any array of the kind to make (a weight, say).
        dim: D, the width that turns.
        frequencies: radians a position of each pair; none if D is a symbol.
        interleaved: whether the two of a pair are stored side by side, see `rope`.
        scale: a factor of cosines and sines.
    """

    def __init__(
        self,
        like: Array,
        path: str,
        dim: Any,
        frequencies: list[float],
        interleaved: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__(path)
        self.scale = scale
        shape = (dim // 2, 2) if interleaved else (2, dim // 2)
        with at(path):
            self.frequencies = np.empty_like(like, dtype=np.float32, shape=shape)
            by_sign = self.frequencies.swapaxes(0, 1) if interleaved else self.frequencies
            for i, frequency in enumerate(frequencies):
                by_sign[0, i : i + 1] = -frequency
                by_sign[1, i : i + 1] = frequency

    def forward(self, x: Array, T: Any, N: Any) -> Turns:  # (T, 2, D / 2) each
        positions = count_up(x, T) + N  # (T,)
        angles = positions[:, None, None] * self.frequencies
        cos, sin = np.cos(angles), np.sin(angles)
        if self.scale != 1.0:
            cos, sin = cos * self.scale, sin * self.scale
        return as_dtype_of(cos, x), as_dtype_of(sin, x)
