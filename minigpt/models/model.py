"""What every model is, whatever it is built from: tokens to logits."""

from typing import Any, Literal

from minigpt.models.cache import KVCache
from minigpt.models.config import Config
from minigpt.models.module import Module
from minigpt.models.ops import Array, Head


class Model(Module):
    """A whole model.

    Attributes:
        config: its sizes.
        lm_head: its last product, which gives logits.
    """

    config: Config
    lm_head: Head

    @property
    def last_norm(self) -> Module:
        """The norm before `lm_head`."""
        raise NotImplementedError

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
