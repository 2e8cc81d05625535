"""The KV cache: reserved once, written in place, read as views."""

from typing import Any

import numpy as np

from counting.scope import category
from minigpt.models.ops import Array


class LayerCache:
    """Keys and values of one layer, each (B, H, capacity, D), the first `length` filled."""

    def __init__(self, like: Array, shape: tuple[Any, ...], value_dim: Any = None) -> None:
        self.k = np.empty_like(like, shape=shape)
        self.v = np.empty_like(like, shape=shape if value_dim is None else (*shape[:3], value_dim))
        self.length: Any = 0

    def append(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Writes T new keys and values (B, H, T, D); gives all S so far (B, H, S, D), as views."""
        N, S = self.length, self.length + k.shape[2]
        self.k[:, :, N:S] = k
        self.v[:, :, N:S] = v
        self.length = S
        return self.k[:, :, :S], self.v[:, :, :S]

    def bytes_of(self, positions: Any) -> Any:
        """Bytes that some positions take, from the first on."""
        return self.k[:, :, :positions].nbytes + self.v[:, :, :positions].nbytes

    @property
    def nbytes(self) -> Any:
        """Bytes reserved."""
        return self.k.nbytes + self.v.nbytes

    @property
    def filled_bytes(self) -> Any:
        """Bytes that hold keys and values: of `nbytes`, those of the positions filled."""
        return self.bytes_of(self.length)


class KVCache:
    """The caches of all layers.

    Args:
        like: any array of the kind and dtype to make (a weight, say).
        layers: number of layers.
        shape: of keys and of values in one layer, (B, H, capacity, D).
        value_dim: the width of values, if it is not that of keys.

    Indexing gives one layer's cache.
    """

    def __init__(
        self, like: Array, layers: int, shape: tuple[Any, ...], value_dim: Any = None
    ) -> None:
        with category("kv_cache"):
            self.layers = [LayerCache(like, shape, value_dim) for _ in range(layers)]
        self.capacity = shape[2]

    def __getitem__(self, layer: int) -> LayerCache:
        return self.layers[layer]

    @property
    def length(self) -> Any:
        """The number of positions filled."""
        return self.layers[0].length

    @property
    def nbytes(self) -> Any:
        """Bytes reserved."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def filled_bytes(self) -> Any:
        """Bytes that hold keys and values: of `nbytes`, those of the positions filled."""
        return sum(layer.filled_bytes for layer in self.layers)

    @property
    def token_bytes(self) -> Any:
        """Bytes written for one more token of each sequence."""
        return sum(layer.bytes_of(1) for layer in self.layers)
