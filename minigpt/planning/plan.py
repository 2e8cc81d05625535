"""Whether a model fits on given hardware, and how fast it can be there.

Memory is exact for weights and cache, that of an execution on shapes for activations, as written
and with attention fused, and one stated assumption for the rest, in a range. Time is a floor and
an estimate, see `roofline`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from minigpt.checks import NAME, a, checked, shown
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.routing import expected_experts
from minigpt.planning.accelerators import BITS, GPUS, Accelerator
from minigpt.planning.activations import as_written, fused
from minigpt.planning.devices import MOST_ALIKE, parameters_of
from minigpt.planning.forward import DTYPES, Pass, kv_bytes, one_of, state_bytes
from minigpt.planning.options import Options
from minigpt.planning.place import Place
from minigpt.planning.roofline import Floor, Roofline
from minigpt.planning.search import most_with_room

HELD = [name for name in BITS if name != "tfloat32"]  # types that weights can be held in

OVERHEAD = 750_000_000
OVERHEAD_RANGE = (400_000_000, 1_500_000_000)
"""Bytes a GPU that no model asks for: driver context, kernels, library workspaces, fragmentation.
An assumption. A context takes 0.3 to 0.5 GB; what frameworks hold beside it varies most."""

MOST = 2**20  # sequences, the largest batch looked for
PROMPT = 1024  # tokens, of a longer context, that come at once unless said otherwise


class Memory(NamedTuple):
    """Bytes on each GPU."""

    weights: int
    kv_cache: int
    state: int
    activations: int
    overhead: int

    @property
    def needed(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class Plan:
    """A model on hardware. Build it with `plan`, which checks; answers are computed when asked for.

    Attributes:
        model: the name of `config`.
        gpus, dtype, weights_dtype, context, batch, prompt: as `Options`, their defaults filled in.
        overhead: bytes on each GPU that no model asks for, the likeliest of `OVERHEAD_RANGE`.
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

    def _repr_html_(self) -> str:
        from minigpt.planning import notebook

        return notebook.plan(self)

    # Memory

    @cached_property
    def memory(self) -> Memory:
        """What each GPU must hold where attention is fused: no scores are stored."""
        return self._memory(fused)

    @cached_property
    def memory_as_written(self) -> Memory:
        """What each GPU must hold as this project's own models run: all scores are stored."""
        return self._memory(as_written)

    def _memory(self, activations: Callable[..., int]) -> Memory:
        """That of the GPU that needs the most."""
        each = (self._memory_of(place, activations) for place in self.roofline.devices)
        return max(each, key=lambda memory: memory.needed)

    def _memory_of(self, place: Place, activations: Callable[..., int]) -> Memory:
        # A prompt at a time, then a token of each sequence.
        prompt = Pass(self.prompt, 0, 1, "last", self.dtype)
        token = Pass(1, self.context - 1, self.batch, "last", self.dtype)
        most = max(activations(self.config, sizes, place=place) for sizes in (prompt, token))
        kv = self.batch * kv_bytes(self.config, self.context, self.dtype, place=place)
        state = self.batch * state_bytes(self.config, self.dtype, place)
        weights = parameters_of(self.config, place) * BITS[self.weights_dtype] / 8
        return Memory(math.ceil(weights), kv, state, most, self.overhead)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of cache on each GPU for one token: of its heads, at most."""
        devices = self.roofline.devices
        return max(kv_bytes(self.config, 1, self.dtype, place=place) for place in devices)

    @property
    def kv_cache_kept(self) -> int:
        """Bytes of cache on each GPU where each layer keeps all tokens, windows or not."""
        return self.batch * self.context * self.kv_bytes_per_token

    @property
    def spare(self) -> int:
        """Bytes left on each GPU where attention is fused; what is missing if negative."""
        return self.room(self.overhead)

    def room(self, overhead: int = OVERHEAD_RANGE[1], as_written: bool = False) -> int:
        """Bytes left on each GPU where the runtime takes `overhead`; what is missing if negative.

        Args:
            as_written: all scores are stored; else attention is fused.
        """
        memory = self.memory_as_written if as_written else self.memory
        return self.gpu.memory - memory.needed + memory.overhead - overhead

    @property
    def fits(self) -> bool:
        """Whether it fits for certain: where attention is fused, over the range of the overhead."""
        return self.room() >= 0

    @property
    def may_fit(self) -> bool:
        """Whether it fits at the low end of the range of the overhead."""
        return self.room(OVERHEAD_RANGE[0]) >= 0

    @property
    def fits_as_written(self) -> bool:
        """Whether it fits for certain where all scores are stored."""
        return self.room(as_written=True) >= 0

    @property
    def fit(self) -> str:
        """Whether it fits, in words: "fits", "may fit" or "does not fit"."""
        return "fits" if self.fits else "may fit" if self.may_fit else "does not fit"

    @property
    def where(self) -> str:
        """The GPUs: "RTX 4090", or "2 x RTX 4090"."""
        return f"{self.gpus} x {self.gpu.name}" if self.gpus > 1 else self.gpu.name

    @cached_property
    def largest_batch(self) -> int:
        """The most sequences of `context` tokens that fit for certain; 0 if not even one does."""
        return self.most_sequences()

    def most_sequences(self, overhead: int = OVERHEAD_RANGE[1], as_written: bool = False) -> int:
        """The largest batch for which there is `room`; 0 if not even for one sequence."""
        return most_with_room(
            lambda batch: replace(self, batch=batch).room(overhead, as_written), MOST
        )

    @cached_property
    def largest_context(self) -> int:
        """The longest context, up to the model's, at which the batch fits; 0 if none does."""
        return most_with_room(
            lambda n: replace(self, context=n, prompt=min(n, self.prompt)).room(),
            self.config.n_positions,
        )

    @property
    def tokens_cached(self) -> int:
        """Tokens of cache, of whatever sequences, that fit beside the rest, each in all layers."""
        free = self.room() + self.memory.kv_cache
        return max(0, free // self.kv_bytes_per_token)

    def remedies(self) -> dict[str, Any]:
        """What would make it fit: narrower weights, more of this GPU, one of another."""
        narrower = [n for n in ("int8", "int4") if BITS[n] < BITS[self.weights_dtype]]
        most = 64 if self.gpu.link_bandwidth else 1
        more = (n for n in (2, 4, 8, 16, 32, 64) if self.gpus < n <= most)
        other = sorted(GPUS.items(), key=lambda item: item[1].memory)
        smallest = (name for name, gpu in other if self._would_fit(gpu=gpu, gpus=1))
        return {
            "weights_dtype": [n for n in narrower if self._would_fit(weights_dtype=n)],
            "gpus": next((n for n in more if self._would_fit(gpus=n)), None),
            "gpu": next(smallest, None),
        }

    def _would_fit(self, **change: Any) -> bool:
        """Whether it fits with a change, of which `plan` would make a plan."""
        changed = replace(self, **change)
        try:
            changed.gpu.rate(self.dtype)
            # Sought first, for it runs nothing: no less than an even share is on the fullest.
            share = self.config.parameters * BITS[changed.weights_dtype] // (8 * changed.gpus)
            return share <= changed.gpu.memory and changed.fits
        except InputError:  # no such rate, or fewer tokens than GPUs to share them
            return False

    # Time

    @property
    def roofline(self) -> Roofline:
        return Roofline(self.config, self.gpu, self.gpus, self.dtype, self.weights_dtype)

    @cached_property
    def first(self) -> Floor:
        """One decoded token of each sequence at one key: itself."""
        return self.roofline.floor(1, 0, self.batch)

    @cached_property
    def last(self) -> Floor:
        """One decoded token of each sequence at the whole context."""
        return self.roofline.floor(1, self.context - 1, self.batch)

    @cached_property
    def prefill(self) -> Floor:
        """One prompt; its seconds are the least time to the first token."""
        return self.roofline.floor(self.prompt, 0, 1)

    @property
    def ridge(self) -> float:
        """The intensity, FLOP a byte, above which arithmetic binds at the rate of `dtype`."""
        return self.gpu.rate(self.dtype) / self.gpu.bandwidth

    def compute_bound_batch(self, step: Floor) -> int | None:
        """About the batch at which arithmetic takes over from memory, at the keys of `step`.

        Both as estimated. None where each sequence's own cache and state take longer than its
        arithmetic. A mixture of experts reads all of them by then, so that is what is compared.
        """
        about = step.estimate
        unmet = self._unmet_bytes / self.gpus
        for_all = (about.weight_bytes + unmet) / self.gpu.bandwidth
        cache = (about.kv_bytes + about.state_bytes) / self.gpu.bandwidth
        for_one = (about.arithmetic_s - cache) / self.batch
        return math.ceil(for_all / for_one) if for_one > 0 else None

    @property
    def _unmet_bytes(self) -> int:
        experts = self.config.experts
        if experts is None:
            return 0
        unmet = experts.n_routed_experts - round(expected_experts(experts, self.batch))
        parameters = experts.expert_layers * unmet * experts.expert_parameters
        return parameters * BITS[self.weights_dtype] // 8


def plan(model: str, config: Config, gpu: Accelerator, asked: Options = Options()) -> Plan:  # noqa: B008
    """A plan, its defaults filled in.

    Args:
        model: the name of `config`.

    Raises:
        InputError: a number or a name cannot be, or the hardware has no rate for the dtype.
    """
    checked("model", model, NAME)
    checked("config", config, a("what resolve gives", Config))
    checked("gpu", gpu, a("what hardware.find gives", Accelerator)).check("gpu: ")
    checked("asked", asked, a("Options", Options))
    usual = "float16" if "float16/float32" in gpu.flops else "float32"
    dtype = usual if asked.dtype is None else asked.dtype
    weights = dtype if asked.weights_dtype is None else asked.weights_dtype
    one_of("dtype", dtype, DTYPES)
    one_of("weights dtype", weights, HELD)
    gpu.rate(dtype)
    most = config.n_positions
    context = min(most, 8192) if asked.context is None else asked.context
    prompt = min(context, PROMPT) if asked.prompt is None else asked.prompt
    for what, value, limit in (
        ("gpus", asked.gpus, MOST_ALIKE),
        ("batch", asked.batch, MOST),
        ("context", context, most),
        ("prompt", prompt, context),
    ):
        if not 1 <= value <= limit:
            raise InputError(f"{what} is {shown(value)}; it must be from 1 to {limit}")
    if asked.gpus > 1 and not gpu.link_bandwidth:
        raise InputError(f"{gpu.name} has no link to others; its description can give one")
    return Plan(model, config, gpu, asked.gpus, dtype, weights, context, asked.batch, prompt)
