"""The least time that a forward pass takes on given hardware, and about what engines take.

The floor holds for every engine that computes the model's products, each in 2 m n p FLOP on
operands no narrower than weights and cache are stored. It leaves out what a pass can do without:

    arithmetic  the masked half of the scores; the last block but for the position whose logits are
                asked for, as engines do in a prompt; at the fastest dense rate for such operands,
                whatever they are accumulated in; of ways to attend to latents, the cheapest;
                through linear attention token by token, without products within a chunk
    memory      each weight once, rows of embeddings not at all, of experts as few as a token
                meets; each cached token once; a state read once, unless it is the first pass,
                and written once; less what the GPUs' last caches hold from before
    wire        each activation once for each of a block's two sums, added up in the switch
    together    all three at the same time: the longest

The estimate is what engines take that are good and not special: products at the rate of `dtype`
accumulated in float32, all weights from memory, as many experts as tokens meet on average, whole
heads on each GPU, and the wire on top, in rings of phases of 8 microseconds. It is no bound.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from counting import Counts
from counting.views import matmul
from minigpt.models.config import Config
from minigpt.models.paths import layer_of
from minigpt.models.routing import fewest
from minigpt.planning.accelerators import BITS, Accelerator
from minigpt.planning.forward import Pass, kv_bytes, on_shapes, state_bytes

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
        G, L = self.gpus, self.config.layers
        ways, alone = self._ways(T, N, B), self._ways(1, N + T - 1, B)
        see = self.config.short()[0].windows
        flops = min(
            _flops(way, see, T, N, False) - _flops(_last_block(way), see, T, N, False)
            for way in ways
        )
        flops += min(_flops(_last_block(way), see, 1, N + T - 1, False) for way in alone)
        read = self._counts(T, N, B, assume=fewest)
        rows = read.where(operation="take").bytes_read["weights"]
        weights = self._held(read.bytes_read["weights"] - rows)
        kv = B * kv_bytes(self.config, N + T, self.dtype)
        state, cached = self._state_moved(N, B), G * self.gpu.cache
        sent = 2 * B * ((L - 1) * T + 1) * self._token_bytes if G > 1 else 0
        return Floor(
            flops,
            weights,
            kv,
            state,
            sent,
            arithmetic_s=flops / (G * self.gpu.flops[self.fastest]),
            memory_s=max(0, weights + kv + state - cached) / (G * self.gpu.bandwidth),
            wire_s=sent / self.gpu.link_bandwidth if G > 1 else 0.0,
            estimate=self._estimate(T, N, B),
        )

    def _estimate(self, T: int, N: int, B: int) -> Estimate:
        G, L = self.gpus, self.config.layers
        counts = self._counts(T, N, B)
        see = self.config.short()[0].windows
        flops = min(_flops(way, see, T, N) for way in self._ways(T, N, B))
        weights = self._held(counts.bytes_read["weights"])
        kv = counts.bytes_read["kv_cache"] + counts.bytes_written["kv_cache"]
        state = self._state_moved(N, B)
        # Two all-reduces a block, after attention and after the feed-forward, each a ring in two
        # phases: reduce-scatter and all-gather, (G - 1) / G of the activations sent in each.
        sent = math.ceil(2 * L * 2 * (G - 1) / G * B * T * self._token_bytes)
        return Estimate(
            flops,
            weights,
            kv,
            state,
            sent,
            arithmetic_s=flops / (G * self.gpu.rate(self.dtype)),
            memory_s=(weights / G + self.kept(kv, state)) / self.gpu.bandwidth,
            wire_s=sent / self.gpu.link_bandwidth + 4 * L * PHASE_SECONDS if G > 1 else 0.0,
        )

    def kept(self, kv: int, state: int) -> float:
        """Of bytes of cache and of state, those on each GPU."""
        return kv * self.share + state * self.state_share

    def _state_moved(self, N: int, B: int) -> int:
        """Bytes of state that a pass reads, if there is one before it, and writes."""
        return B * self.state_bytes * (2 if N else 1)

    def _counts(self, T: int, N: int, B: int, **mode: Any) -> Counts:
        """What a pass costs. A short model is run: each of its layers stands for all of its kind.

        With 58 blocks of 256 experts, as DeepSeek R1 has, a pass of the whole takes a second.
        """
        few, times = self.config.short()
        counts = on_shapes(few, Pass(T, N, B, "last", self.dtype, **mode)).counts
        rows = dict(counts)
        for key, row in counts.items():
            if inside := layer_of(key[0]):
                alike = times[int(inside.rpartition(".")[2])]
                rows[key] = tuple(alike * n for n in row)
        return Counts(counts.columns, rows)

    def _ways(self, T: int, N: int, B: int) -> Iterator[Counts]:
        """What a pass costs by each way to attend that an engine may choose.

        DeepSeek's heads attend to the latents or, in a prompt from its start, to keys and values
        made of them; for a token after others the latents are cheaper. Which experts are met costs
        no arithmetic, so it is as few as can be.
        """
        yield self._counts(T, N, B, assume=fewest)
        if self.config.latent_cache and N == 0:
            yield self._counts(T, N, B, assume=fewest, cache="expanded")

    def _held(self, nbytes: int) -> int:
        """Bytes of weights as they are held, of those that a run on `dtype` reads."""
        return nbytes * BITS[self.weights_dtype] // BITS[self.dtype]

    @property
    def _token_bytes(self) -> int:
        return self.config.width * BITS[self.dtype] // 8


def _flops(
    counts: Counts, windows: Sequence[int | None], T: int, N: int, chunks: bool = True
) -> int:
    """2mnp of matrix products, scores of keys that a query may not see left out.

    Args:
        windows: of each layer, None where it looks at everything.
        chunks: whether tokens go through linear attention in chunks, not one by one.
    """
    left_out = 0 if chunks else matmul(counts.where("*.chunk"))
    for i, window in enumerate(windows):
        layer = counts.where(f"*.{i}.*")
        scores = matmul(layer.where("*.qk")) + matmul(layer.where("*.av", "matmul"))
        W = N + T if window is None else window
        pairs = T * (min(N, W - 1) + T)
        partly = min(T, max(0, W - N))  # the first queries see all before them, the others W
        seen = partly * N + partly * (partly + 1) // 2 + (T - partly) * W
        left_out += scores * (pairs - seen) // pairs
    return int(matmul(counts) - left_out)


def _last_block(counts: Counts) -> Counts:
    *_, last = filter(None, (layer_of(path) for path, _ in counts))
    return counts.where(f"{last}.*")
