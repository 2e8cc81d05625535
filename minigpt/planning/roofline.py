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
accumulated in float32, all weights from memory, as many experts as tokens meet on average. Of
several GPUs it is that of the slowest, each of which runs its part of every layer, on shapes, and
the wire comes on top, in rings of phases of 8 microseconds. It is no bound.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from counting import Counts
from counting.views import matmul
from minigpt.models.config import Config
from minigpt.models.paths import layer, layer_of
from minigpt.models.routing import fewest
from minigpt.planning.accelerators import BITS, Accelerator
from minigpt.planning.devices import SENT, largest, sent_by
from minigpt.planning.forward import Pass, counts_by_kind, forward_of_kinds, kv_bytes, state_bytes
from minigpt.planning.place import ALL, Place
from minigpt.planning.reads import read_once

PHASE_SECONDS = 8e-6
"""What one phase of a ring takes before any byte moves: of an all-reduce, which has two, kipply's 8
microseconds each (Transformer Inference Arithmetic, 2022, kipp.ly)."""


@dataclass(frozen=True)
class Work:
    """What a GPU does in a forward pass, and the seconds that each part would take alone.

    Attributes:
        flops: of matrix products.
        weight_bytes, kv_bytes: read from memory, and for the cache written too.
        state_bytes: read and written, likewise.
        wire_bytes: that it sends.
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
    """The least that any engine takes, see above: of several GPUs an even share of all.

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

    @cached_property
    def devices(self) -> tuple[Place, ...]:
        """Of the GPUs those that have the most, see there.

        Raises:
            InputError: the model cannot be divided so.
        """
        return largest(self.config, self.gpus)

    def floor(self, T: int, N: int, B: int) -> Floor:
        """One pass of T new tokens of each of B sequences after N, logits of the last position.

        T is 1, or N is 0.
        """
        ways = [("compressed", "compressed")]
        if self.config.latent_cache:
            ways += [("expanded", "expanded"), *self._through_latents(N)]
        estimates = [self._estimate(T, N, B, place) for place in self.devices]
        estimate = max(estimates, key=lambda one: one.seconds)
        floors = (self._floor(T, N, B, *way, estimate) for way in ways)
        return min(floors, key=lambda floor: (floor.seconds, floor.flops))

    def _floor(self, T: int, N: int, B: int, attend: str, keep: str, estimate: Estimate) -> Floor:
        G, positions = self.gpus, needed(self.config.windows, T)
        flops = self._flops(T, N, B, attend, positions, chunks=False)
        read = read_once(self.config, Pass(T, N, B, "last", self.dtype, keep, fewest))
        kv = B * kv_bytes(self.config, N + T, self.dtype, keep)
        sums = sum(n * times for n, times in zip(positions, self.config.sums, strict=True))
        sent = B * sums * self._token_bytes if G > 1 else 0
        weights, state = self._held(read), self._state_moved(N, B, ALL)
        return Floor(
            flops // G,
            weights // G,
            kv // G,
            state // G,
            sent,
            arithmetic_s=flops / (G * self.gpu.flops[self.fastest]),
            memory_s=max(0, weights + kv + state - G * self.gpu.cache) / (G * self.gpu.bandwidth),
            wire_s=sent / self.gpu.link_bandwidth if G > 1 else 0.0,
            estimate=estimate,
        )

    def _estimate(self, T: int, N: int, B: int, place: Place) -> Estimate:
        G, L = self.gpus, self.config.layers
        counts = counts_by_kind(self.config, Pass(T, N, B, "last", self.dtype), place)
        ways = ("compressed", *(attend for attend, _ in self._through_latents(N)))
        flops = min(self._flops(T, N, B, attend, [T] * L, place=place) for attend in ways)
        weights = self._held(counts.bytes_read["weights"])
        kv = counts.bytes_read["kv_cache"] + counts.bytes_written["kv_cache"]
        state = self._state_moved(N, B, place)
        sent, wire_s = 0, 0.0
        if G > 1:
            sent, passed = sent_by(counts).total(), counts.where(operation=SENT).total("calls")
            phases = passed // (G - 1)
            wire_s = sent / self.gpu.link_bandwidth + phases * PHASE_SECONDS
        return Estimate(
            flops,
            weights,
            kv,
            state,
            sent,
            arithmetic_s=flops / self.gpu.rate(self.dtype),
            memory_s=(weights + kv + state) / self.gpu.bandwidth,
            wire_s=wire_s,
        )

    def _state_moved(self, N: int, B: int, place: Place) -> int:
        """Bytes of state that a pass reads, if there is one before it, and writes."""
        return B * state_bytes(self.config, self.dtype, place) * (2 if N else 1)

    def _through_latents(self, N: int) -> list[tuple[str, str]]:
        """To what heads attend and what is cached, where keys and values are made and not kept.

        So it is in a prompt from its start, whose keys are all at hand. After others, to make
        theirs anew takes 2 R (P + D) FLOP a key of a head, and saves 2 (2 R - P - D): less.
        """
        return [("expanded", "compressed")] if self.config.latent_cache and N == 0 else []

    def _flops(
        self,
        T: int,
        N: int,
        B: int,
        attend: str,
        positions: Sequence[int],
        chunks: bool = True,
        place: Place = ALL,
    ) -> int:
        """2mnp of matrix products, of each layer for the last `positions` of the T.

        Args:
            chunks: whether tokens go through linear attention in chunks, not one by one.
        """
        few, alike = self.config.short()
        sizes = Pass(T, N, B, "last", self.dtype, None if attend == "compressed" else attend)
        parts = forward_of_kinds(self.config, sizes, place).counts.by(layer)
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
