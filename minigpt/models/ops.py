"""The functions that models are built from, each written once, of primitives that are counted."""

import math
from typing import Any

import numpy as np

from counting.composite import composite
from counting.scope import scope

Array = Any  # NumPy, CuPy, shapes only, symbolic shapes, counting scalars; bare or counted


@composite
def softmax(x: Array, mask: Array) -> Array:
    """Softmax over the last axis of x (..., T, S), where mask (T, S) is true; 0 elsewhere."""
    x = np.where(mask, x, -np.inf)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@composite
def attention(q: Array, k: Array, v: Array, mask: Array, scale: Any) -> Array:
    """What each query (..., T, D) finds among keys and values (..., S, D): (..., T, D)."""
    with scope("qk"):
        scores = q @ k.swapaxes(-1, -2) * scale  # (..., T, S)
    with scope("softmax"):
        pattern = softmax(scores, mask)  # (..., T, S)
    with scope("av"):
        return pattern @ v


@composite
def capped_attention(q: Array, k: Array, v: Array, mask: Array, scale: Any, cap: float) -> Array:
    """As `attention`, no score beyond `cap` or below its negative (Gemma 2)."""
    with scope("qk"):
        scores = np.tanh(q @ k.swapaxes(-1, -2) * scale / cap) * cap  # (..., T, S)
    with scope("softmax"):
        pattern = softmax(scores, mask)  # (..., T, S)
    with scope("av"):
        return pattern @ v


@composite
def sink_attention(q: Array, k: Array, v: Array, mask: Array, scale: Any, sinks: Array) -> Array:
    """As `attention`, with one more key whose score is given, (..., 1, 1), and no value."""
    with scope("qk"):
        scores = q @ k.swapaxes(-1, -2) * scale  # (..., T, S)
    with scope("softmax"):
        scores = np.where(mask, scores, -np.inf)
        most = np.maximum(scores.max(axis=-1, keepdims=True), sinks)  # (..., T, 1)
        e = np.exp(scores - most)
        pattern = e / (e.sum(axis=-1, keepdims=True) + np.exp(sinks - most))
    with scope("av"):
        return pattern @ v


@composite
def probabilities(x: Array) -> Array:
    """Softmax over the last axis, any shape."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@composite
def relu(x: Array) -> Array:
    """x where it is positive, else 0, any shape."""
    return np.maximum(x, 0.0)


# The tail of the normal distribution, to 1e-7 (Abramowitz & Stegun, 1964, 26.2.17).
_TAIL = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)


@composite
def gelu_exact(x: Array) -> Array:
    """x times the share of a normal distribution below x, any shape: GELU without a tanh."""
    z = np.maximum(x, -x)
    t = 1.0 / (1.0 + 0.2316419 * z)
    tail = t * (_TAIL[0] + t * (_TAIL[1] + t * (_TAIL[2] + t * (_TAIL[3] + t * _TAIL[4]))))
    tail = tail * np.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))
    return np.maximum(x, 0.0) - z * tail


@composite
def clamped_swiglu(gate: Array, up: Array, alpha: float, limit: float) -> Array:
    """The gate of gpt-oss: both sides clamped, and `up` moved by 1."""
    gate = np.minimum(gate, limit)
    up = np.maximum(np.minimum(up, limit), -limit)
    return (up + 1.0) * (gate * sigmoid(gate * alpha))


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


@composite
def sigmoid(x: Array) -> Array:
    """The logistic function, any shape."""
    return 1.0 / (1.0 + np.exp(-x))


@composite
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), any shape; of a large x it is x."""
    return np.maximum(x, 0.0) + np.log(1.0 + np.exp(np.minimum(x, -x)))


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
def unit(x: Array, epsilon: float) -> Array:
    """Square sum 1 over the last axis, any shape."""
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + epsilon)


@composite
def causal_convolution(x: Array, weight: Array) -> Array:
    """Each channel's last n inputs, the own included, times n weights: (B, T, …) of n - 1 + T.

    Args:
        x: (B, n - 1 + T, …), the first n - 1 from before.
        weight: (…, n), the last for the own input.
    """
    n = weight.shape[-1]
    T = x.shape[1] - n + 1
    y = x[:, :T] * weight[..., 0]
    for i in range(1, n):
        y = y + x[:, i : i + T] * weight[..., i]
    return y


@composite
def forward_substitution(a: Array, b: Array) -> Array:
    """The x (..., C, E) with a @ x + x = b, of a (..., C, C) only what lies under its diagonal."""
    x = np.empty_like(b, shape=b.shape)
    x[..., :1, :] = b[..., :1, :]
    for i in range(1, b.shape[-2]):
        x[..., i : i + 1, :] = b[..., i : i + 1, :] - a[..., i : i + 1, :i] @ x[..., :i, :]
    return x


@composite
def rope(x: Array, cos: Array, sin: Array) -> Array:
    """Each pair of x (..., T, D) turned by its angle, the pairs' first halves stored first.

    cos and sin are (T, 2, D / 2), of minus the angle and of the angle: see `rope.Rotary`.
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
