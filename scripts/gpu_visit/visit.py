"""A visit: the machine, the model made on it, and how things are timed."""

import json
import statistics
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from counting import Counted, Ledger, category
from counting.cupy_memory import Pool
from gpu_visit.stages import Result, Row, tried
from minigpt.fast.cublas_array import CublasArray
from minigpt.inference.device import Cuda
from minigpt.inference.memory import Sizes, require
from minigpt.models.cache import KVCache
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config

Run = Callable[[], Any]
MARGIN = 5  # seconds of a stage in which no round of measuring begins


class Visit:
    """What a stage works with.

    Attributes:
        config, name: of the model, and what it is called.
        dry: whether the stand-in plays the GPU: sizes are tiny then, and times mean nothing.
        out: the folder of results.
        ends: of the stage, by the monotonic clock.
        peers: whether what may break this process runs in it: transformers, the fast step.
        keys: at which decoding is looked at.
        prompt: tokens of the prefill that is timed.
        device, rng: the GPU, and random numbers made on it.
        pool, ledger: every allocation while the model was made, and all that it counted.
    """

    def __init__(
        self,
        config: GPT2Config,
        name: str = "",
        dry: bool = False,
        out: Path = Path(),
        ends: float = float("inf"),
        peers: bool = True,
    ) -> None:
        self.config, self.name, self.dry, self.out = config, name, dry, out
        self.ends, self.peers = ends, peers
        self.keys = (1, config.n_positions // 2, config.n_positions - 1)
        self.prompt = config.n_positions // 2
        self.rounds = 3 if dry else 30
        self.device = Cuda("float16")
        self.rng = cupy.random.default_rng(0)
        self.pool, self.ledger = Pool(), Ledger()

    def require(self) -> None:
        """Asks for room for the model.

        Raises:
            InputError: there is none.
        """
        sizes = Sizes(context=self.config.n_positions, prompt=self.prompt)
        require(self.device, self.config, "float16", sizes)

    @cached_property
    def weights(self) -> dict[str, Counted]:
        """Random weights as GPT-2 is initialised, made on the GPU; matrices in float16."""
        with self.pool, category("weights"):
            return {
                key: Counted(self._random(key, shape), self.ledger)
                for key, shape in self.config.shapes().items()
            }

    def _random(self, key: str, shape: tuple[int, ...]) -> Any:
        values = self.rng.standard_normal(shape, dtype=np.float32) * 0.02
        if ".ln_" in f".{key}" and key.endswith("weight"):
            values = values + 1.0
        matrix = self.config.layout(key, len(shape))
        return CublasArray(values.astype(np.float16)) if matrix else values

    @cached_property
    def model(self) -> GPT2:
        """GPT-2 of these weights, counted."""
        return GPT2(self.config, self.weights)

    @cached_property
    def bare(self) -> GPT2:
        """The same, not counted."""
        return GPT2(self.config, {key: x.data for key, x in self.weights.items()})

    @cached_property
    def wide(self) -> GPT2:
        """The same with the same values in float32, not counted."""
        return GPT2(
            self.config,
            {
                key: CublasArray(x.data.data.astype(np.float32))
                if isinstance(x.data, CublasArray)
                else x.data
                for key, x in self.weights.items()
            },
        )

    @cached_property
    def host_weights(self) -> dict[str, np.ndarray]:
        """The same in NumPy, float32."""
        return {key: x.data.get().astype(np.float32) for key, x in self.weights.items()}

    def tokens(self, count: int) -> np.ndarray:
        """A prompt of random tokens (1, count); a longer one begins with a shorter."""
        return np.random.default_rng(0).integers(self.config.vocab_size, size=(1, count))

    def decoder(self, model: GPT2, keys: int) -> Run:
        """A decode step that looks at `keys` keys, itself among them, and can be repeated."""
        cache, token = model.new_cache(1, keys), self.tokens(1)
        self.fill(cache)

        def step() -> Any:
            for layer in cache.layers:
                layer.length = keys - 1
            return model(token, cache)

        return step

    def fill(self, cache: KVCache) -> None:
        """Makes keys and values of a cache random ones."""
        for layer in cache.layers:
            for held in (layer.k, layer.v):
                held[:] = self.rng.standard_normal(held.shape, dtype=np.float32)

    def prefill(self, model: GPT2) -> Run:
        """A pass over a prompt, that can be repeated."""
        cache, tokens = model.new_cache(1, self.prompt), self.tokens(self.prompt)

        def run() -> Any:
            for layer in cache.layers:
                layer.length = 0
            return model(tokens, cache)

        return run

    def found(self, stage: str) -> Result:
        """What another stage has left; nothing, if it did not run or broke."""
        file = self.out / f"{stage}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def interleaved(
        self, ours: dict[str, Run], theirs: dict[str, Run], rounds: int
    ) -> tuple[dict[str, Result], list[Row]]:
        """Seconds of each by CUDA events, in turn, the order reversed each time; warmed up.

        Of `theirs` one that breaks is left out, and a row says why. Rounds end before time does.
        """
        runs, rows = dict(ours), []
        for name, run in (ours | theirs).items():
            for _ in range(1 if self.dry else 3):
                if name in ours:
                    run()
                else:
                    _, broke = tried(name, run)
                    if broke:
                        rows += broke
                        break
            else:
                runs[name] = run
        times: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(rounds):
            for name in list(runs)[:: 1 if round_ % 2 else -1]:
                stop = self.device.stopwatch()
                runs[name]()
                times[name].append(stop())
            if time.monotonic() > self.ends - MARGIN:
                break
        return {name: spread(seconds) for name, seconds in times.items()}, rows


def relative(x: np.ndarray, reference: np.ndarray) -> float:
    """|x - reference| / |reference|; infinite where anything is not finite."""
    if not np.isfinite(x).all():
        return float("inf")
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


def spread(seconds: list[float]) -> Result:
    """The median of some times and their quartiles."""
    if len(seconds) < 2:
        return {"median_s": seconds[0], "rounds": 1}
    low, median, high = statistics.quantiles(seconds, n=4)
    return {"median_s": median, "quartiles_s": [low, high], "rounds": len(seconds)}
