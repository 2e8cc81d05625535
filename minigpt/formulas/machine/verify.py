"""A pass counted, and the same pass as the processor executed it, held against each other.

Whatever the numbers are, the same is executed: weights and tokens are drawn at random.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from counting import Counted, Counts, Ledger, category
from counting.cost import Cost
from counting.machine import COMPILED, Ran, Unavailable
from counting.machine.ran import TWICE
from minigpt.fast.fused import fused_kernels
from minigpt.fast.kernels.machine import Machine, address
from minigpt.fast.packed import PackedMatrix, narrowed
from minigpt.fast.replay import FEW
from minigpt.formulas.machine.algebra import Call, family, terms, value
from minigpt.formulas.machine.compared import Compared, Held, Pair, Reason, Row
from minigpt.formulas.machine.stepped import Execution, ReplayedInSteps, Stepped, Steps, bare
from minigpt.models.architectures import build
from minigpt.models.cache import KVCache
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.paths import component

TRIES = 5  # of a pass that loses traps
C_LIBRARY = "cos", "sin"  # kernels that leave their numbers to it
NOT_NUMPY = "Python", COMPILED  # what else ran in a function of NumPy's is part of it


class SteppedModel:
    """A model of random weights whose passes are stepped.

    Args:
        machine, numpy: see `Steps`.
    """

    def __init__(
        self,
        config: Config,
        dtype: str,
        machine: Machine | None,
        seed: int = 0,
        numpy: bool = True,
    ) -> None:
        self.config, self.dtype = config, dtype
        self.steps = Steps(machine, numpy)
        self._random = np.random.default_rng(seed)
        self.weights = {key: self._weight(key) for key in config.shapes()}
        for key, weight in self.weights.items():
            for i, part in enumerate(getattr(weight, "parts", (weight,))):
                self.steps.arrays[f"{key} {i}"] = part

    def _weight(self, key: str) -> Any:
        shape, machine = self.config.shapes()[key], self.steps.machine
        numbers = self._random.standard_normal(shape, np.float32) / 16
        way = self.config.layout(key, len(shape))
        if not way or (self.dtype == "float32" and machine is None):
            return numbers
        if self.dtype == "float32":
            return PackedMatrix(numbers, machine=machine)
        rows = np.ascontiguousarray(numbers.T) if way == "columns" else numbers
        return PackedMatrix(*narrowed(rows, self.dtype), way == "columns", machine)

    def compare(self, tokens: int, past: int = 0) -> Compared:
        """A pass over so many new tokens after others, stepped; again if traps were lost.

        Raises:
            Unavailable: the processor cannot be stepped here, or loses traps each time.
        """
        for _ in range(TRIES):
            found = self._pass(tokens, past, self._recorded) if self.steps.machine else None
            found = found or self._pass(tokens, past, self._as_written)
            if found and not self.steps.lost:
                return found
        raise Unavailable(
            f"of {TRIES} passes each lost traps of the processor, as on some virtual machines: "
            "take a smaller pass or another machine"
        )

    def _recorded(self, ledger: Ledger) -> tuple[Model, ReplayedInSteps | None]:
        with category("weights"):
            weights = {key: Counted(w, ledger) for key, w in self.weights.items()}
        model = build(self.config, weights)
        return model, ReplayedInSteps(self.steps, model, weights)

    def _as_written(self, ledger: Ledger) -> tuple[Model, ReplayedInSteps | None]:
        machine = self.steps.machine
        kernels = fused_kernels(machine) if machine else {}
        with category("weights"):
            stepped = {k: Stepped(w, self.steps, kernels) for k, w in self.weights.items()}
            weights = {key: Counted(w, ledger) for key, w in stepped.items()}
        return build(self.config, weights), None

    def _pass(
        self,
        T: int,
        N: int,
        prepared: Callable[[Ledger], tuple[Model, ReplayedInSteps | None]],
    ) -> Compared | None:
        """The pass by what is prepared for a ledger; None if it should be recorded and is not."""
        ledger, steps = Ledger(), self.steps
        model, replayed = prepared(ledger)
        forward: Any = replayed or model
        cache = model.new_cache(1, min(N + T + 2 * FEW, self.config.n_positions))
        given = self._random.integers(0, self.config.vocab_size, (1, N + T))
        if N:
            forward(given[:, :N], cache)
        if replayed:  # once as ever: is it recorded?
            forward(given[:, N:], cache)
            if not replayed.replayed:
                return None
            for layer in cache.layers:
                layer.length = N
        own = steps.arrays
        kept = {kind: _arrays(cache, kind) for kind in ("kv_cache", "state")}
        steps.arrays = own | kept["kv_cache"] | kept["state"]
        steps.done, steps.watching = [], True
        before, start = ledger.snapshot(), perf_counter()
        try:
            forward(given[:, N:], cache)
        finally:
            steps.watching, steps.arrays = False, own
        seconds, counts = perf_counter() - start, ledger.snapshot() - before
        way = "recorded" if replayed else "kernels" if steps.machine else "reference"
        parts = {part.path for part in model.modules()}
        rows = tuple(_rows(counts, steps.done, parts, T if way == "recorded" else 0))
        held = tuple(self._held(counts, kept, way == "recorded" and T == 1))
        done = sum(one.ran.instructions for one in steps.done if one.ran)
        return Compared(self.dtype, T, N, way, done, seconds, rows, held)

    def _held(
        self, counts: Counts, kept: Mapping[str, Mapping[str, Any]], whole: bool
    ) -> Iterable[Held]:
        done, names = self.steps.done, {address(x): k for k, x in self.steps.arrays.items()}
        products = [s for s in done if s.call and _is_product(s.call)]
        if products:
            said = sum(loaded(one.call) for one in products if one.call)
            read = sum(
                one.ran.moved[names[one.call.words["w"]]].read
                for one in products
                if one.call and one.ran
            )
            yield Held("weights of products loaded, each tile's again", Pair(said, read), True)
        read = _moved(done, self.steps.arrays, "read")
        yield Held("weights loaded", Pair(counts.bytes_read["weights"], read), whole)
        for kind, arrays in kept.items():
            if arrays:
                stored = Pair(counts.bytes_written[kind], _moved(done, arrays, "written"))
                yield Held(f"{kind} stored", stored, whole and kind == "kv_cache")
                read = _moved(done, arrays, "read")
                yield Held(f"{kind} loaded", Pair(counts.bytes_read[kind], read), False)


def _arrays(cache: KVCache, kind: str) -> dict[str, np.ndarray]:
    """What the layers of a cache keep in a category of memory."""
    return {
        f"{kind} {i} {name}": bare(getattr(layer, name).data)
        for i, layer in enumerate(cache.layers)
        if kind == layer.CATEGORY
        for name in layer.HOLDS
    }


def _moved(done: Iterable[Execution], names: Iterable[str], way: str) -> int:
    moved = [one.ran.moved for one in done if one.ran]
    return sum(getattr(each[name], way) for each in moved for name in names)


def _is_product(call: Call) -> bool:
    return family(call.kernel) in ("product", "product_by_columns")


def loaded(call: Call) -> int:
    """Bytes of its weight that a product loads, scales apart."""
    size = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "pairs": 2, "shorts": 1}
    itemsize = size[call.kernel.rpartition("_")[2]]
    return value(f"{itemsize}*d*out*W", call.sizes)


def _rows(counts: Counts, done: list[Execution], parts: set[str], recorded: int) -> Iterable[Row]:
    """The components; `recorded` tokens, 0 of a pass that is not."""

    def owner(path: str) -> str:
        """The component of the part of the model that a path lies in."""
        at = path
        while at not in parts and "." in at:
            at = at.rpartition(".")[0]
        return component(at if at in parts else path)

    counted = counts.by(owner)
    by_component: dict[str, list[Execution]] = {name: [] for name in counted}
    for one in done:
        by_component.setdefault(owner(one.path), []).append(one)
    for name, own in by_component.items():
        part = counted.get(name)
        row = _row(name, part.cost if part else Cost(), own)
        ups = part.where(operation="cumsum").total("calls") if part else 0
        if recorded and ups:
            why = "positions are counted up once, when the pass is recorded"
            reason = Reason(why, "-(2*T - 1)", -ups * (2 * recorded - 1))
            row = replace(row, reasons=(*row.reasons, reason))
        if any(row.all) or row.reasons or row.unsaid:
            yield row


def _row(name: str, cost: Cost, done: list[Execution]) -> Row:
    own, others_executed, masked, added = 0, 0, 0, 0
    others, products, attends = Cost(), False, False
    sums: dict[tuple[str, str], int] = {}
    unsaid = set[str]()
    for one in done:
        call = one.call
        if one.ran is None:
            others, others_executed = others + one.counted, others_executed + one.counted.flops
            continue
        masked += sum(one.ran.masked(COMPILED).values())
        if call is None or call.kernel in C_LIBRARY:
            others += one.counted if call is None else Cost({call.kernel: call.sizes["n"]})
            others_executed += _others(one.ran)
            continue
        own += operations(one.ran)
        attends |= family(call.kernel) == "attention"
        if _is_product(call):
            products, added = True, added + fused(one.ran)
        reasons = terms(call)
        if reasons is None:
            unsaid.add(call.kernel)
        for reason in reasons or ():
            key = reason.why.format_map(call.sizes), reason.formula
            sums[key] = sums.get(key, 0) + value(reason.formula, call.sizes)
    if not (judged := any(one.call for one in done)):
        others = cost  # all of it
    ledgers = cost.get("fma", 0) - others.get("fma", 0)
    return Row(
        name,
        Pair(cost.flops, own + others_executed),
        masked,
        Pair(others.flops, others_executed),
        Pair(ledgers, added) if products and not attends else None,
        tuple(Reason(*key, n) for key, n in sums.items() if n),
        tuple(sorted(unsaid)),
        judged,
    )


def operations(ran: Ran) -> int:
    """FLOP of kernels: in each lane, whether a mask kept it or not, and products of integers."""
    found = 0
    for by_kind in (ran.lanes(COMPILED), ran.masked(COMPILED)):
        for (kind, _), n in by_kind.items():
            if not kind.startswith("int") or kind == "int dot":
                found += 2 * n if kind in TWICE else n
    return found


def fused(ran: Ran) -> int:
    """Products that kernels added up: fused, or in pairs."""
    return sum(
        n for (kind, _), n in ran.lanes(COMPILED).items() if kind in ("fma", "dot", "int dot")
    )


def _others(ran: Ran) -> int:
    return sum(ran.flops(library) for library in ran.libraries if library not in NOT_NUMPY)
