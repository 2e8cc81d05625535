"""What a device sends where several share each layer of a model, in closed form.

Parts of small models of the architecture, of sizes that are drawn, run on shapes, those of all
devices: sequences, tokens and what is cached are symbols, widths and devices numbers. What is
summed or gathered at a place is so many B T numbers: one, the width of the model or its vocabulary,
as two models must say. What a device sends of n numbers is read off the ring alone, see `ring`.

So the forms are proved for every B, T and N, of the models and at the P that are run; that widths
and the number of devices enter as said is tried, on other models and at other P.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Symbol

from counting import Counts, ShapeArray
from minigpt.formulas.drawn import draw, with_sizes
from minigpt.formulas.layers import one_of_each, remembered
from minigpt.formulas.ring import WIRE, Disproved, Work, law, n, of_device, r
from minigpt.formulas.symbols import B, N, Symbolic, T, V, symbolic
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.paths import layer_of
from minigpt.models.routing import Dispatch, Experts
from minigpt.parallel.communicators import OnPaper
from minigpt.parallel.divide import build_part, divided
from minigpt.planning.devices import SENT
from minigpt.planning.forward import Pass, ready


@dataclass(frozen=True)
class Collective:
    """An array that devices sum or gather.

    Attributes:
        role: of the part of a model whose result it is, see `components`.
        operation: "all_reduce" or "all_gather".
        rows, width: its size.
        times: how many layers do so.
    """

    role: str
    operation: str
    rows: Expr
    width: Expr
    times: Any

    @property
    def sizes(self) -> tuple[Any, Any, Any]:
        """Rows, width and times."""
        return self.rows, self.width, self.times

    @cached_property
    def mean(self) -> Work:
        """What a device does on average, of all layers."""
        of = {n: self.rows * self.width * self.times}
        return Work(*(sympy.expand(e.xreplace(of)) for e in law(self.operation)))


@dataclass(frozen=True, eq=False)
class Wire:
    """What devices send each other in a forward pass of T new tokens of B sequences.

    Attributes:
        of: the configuration on symbols.
        collectives: in the order in which a pass comes to them, a layer of each kind.
    """

    of: Symbolic
    collectives: tuple[Collective, ...]

    @property
    def by_role(self) -> dict[str, Work]:
        """What a device does on average, by the role of the part whose result it is."""
        found: dict[str, Work] = {}
        for one in self.collectives:
            before = found.get(one.role, Work(0, 0))
            found[one.role] = Work(*(x + y for x, y in zip(before, one.mean, strict=True)))
        return found

    def device(self, rank: int, size: int, at: Mapping[str, int]) -> dict[str, Work]:
        """What one of `size` devices does, in whole numbers, by operation.

        Args:
            at: the value of each letter: B, T, and `symbols.sizes` of the model.
        """
        values = {letter: sympy.Integer(at[name]) for name, letter in self.letters.items()}
        found: dict[str, Work] = {}
        for one in self.collectives:
            rows, width, times = (int(sympy.sympify(e).xreplace(values)) for e in one.sizes)
            if one.operation == "all_gather":  # each has some columns of all rows
                work = Work(*(rows * x for x in of_device(one.operation, width, rank, size)))
            else:
                work = of_device(one.operation, rows * width, rank, size)
            before = found.get(one.operation, Work(0, 0))
            both = zip(before, work, strict=True)
            found[one.operation] = Work(*(x + times * y for x, y in both))
        return found

    @property
    def letters(self) -> dict[str, Symbol]:
        """The symbols that it has, by name."""
        used = {s for c in self.collectives for e in c.sizes for s in sympy.sympify(e).free_symbols}
        return {str(s): s for s in used}


@remembered(32)
def wire(config: Config, logits: str = "all") -> Wire:
    """The closed forms of what devices that share each layer of a model send each other.

    Args:
        config: sizes do not matter, as for `closed_forms.formulas`.
        logits: of "all" positions, or of the "last".

    Raises:
        InputError: the model cannot be divided so, or has no closed forms.
        Disproved: what is summed or gathered has another size than is known here.
    """
    of = symbolic(config)
    first, second = (
        _found(of, _small(config, random.Random(seed)), size, logits, dtype)
        for seed, size, dtype in ((0, 2, "float16"), (1, 3, "float32"))
    )
    if first != second:
        raise Disproved("of other sizes or on other devices, other arrays are summed")
    return Wire(of, first)


def _small(config: Config, rng: random.Random) -> Config:
    """A small model of the same architecture, a layer of each kind.

    Its vocabulary is larger than all else, and its width, where it is no product, than all but it.
    """
    C, D, H = (rng.randint(2, 9) for _ in range(3))
    V, d = rng.randint(400, 500), rng.randint(200, 300)
    if isinstance(config, GPT2Config):
        return replace(config, n_embd=H * D, n_layer=1, n_head=H, n_positions=C, vocab_size=V)
    assert isinstance(config, DecoderConfig)
    few = one_of_each(config)
    values = dict(draw(few, rng).values) | {"V": V}
    return one_of_each(with_sizes(few, values | ({"d": d} if "d" in values else {})))


def _found(
    of: Symbolic, small: Config, size: int, logits: str, dtype: str
) -> tuple[Collective, ...]:
    """What the devices of a small model sum and gather together, in the letters of its sizes."""
    sizes = Pass(T, N, B, logits, dtype, assume=_all_to_one)
    sent: Counter[str] = Counter()
    for rank in range(size):
        for path, counts in _passed(small, sizes, rank, size).by(str).items():
            sent[path] += sum(counts.bytes_read.values())
    widths = {1: sympy.Integer(1), small.width: of.config.width, small.vocab_size: V}
    found = []
    for path, nbytes in sent.items():
        module, _, operation = path.rpartition(".")
        share = law(operation).sent.coeff(n).xreplace({r: sympy.Rational(size - 1, size)})
        whole = sympy.expand(nbytes) / (sizes.itemsize * size * share)
        number, rows = sympy.expand(whole).as_coeff_Mul()
        if number not in widths or rows not in (B, B * T):
            raise Disproved(f"{path}: {whole} numbers are no rows of a width that is known")
        times = of.times.get(layer_of(path) or "", 1)
        role = of.roles.part_of(module)
        found.append(Collective(role, operation, rows, widths[int(number)], times))
    return tuple(found)


def _passed(config: Config, sizes: Pass, rank: int, size: int) -> Counts:
    """What one device of `size` passes on in a pass."""
    part = divided(config, rank, size)

    def build(_: Config, weights: Mapping[str, Any], **options: Any) -> Any:
        return build_part(config, part, weights, OnPaper(rank, size), **options)

    ledger, run = ready(part, sizes, build=build, categories=WIRE)
    before = ledger.snapshot()
    run()
    return (ledger.snapshot() - before).where(operation=SENT)


def _all_to_one(experts: Experts, tokens: Any) -> Dispatch:
    """One expert stands for all: what experts give is summed as a whole."""
    pairs = tokens * experts.num_experts_per_tok
    places = ShapeArray((pairs,), np.int64)
    return Dispatch("symbols", places, places, ((0, 0, pairs),))
