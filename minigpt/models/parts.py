"""The small parts that models are made of. Each asks for its tensors, see `description`."""

import math
from typing import Any

import numpy as np

from minigpt.models.description import Tensors, part
from minigpt.models.module import Module
from minigpt.models.ops import (
    Array,
    attention,
    capped_attention,
    layer_norm,
    rms_norm,
    sink_attention,
)


class Projection(Module):
    """x @ weight.T + bias, the weight stored (out, in) as PyTorch does; the bias if it has one."""

    def __init__(self, w: Tensors, width: Any, out: Any, bias: bool = False) -> None:
        super().__init__(w.path)
        self.weight = w.rows("weight", out, width)
        self.bias = w("bias", out) if bias else None

    def forward(self, x: Array) -> Array:  # (..., in) -> (..., out)
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Linear(Module):
    """x @ weight + bias, the weight stored (in, out) as GPT-2 stores it."""

    def __init__(self, w: Tensors, width: Any, out: Any) -> None:
        super().__init__(w.path)
        self.weight = w.columns("weight", width, out)
        self.bias = w("bias", out)

    def forward(self, x: Array) -> Array:  # (..., in) -> (..., out)
        return x @ self.weight + self.bias


class Embedding(Module):
    """Rows of a table, by number."""

    def __init__(self, w: Tensors, rows: Any, width: Any) -> None:
        super().__init__(w.path)
        self.weight = w.rows("weight", rows, width)  # the head's too, where they are tied

    def forward(self, rows: Array) -> Array:  # (...) -> (..., C)
        return self.weight[rows]


class Positions(Module):
    """Adds the row of each position, counted from `offset`."""

    def __init__(self, w: Tensors, rows: Any, width: Any, offset: int = 0) -> None:
        super().__init__(w.path)
        self.weight, self.offset = w("weight", rows + offset, width), offset

    def forward(self, x: Array, N: Any) -> Array:  # (B, T, C) -> same
        first = N + self.offset
        return x + self.weight[first : first + x.shape[1]]


unplaced = part(lambda w: lambda x, N: x)
"""What stands where a model has no `Positions`."""


class Head(Module):
    """Logits: x against every row of a table, the token embedding's own where they are tied."""

    def __init__(self, table: Array) -> None:
        super().__init__("lm_head")
        self.weight = table  # (V, C)

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., V)
        return x @ self.weight.T


class LayerNorm(Module):
    """`layer_norm` with its weight and bias."""

    def __init__(self, w: Tensors, width: Any, epsilon: float) -> None:
        super().__init__(w.path)
        self.weight, self.bias, self.epsilon = w("weight", width), w("bias", width), epsilon

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        return layer_norm(x, self.weight, self.bias, self.epsilon)


class RMSNorm(Module):
    """`rms_norm` over the last axis with its weight: of a token, or of each head."""

    def __init__(self, w: Tensors, width: Any, epsilon: float) -> None:
        super().__init__(w.path)
        self.weight, self.epsilon = w("weight", width), epsilon

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        return rms_norm(x, self.weight, self.epsilon)


class GemmaNorm(RMSNorm):
    """The weight is stored less 1."""

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        return rms_norm(x, 1.0 + self.weight, self.epsilon)


class HeadsNorm(RMSNorm):
    """Over all heads of a token together."""

    def forward(self, x: Array) -> Array:  # (B, T, ..., D) -> same
        together = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        return super().forward(together).reshape(*x.shape)


class CentredNorm(RMSNorm):
    """A layer norm without a bias: mean 0 first."""

    def forward(self, x: Array) -> Array:  # (..., C) -> (..., C)
        return rms_norm(x - x.mean(axis=-1, keepdims=True), self.weight, self.epsilon)


class Scale(Module):
    """x times a number."""

    def __init__(self, w: Tensors, factor: float) -> None:
        super().__init__(w.path)
        self.factor = factor

    def forward(self, x: Array) -> Array:
        return x * self.factor


class Softcap(Module):
    """x, squeezed between a cap and its negative."""

    def __init__(self, w: Tensors, cap: float) -> None:
        super().__init__(w.path)
        self.cap = cap

    def forward(self, x: Array) -> Array:
        return np.tanh(x / self.cap) * self.cap


class Attend(Module):
    """Scores, softmax, values."""

    def __init__(self, w: Tensors, scale: Any) -> None:
        super().__init__(w.path)
        self.scale = scale

    def forward(self, q: Array, k: Array, v: Array, mask: Array) -> Array:
        return attention(q, k, v, mask, self.scale)


class CappedAttend(Attend):
    """Scores go through a softcap."""

    def __init__(self, w: Tensors, scale: Any, cap: float) -> None:
        super().__init__(w, scale)
        self.cap = cap

    def forward(self, q: Array, k: Array, v: Array, mask: Array) -> Array:
        return capped_attention(q, k, v, mask, self.scale, self.cap)


class SinkAttend(Attend):
    """Each head has a sink."""

    def __init__(self, w: Tensors, scale: Any, kv_heads: Any, group: Any) -> None:
        super().__init__(w, scale)
        self.sinks = w("sinks", kv_heads * group).reshape(kv_heads, group, 1, 1)

    def forward(self, q: Array, k: Array, v: Array, mask: Array) -> Array:
        return sink_attention(q, k, v, mask, self.scale, self.sinks)
