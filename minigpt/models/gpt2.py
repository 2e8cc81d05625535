"""GPT-2 (Radford et al., 2019) in plain NumPy, with the names of nanoGPT and of its checkpoints.

    B  sequences in the batch        H  attention heads            L  layers
    T  new tokens of each            D  width of a head            V  vocabulary
    N  tokens already in the cache   C  width of the model, H * D  F  width of the feed-forward
    S  keys to look at, N + T

The same code runs on any array that answers NumPy's functions: NumPy, CuPy, shapes only, symbolic
shapes, counting scalars; bare or `Counted`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from counting.scope import scope
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.description import Tensors
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.model import Model
from minigpt.models.module import Module
from minigpt.models.ops import Array, attention, gelu, gelu_exact, merge_heads, relu
from minigpt.models.parts import Embedding, Head, LayerNorm, Linear

ACTIVATIONS = {"gelu": gelu_exact, "gelu_new": gelu, "gelu_pytorch_tanh": gelu, "relu": relu}


class Attention(Module):
    """Causal self-attention with many heads."""

    def __init__(self, config: GPT2Config, w: Tensors, layer: int) -> None:
        super().__init__(w.path)
        C, H, D = config.n_embd, config.n_head, config.head_dim
        self.n_head, self.head_dim, self.scale = H, D, config.scale(layer)
        self.c_attn = Linear(w / "c_attn", C, 3 * H * D)
        self.c_proj = Linear(w / "c_proj", H * D, C)

    def forward(self, x: Array, mask: Array, cache: LayerCache) -> Array:  # (B, T, C) -> same
        B, T, _ = x.shape
        qkv = self.c_attn(x)  # (B, T, 3C)
        heads = qkv.reshape(B, T, 3, self.n_head, self.head_dim)
        q, k, v = heads.transpose(2, 0, 3, 1, 4)  # (B, H, T, D) each
        with scope("cache"):
            k, v = cache.append(k, v)  # (B, H, S, D) each
        y = attention(q, k, v, mask, self.scale)  # (B, H, T, D)
        with scope("av"):
            y = merge_heads(y)  # (B, T, H * D)
        return self.c_proj(y)


class MLP(Module):
    """The feed-forward layer."""

    def __init__(self, config: GPT2Config, w: Tensors) -> None:
        super().__init__(w.path)
        C, F = config.n_embd, config.ffn_dim
        self.c_fc = Linear(w / "c_fc", C, F)
        self.act = ACTIVATIONS[config.activation_function]
        self.c_proj = Linear(w / "c_proj", F, C)

    def forward(self, x: Array) -> Array:  # (B, T, C) -> (B, T, C)
        x = self.c_fc(x)  # (B, T, F)
        with scope("gelu"):
            x = self.act(x)
        return self.c_proj(x)


class Block(Module):
    """A transformer block."""

    def __init__(self, config: GPT2Config, w: Tensors, layer: int) -> None:
        super().__init__(w.path)
        C, epsilon = config.n_embd, config.layer_norm_epsilon
        self.ln_1 = LayerNorm(w / "ln_1", C, epsilon)
        self.attn = Attention(config, w / "attn", layer)
        self.ln_2 = LayerNorm(w / "ln_2", C, epsilon)
        self.mlp = MLP(config, w / "mlp")

    def forward(self, x: Array, mask: Array, cache: LayerCache) -> Array:  # (B, T, C) -> same
        x = x + self.attn(self.ln_1(x), mask, cache)
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT2(Model):
    """The model: tokens to logits.

    Args:
        config: its sizes.
        weights: the tensors of `config.shapes()` by key, as any kind of array.
    """

    config: GPT2Config

    def __init__(self, config: GPT2Config, weights: Mapping[str, Array]) -> None:
        super().__init__("")
        self.config, w = config, Tensors.of(weights)
        V, C = config.vocab_size, config.n_embd
        self.wte = Embedding(w / "wte", V, C)
        self.wpe = Embedding(w / "wpe", config.n_positions, C)
        self.h = [Block(config, w / f"h.{i}", i) for i in range(config.n_layer)]
        self.ln_f = self.last_norm = LayerNorm(w / "ln_f", C, config.layer_norm_epsilon)
        tied = config.tie_word_embeddings
        self.lm_head = Head(self.wte.weight if tied else (w / "lm_head").rows("weight", V, C))

    def new_cache(self, batch: Any, capacity: Any) -> KVCache:
        """An empty cache for `batch` sequences of at most `capacity` tokens.

        Raises:
            ValueError: the model has fewer positions.
        """
        config = self.config
        numbers = isinstance(capacity, int) and isinstance(config.n_positions, int)
        if numbers and capacity > config.n_positions:
            raise ValueError(f"{capacity} tokens exceed the context of {config.n_positions}")
        like, heads = self.wte.weight, [(b.attn.n_head, b.attn.head_dim) for b in self.h]
        return KVCache([LayerCache(like, (batch, H, capacity, D)) for H, D in heads], capacity)

    def forward(
        self, tokens: Array, cache: KVCache, logits: Literal["last", "all"] = "last"
    ) -> Array:
        """One forward pass of T new tokens (B, T), after the N that `cache` holds."""
        T, N = tokens.shape[1], cache.length
        x = self.wte(tokens)  # (B, T, C)
        with scope("wpe"):
            x = x + self.wpe.weight[N : N + T]
        with scope("mask"):  # query i of the new ones may look at keys 0 to N + i
            mask = np.tril(np.ones_like(x, bool, shape=(T, N + T)), N)
        for layer, block in enumerate(self.h):
            x = block(x, mask, cache[layer])
        if logits == "last":
            x = x[:, -1:]  # (B, 1, C)
        return self.unembed(x)  # (B, 1 or T, V)
