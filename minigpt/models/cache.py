"""The KV cache: reserved once, written in place, read as views.

A layer of linear attention keeps a `State` in the place of keys and values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from counting.scope import category
from minigpt.models.ops import Array
from minigpt.models.state import State


class LayerCache:
    """Keys and values of one layer, each (B, H, capacity, D), the first `length` filled."""

    HOLDS, CATEGORY = ("k", "v"), "kv_cache"

    def __init__(self, like: Array, shape: tuple[Any, ...], value_dim: Any = None) -> None:
        with category("kv_cache"):
            self.k = np.empty_like(like, shape=shape)
            values = shape if value_dim is None else (*shape[:3], value_dim)
            self.v = np.empty_like(like, shape=values)
        self.length: Any = 0

    @property
    def capacity(self) -> Any:
        """Positions that there is room for."""
        return self.k.shape[2]

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


class Ring(LayerCache):
    """Keys and values of the last positions, as many as there are slots: p lies in p % slots.

    Args:
        window: W, the positions that a query sees; all slots, unless no sequence gets that long.
    """

    def __init__(self, like: Array, shape: tuple[Any, ...], window: Any) -> None:
        super().__init__(like, shape)
        self.window = window

    def append(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Writes T new ones; gives those that a new query may see, (B, H, S, D) each.

        S is min(N, W - 1) + T. One new token takes the slot of the one that it does not see any
        more, and all slots are given as they lie: attention does not ask for an order.
        """
        N, T = self.length, k.shape[2]
        S = at_most(N, self.window - 1) + T
        self.length = N + T
        if T == 1:
            slot = N % self.capacity
            self.k[:, :, slot : slot + 1] = k
            self.v[:, :, slot : slot + 1] = v
            return self.k[:, :, :S], self.v[:, :, :S]
        return _roll(self.k, k, N, S), _roll(self.v, v, N, S)


def _roll(ring: Array, new: Array, N: Any, S: Any) -> Array:
    """The window before `new` and `new`, in order, (B, H, S, D); the last go into the ring."""
    T, slots = new.shape[2], ring.shape[2]
    old, kept = S - T, at_most(S, slots)
    rows = np.empty_like(ring, shape=(*new.shape[:2], S, new.shape[3]))
    for stored, at in _runs(N - old, old, slots):
        rows[:, :, at] = ring[:, :, stored]
    rows[:, :, old:] = new
    for stored, at in _runs(N + T - kept, kept, slots):
        ring[:, :, stored] = rows[:, :, S - kept :][:, :, at]
    return rows


def _runs(first: Any, n: Any, slots: Any) -> list[tuple[slice, slice]]:
    """Slots of `n` positions from `first` on, and their places among the n: one run, or two."""
    if not (isinstance(n, int) and isinstance(first, int)):  # symbols: one run moves as much as two
        return [(slice(0, n), slice(0, n))]
    start = first % slots
    fit = min(n, slots - start)
    runs = [(slice(start, start + fit), slice(0, fit)), (slice(0, n - fit), slice(fit, n))]
    return [run for run in runs if run[1].start < run[1].stop]


def at_most(n: Any, most: Any) -> Any:
    """The smaller of two sizes, SymPy's `Min` where they are symbols."""
    if isinstance(n, int) and isinstance(most, int):
        return min(n, most)
    import sympy

    return sympy.Min(n, most)


class KVCache:
    """What all layers keep, for sequences of at most `capacity` tokens.

    Indexing gives what one layer keeps.
    """

    def __init__(self, layers: Sequence[LayerCache | State], capacity: Any) -> None:
        self.layers, self.capacity = [*layers], capacity

    def __getitem__(self, layer: int) -> Any:
        return self.layers[layer]

    @property
    def _keyed(self) -> list[LayerCache]:
        return [layer for layer in self.layers if isinstance(layer, LayerCache)]

    @property
    def length(self) -> Any:
        """The number of positions filled."""
        return self.layers[0].length

    @property
    def nbytes(self) -> Any:
        """Bytes reserved for keys and values."""
        return sum(layer.nbytes for layer in self._keyed)

    @property
    def filled_bytes(self) -> Any:
        """Bytes that hold keys and values: of `nbytes`, those of the positions filled."""
        return sum(layer.filled_bytes for layer in self._keyed)

    @property
    def token_bytes(self) -> Any:
        """Bytes of keys and values that are written for one more token of each sequence."""
        return sum(layer.bytes_of(1) for layer in self._keyed)

    @property
    def state_bytes(self) -> Any:
        """Bytes of the states of layers that keep one, of however many tokens."""
        return sum(layer.nbytes for layer in self.layers if isinstance(layer, State))
