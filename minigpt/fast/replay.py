"""Passes as machine code: the model's own code recorded, then replayed.

A prompt is recorded where it is, and replayed once. A decode step is recorded once for all
positions: between two of them only addresses and sizes change, linearly. Two recordings give the
line, a third checks it. Where a layer looks through a window, the line ends with the slots of its
ring: a step is recorded once for each round. What a pass costs is counted in the same recordings,
by the arrays that count everywhere.
"""

import sys
from collections.abc import Mapping, Sequence
from copy import copy
from math import prod
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from counting import Counted, Ledger, category
from counting.composite import composite, fused
from counting.growing import Growing, Line, counted
from counting.scope import place
from minigpt.fast.fused import Run, fused_kernels
from minigpt.fast.kernels.machine import Machine
from minigpt.fast.kernels.threads import ENTRY
from minigpt.fast.packed import PackedMatrix
from minigpt.fast.recorded import Recorded
from minigpt.fast.tape import Job, Tape, Unrecordable
from minigpt.models.architectures import build
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.model import Model

FEW = 8  # steps that are not worth a recording
MANY = 64  # tokens of prompts that are: 32 take 10 to 34 % longer, 256 of float32 1 to 4 % less


def watched() -> bool:
    """Whether a debugger follows this thread: the model's own code must run for it."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    debugger = monitoring and monitoring.get_tool(monitoring.DEBUGGER_ID)
    return sys.gettrace() is not None or bool(debugger)


class Replayed:
    """A model whose passes run as recorded machine code, if all of a pass can be recorded.

    All else runs as its code says, and whatever a debugger or an observer of operations follows.
    What is recorded is a model built anew from the same weights: whoever puts other parts into
    `model` calls that.

    Args:
        model: the model.
        weights: that it was built from, all bare or all counted.
        machine: what runs.

    Attributes:
        kernels: the fused kernels that run in the place of composites.
    """

    def __init__(self, model: Model, weights: Mapping[str, Any], machine: Machine) -> None:
        self.model, self.config = model, model.config
        self.weights, self.machine = weights, machine
        ledgers = {array.ledger for array in weights.values() if isinstance(array, Counted)}
        self.ledger: Ledger | None = ledgers.pop() if ledgers else None
        self.kernels = self._composites()
        self._refused: set[Any] = set()  # kinds of passes that cannot be recorded
        self._steps: WeakKeyDictionary[KVCache, Pass] = WeakKeyDictionary()

    def _composites(self) -> dict[composite, Run]:
        return fused_kernels(self.machine)

    def __call__(self, tokens: np.ndarray, cache: KVCache, logits: str = "last") -> Any:
        """As `model(tokens, cache, logits)`."""
        followed = watched() or (self.ledger is not None and self.ledger.observer)
        if followed or not self._fits(tokens, cache):
            return self._as_written(tokens, cache, logits)  # what that refuses, it shall refuse
        why = ""
        if (kind := (tokens.shape, logits)) not in self._refused:
            try:
                if found := self._recorded(tokens.shape, cache, logits):
                    return found.run(tokens, cache)
            except (Unrecordable, ValueError) as error:
                # Its words alone: the error would keep all of the recording alive.
                why = str(error) or type(error).__name__
        result = self._as_written(tokens, cache, logits)
        if why:  # and the code did not raise
            self._refused.add(kind)
            self._refusing(why)
        return result

    def _refusing(self, why: str) -> None:
        """Called once for each kind of pass that could not be recorded."""

    def _as_written(self, tokens: np.ndarray, cache: KVCache, logits: str) -> Any:
        """The model's own code, fused kernels in the place of composites."""
        with fused(self.kernels):
            return self.model(tokens, cache, logits)

    def replay(self, jobs: np.ndarray, paths: Sequence[str]) -> None:
        """Runs the jobs of a pass one after another.

        Args:
            jobs: (n, ENTRY) of int64, as `Pool.replay` takes them.
            paths: where in the model each was recorded.
        """
        self.machine.pool.replay(jobs)

    def _fits(self, tokens: Any, cache: KVCache) -> bool:
        """Whether this is an ordinary pass: nothing for the code to refuse or to do otherwise."""
        return (
            type(tokens) is np.ndarray
            and tokens.ndim == 2
            and tokens.dtype.kind in "iu"
            and tokens.size > 0
            and cache.length + tokens.shape[1] <= cache.capacity
            and int(tokens.min()) >= 0
            and int(tokens.max()) < self.config.vocab_size
            and place.get().category == "activations"
        )

    def _recorded(self, shape: tuple[int, ...], cache: KVCache, logits: str) -> "Pass | None":
        near = cache.length
        if shape[1] > 1:
            return self._record(shape, cache, [near], logits) if prod(shape) >= MANY else None
        step = self._steps.get(cache)
        if step and step.is_for(cache, shape):
            return step
        far = _span(cache).stop - 1
        if far - near < FEW:
            return None
        step = self._record(shape, cache, [far, near, (near + far) // 2], logits)
        self._steps[cache] = step
        return step

    def _record(self, *given: Any) -> "Pass":
        return Pass(self, *given)


class Pass:
    """A recorded pass over tokens (B, T) for one cache.

    Args:
        positions: where to record it, the last first; of one alone, it runs there and nowhere else.

    Raises:
        Unrecordable: it does what no job does.
        ValueError: it does not grow linearly with the position.
    """

    def __init__(
        self,
        of: Replayed,
        shape: tuple[int, ...],
        cache: KVCache,
        positions: list[int],
        logits: str,
    ) -> None:
        self._of, self._ledger = of, of.ledger
        self._tokens, self._capacity = np.zeros(shape, np.int64), cache.capacity
        self._span = _span(cache)
        if any(isinstance(x, Counted) and x.ledger is not of.ledger for x in _arrays(cache)):
            raise Unrecordable("the cache of another model")
        tape, ledger = self._tape(of.machine), Ledger()

        def counts(data: Any, of: str) -> Any:
            """An array to record with, counted if the model is."""
            with category(of):
                return data if self._ledger is None else Counted(data, ledger)

        weights = {
            key: counts(self._weight(tape, _bare(w)), "weights") for key, w in of.weights.items()
        }
        model, given = build(of.config, weights), copy(cache)
        given.layers = [copy(layer) for layer in cache.layers]
        self._cached = [_bare(x) for x in _arrays(cache)]
        for layer in given.layers:
            for name in layer.HOLDS:
                held = Recorded(self._cache(_bare(getattr(layer, name))), tape)
                setattr(layer, name, counts(held, layer.CATEGORY))

        def run() -> Any:
            return model(Recorded(self._tokens, tape), given, logits)

        numbers, prices = [], []
        for n in positions:
            for layer in given.layers:
                layer.length = n
            if self._ledger is None:
                jobs, found = tape.record(run)
            else:
                jobs, (price, found) = tape.record(lambda: counted(ledger, run))
                prices.append((n, price))
            numbers.append((n, self._numbers(jobs, _bare(_bare(found)))))
        self._price = Growing("forward", prices) if prices else None
        self._logits, self._path = _bare(_bare(found)), getattr(found, "path", "")
        self._kept = tape.end()
        self._prepare(Line(numbers))

    # What another machine than this one's pool does otherwise.

    def _tape(self, machine: Machine) -> Tape:
        return Tape(machine)

    def _weight(self, tape: Tape, array: Any) -> Any:
        """A weight to record with: one that multiplies there, or numbers that are known already."""
        if isinstance(array, PackedMatrix):
            return array.on(tape.machine)
        return Recorded(tape.keep(array), tape, constant=True)

    def _cache(self, array: Any) -> np.ndarray:
        """Part of a cache to record with."""
        return array

    def _numbers(self, jobs: list[Job], result: np.ndarray) -> np.ndarray:
        """Jobs as `Pool.replay` takes them, then their words, counted in bytes from the first."""
        self._count, self._paths = len(jobs), [job.path for job in jobs]
        words = b"".join(job.words for job in jobs)
        ends = np.cumsum([0, *(len(job.words) for job in jobs)]).tolist()
        entries = [(j.address, at, j.total, j.chunk) for j, at in zip(jobs, ends, strict=False)]
        return np.concatenate([np.array(entries, np.int64).ravel(), np.frombuffer(words, np.int64)])

    def _prepare(self, line: Line) -> None:
        """Takes the jobs at all positions."""
        self._now = line(0)  # the numbers at the position of the next run
        self._jobs = self._now[: self._count * ENTRY].reshape(-1, ENTRY)
        self._jobs[:, 1] += self._jobs.ctypes.data + self._jobs.nbytes
        self._moving = np.flatnonzero(line.slope)
        self._slope, self._origin = line.slope[self._moving], self._now[self._moving]

    def _perform(self, tokens: np.ndarray, n: int) -> Any:
        """Runs the jobs at position n; gives the logits."""
        self._now[self._moving] = self._origin + n * self._slope
        self._tokens[...] = tokens
        self._of.replay(self._jobs, self._paths)
        return self._logits.copy()  # the next ones are written into the same slot

    def is_for(self, cache: KVCache, shape: tuple[int, ...]) -> bool:
        """Whether it takes tokens of this shape here, and the cache's arrays are still the same."""
        arrays = [_bare(x) for x in _arrays(cache)]
        return (
            (self._tokens.shape, self._capacity) == (shape, cache.capacity)
            and cache.length in self._span
            and len(arrays) == len(self._cached)
            and all(map(is_, arrays, self._cached))
        )

    def run(self, tokens: np.ndarray, cache: KVCache) -> Any:
        """As `model(tokens, cache, logits)`, for the cache and the `logits` of the recording."""
        n = cache.length
        found = self._perform(tokens, n)
        for layer in cache.layers:
            layer.length = n + tokens.shape[1]
        if self._ledger is None or self._price is None:
            return found
        return self._price.enter(self._ledger, self._path, n, found)


def _span(cache: KVCache) -> range:
    """The positions around the next over which a step grows linearly.

    They end where a layer's slots do: there a ring begins anew, and from there on it has no more
    keys than it had. A layer that is no ring has a slot for every position, or a state of all.
    """
    n, begin, end = cache.length, 0, cache.capacity
    for slots in {x.capacity for x in cache.layers if isinstance(x, LayerCache)}:
        begin = max(begin, n - n % slots)
        end = min(end, n - n % slots + slots)
    return range(begin, end)


def _arrays(cache: KVCache) -> list[Any]:
    return [getattr(layer, name) for layer in cache.layers for name in layer.HOLDS]


def _bare(array: Any) -> Any:
    return array.data if isinstance(array, Counted | Recorded) else array
