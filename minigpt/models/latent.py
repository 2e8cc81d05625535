"""Latent attention (DeepSeek-AI, 2024): another mixer, in the letters of `decoder`, and

H  heads                         E  their width with position
P  width of a head's queries     D  width of a head's values
   and keys without position     R  width of the latents
"""

from typing import Any, NamedTuple

import numpy as np

from counting.scope import scope
from minigpt.models.cache import LayerCache
from minigpt.models.description import Part, Tensors
from minigpt.models.module import Module
from minigpt.models.ops import Array, merge_heads, softmax
from minigpt.models.parts import Projection, RMSNorm
from minigpt.models.reach import EVERYTHING
from minigpt.models.rope import Rope, Turn


class Latent(NamedTuple):
    """The sizes of latent attention."""

    C: Any
    H: Any
    P: Any
    E: Any
    D: Any
    R: Any


class LatentAttention(Module):
    """Keys and values of all heads come from one latent a token.

    The compressed cache holds the latents and the rotary key, R + E numbers a token. Heads attend
    to the latents: the matrix that would make keys of them is multiplied into the queries, that of
    values into the output, 2 H (2 R + E) FLOP for a query and a key. Making all S keys and values
    anew in each pass would be 2 S R H (P + D), in decoding a hundred times as much. The expanded
    cache holds H (P + E + D) numbers a token, in R1 71 times as many, for 2 H (P + E + D) FLOP.

    Attributes:
        compressed: which of the two it has.
    """

    reach = EVERYTHING

    def __init__(
        self, w: Tensors, sizes: Latent, queries: Part, scale: float, rope: Rope, bias: bool = False
    ) -> None:
        super().__init__(w.path)
        self.sizes, self.scale, self.rope, self.compressed = sizes, scale, rope, True
        C, H, P, E, D, R = sizes
        self.queries = queries(w)
        self.kv_a_proj_with_mqa = Projection(w / "kv_a_proj_with_mqa", C, R + E, bias)
        self.kv_a_layernorm = RMSNorm(w / "kv_a_layernorm", R, 1e-6)
        self.kv_b_proj = Cut(w / "kv_b_proj", R, H * (P + D))
        self.o_proj = Projection(w / "o_proj", H * D, C, bias)

    def new_cache(self, like: Array, batch: Any, capacity: Any) -> LayerCache:
        """Compressed, keys are the rotary ones and values the latents."""
        _, H, P, E, D, R = self.sizes
        if self.compressed:
            return LayerCache(like, (batch, 1, capacity, E), R)
        return LayerCache(like, (batch, H, capacity, P + E), D)

    def forward(self, x: Array, turn: Turn, mask: Array, cache: LayerCache) -> Array:
        (B, T, _), (_, H, P, E, _, R) = x.shape, self.sizes
        q = self.queries(x).reshape(B, T, H, P + E).swapaxes(1, 2)  # (B, H, T, P + E)
        kv = self.kv_a_proj_with_mqa(x)[:, None]  # (B, 1, T, R + E)
        latents = self.kv_a_layernorm(kv[..., :R])  # (B, 1, T, R)
        with scope("rope"):
            q_rope, k_rope = turn(q[..., P:]), turn(kv[..., R:])  # (B, H, T, E), (B, 1, T, E)
        attend = self.attend_compressed if self.compressed else self.attend_expanded
        y = attend(q[..., :P], q_rope, latents, k_rope, mask, cache)  # (B, H, T, D)
        with scope("av"):
            y = merge_heads(y)  # (B, T, H * D)
        return self.o_proj(y)

    def attend_compressed(
        self, q: Array, q_rope: Array, latents: Array, k_rope: Array, mask: Array, cache: LayerCache
    ) -> Array:
        """Attention to the latents themselves: they are keys, and values, of all heads."""
        _, H, P, _, D, R = self.sizes
        to_kv = self.kv_b_proj.weight.reshape(H, P + D, R)
        with scope("cache"):
            k_rope, latents = cache.append(k_rope, latents)  # (B, 1, S, E), (B, 1, S, R)
        with scope("kv_b_proj"):
            q = q @ to_kv[:, :P]  # (B, H, T, R)
        with scope("qk"):
            scores = q @ latents.swapaxes(-1, -2)  # (B, H, T, S)
            scores = scores + q_rope @ k_rope.swapaxes(-1, -2)
            scores = scores * self.scale
        with scope("softmax"):
            pattern = softmax(scores, mask)  # (B, H, T, S)
        with scope("av"):
            y = pattern @ latents  # (B, H, T, R)
        with scope("kv_b_proj"):
            return y @ to_kv[:, P:].swapaxes(-1, -2)  # (B, H, T, D)

    def attend_expanded(
        self, q: Array, q_rope: Array, latents: Array, k_rope: Array, mask: Array, cache: LayerCache
    ) -> Array:
        """Attention as usual: each head has keys and values of its own."""
        B, H, T, P = q.shape
        E, D = self.sizes.E, self.sizes.D
        kv = self.kv_b_proj(latents[:, 0]).reshape(B, T, H, P + D).swapaxes(1, 2)
        with scope("heads"):  # the one rotary key goes to every head
            k = np.empty_like(kv, shape=(B, H, T, P + E))
            k[..., :P] = kv[..., :P]
            k[..., P:] = k_rope
        with scope("cache"):
            k, v = cache.append(k, kv[..., P:])  # (B, H, S, P + E), (B, H, S, D)
        with scope("qk"):
            scores = q @ k[..., :P].swapaxes(-1, -2)  # (B, H, T, S)
            scores = scores + q_rope @ k[..., P:].swapaxes(-1, -2)
            scores = scores * self.scale
        with scope("softmax"):
            pattern = softmax(scores, mask)  # (B, H, T, S)
        with scope("av"):
            return pattern @ v  # (B, H, T, D)


class Cut(Module):
    """A projection whose weight is cut in two before it multiplies, so it is held as it is."""

    def __init__(self, w: Tensors, width: Any, out: Any) -> None:
        super().__init__(w.path)
        self.weight = w("weight", out, width)

    def forward(self, x: Array) -> Array:  # (..., in) -> (..., out)
        return x @ self.weight.T


class ThroughLatent(Module):
    """Queries by way of a narrow latent."""

    def __init__(self, w: Tensors, width: Any, latent: Any, out: Any, bias: bool = False) -> None:
        super().__init__(w.path)
        self.q_a_proj = Projection(w / "q_a_proj", width, latent, bias)
        self.q_a_layernorm = RMSNorm(w / "q_a_layernorm", latent, 1e-6)
        self.q_b_proj = Projection(w / "q_b_proj", latent, out)

    def forward(self, x: Array) -> Array:  # (B, T, C) -> (B, T, out)
        return self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
