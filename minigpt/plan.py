"""Whether a model fits on given hardware, and how fast it can be there at best.

Memory is exact for weights and cache, that of an execution on shapes for activations, and one
stated assumption for the rest. Time is a roofline, the floor of the algorithm as written: the
larger of its matrix products at the dense peak rate and of weights and cache over the bandwidth.
DeepSeek's attention is to the latents throughout; a prefill that expands them computes less.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from counting.views import matmul
from minigpt.architectures import Config
from minigpt.count import DTYPES, forward
from minigpt.deepseek_config import DeepseekConfig
from minigpt.dimensions import kv_heads, layers, short, width
from minigpt.errors import InputError
from minigpt.hardware import GPUS, Accelerator
from minigpt.roofline import PHASE_SECONDS, Step
from minigpt.routing import expected_experts

BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "float8": 8, "int8": 8}
BITS["int4"] = 4

OVERHEAD = 750_000_000
OVERHEAD_RANGE = (400_000_000, 1_500_000_000)
"""Bytes a GPU that no model asks for: driver context, kernels, library workspaces, fragmentation.
An assumption. A context takes 0.3 to 0.5 GB; what frameworks hold beside it varies most."""

MOST = 2**20  # sequences, the largest batch looked for


class Memory(NamedTuple):
    """Bytes on each GPU."""

    weights: int
    kv_cache: int
    activations: int
    overhead: int

    @property
    def needed(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class Plan:
    """A model on hardware. Build it with `plan`, which checks; every answer is worked out if asked.

    Attributes:
        dtype: of arithmetic, cache and activations.
        weights_dtype: in which weights are held and read: bytes alone, scales not included.
        context: tokens that each sequence may come to hold.
        prompt: tokens of it that come at once, one prompt after another.
        overhead: bytes on each GPU that no model asks for.
    """

    model: str
    config: Config
    gpu: Accelerator
    gpus: int
    dtype: str
    weights_dtype: str
    context: int
    batch: int
    prompt: int
    overhead: int = OVERHEAD

    # Memory

    @cached_property
    def memory(self) -> Memory:
        """What each GPU must hold. Activations are not divided among GPUs: an upper bound."""
        kv = math.ceil(self.batch * self.context * self.kv_bytes_per_token)
        return Memory(self.weight_bytes, kv, self._activations(), self.overhead)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights on each GPU."""
        return math.ceil(self.config.parameters * BITS[self.weights_dtype] / 8 / self.gpus)

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes of cache on each GPU for one token: its heads' share, of a single one's all."""
        few = short(self.config)
        written = forward(few, dtype=self.dtype).counts.bytes_written["kv_cache"]
        return written // layers(few) * layers(self.config) * self._share

    @property
    def spare(self) -> int:
        """Bytes left on each GPU; what is missing if negative."""
        return self.gpu.memory - self.memory.needed

    @property
    def fits(self) -> bool:
        return self.spare >= 0

    @cached_property
    def largest_batch(self) -> int:
        """The most sequences of `context` tokens that fit; 0 if not even one does."""
        return _most(lambda batch: replace(self, batch=batch).fits, MOST)

    @cached_property
    def largest_context(self) -> int:
        """The longest context, up to the model's, at which the batch fits; 0 if none does."""
        return _most(
            lambda n: replace(self, context=n, prompt=min(n, self.prompt)).fits,
            self.config.n_positions,
        )

    @property
    def tokens_cached(self) -> int:
        """Tokens of cache, of whatever sequences, that fit beside the rest."""
        free = self.gpu.memory - self.memory.needed + self.memory.kv_cache
        return max(0, math.floor(free / self.kv_bytes_per_token))

    def remedies(self) -> dict[str, Any]:
        """What would make it fit: narrower weights, more of this GPU, one of another."""
        narrower = [n for n in ("int8", "int4") if BITS[n] < BITS[self.weights_dtype]]
        most = 64 if self.gpu.link_bandwidth else 1
        more = (n for n in (2, 4, 8, 16, 32, 64) if self.gpus < n <= most)
        other = sorted(GPUS.items(), key=lambda item: item[1].memory)
        smallest = (k for k, gpu in other if replace(self, gpu=gpu, gpus=1).fits)
        return {
            "weights_dtype": [n for n in narrower if replace(self, weights_dtype=n).fits],
            "gpus": next((n for n in more if replace(self, gpus=n).fits), None),
            "gpu": next(smallest, None),
        }

    # Time

    @cached_property
    def first(self) -> Step:
        """One decoded token of each sequence at one key: itself."""
        return self._step(1, 0, self.batch)

    @cached_property
    def last(self) -> Step:
        """One decoded token of each sequence at the whole context."""
        return self._step(1, self.context - 1, self.batch)

    @cached_property
    def prefill(self) -> Step:
        """One prompt; its seconds are the least time to the first token."""
        return self._step(self.prompt, 0, 1)

    @property
    def ridge(self) -> float:
        """The intensity, FLOP a byte, above which arithmetic binds."""
        return self.gpu.rate(self.dtype) / self.gpu.bandwidth

    def compute_bound_batch(self, step: Step) -> int | None:
        """About the batch at which arithmetic takes over from memory, at the keys of `step`.

        None where each sequence's own cache takes longer to read than its arithmetic. A mixture of
        experts reads all of them by then, so that is what is compared.
        """
        weights = step.weight_bytes + self._unmet_bytes
        for_all = weights / self.gpus / self.gpu.bandwidth
        for_one = (step.arithmetic_s - step.kv_bytes * self._share / self.gpu.bandwidth) / (
            self.batch
        )
        return math.ceil(for_all / for_one) if for_one > 0 else None

    def _step(self, T: int, N: int, B: int) -> Step:
        counts = forward(self.config, T, N, B, logits="last", dtype=self.dtype).counts
        scores = matmul(counts.where("*.qk")) + matmul(counts.where("*.av", "matmul"))
        flops = matmul(counts) - scores * (T - 1) // (2 * (N + T))  # the half above the diagonal
        itemsize = np.dtype(DTYPES[self.dtype]).itemsize
        weights = counts.bytes_read["weights"] * BITS[self.weights_dtype] // (8 * itemsize)
        kv = counts.bytes_read["kv_cache"] + counts.bytes_written["kv_cache"]
        G, L = self.gpus, layers(self.config)
        # Two all-reduces a layer, after attention and after the feed-forward, each a ring in two
        # phases: reduce-scatter and all-gather, (G - 1) / G of the activations sent in each.
        sent = math.ceil(2 * L * 2 * (G - 1) / G * B * T * width(self.config) * itemsize)
        return Step(
            flops,
            weights,
            kv,
            sent,
            arithmetic_s=flops / (G * self.gpu.rate(self.dtype)),
            memory_s=(weights / G + kv * self._share) / self.gpu.bandwidth,
            wire_s=sent / self.gpu.link_bandwidth + 4 * L * PHASE_SECONDS if G > 1 else 0.0,
        )

    @property
    def _share(self) -> float:
        """The part of the cache that a GPU holds: whole heads; a latent cache has but one."""
        heads = kv_heads(self.config)
        return math.ceil(heads / self.gpus) / heads

    @property
    def _unmet_bytes(self) -> int:
        config = self.config
        if not isinstance(config, DeepseekConfig):
            return 0
        unmet = config.n_routed_experts - round(expected_experts(config, self.batch))
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        sparse = config.num_hidden_layers - config.first_k_dense_replace
        return sparse * unmet * expert * BITS[self.weights_dtype] // 8

    def _activations(self) -> int:
        few = short(self.config)  # activations do not pile up over layers
        passes = ((self.prompt, 0, 1), (1, self.context - 1, self.batch))
        runs = (forward(few, *of, logits="last", dtype=self.dtype) for of in passes)
        return max(run.peak["activations"] for run in runs)


def plan(
    model: str,
    config: Config,
    gpu: Accelerator,
    *,
    gpus: int = 1,
    dtype: str | None = None,
    weights_dtype: str | None = None,
    context: int | None = None,
    batch: int = 1,
    prompt: int | None = None,
) -> Plan:
    """A plan, its defaults filled in.

    Args:
        model: the name of `config`.
        gpus: how many, in tensor parallel.
        dtype: float16 where the hardware has a rate for it, else float32.
        weights_dtype: as `dtype`.
        context: the model's own, at most 8192.
        prompt: the context, at most 1024.

    Raises:
        InputError: a number or a name cannot be, or the hardware has no rate for `dtype`.
    """
    if dtype is None:
        dtype = "float16" if "float16/float32" in gpu.flops else "float32"
    for what, name, known in (
        ("dtype", dtype, list(DTYPES)),
        ("weights dtype", weights_dtype or dtype, list(BITS)),
    ):
        if name not in known:
            raise InputError(f"unknown {what} {name!r}: it is one of {', '.join(known)}")
    gpu.rate(dtype)
    most = config.n_positions
    context = min(most, 8192) if context is None else context
    prompt = min(context, 1024) if prompt is None else prompt
    for what, value, limit in (
        ("gpus", gpus, 2**16),
        ("batch", batch, MOST),
        ("context", context, most),
        ("prompt", prompt, context),
    ):
        if not 1 <= value <= limit:
            raise InputError(f"{what} is {value}; it must be from 1 to {limit}")
    if gpus > 1 and not gpu.link_bandwidth:
        raise InputError(f"{gpu.name} has no link to others; its description can give one")
    return Plan(model, config, gpu, gpus, dtype, weights_dtype or dtype, context, batch, prompt)


def _most(holds: Any, limit: int) -> int:
    """The largest n up to `limit` for which `holds(n)`, if it holds up to some n; 0 if for none."""
    low, high = 0, 1
    while high <= limit and holds(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
