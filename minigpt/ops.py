"""What models are built from, each written once, from primitives, its arithmetic visible."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from counting.composite import composite
from minigpt.module import Module

Array = Any  # NumPy, CuPy, shapes only, symbolic shapes, counting scalars; bare or counted
Weights = Mapping[str, Array]  # a checkpoint: key -> array


@composite
def softmax(x: Array) -> Array:
    """Softmax over the last axis, any shape."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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
