"""DeepSeek V3 and R1 (DeepSeek-AI, 2024) in plain NumPy, with the names of their checkpoints.

    B  sequences in the batch        H  attention heads             L  layers
    T  new tokens of each            P  width of a head's queries   V  vocabulary
    N  tokens already in the cache      and keys without position   C  width of the model
    S  keys to look at, N + T        E  their width with position   F  width of a feed-forward
    M  tokens to route, B * T        D  width of a head's values    X  experts
    A  experts that a token meets    R  width of the latents        G  groups of experts

Around its attention and its experts it is a Llama. It runs on the kinds of array that GPT-2 runs
on, but for symbols: how many experts are met is a number.
"""

from typing import Any, Literal

import numpy as np

from counting.scope import scope
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.deepseek_config import DeepseekConfig
from minigpt.models.llama import Block, Decoder
from minigpt.models.module import Module
from minigpt.models.ops import (
    Array,
    Projection,
    RMSNorm,
    SwiGLU,
    Turns,
    Weights,
    merge_heads,
    rope_interleaved,
    sigmoid,
    softmax,
    top_k,
)
from minigpt.models.routing import Assumption, Dispatch, assumed, dispatch, expected


class Attention(Module):
    """Multi-head latent attention: keys and values of all heads come from one latent a token.

    The compressed cache holds the latents and the rotary key, R + E numbers a token. Heads attend
    to the latents: the matrix that would make keys of them is multiplied into the queries, that of
    values into the output, 2 H (2 R + E) FLOP for a query and a key. Making all S keys and values
    anew in each pass would be 2 S R H (P + D), in decoding a hundred times as much. The expanded
    cache holds H (P + E + D) numbers a token, in R1 71 times as many, for 2 H (P + E + D) FLOP.
    """

    def __init__(
        self, config: DeepseekConfig, weights: Weights, path: str, compressed: bool
    ) -> None:
        super().__init__(path)
        self.n_head, self.latent = config.num_attention_heads, config.kv_lora_rank
        self.nope, self.rope = config.qk_nope_head_dim, config.qk_rope_head_dim
        self.value = config.v_head_dim
        self.scale = (self.nope + self.rope) ** -0.5 * config.rope_scaling.softmax_factor
        self.attend = self.attend_compressed if compressed else self.attend_expanded
        self.compresses_queries = config.q_lora_rank is not None
        if self.compresses_queries:
            self.q_a_proj = Projection(weights, f"{path}.q_a_proj")
            self.q_a_layernorm = RMSNorm(weights, f"{path}.q_a_layernorm", 1e-6)
            self.q_b_proj = Projection(weights, f"{path}.q_b_proj")
        else:
            self.q_proj = Projection(weights, f"{path}.q_proj")
        self.kv_a_proj_with_mqa = Projection(weights, f"{path}.kv_a_proj_with_mqa")
        self.kv_a_layernorm = RMSNorm(weights, f"{path}.kv_a_layernorm", 1e-6)
        self.kv_b_proj = Projection(weights, f"{path}.kv_b_proj")
        self.o_proj = Projection(weights, f"{path}.o_proj")

    def forward(self, x: Array, turns: Turns, mask: Array, cache: LayerCache) -> Array:
        B, T, _ = x.shape
        H, P, E, R = self.n_head, self.nope, self.rope, self.latent
        if self.compresses_queries:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))  # (B, T, H * (P + E))
        else:
            q = self.q_proj(x)
        q = q.reshape(B, T, H, P + E).swapaxes(1, 2)  # (B, H, T, P + E)
        kv = self.kv_a_proj_with_mqa(x)[:, None]  # (B, 1, T, R + E)
        latents = self.kv_a_layernorm(kv[..., :R])  # (B, 1, T, R)
        with scope("rope"):
            q_rope = rope_interleaved(q[..., P:], *turns)  # (B, H, T, E)
            k_rope = rope_interleaved(kv[..., R:], *turns)  # (B, 1, T, E)
        y = self.attend(q[..., :P], q_rope, latents, k_rope, mask, cache)  # (B, H, T, D)
        with scope("av"):
            y = merge_heads(y)  # (B, T, H * D)
        return self.o_proj(y)

    def attend_compressed(
        self, q: Array, q_rope: Array, latents: Array, k_rope: Array, mask: Array, cache: LayerCache
    ) -> Array:
        """Attention to the latents themselves: they are keys, and values, of all heads."""
        P, D, R = self.nope, self.value, self.latent
        to_kv = self.kv_b_proj.weight.reshape(self.n_head, P + D, R)
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
        E, D = self.rope, self.value
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


class Gate(Module):
    """The choice of A experts for each token, from the best groups, and their shares."""

    def __init__(self, config: DeepseekConfig, weights: Weights, path: str) -> None:
        super().__init__(path)
        self.config = config
        self.weight = weights[f"{path}.weight"]  # (X, C)
        self.e_score_correction_bias = weights[f"{path}.e_score_correction_bias"]  # (X,)

    def forward(self, x: Array) -> tuple[Array, Array]:  # (M, C) -> (M, A), (M, A)
        config, M = self.config, x.shape[0]
        X, G = config.n_routed_experts, config.n_group
        scores = sigmoid(x @ self.weight.T)  # (M, X)
        choice = scores + self.e_score_correction_bias  # balances the load; no part of the shares
        with scope("groups"):
            choice = choice.reshape(M, G, X // G)
            best, _ = top_k(choice, 2)
            of_groups = np.take_along_axis(choice, best, axis=-1).sum(axis=-1)  # (M, G)
            _, others = top_k(of_groups, config.topk_group)  # -inf where a group is chosen
            choice = np.where(others[..., None] == -np.inf, choice, -np.inf).reshape(M, X)
        with scope("top_k"):
            chosen, _ = top_k(choice, config.num_experts_per_tok)  # (M, A)
        with scope("shares"):
            shares = np.take_along_axis(scores, chosen, axis=-1)  # (M, A)
            if config.norm_topk_prob:
                shares = shares / (shares.sum(axis=-1, keepdims=True) + 1e-20)
            return chosen, shares * config.routed_scaling_factor


class MoE(Module):
    """The mixture of experts: a feed-forward layer of which each token meets a part.

    Attributes:
        dispatch: which tokens met which experts in the last pass.
    """

    def __init__(
        self, config: DeepseekConfig, weights: Weights, path: str, assume: Assumption
    ) -> None:
        super().__init__(path)
        self.config, self.assume = config, assume
        self.dispatch: Dispatch | None = None
        self.gate = Gate(config, weights, f"{path}.gate")
        self.experts = [
            SwiGLU(weights, f"{path}.experts.{expert}") for expert in range(config.n_routed_experts)
        ]
        self.shared_experts = SwiGLU(weights, f"{path}.shared_experts")

    def forward(self, x: Array) -> Array:  # (B, T, C) -> same
        B, T, C = x.shape
        x = x.reshape(B * T, C)  # (M, C)
        chosen, shares = self.gate(x)  # (M, A) each
        with scope("dispatch"):
            self.dispatch = self._dispatch(chosen)
            pairs = x[self.dispatch.tokens]  # (M * A, C), those of one expert side by side
            y = np.empty_like(pairs)
        for expert, start, stop in self.dispatch.segments:
            y[start:stop] = self.experts[expert](pairs[start:stop])
        with scope("combine"):
            y = y[self.dispatch.back].reshape(B * T, self.config.num_experts_per_tok, C)
            y = (y * shares[..., None]).sum(axis=1)  # (M, C)
        y = y + self.shared_experts(x)
        return y.reshape(B, T, C)

    def _dispatch(self, chosen: Array) -> Dispatch:
        try:
            return dispatch(np.array(chosen.tolist()))
        except TypeError:  # shapes only: nothing to read
            return assumed(self.assume, self.config, chosen.shape[0])


class Deepseek(Decoder):
    """The model: tokens to logits.

    Args:
        config: its sizes.
        weights: the tensors of `config.shapes()` by key, as any kind of array.
        cache: what `new_cache` holds, see `Attention`.
        assume: which experts are met where arrays have no data, see `routing`.
    """

    config: DeepseekConfig

    def __init__(
        self,
        config: DeepseekConfig,
        weights: Weights,
        cache: Literal["compressed", "expanded"] = "compressed",
        assume: Assumption = expected,
    ) -> None:
        self.compresses = cache == "compressed"
        layers = []
        for i in range(config.num_hidden_layers):
            path = f"model.layers.{i}"
            attention = Attention(config, weights, f"{path}.self_attn", self.compresses)
            if i < config.first_k_dense_replace:
                mlp: Module = SwiGLU(weights, f"{path}.mlp")
            else:
                mlp = MoE(config, weights, f"{path}.mlp", assume)
            layers.append(Block(config, weights, path, attention, mlp))
        super().__init__(config, weights, layers)

    def new_cache(self, batch: Any, capacity: Any) -> KVCache:
        """As of every model; compressed, keys are the rotary ones and values the latents."""
        config = self.config
        if self.compresses:
            heads, key, value = 1, config.qk_rope_head_dim, config.kv_lora_rank
        else:
            heads, value = config.num_attention_heads, config.v_head_dim
            key = config.qk_nope_head_dim + config.qk_rope_head_dim
        shape = (batch, heads, capacity, key)
        return KVCache(self.model.embed_tokens.weight, config.num_hidden_layers, shape, value)
