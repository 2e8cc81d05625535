"""What devices send each other: closed forms beside parts that run, and what is published of it.

Forms are those of `wire`; parts run on shapes, see `planning.devices`.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import sympy
from sympy import Expr

from counting.views import flops
from minigpt.checks import SEED, checked
from minigpt.formulas.claims import Claim, explain, in_sources
from minigpt.formulas.drawn import DecoderCase, draw
from minigpt.formulas.layers import one_of_each
from minigpt.formulas.notation import plain
from minigpt.formulas.published import Published
from minigpt.formulas.published_wire import OF_THE_WIRE
from minigpt.formulas.ring import Disproved, P, r
from minigpt.formulas.symbols import B, T, sizes
from minigpt.formulas.verify import Case, Verification, Witness
from minigpt.formulas.wire import Collective, Wire, wire
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.parallel.divide import divided
from minigpt.planning.devices import Split, on_devices
from minigpt.planning.forward import Pass

CASES, MOST = 8, 5  # models that are drawn, and devices of theirs
WHAT = {  # by role, whose result is summed, or for the head gathered
    "embed": "embedding rows",
    "norms": "norms over all heads",
    "out": "attention",
    "mlp": "feed-forward",
    "experts": "experts",
    "shared": "shared experts",
    "residual": "attention and feed-forward at once",
    "head": "logits",
}
MEASURES: dict[str, Callable[[Collective], Any]] = {  # what a published formula is of
    "numbers sent": lambda one: one.mean.sent,
    "bytes sent": lambda one: 2 * one.mean.sent,
    "additions": lambda one: one.mean.added,
    "sums": lambda one: one.times if one.operation == "all_reduce" else 0,
}

Drawn = Case | DecoderCase


def verify_wire(
    config: Config, model: str, size: int, of: Pass, seed: int | None = None
) -> Verification:
    """The witnesses of what `size` devices send each other, and each published formula.

    If what runs disproves the closed form, no formula is held against it: a witness says why.

    Args:
        model: its name.
        of: the pass that the devices share, with the logits of all positions.
        seed: of the configurations drawn; drawn itself if not given.

    Raises:
        InputError: the pass or the seed cannot be, or the model cannot be divided so or has no
            closed forms.
    """
    Split(size).check(config)
    of.check(config)
    divided(config, 0, size)
    seed = checked("seed", random.randrange(2**32) if seed is None else seed, SEED)
    try:
        claims = published(wire(config), config, size, of)
    except Disproved:
        claims = []
    rng, drawn = random.Random(seed), []
    for _ in range(CASES):
        case = _draw(config, rng)
        drawn.append((case, rng.randint(2, min(MOST, case.config.vocab_size))))
    ways = "what each device sends and adds, parts run on shapes = closed form by floors"
    witnesses = [
        _try(f"{ways}, on 2 to {MOST}", drawn),
        _try(f"{ways}, {model} on {size}", [(_case(config, of), size)]),
    ]
    return Verification(model, seed, witnesses, claims)


def _draw(config: Config, rng: random.Random) -> Drawn:
    if isinstance(config, DecoderConfig):
        return draw(one_of_each(config), rng)
    B, T, L, H, D, F, V = (rng.randint(1, 4) for _ in range(7))
    N = rng.randint(0, 4)
    return Case(B, T, N, L, H, D, F, V + 1, N + T, rng.choice(("all", "last")))


def _case(config: Config, of: Pass) -> Drawn:
    if isinstance(config, DecoderConfig):
        return DecoderCase(config, tuple(sizes(config).items()), of.B, of.T, of.N)
    return Case(of.B, of.T, of.N, **sizes(config))


def _try(claim: str, cases: list[tuple[Drawn, int]]) -> Witness:
    found = ((case, differs(case.config, case.sizes, size)) for case, size in cases)
    return Witness(claim, len(cases), smallest=next((one for one in found if one[1]), None))


def differs(config: Config, of: Pass, size: int) -> str:
    """The first of `size` devices that sends or adds otherwise than its closed form; or "".

    Or what disproves that form.
    """
    try:
        form, at = wire(config, of.logits), {"B": of.B, "T": of.T, **sizes(config)}
    except Disproved as error:
        return str(error)
    for device in on_devices(config, of, Split(size)):
        said = form.device(device.rank, size, at)
        ours = {name: of.itemsize * work.sent for name, work in said.items() if work.sent}
        theirs = {name: nbytes for name, nbytes in device.sent.items() if nbytes}
        ours["additions"] = sum(work.added for work in said.values())
        theirs["additions"] = flops(device.counts.where("*.all_reduce"))
        if ours != theirs:
            return f"device {device.rank} of {size}: {theirs} against {ours}"
    return ""


def in_r(expr: Any) -> Expr:
    """An expression in P and r as one in r, and in P where something grows with it."""
    expanded = sympy.expand(sympy.sympify(expr).xreplace({r: 1 - 1 / P}))
    return sympy.expand(expanded.xreplace({1 / P: 1 - r}))


def claimed(row: Published, form: Wire) -> Expr:
    """A published formula in the symbols of a form, P and r."""
    known = in_sources(form.of) | {"P": P, "B": B, "T": T}
    return _of(row, sympy.sympify(row.formula, locals=known))


def executed(row: Published, form: Wire) -> dict[str, Expr]:
    """What execution gives for it, by what devices do together."""
    per = sympy.sympify(row.per, locals={"P": P})
    parts: dict[str, Any] = {}
    for one in form.collectives:
        if not row.part or one.role in row.part:
            name = WHAT[one.role]
            parts[name] = parts.get(name, 0) + MEASURES[row.of](one) / per
    return {name: _of(row, e) for name, e in parts.items()}


def _of(row: Published, expr: Any) -> Expr:
    one = sympy.Integer(1)
    return in_r(expr.xreplace({B: one, T: one}) if row.scope == "token" else expr)


def published(
    form: Wire, config: Config, size: int, of: Pass, rows: Sequence[Published] = OF_THE_WIRE
) -> list[Claim]:
    """Published formulas beside execution on `size` devices, the mean of them."""
    at = {"B": of.B, "T": of.T, **sizes(config)}
    values = {letter: sympy.Integer(at[name]) for name, letter in form.letters.items()}
    values |= {P: sympy.Integer(size), r: sympy.Rational(size - 1, size)}
    claims = []
    for row in rows:
        said, ours = claimed(row, form), executed(row, form)
        total = sympy.expand(sum(ours.values()))
        value, truth = (sympy.sympify(e).xreplace(values) for e in (said, total))
        deviation = None if truth == 0 else float(100 * (value / truth - 1))
        value, truth = (int(x) if x.is_integer else float(x) for x in (value, truth))
        reasons = tuple(explain(said, ours, {})) if said != total else ()
        claims.append(Claim(row, size, value, truth, plain(total), deviation, reasons))
    return claims
