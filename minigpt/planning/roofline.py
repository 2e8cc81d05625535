"""The least time that a forward pass takes on given hardware, and about what engines take.

The floor holds for every engine that computes the model's products, each in 2 m n p FLOP on
operands no narrower than weights and cache are stored. It leaves out what a pass can do without:

    arithmetic  the masked half of the scores; in a prompt, positions that no later block looks at
                on the way to the last one's logits and to the cache; at the fastest dense rate for
                such operands, whatever they are accumulated in; through linear attention token by
                token, without products within a chunk
    memory      each weight once, rows of embeddings not at all, of experts as few as a token
                meets; each cached token once; a state read once, unless it is the first pass,
                and written once; less what the GPUs' last caches hold from before
    wire        each activation once for each of a block's sums, added up in the switch: one where
                mixer and feed-forward are of the same x and so are added first, else two
    together    all three at the same time: the longest
    latents     kept or made keys of, attended to or to keys: the fastest, alike in all blocks

The estimate is what engines take that are good and not special: products at the rate of `dtype`
accumulated in float32, all weights from memory, as many experts as tokens meet on average, whole
heads on each GPU, and the wire on top, in rings of phases of 8 microseconds. It is no bound.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from counting import Counts
from counting.views import matmul
from minigpt.models.config import Config
from minigpt.models.paths import layer, layer_of
from minigpt.models.routing import fewest
from minigpt.planning.accelerators import BITS, Accelerator
from minigpt.planning.forward import Pass, by_kind, kv_bytes, state_bytes
from minigpt.planning.reads import read_once

PHASE_SECONDS = 8e-6
"""What one phase of an all-reduce takes before any byte moves: kipply's 8 microseconds."""


@dataclass(frozen=True)
class Work:
    """What a forward pass does, and the seconds that each part would take alone.

    Attributes:
        flops: of matrix products.
        weight_bytes, kv_bytes: read from memory, and for the cache written too, of all GPUs.
        state_bytes: read and written, likewise.
        wire_bytes: that each GPU sends.
    """

    flops: int
    weight_bytes: int
    kv_bytes: int
    state_bytes: int
    wire_bytes: int
    arithmetic_s: float
    memory_s: float
    wire_s: float

    @property
    def seconds(self) -> float:
        """All parts at the same time: the longest."""
        return max(self.arithmetic_s, self.memory_s, self.wire_s)

    @property
    def binds(self) -> str:
        """What takes the most of it: "arithmetic", "memory" or "wire"."""
        parts = {"memory": self.memory_s, "arithmetic": self.arithmetic_s, "wire": self.wire_s}
        return max(parts, key=lambda name: parts[name])

    @property
    def intensity(self) -> float:
        """FLOP a byte of weights, cache and state."""
        return self.flops / (self.weight_bytes + self.kv_bytes + self.state_bytes)

    def as_dict(self) -> dict[str, Any]:
        extra = {"seconds": self.seconds, "binds": self.binds, "intensity": self.intensity}
        return {**asdict(self), **extra}


class Estimate(Work):
    """About what an engine takes, see above."""

    @property
    def seconds(self) -> float:
        """An all-reduce waits for what it adds up, so the wire comes on top."""
        return max(self.arithmetic_s, self.memory_s) + self.wire_s


@dataclass(frozen=True)
class Floor(Work):
    """The least that any engine takes, see above.

    Attributes:
        estimate: about what one takes.
    """

    estimate: Estimate

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "estimate": self.estimate.as_dict()}


@dataclass(frozen=True)
class Roofline:
    """A model on hardware, and the least time that any pass of it takes there.

    Attributes:
        dtype: of arithmetic, cache and activations.
        weights_dtype: in which weights are held and read: bytes alone, scales not included.
    """

    config: Config
    gpu: Accelerator
    gpus: int
    dtype: str
    weights_dtype: str

    @property
    def fastest(self) -> str:
        """The "type/accumulate type" of the rate that the floor of arithmetic takes."""
        return self.gpu.fastest(min(BITS[self.dtype], BITS[self.weights_dtype]))

    @property
    def share(self) -> float:
        """The part of the cache that a GPU holds: whole heads; a latent cache has but one."""
        heads = self.config.kv_heads
        return math.ceil(heads / self.gpus) / heads

    @property
    def state_share(self) -> float:
        """The part of the state that a GPU holds, likewise."""
        heads = max(1, self.config.state_heads)
        return math.ceil(heads / self.gpus) / heads

    @property
    def state_bytes(self) -> int:
        """Bytes of the state of a sequence; 0 where no layer keeps one."""
        return state_bytes(self.config, self.dtype)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of cache for one token, of all its heads."""
        return kv_bytes(self.config, 1, self.dtype)

    def floor(self, T: int, N: int, B: int) -> Floor:
        """One pass of T new tokens of each of B sequences after N, logits of the last position.

        T is 1, or N is 0.
        """
        ways = [("compressed", "compressed")]
        if self.config.latent_cache:
            ways += [("expanded", "expanded"), *self._through_latents(N)]
        estimate = self._estimate(T, N, B)
        floors = (self._floor(T, N, B, *way, estimate) for way in ways)
        return min(floors, key=lambda floor: (floor.seconds, floor.flops))

    def _floor(self, T: int, N: int, B: int, attend: str, keep: str, estimate: Estimate) -> Floor:
        G, positions = self.gpus, needed(self.config.windows, T)
        flops = self._flops(T, N, B, attend, positions, chunks=False)
        read = read_once(self.config, Pass(T, N, B, "last", self.dtype, keep, fewest))
        kv = B * kv_bytes(self.config, N + T, self.dtype, keep)
        sums = sum(n * times for n, times in zip(positions, self.config.sums, strict=True))
        sent = B * sums * self._token_bytes if G > 1 else 0
        weights, state = self._held(read), self._state_moved(N, B)
        return Floor(
            flops,
            weights,
            kv,
            state,
            sent,
            arithmetic_s=flops / (G * self.gpu.flops[self.fastest]),
            memory_s=max(0, weights + kv + state - G * self.gpu.cache) / (G * self.gpu.bandwidth),
            wire_s=sent / self.gpu.link_bandwidth if G > 1 else 0.0,
            estimate=estimate,
        )

    def _estimate(self, T: int, N: int, B: int) -> Estimate:
        G, L, sums = self.gpus, self.config.layers, sum(self.config.sums)
        counts = by_kind(self.config, Pass(T, N, B, "last", self.dtype))
        ways = ("compressed", *(attend for attend, _ in self._through_latents(N)))
        flops = min(self._flops(T, N, B, attend, [T] * L) for attend in ways)
        weights = self._held(counts.bytes_read["weights"])
        kv = counts.bytes_read["kv_cache"] + counts.bytes_written["kv_cache"]
        state = self._state_moved(N, B)
        # Each all-reduce is a ring in two phases: reduce-scatter and all-gather, (G - 1) / G of
        # the activations sent in each.
        sent = math.ceil(sums * 2 * (G - 1) / G * B * T * self._token_bytes)
        return Estimate(
            flops,
            weights,
            kv,
            state,
            sent,
            arithmetic_s=flops / (G * self.gpu.rate(self.dtype)),
            memory_s=(weights / G + self.kept(kv, state)) / self.gpu.bandwidth,
            wire_s=sent / self.gpu.link_bandwidth + 2 * sums * PHASE_SECONDS if G > 1 else 0.0,
        )

    def kept(self, kv: int, state: int) -> float:
        """Of bytes of cache and of state, those on each GPU."""
        return kv * self.share + state * self.state_share

    def _state_moved(self, N: int, B: int) -> int:
        """Bytes of state that a pass reads, if there is one before it, and writes."""
        return B * self.state_bytes * (2 if N else 1)

    def _through_latents(self, N: int) -> list[tuple[str, str]]:
        """To what heads attend and what is cached, where keys and values are made and not kept.

        So it is in a prompt from its start, whose keys are all at hand. After others, to make
        theirs anew takes 2 R (P + D) FLOP a key of a head, and saves 2 (2 R - P - D): less.
        """
        return [("expanded", "compressed")] if self.config.latent_cache and N == 0 else []

    def _flops(
        self, T: int, N: int, B: int, attend: str, positions: Sequence[int], chunks: bool = True
    ) -> int:
        """2mnp of matrix products, of each layer for the last `positions` of the T.

        Args:
            chunks: whether tokens go through linear attention in chunks, not one by one.
        """
        few, alike = self.config.short()
        sizes = Pass(T, N, B, "last", self.dtype, None if attend == "compressed" else attend)
        parts = by_kind(few, sizes).by(layer)
        blocks = [part for path, part in parts.items() if layer_of(path)]
        flops = sum(matmul(part) for path, part in parts.items() if not layer_of(path))
        for (kind, n), times in Counter(zip(alike, positions, strict=True)).items():
            within = 0 if chunks else matmul(blocks[kind].where("*.chunk"))
            flops += times * _block_flops(blocks[kind], few.windows[kind], T, N, n, within)
        return int(flops)

    def _held(self, nbytes: int) -> int:
        """Bytes of weights as they are held, of those that a run on `dtype` reads."""
        return nbytes * BITS[self.weights_dtype] // BITS[self.dtype]

    @property
    def _token_bytes(self) -> int:
        return self.config.width * BITS[self.dtype] // 8


def needed(windows: Sequence[int | None], T: int) -> list[int]:
    """How many of T positions, the last, each layer must compute for the last one's logits.

    What the cache is to hold of a layer does not take more: it is of those that it looks at.

    Args:
        windows: of each layer, None where it looks at everything.
    """
    positions, n = list[int](), 1
    for window in reversed(windows):
        positions.append(n)
        n = T if window is None else min(T, n + window - 1)
    return positions[::-1]


def _block_flops(counts: Counts, window: int | None, T: int, N: int, n: int, left_out: int) -> int:
    """2mnp of a layer for the last n of T positions, without scores of keys that none may see.

    Args:
        left_out: what an engine can do without, of all T.
    """
    scores = matmul(counts.where("*.qk")) + matmul(counts.where("*.av", "matmul"))
    W, before = N + T if window is None else window, N + T - n
    pairs = T * (min(N, W - 1) + T)
    partly = min(n, max(0, W - before))  # the first queries see all before them, the others W
    seen = partly * before + partly * (partly + 1) // 2 + (n - partly) * W
    rest = matmul(counts) - scores - left_out
    return int(rest * n // T + scores // pairs * seen)
