"""Llama 3 (Grattafiori et al., 2024) in plain NumPy, with the names of its checkpoints.

    B  sequences in the batch        K  key-value heads            L  layers
    T  new tokens of each            G  queries to each of them    V  vocabulary
    N  tokens already in the cache   H  query heads, K * G         F  width of the feed-forward
    S  keys to look at, N + T        D  width of a head            C  width of the model

It runs on every kind of array that GPT-2 runs on.
"""

from typing import Any, Literal

import numpy as np

from counting.scope import scope
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.llama_config import DecoderConfig, LlamaConfig
from minigpt.models.model import Model
from minigpt.models.module import Module
from minigpt.models.ops import (
    Array,
    Embedding,
    Head,
    Projection,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    Turns,
    Weights,
    attention,
    merge_heads,
    rope,
)


class Attention(Module):
    """Causal self-attention; G query heads share the keys and values of one."""

    def __init__(self, config: LlamaConfig, weights: Weights, path: str) -> None:
        super().__init__(path)
        self.kv_heads, self.head_dim = config.num_key_value_heads, config.head_dim
        self.group = config.num_attention_heads // config.num_key_value_heads
        self.q_proj = Projection(weights, f"{path}.q_proj")
        self.k_proj = Projection(weights, f"{path}.k_proj")
        self.v_proj = Projection(weights, f"{path}.v_proj")
        self.o_proj = Projection(weights, f"{path}.o_proj")

    def forward(self, x: Array, turns: Turns, mask: Array, cache: LayerCache) -> Array:
        B, T, _ = x.shape
        K, G, D = self.kv_heads, self.group, self.head_dim
        q = self.q_proj(x).reshape(B, T, K, G, D).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, D)
        k = self.k_proj(x).reshape(B, T, K, D).swapaxes(1, 2)  # (B, K, T, D)
        v = self.v_proj(x).reshape(B, T, K, D).swapaxes(1, 2)  # (B, K, T, D)
        with scope("rope"):
            q = rope(q, *turns)
            k = rope(k, *turns)
        with scope("cache"):
            k, v = cache.append(k, v)  # (B, K, S, D) each
        k, v = k[:, :, None], v[:, :, None]  # (B, K, 1, S, D): read by G queries, never repeated
        y = attention(q, k, v, mask)  # (B, K, G, T, D)
        with scope("av"):
            y = merge_heads(y.reshape(B, K * G, T, D))  # (B, T, K * G * D)
        return self.o_proj(y)


class Block(Module):
    """A transformer block: tokens look at each other, then each is fed forward alone."""

    def __init__(
        self, config: DecoderConfig, weights: Weights, path: str, self_attn: Module, mlp: Module
    ) -> None:
        super().__init__(path)
        epsilon = config.rms_norm_eps
        self.input_layernorm = RMSNorm(weights, f"{path}.input_layernorm", epsilon)
        self.self_attn = self_attn
        after = f"{path}.post_attention_layernorm"
        self.post_attention_layernorm = RMSNorm(weights, after, epsilon)
        self.mlp = mlp

    def forward(self, x: Array, turns: Turns, mask: Array, cache: LayerCache) -> Array:
        x = x + self.self_attn(self.input_layernorm(x), turns, mask, cache)
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x


class Body(Module):
    """Tokens to the last block's output, normalised."""

    def __init__(self, config: DecoderConfig, weights: Weights, layers: list[Block]) -> None:
        super().__init__("model")
        self.embed_tokens = Embedding(weights, "model.embed_tokens")
        self.rotary_emb = RotaryEmbedding(
            self.embed_tokens.weight,
            "model.rotary_emb",
            config.rope_dim,
            config.frequencies,
            interleaved=config.rope_interleave,
            scale=config.rope_scaling.attention_factor,
        )
        self.layers = layers
        self.norm = RMSNorm(weights, "model.norm", config.rms_norm_eps)

    def forward(
        self, tokens: Array, cache: KVCache, logits: Literal["last", "all"]
    ) -> Array:  # (B, T) -> (B, 1 or T, C)
        T, N = tokens.shape[1], cache.length
        x = self.embed_tokens(tokens)  # (B, T, C)
        turns = self.rotary_emb(x, T, N)
        with scope("mask"):  # query i of the new ones may look at keys 0 to N + i
            mask = np.tril(np.ones_like(x, bool, shape=(T, N + T)), N)
        for layer, block in enumerate(self.layers):
            x = block(x, turns, mask, cache[layer])
        if logits == "last":
            x = x[:, -1:]  # (B, 1, C)
        return self.norm(x)


class Decoder(Model):
    """What Llama and its relatives are around their blocks.

    Args:
        config: its sizes.
        weights: the tensors of `config.shapes()` by key, as any kind of array.
        layers: its blocks, of the paths `model.layers.0`, `model.layers.1`, …
    """

    def __init__(self, config: DecoderConfig, weights: Weights, layers: list[Block]) -> None:
        super().__init__("")
        self.config = config
        self.model = Body(config, weights, layers)
        tied = config.tie_word_embeddings
        self.lm_head = Head(self.model.embed_tokens.weight if tied else weights["lm_head.weight"])

    @property
    def last_norm(self) -> RMSNorm:
        return self.model.norm

    def forward(
        self, tokens: Array, cache: KVCache, logits: Literal["last", "all"] = "last"
    ) -> Array:  # (B, T) -> (B, 1 or T, V)
        return self.lm_head(self.model(tokens, cache, logits))


class Llama(Decoder):
    """The model: tokens to logits.

    Args:
        config: its sizes.
        weights: the tensors of `config.shapes()` by key, as any kind of array.
    """

    config: LlamaConfig

    def __init__(self, config: LlamaConfig, weights: Weights) -> None:
        layers = []
        for i in range(config.num_hidden_layers):
            path = f"model.layers.{i}"
            attention = Attention(config, weights, f"{path}.self_attn")
            mlp = SwiGLU(weights, f"{path}.mlp")
            layers.append(Block(config, weights, path, attention, mlp))
        super().__init__(config, weights, layers)

    def new_cache(self, batch: Any, capacity: Any) -> KVCache:
        config = self.config
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        return KVCache(self.model.embed_tokens.weight, config.num_hidden_layers, shape)
