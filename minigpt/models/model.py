"""What every model is, whatever it is built from: tokens to logits."""

from typing import Any, Literal

from minigpt.models.cache import KVCache
from minigpt.models.config import Config
from minigpt.models.description import identity
from minigpt.models.module import Module
from minigpt.models.ops import Array
from minigpt.models.parts import Head


class Model(Module):
    """A whole model.

    Attributes:
        config: its sizes.
        last_norm: of what the last block gives.
        lm_head: its last product, which gives logits.
        after_head: what few models make of these.
    """

    config: Config
    last_norm: Module
    lm_head: Head
    after_head: Any = staticmethod(identity)

    def unembed(self, x: Array) -> Array:
        """The logits (B, T, V) of what the last block gives (B, T, C)."""
        return self.after_head(self.lm_head(self.last_norm(x)))

    def new_cache(self, batch: Any, capacity: Any) -> KVCache:
        """An empty cache for `batch` sequences of at most `capacity` tokens."""
        raise NotImplementedError

    def forward(
        self, tokens: Array, cache: KVCache, logits: Literal["last", "all"] = "last"
    ) -> Array:
        """One forward pass of T new tokens (B, T), after the N that `cache` holds.

        Returns:
            The logits of the last position (B, 1, V), or of all of them (B, T, V).
        """
        raise NotImplementedError
