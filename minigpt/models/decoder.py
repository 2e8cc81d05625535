"""A decoder in plain NumPy: the block in straight lines, of parts that each model chooses.

    B  sequences in the batch        K  key-value heads            L  layers
    T  new tokens of each            G  queries to each of them    V  vocabulary
    N  tokens so far                 H  query heads, K * G         F  width of the feed-forward
    S  keys to look at               D  width of a head            C  width of the model

A part that a model lacks is the identity, and records nothing. Other mixers are in `latent`, other
feed-forwards in `experts`; which parts a model has, and what its checkpoint calls them, is said
once, in `families`. It runs on every kind of array that GPT-2 runs on.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from counting.scope import scope
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.description import Part, Tensors, absent, identity
from minigpt.models.model import Model
from minigpt.models.module import Module
from minigpt.models.ops import Array, merge_heads
from minigpt.models.parts import Head, Projection, unplaced
from minigpt.models.reach import EVERYTHING, Reach
from minigpt.models.rope import UNTURNED, Rope, Turn, Unturned

Activation = Callable[[Array], Array]


class Heads(NamedTuple):
    """The sizes of attention."""

    C: Any
    K: Any
    G: Any
    D: Any


# Queries, keys and values: (B, T, C) -> (B, T, K, G, D), (B, T, K, D), (B, T, K, D).


class Apart(Module):
    """A matrix for each of the three."""

    def __init__(self, w: Tensors, heads: Heads, bias: bool = False) -> None:
        super().__init__(w.path)
        self.heads = C, K, G, D = heads
        self.q_proj = Projection(w / "q_proj", C, K * G * D, bias)
        self.k_proj = Projection(w / "k_proj", C, K * D, bias)
        self.v_proj = Projection(w / "v_proj", C, K * D, bias)

    def forward(self, x: Array) -> tuple[Array, Array, Array]:
        (B, T, _), (_, K, G, D) = x.shape, self.heads
        q = self.q_proj(x).reshape(B, T, K, G, D)
        k = self.k_proj(x).reshape(B, T, K, D)
        v = self.v_proj(x).reshape(B, T, K, D)
        return q, k, v


class Joined(Module):
    """One matrix: all queries, then all keys, then all values."""

    def __init__(self, w: Tensors, heads: Heads, name: str, bias: bool = False) -> None:
        super().__init__(w.path)
        self.heads = heads
        self.qkv = Projection(w / name, heads.C, self.out(heads), bias)

    def out(self, heads: Heads) -> Any:
        """Numbers that the matrix gives, said in the order in which they lie."""
        _, K, G, D = heads
        return (K * G + 2 * K) * D

    def forward(self, x: Array) -> tuple[Array, Array, Array]:
        (B, T, _), (_, K, G, D) = x.shape, self.heads
        heads = self.qkv(x).reshape(B, T, K * G + 2 * K, D)
        q, k, v = heads[:, :, : K * G], heads[:, :, K * G : K * G + K], heads[:, :, K * G + K :]
        return q.reshape(B, T, K, G, D), k, v


class JoinedByGroup(Joined):
    """One matrix, group after group: the queries to a key, the key, its value."""

    def out(self, heads: Heads) -> Any:
        _, K, G, D = heads
        return K * (G + 2) * D

    def forward(self, x: Array) -> tuple[Array, Array, Array]:
        (B, T, _), (_, K, G, D) = x.shape, self.heads
        heads = self.qkv(x).reshape(B, T, K, G + 2, D)
        return heads[:, :, :, :G], heads[:, :, :, G], heads[:, :, :, G + 1]


# Mixers: what a token takes from those before it.


class Attention(Module):
    """Causal self-attention; G query heads share the keys and values of one."""

    def __init__(
        self,
        w: Tensors,
        heads: Heads,
        qkv: Part,
        attend: Part,
        out: Part,
        q_norm: Part = absent,
        k_norm: Part = absent,
        rope: Rope | Unturned = UNTURNED,
        reach: Reach = EVERYTHING,
    ) -> None:
        super().__init__(w.path)
        self.heads, self.rope, self.reach = heads, rope, reach
        self.qkv, self.attend, self.out = qkv(w), attend(w), out(w)
        self.q_norm, self.k_norm = q_norm(w), k_norm(w)

    def new_cache(self, like: Array, batch: Any, capacity: Any) -> LayerCache:
        return self.reach.cache(like, (batch, self.heads.K, capacity, self.heads.D))

    def forward(self, x: Array, turn: Turn, mask: Array, cache: LayerCache) -> Array:
        (B, T, _), (_, K, G, D) = x.shape, self.heads
        q, k, v, *gate = self.qkv(x)  # (B, T, K, G, D), (B, T, K, D) twice; in few models a gate
        q = self.q_norm(q).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, D)
        k = self.k_norm(k)
        k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)  # (B, K, T, D) each
        with scope("rope"):
            q = turn(q)
            k = turn(k)
        with scope("cache"):
            k, v = cache.append(k, v)  # (B, K, S, D) each
        k, v = k[:, :, None], v[:, :, None]  # (B, K, 1, S, D): read by G queries, never repeated
        y = self.attend(q, k, v, mask)  # (B, K, G, T, D)
        with scope("av"):
            y = merge_heads(y.reshape(B, K * G, T, D))  # (B, T, K * G * D)
        return self.out(y, *gate)  # (B, T, C)


# Feed-forwards: (..., C) -> (..., C).


class MLP(Module):
    """Up, an activation, down."""

    def __init__(
        self, w: Tensors, C: Any, F: Any, act: Activation, names: tuple[str, str], bias: bool = True
    ) -> None:
        super().__init__(w.path)
        self.up, self.act = Projection(w / names[0], C, F, bias), act
        self.down = Projection(w / names[1], F, C, bias)

    def forward(self, x: Array) -> Array:
        x = self.up(x)  # (..., F)
        with scope("act"):
            x = self.act(x)
        return self.down(x)


class Gated(Module):
    """The activation of one projection opens another: SwiGLU, GeGLU (Shazeer, 2020)."""

    NAMES = ("gate_proj", "up_proj", "down_proj")

    def __init__(
        self,
        w: Tensors,
        C: Any,
        F: Any,
        act: Activation,
        names: tuple[str, str, str] = NAMES,
        bias: bool = False,
    ) -> None:
        super().__init__(w.path)
        self.gate, self.act = Projection(w / names[0], C, F, bias), act
        self.up = Projection(w / names[1], C, F, bias)
        self.down = Projection(w / names[2], F, C, bias)

    def forward(self, x: Array) -> Array:
        gate, up = self.gate(x), self.up(x)  # (..., F) each
        with scope("act"):
            x = self.act(gate) * up
        return self.down(x)


class GatedJoined(Module):
    """As `Gated`, gate and up in one matrix, one after the other."""

    def __init__(self, w: Tensors, C: Any, F: Any, act: Activation) -> None:
        super().__init__(w.path)
        self.F, self.act = F, act
        self.gate_up_proj = Projection(w / "gate_up_proj", C, 2 * F)
        self.down_proj = Projection(w / "down_proj", F, C)

    def forward(self, x: Array) -> Array:
        both = self.gate_up_proj(x)  # (..., 2F)
        with scope("act"):
            x = self.act(both[..., : self.F]) * both[..., self.F :]
        return self.down_proj(x)


# The block, and the model.


class Block(Module):
    """What a token takes from others, then what it makes of itself, each added to it.

    Attributes:
        sums: how often GPUs that divide the products must add up what each of them found.
    """

    sums = 2  # the feed-forward is of what the mixer gave, of all of it

    def __init__(
        self,
        w: Tensors,
        mixer: Part,
        feed_forward: Part,
        before_mixer: Part = absent,
        after_mixer: Part = absent,
        before_feed_forward: Part = absent,
        after_feed_forward: Part = absent,
    ) -> None:
        super().__init__(w.path)
        self.before_mixer, self.mixer, self.after_mixer = before_mixer(w), mixer(w), after_mixer(w)
        self.before_feed_forward = before_feed_forward(w)
        self.feed_forward = feed_forward(w)
        self.after_feed_forward = after_feed_forward(w)

    def forward(self, x: Array, turn: Turn, mask: Array, cache: LayerCache) -> Array:
        x = x + self.after_mixer(self.mixer(self.before_mixer(x), turn, mask, cache))
        x = x + self.after_feed_forward(self.feed_forward(self.before_feed_forward(x)))
        return x  # (B, T, C)


class ParallelBlock(Block):
    """Both at once, of the same x.

    Attributes:
        total: of what devices that have parts of both found, the sum; as it is, on one.
    """

    sums = 1
    total = staticmethod(identity)

    def forward(self, x: Array, turn: Turn, mask: Array, cache: LayerCache) -> Array:
        mixed = self.mixer(self.before_mixer(x), turn, mask, cache)
        return x + self.total(mixed + self.feed_forward(self.before_feed_forward(x)))


class OneNormBlock(ParallelBlock):
    """Both at once, of the same norm of x."""

    def forward(self, x: Array, turn: Turn, mask: Array, cache: LayerCache) -> Array:
        y = self.before_mixer(x)
        return x + self.total(self.mixer(y, turn, mask, cache) + self.feed_forward(y))


class Decoder(Model):
    """The model: tokens to logits.

    Args:
        w: its checkpoint.
        layers: a part for each, under `path` and its number.
        norm: of what the last gives.
        head: its name, or None where it is the table of the embedding.
        positions, after_embedding, after_head: parts that few models have.
    """

    def __init__(
        self,
        w: Tensors,
        embedding: Part,
        layers: tuple[Part, ...],
        path: str,
        norm: Part,
        head: str | None = None,
        positions: Part = unplaced,
        after_embedding: Part = absent,
        after_head: Part = absent,
    ) -> None:
        super().__init__("")
        self.embedding, self.positions = embedding(w), positions(w)
        self.after_embedding = after_embedding(w)
        self.layers = [layer(w / f"{path}.{i}") for i, layer in enumerate(layers)]
        self.last_norm, self.after_head = norm(w), after_head(w)
        table, shape = self.embedding.weight, (embedding["rows"], embedding["width"])
        self.lm_head = Head(table if head is None else (w / head).rows("weight", *shape))
        mixers = [block.mixer for block in self.layers]  # what is alike is found once a pass
        self.reaches = dict.fromkeys(mixer.reach for mixer in mixers)
        ropes = dict.fromkeys(mixer.rope for mixer in mixers)
        at = path.replace("layers", "rotary_emb")
        self.ropes = {rope: rope.on(table, at) for rope in ropes}

    def new_cache(self, batch: Any, capacity: Any) -> KVCache:
        """An empty cache for `batch` sequences of at most `capacity` tokens."""
        like = self.embedding.weight
        return KVCache([b.mixer.new_cache(like, batch, capacity) for b in self.layers], capacity)

    def forward(
        self, tokens: Array, cache: KVCache, logits: Literal["last", "all"] = "last"
    ) -> Array:
        """One forward pass of T new tokens (B, T), after the N that `cache` has seen.

        Returns:
            The logits of the last position (B, 1, V), or of all of them (B, T, V).
        """
        T, N = tokens.shape[1], cache.length
        x = self.positions(self.after_embedding(self.embedding(tokens)), N)  # (B, T, C)
        turns = {rope: angles(x, T, N) for rope, angles in self.ropes.items()}
        with scope("mask"):
            masks = {reach: reach.mask(x, T, N) for reach in self.reaches}  # (T, S) each
        for block, held in zip(self.layers, cache.layers, strict=True):
            x = block(x, turns[block.mixer.rope], masks[block.mixer.reach], held)
        if logits == "last":
            x = x[:, -1:]  # (B, 1, C)
        return self.unembed(x)  # (B, 1 or T, V)
