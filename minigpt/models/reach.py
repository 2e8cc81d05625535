"""How far back a layer looks: at everything, or through a window; its mask, and what it caches."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigpt.models.cache import LayerCache, Ring, at_most
from minigpt.models.ops import Array


@dataclass(frozen=True)
class Everything:
    """Every position so far."""

    def mask(self, x: Array, T: Any, N: Any) -> Array:
        """Which keys each of T new queries after N may look at, (T, N + T)."""
        return np.tril(np.ones_like(x, bool, shape=(T, N + T)), N)

    def cache(self, like: Array, shape: tuple[Any, ...]) -> LayerCache:
        """For keys and values (B, K, capacity, D)."""
        return LayerCache(like, shape)


EVERYTHING = Everything()


@dataclass(frozen=True)
class Window:
    """The last `width` positions, the query's own included."""

    width: Any

    def mask(self, x: Array, T: Any, N: Any) -> Array:
        """Which keys each of T new queries may look at, (T, S), S = min(N, width - 1) + T."""
        before = at_most(N, self.width - 1)
        seen = np.tril(np.ones_like(x, bool, shape=(T, before + T)), before)
        return np.where(np.tril(seen, before - self.width), False, seen)

    def cache(self, like: Array, shape: tuple[Any, ...]) -> LayerCache:
        """For keys and values (B, K, capacity, D), as many as a query can see."""
        B, K, capacity, D = shape
        return Ring(like, (B, K, at_most(capacity, self.width), D), self.width)


@dataclass(frozen=True)
class Nothing:
    """No key of another token: a layer that keeps a state asks for no mask."""

    def mask(self, x: Array, T: Any, N: Any) -> None:
        """None."""


NOTHING = Nothing()

Reach = Everything | Window
