"""Decode steps as machine code: the model's text recorded, then replayed at every position.

All that differs from one position to the next are addresses and sizes, and they grow evenly. The
text is recorded at three positions: two say how they grow, the third that they do. What a step
costs is counted in the same recordings, by the arrays that count everywhere.
"""

import sys
from collections.abc import Mapping
from copy import copy
from typing import Any
from weakref import ref

import numpy as np

from counting import Counted, Ledger, category
from counting.array import entered
from counting.growing import Growing, Line, counted
from counting.pricing import describe
from minigpt.architectures import Config, Model, build
from minigpt.cache import KVCache
from minigpt.fast.machine import Machine
from minigpt.fast.packed import PackedMatrix
from minigpt.fast.pool import ENTRY
from minigpt.fast.tape import Job, Tape, Unrecordable

FEW = 8  # steps that are not worth a recording


def watched() -> bool:
    """Whether a debugger follows this thread, for whom the text must run."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    debugger = monitoring and monitoring.get_tool(monitoring.DEBUGGER_ID)
    return sys.gettrace() is not None or bool(debugger)


class Replayed:
    """A model whose decode steps run as recorded machine code, if all of a step can be recorded.

    All else runs as its text says: prompts, the logits of all positions, and whatever a debugger or
    an observer of operations follows.

    Args:
        model: the model.
        weights: that it was built from, all bare or all counted.
        machine: what runs.
    """

    def __init__(self, model: Model, weights: Mapping[str, Any], machine: Machine) -> None:
        self.model, self.config = model, model.config
        self._weights, self._machine = weights, machine
        ledgers = {array.ledger for array in weights.values() if isinstance(array, Counted)}
        self._ledger: Ledger | None = ledgers.pop() if ledgers else None
        self._fits = True  # as far as is known
        self._step: _Step | None = None
        self._cache: Any = None  # a weak reference to the cache that the step is recorded for

    def __call__(self, tokens: np.ndarray, cache: KVCache, logits: str = "last") -> Any:
        """As `model(tokens, cache, logits)`."""
        one = type(tokens) is np.ndarray and tokens.shape[1:] == (1,) and logits == "last"
        followed = watched() or (self._ledger is not None and self._ledger.observer)
        step = self._recorded(cache, len(tokens)) if one and not followed else None
        # What the text refuses, it shall refuse.
        if step and cache.length < cache.capacity and self._known(tokens):
            return step.run(tokens, cache, self._ledger)
        return self.model(tokens, cache, logits)

    def _known(self, tokens: np.ndarray) -> bool:
        return int(tokens.min()) >= 0 and int(tokens.max()) < self.config.vocab_size

    def _recorded(self, cache: KVCache, batch: int) -> "_Step | None":
        if self._cache and self._cache() is cache:
            return self._step
        if self._fits and cache.capacity - cache.length > FEW:
            self._cache, self._step = ref(cache, self._forget), None
            try:
                self._step = _Step(self.config, self._weights, self._machine, cache, batch)
            except (Unrecordable, ValueError):
                self._fits = False
            return self._step
        return None

    def _forget(self, cache: Any) -> None:
        if self._cache is cache:
            self._cache = self._step = None  # it holds the cache's memory


class _Step:
    """One decode step for one cache, at any position.

    Raises:
        Unrecordable: it does what no job does.
        ValueError: it does not grow evenly with the position.
    """

    def __init__(
        self,
        config: Config,
        weights: Mapping[str, Any],
        machine: Machine,
        cache: KVCache,
        batch: int,
    ) -> None:
        counts = any(isinstance(array, Counted) for array in weights.values())
        scratch, tape = Ledger(), Tape(machine)

        def like(array: Any, of: str, data: Any) -> Any:
            """`data`, counted if `array` is."""
            with category(of):
                return Counted(data, scratch) if counts else data

        def on_tape(array: Any) -> Any:
            data = bare(array)
            return data.on(tape.machine) if isinstance(data, PackedMatrix) else data

        def bare(array: Any) -> Any:
            return array.data if counts else array

        model = build(config, {key: like(w, "weights", on_tape(w)) for key, w in weights.items()})
        self._tokens = np.zeros((batch, 1), np.int64)
        shadow = copy(cache)
        shadow.layers = [copy(layer) for layer in cache.layers]
        for layer in shadow.layers:
            layer.k, layer.v = (
                like(x, "kv_cache", tape.given(bare(x))) for x in (layer.k, layer.v)
            )
        near, far = cache.length, cache.capacity - 1
        points, runs = [], []
        for n in (far, near, (near + far) // 2):
            for layer in shadow.layers:
                layer.length = n

            def text() -> Any:
                return model(tape.given(self._tokens), shadow)

            if counts:
                jobs, (run, logits) = tape.record(lambda: counted(scratch, text))
                runs.append((n, run))
            else:
                jobs, logits = tape.record(text)
            points.append((n, _numbers(jobs)))
        self._logits = logits.data.data if counts else logits.data
        self._price = Growing(runs) if counts else None
        self._machine, self._kept = machine, (model, shadow, tape)  # they hold what is addressed
        self._set(Line(points), len(jobs))

    def _set(self, line: Line, jobs: int) -> None:
        self._now = line(0)  # the numbers at the position of the next run
        entries = self._now[: jobs * ENTRY].reshape(jobs, ENTRY)
        entries[:, 1] += entries.ctypes.data + entries.nbytes
        self._entries = entries
        self._moving = np.flatnonzero(line.slope)
        self._slope, self._origin = line.slope[self._moving], self._now[self._moving]

    def run(self, tokens: np.ndarray, cache: KVCache, ledger: Ledger | None) -> Any:
        """The logits (B, 1, V) after one more token of each sequence."""
        n = cache.length
        self._now[self._moving] = self._origin + n * self._slope
        self._tokens[...] = tokens
        self._machine.pool.replay(self._entries)
        for layer in cache.layers:
            layer.length = n + 1
        logits = self._logits.copy()
        if ledger is None or self._price is None:
            return logits
        charge = self._price.charge("step", n, describe(ledger, logits, "activations"))
        return entered(ledger, "", charge, logits)


def _numbers(jobs: list[Job]) -> np.ndarray:
    """Jobs as `Pool.replay` takes them, then their words, counted in bytes from the first."""
    words = b"".join(job.words for job in jobs)
    ends = np.cumsum([0, *(len(job.words) for job in jobs)]).tolist()
    entries = [(job.address, at, job.total, job.chunk) for job, at in zip(jobs, ends, strict=False)]
    return np.concatenate([np.array(entries, np.int64).ravel(), np.frombuffer(words, np.int64)])
