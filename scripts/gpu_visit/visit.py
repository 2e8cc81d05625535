"""A visit: the machine, the model made on it, and how things are timed."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from counting import Counted, Ledger, category
from counting.cupy_memory import Pool
from minigpt.fast.cublas_array import CublasArray
from minigpt.inference.device import Cuda
from minigpt.inference.memory import Sizes, require
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config

Row = tuple[str, str, str]  # what was measured, what came out, what stands beside it
Result = dict[str, Any]  # of a stage: "rows", and whatever it found


class Visit:
    """What all stages share.

    Attributes:
        config: of the model.
        dry: whether the stand-in plays the GPU: sizes are tiny then, and times mean nothing.
        keys: at which decoding is timed.
        prompt: tokens of the prefill that is timed.
        device, pool: the GPU; every allocation while the model was made.
        ledger, weights, model: GPT-2 with random float16 matrices, counted.
        results: of the stages so far.
    """

    def __init__(self, config: GPT2Config, dry: bool, ends: float) -> None:
        self.config, self.dry, self.ends = config, dry, ends
        self.keys = (1, config.n_positions // 2, config.n_positions - 1)
        self.prompt = config.n_positions // 2
        self.rounds = 3 if dry else 30
        self.device = Cuda("float16")
        sizes = Sizes(context=config.n_positions, prompt=self.prompt)
        require(self.device, config, "float16", sizes)
        self.pool, self.ledger = Pool(), Ledger()
        self.results: dict[str, Result] = {}
        self.rng = cupy.random.default_rng(0)
        with self.pool, category("weights"):
            self.weights = {
                key: Counted(self.random(key, shape), self.ledger)
                for key, shape in config.shapes().items()
            }
        self.model = GPT2(config, self.weights)
        self.bare = GPT2(config, {key: x.data for key, x in self.weights.items()})

    def random(self, key: str, shape: tuple[int, ...]) -> Any:
        """A weight as GPT-2 is initialised, made on the GPU."""
        values = self.rng.standard_normal(shape, dtype=np.float32) * 0.02
        if ".ln_" in f".{key}" and key.endswith("weight"):
            values = values + 1.0
        matrix = self.config.layout(key, len(shape))
        return CublasArray(values.astype(np.float16)) if matrix else values

    def host_weights(self) -> dict[str, np.ndarray]:
        """The same weights in NumPy, float32."""
        return {key: x.data.get().astype(np.float32) for key, x in self.weights.items()}

    def tokens(self, count: int) -> np.ndarray:
        """A prompt of random tokens (1, count)."""
        return np.random.default_rng(0).integers(self.config.vocab_size, size=(1, count))

    def decoder(self, model: GPT2, keys: int) -> Callable[[], Any]:
        """A decode step that looks at `keys` keys, itself among them, and can be repeated."""
        cache, token = model.new_cache(1, keys), self.tokens(1)
        for layer in cache.layers:
            for held in (layer.k, layer.v):
                held[:] = self.rng.standard_normal(held.shape, dtype=np.float32)

        def step() -> Any:
            for layer in cache.layers:
                layer.length = keys - 1
            return model(token, cache)

        return step

    def prefill(self, model: GPT2) -> Callable[[], Any]:
        """A pass over a prompt, that can be repeated."""
        cache, tokens = model.new_cache(1, self.prompt), self.tokens(self.prompt)

        def run() -> Any:
            for layer in cache.layers:
                layer.length = 0
            return model(tokens, cache)

        return run

    def interleaved(self, runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Result]:
        """Seconds of each by CUDA events, in turn, the order reversed each time; warmed up."""
        times: dict[str, list[float]] = {name: [] for name in runs}
        for name in runs:
            for _ in range(1 if self.dry else 3):
                runs[name]()
        for round_ in range(rounds):
            for name in list(runs)[:: 1 if round_ % 2 else -1]:
                stop = self.device.stopwatch()
                runs[name]()
                times[name].append(stop())
            if time.monotonic() > self.ends:
                break
        return {name: spread(seconds) for name, seconds in times.items()}


def spread(seconds: list[float]) -> Result:
    """The median of some times and their quartiles."""
    if len(seconds) < 2:
        return {"median_s": seconds[0], "rounds": 1}
    low, median, high = statistics.quantiles(seconds, n=4)
    return {"median_s": median, "quartiles_s": [low, high], "rounds": len(seconds)}
