"""Norms of which a device has a part."""

import math
from collections.abc import Callable

import numpy as np

from minigpt.models.description import Tensors, identity
from minigpt.models.ops import Array
from minigpt.models.parts import HeadsNorm
from minigpt.models.shard import Shard


class SharedHeadsNorm(HeadsNorm):
    """Over all heads of a token together, of which this device has some.

    Args:
        times: how often its heads count, where other devices have the same: together once.

    Attributes:
        total: of what devices found, the sum.
    """

    def __init__(self, w: Tensors, width: Shard, epsilon: float, times: float = 1.0) -> None:
        super().__init__(w, width, epsilon)
        self.share = width / width.total * times  # of the mean of all
        self.total: Callable[[Array], Array] = identity

    def forward(self, x: Array) -> Array:  # (B, T, ..., D) -> same
        part = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        squares = part * part
        mean = squares.mean if part.shape[-1] else squares.sum  # of no heads: 0
        mean_square = self.total(mean(axis=-1, keepdims=True) * self.share)  # (B, T, 1)
        return (part / np.sqrt(mean_square + self.epsilon) * self.weight).reshape(*x.shape)
