"""The witnesses of the count side by side, and what is published held against it.

Each figure has several independent ways to it: numbers really computed one by one, the ledger of
a run, a run on shapes alone, closed forms, the allocator, other counters. On configurations drawn
at random they must agree exactly; where they do not, the case is shrunk while it still fails.
"""

import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from counting import Counted, Ledger, ShapeArray, category, scalars
from counting.views import matmul
from minigpt.checks import SEED, checked, optional, whole
from minigpt.errors import InputError
from minigpt.formulas.claims import Claim, hold
from minigpt.formulas.closed_forms import Formulas, formulas
from minigpt.formulas.decoders import (
    Compare,
    numbers,
    oracle,
    shapes,
    torch_flop,
)
from minigpt.formulas.decoders import closed as closed_figures
from minigpt.formulas.drawn import DecoderCase, draw
from minigpt.formulas.figures import figures, sizes
from minigpt.formulas.layers import one_of_each
from minigpt.formulas.other_counters import INSTALL, Reported, installed, panel, torch_flops
from minigpt.models.architectures import build
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.forward import Forward, Make, Pass, forward


@dataclass(frozen=True)
class Case:
    """One forward pass of a model, by the symbols of `formulas`, and which logits."""

    B: int
    T: int
    N: int
    L: int
    H: int
    D: int
    F: int
    V: int
    C: int
    logits: str = "all"

    @property
    def config(self) -> GPT2Config:
        return GPT2Config(self.V, self.C, self.H * self.D, self.L, self.H, self.F)

    @property
    def numbers(self) -> dict[str, Any]:
        return {name: n for name, n in vars(self).items() if name != "logits"}

    @property
    def sizes(self) -> Pass:
        return Pass(self.T, self.N, self.B, self.logits, "float32", capacity=self.C)

    def run(self, make: Make = ShapeArray) -> Forward:
        return forward(self.config, self.sizes, make)

    def smaller(self) -> Iterator["Case"]:
        """Cases with one size less, the smallest first."""
        least = {"N": 0, "C": self.N + self.T}
        for name, size in self.numbers.items():
            low = least.get(name, 1)
            for less in sorted({low, (low + size) // 2, size - 1}):
                if low <= less < size:
                    changed: Any = {name: less}
                    yield replace(self, **changed)


Check = Callable[[Case], str]  # how two witnesses differ on a case, "" if they do not


@dataclass(frozen=True)
class Witness:
    """What two or more ways to the same figures say of each other.

    Attributes:
        claim: what must agree.
        cases: on how many cases that was tried.
        skipped: why it was not, or "".
        smallest: the smallest case found on which they differ, and how they do.
    """

    claim: str
    cases: int = 0
    skipped: str = ""
    smallest: tuple[Case | DecoderCase, str] | None = None

    @property
    def agrees(self) -> bool:
        return self.smallest is None


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `agrees` unless a witness does not."""

    model: str
    seed: int
    witnesses: list[Witness]
    claims: list[Claim]
    peers: list[Reported] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return all(witness.agrees for witness in self.witnesses)


def verify(
    config: Config,
    model: str = "gpt2",
    *,
    prompt: int | None = None,
    past: int | None = None,
    seed: int | None = None,
    peers: bool = False,
) -> Verification:
    """The witnesses, and each published formula, for a model.

    Args:
        model: its name.
        prompt, past: new tokens and cached ones that the published formulas are held at; without
            either, at one key and at the full context.
        seed: of the configurations drawn; drawn itself if not given.
        peers: also what other counters report for the last of those passes.

    Raises:
        InputError: the passes do not fit the context, the seed is none, or peers are asked about
            another model than a GPT-2.
    """
    checked("prompt", prompt, optional(whole()))
    checked("past", past, optional(whole(least=0)))
    points = [(1, 0), (1, config.n_positions - 1)]
    if prompt is not None or past is not None:
        points = [(1 if prompt is None else prompt, past or 0)]
    for point in points:
        Pass(*point).check(config)
    seed = checked("seed", random.randrange(2**32) if seed is None else seed, SEED)
    if isinstance(config, DecoderConfig):
        if peers:
            raise InputError(f"--peers are run on GPT-2 alone, and {model} is none")
        witnesses = _of_a_decoder(config, seed, points)
        return Verification(model, seed, witnesses, hold(config, model, points))
    assert isinstance(config, GPT2Config)
    full = [Case(B=1, T=new, N=cached, **sizes(config)) for new, cached in points]
    reported = panel(config, Pass(*points[-1])) if peers else []
    claims = hold(config, model, points)
    return Verification(model, seed, _witnesses(seed, full), claims, reported)


def _witnesses(seed: int, full: list[Case]) -> list[Witness]:
    rng = random.Random(seed)
    tiny = [_draw(rng, 4, 2) for _ in range(20)]
    large = [_draw(rng, 10**6, 3) for _ in range(20)]
    closed = {logits: formulas(full[0].config, logits=logits) for logits in ("all", "last")}
    return [
        _try("scalars really executed = ledger of the run, in every kind", _oracle, tiny),
        _try("ledger of a run on numbers = of one on shapes alone, in every row", _shapes, tiny),
        _try(
            "run on shapes alone = closed form evaluated, in every figure",
            lambda case: _closed(case, closed[case.logits]),
            tiny + large + full,
        ),
        _try("NumPy's allocator = ledger: bytes of weights and KV cache", _allocator, tiny),
        _torch("transformers' GPT-2", _torch_of_gpt2, tiny[:5] + full[-1:]),
    ]


def _of_a_decoder(
    config: DecoderConfig, seed: int, points: list[tuple[int, int]], cases: int = 20
) -> list[Witness]:
    rng, few = random.Random(seed), one_of_each(config)
    tiny = [draw(few, rng) for _ in range(cases)]
    at = tuple(sizes(config).items())
    full = [DecoderCase(config, at, 1, new, cached) for new, cached in points]
    closed = {
        logits: formulas(config, logits=logits, dtype="float16") for logits in ("all", "last")
    }
    return [
        _try("scalars really executed = ledger of the run, in every kind", _told(oracle), tiny[:5]),
        _try(
            "run on numbers = run on shapes alone; bytes where no experts are met",
            _told(shapes),
            tiny,
        ),
        _try(
            "run on shapes alone = closed form evaluated, in every figure",
            _told(lambda case: closed_figures(case, closed[case.logits])),
            tiny + full,
        ),
        _try("NumPy's allocator = ledger: bytes of weights and KV cache", _allocator, tiny),
        _torch("transformers' model", _told(torch_flop), tiny[:3] + full[-1:]),
    ]


def _told(compare: Compare) -> Callable[[DecoderCase], str]:
    def check(case: DecoderCase) -> str:
        pairs = compare(case)
        ours, theirs = ({k: pair[i] for k, pair in pairs.items()} for i in (0, 1))
        return _differ(ours, theirs)

    return check


def _draw(rng: random.Random, most: int, layers: int) -> Case:
    B, T, H, D, F, V = (rng.randint(1, most) for _ in range(6))
    N, spare = rng.randint(0, most), rng.randint(0, 2)
    logits = rng.choice(("all", "last"))
    return Case(B, T, N, rng.randint(1, layers), H, D, F, V, N + T + spare, logits)


def _try(claim: str, check: Any, cases: list[Any]) -> Witness:
    failing = next(filter(check, cases), None)
    return Witness(claim, len(cases), smallest=_shrink(failing, check) if failing else None)


def _shrink(case: Any, check: Any) -> tuple[Any, str]:
    """Shrinks a case on which `check` finds a difference until none with one size less has any."""
    while smaller := next(filter(check, case.smaller()), None):
        case = smaller
    return case, check(case)


def _oracle(case: Case) -> str:
    tally: Counter[str] = Counter()
    random_numbers = numbers(case)

    def make(shape: Any, dtype: Any) -> np.ndarray:
        array = random_numbers(shape, dtype)
        return array if dtype is np.int64 else scalars(array, tally)

    cost = case.run(make=make).counts.cost
    return _differ(cost.by_kind(), {kind: tally[kind] for kind in cost.by_kind()})


def _shapes(case: Case) -> str:
    real, shapes = case.run(make=numbers(case)), case.run()
    return _differ(dict(real.counts) | real.peak, dict(shapes.counts) | shapes.peak)


def _closed(case: Case, closed: Formulas) -> str:
    told = figures(case.run(), case.sizes, case.config.parameters)
    return _differ(told, closed.at(**case.numbers))


def _allocator(case: Case | DecoderCase) -> str:
    rng, ledger, config = np.random.default_rng(0), Ledger(), case.config
    shapes = config.shapes().items()
    arrays = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes}
    capacity = case.sizes.capacity or case.N + case.T
    tracemalloc.start()
    try:
        with category("weights"):
            weights = {key: Counted(array.copy(), ledger) for key, array in arrays.items()}
        cache = build(config, weights).new_cache(case.B, capacity)
        domain = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        traces = tracemalloc.take_snapshot().filter_traces([domain]).traces
        allocated = sum(trace.size for trace in traces)
    finally:
        tracemalloc.stop()
    held = ledger.live_bytes["weights"] + cache.nbytes
    return _differ({"bytes": held}, {"bytes": allocated})


def _torch_of_gpt2(case: Case) -> str:
    sizes = Pass(case.T, case.N, case.B)  # all logits: theirs has no others
    ours = matmul(forward(case.config, sizes).counts)
    return _differ({"FLOP": ours}, {"FLOP": torch_flops(case.config, sizes)})


def _torch(whose: str, check: Any, cases: list[Any]) -> Witness:
    claim = f"PyTorch's FlopCounterMode on {whose}, eager = view matmul"
    if not installed("torch", "transformers"):
        return Witness(claim, skipped=f"torch and transformers are not installed; {INSTALL}")
    return _try(claim, check, cases)


def _differ(a: Any, b: Any, where: str = "") -> str:
    """The first difference of two nested dictionaries with the same keys."""
    if isinstance(a, dict) and a.keys() == b.keys():
        found = (_differ(a[key], b[key], f"{where} {key}") for key in a)
        return next(filter(None, found), "")
    return "" if a == b else f"{where.strip()}: {a} against {b}"
