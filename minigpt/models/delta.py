"""Linear attention by the gated delta rule (Yang, Kautz & Hatamizadeh, 2024), another mixer.

In the letters of `decoder`, and

K  key heads                     D  width of a head's queries and keys
G  value heads to each of them   E  width of a head's values
n  inputs that a convolution sees, the own included

A head keeps a matrix S (D, E), a memory of values by keys. Each token lets it fade by a factor a,
looks up what it holds under the token's key, and writes a part b of what was wrong with that:

    S = a S + k (b (v - k a S))        y = q S

So a token costs the same after ten others as after a million. Tokens that come together go through
in chunks, whose products are large: within a chunk of C, all that they write follows from one
triangular system (Yang et al., 2024). A token alone is a chunk of one, which is the rule above.

Beside it stands what a gate makes of the attention in the few layers that look back at tokens.
"""

from typing import Any, NamedTuple

import numpy as np

from counting.scope import scope
from minigpt.models.decoder import Activation, Heads
from minigpt.models.description import Tensors
from minigpt.models.module import Module
from minigpt.models.ops import (
    Array,
    causal_convolution,
    forward_substitution,
    rms_norm,
    sigmoid,
    silu,
    softplus,
    unit,
)
from minigpt.models.parts import Projection
from minigpt.models.reach import NOTHING
from minigpt.models.rope import UNTURNED, Turn
from minigpt.models.state import State


class Delta(NamedTuple):
    """The sizes of linear attention."""

    C: Any
    K: Any
    G: Any
    D: Any
    E: Any
    n: Any


class GatedDeltaNet(Module):
    """Linear attention: a convolution over few tokens, then the gated delta rule.

    Args:
        act: after the convolution.
        chunk: tokens that go through together, at most.
    """

    reach, rope = NOTHING, UNTURNED

    def __init__(
        self, w: Tensors, sizes: Delta, act: Activation, epsilon: float, chunk: int
    ) -> None:
        super().__init__(w.path)
        self.sizes, self.chunk = sizes, chunk
        C, K, G, D, E, _ = sizes
        self.in_proj_qkvz = Projection(w / "in_proj_qkvz", C, K * (D + D + G * E + G * E))
        self.in_proj_ba = Projection(w / "in_proj_ba", C, K * 2 * G)
        self.conv1d = Convolution(w / "conv1d", sizes, act)
        self.dt_bias = w("dt_bias", K * G).reshape(K, G)
        self.A_log = w("A_log", K * G).reshape(K, G)
        self.norm = OpenedNorm(w / "norm", E, epsilon)
        self.out_proj = Projection(w / "out_proj", K * G * E, C)

    def new_cache(self, like: Array, batch: Any, capacity: Any) -> State:
        """A state: it takes as many bytes whatever the capacity."""
        _, K, G, D, E, n = self.sizes
        return State(like, (batch, n - 1, K, 2 * D + G * E), (batch, K, G, D, E))

    def forward(self, x: Array, turn: Turn, mask: Array, cache: State) -> Array:
        (B, T, _), (_, K, G, D, E, _) = x.shape, self.sizes
        qkvz = self.in_proj_qkvz(x).reshape(B, T, K, 2 * (D + G * E))
        ba = self.in_proj_ba(x).reshape(B, T, K, 2 * G)
        qkv, z = qkvz[..., : 2 * D + G * E], qkvz[..., 2 * D + G * E :]
        q, k, v = self.conv1d(qkv, cache)  # (B, T, K, D) twice, (B, T, K, G * E)
        with scope("unit"):
            q = unit(q, 1e-6) * D**-0.5
            k = unit(k, 1e-6)
        with scope("gates"):
            b = sigmoid(ba[..., :G])  # (B, T, K, G): the part that is written
            fade = softplus(ba[..., G:] + self.dt_bias) * -np.exp(self.A_log)  # log of a
        q, k = (each.transpose(0, 2, 1, 3)[:, :, None] for each in (q, k))  # (B, K, 1, T, D)
        v = v.reshape(B, T, K, G, E).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, E)
        b, fade = b.transpose(0, 2, 3, 1), fade.transpose(0, 2, 3, 1)  # (B, K, G, T)
        y, S = np.empty_like(x, shape=(B, T, K, G, E)), cache.matrix
        for first in range(0, T, self.chunk):
            t = slice(first, min(first + self.chunk, T))
            found, S = self.through(
                q[..., t, :], k[..., t, :], v[..., t, :], b[..., t], fade[..., t], S
            )
            y[:, t] = found.transpose(0, 3, 1, 2, 4)
        with scope("cache"):
            cache.matrix[...] = S
            cache.length += T
        y = self.norm(y, z.reshape(B, T, K, G, E))
        return self.out_proj(y.reshape(B, T, K * G * E))  # (B, T, C)

    def through(
        self, q: Array, k: Array, v: Array, b: Array, fade: Array, S: Array
    ) -> tuple[Array, Array]:
        """A chunk of C tokens: what each finds (B, K, G, C, E), and the matrices after all."""
        C = q.shape[-2]
        with scope("chunk"):
            since = np.cumsum(fade, axis=-1)  # (B, K, G, C): log of what is left of what was before
            seen = np.tril(np.ones_like(q, bool, shape=(C, C)))
            left = np.exp(np.where(seen, since[..., None] - since[..., None, :], -np.inf))
            since = np.exp(since)[..., None]
            overlap = k @ k.swapaxes(-1, -2) * left * b[..., None]  # (B, K, G, C, C)
        with scope("state"):
            found = k @ S * since  # (B, K, G, C, E): what is there already
        with scope("chunk"):
            u = forward_substitution(overlap, (v - found) * b[..., None])
        with scope("state"):
            y = q @ S * since
        with scope("chunk"):
            y = y + (q @ k.swapaxes(-1, -2) * left) @ u
        with scope("state"):
            k = k * left[..., -1, :, None]  # (B, K, G, C, D), as much as is left of each
            S = S * since[..., -1:, :] + k.swapaxes(-1, -2) @ u
        return y, S


class Convolution(Module):
    """Each channel of queries, keys and values with its last inputs, each times a weight.

    Channels come head by head, as they are cached; weights are stored queries first.
    """

    def __init__(self, w: Tensors, sizes: Delta, act: Activation) -> None:
        super().__init__(w.path)
        self.act = act
        _, K, G, D, E, n = sizes
        weight = w("weight", K * D + K * D + K * G * E, 1, n)
        self.parts, begin, stored = [], 0, 0
        for width in (D, D, G * E):
            rows = weight[stored : stored + K * width].reshape(K, width, n)
            self.parts.append((slice(begin, begin + width), rows))
            begin, stored = begin + width, stored + K * width

    def forward(self, x: Array, cache: State) -> list[Array]:
        """Of x (B, T, K, 2 * D + G * E): queries, keys, values, (B, T, K, …) each."""
        B, T, *channels = x.shape
        before = cache.inputs.shape[1]
        with scope("cache"):
            inputs = np.empty_like(x, shape=(B, before + T, *channels))
            inputs[:, :before] = cache.inputs
            inputs[:, before:] = x
            cache.inputs[...] = inputs[:, T:]
        return [self.act(causal_convolution(inputs[..., at], w)) for at, w in self.parts]


class OpenedNorm(Module):
    """`rms_norm` with its weight; what comes out is opened by a gate."""

    def __init__(self, w: Tensors, width: Any, epsilon: float) -> None:
        super().__init__(w.path)
        self.weight, self.epsilon = w("weight", width), epsilon

    def forward(self, x: Array, gate: Array) -> Array:  # (..., E) both
        return rms_norm(x, self.weight, self.epsilon) * silu(gate)


class WithGate(Module):
    """A matrix for each of queries, keys, values; that of queries gives gates too, head by head."""

    def __init__(self, w: Tensors, heads: Heads, bias: bool = False) -> None:
        super().__init__(w.path)
        self.heads = C, K, G, D = heads
        self.q_proj = Projection(w / "q_proj", C, K * G * 2 * D, bias)
        self.k_proj = Projection(w / "k_proj", C, K * D, bias)
        self.v_proj = Projection(w / "v_proj", C, K * D, bias)

    def forward(self, x: Array) -> tuple[Array, Array, Array, Array]:
        (B, T, _), (_, K, G, D) = x.shape, self.heads
        q = self.q_proj(x).reshape(B, T, K, G, 2 * D)
        k = self.k_proj(x).reshape(B, T, K, D)
        v = self.v_proj(x).reshape(B, T, K, D)
        return q[..., :D], k, v, q[..., D:]


class OpenedProjection(Module):
    """As `Projection`, of what a gate opens."""

    def __init__(self, w: Tensors, width: Any, out: Any, bias: bool = False) -> None:
        super().__init__(w.path)
        self.projection = Projection(w, width, out, bias)

    def forward(self, x: Array, gate: Array) -> Array:  # (B, T, in), (B, T, …) -> (B, T, out)
        with scope("gate"):
            x = (x.reshape(*gate.shape) * sigmoid(gate)).reshape(*x.shape)
        return self.projection(x)
