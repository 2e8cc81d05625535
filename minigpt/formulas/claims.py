"""Published formulas held against execution: value, deviation, and the difference term by term."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sympy
from sympy import Expr, Symbol

from counting.views import VIEWS
from minigpt.formulas.closed_forms import B, Formulas, H, L, N, T, formulas
from minigpt.formulas.figures import sizes
from minigpt.formulas.notation import plain
from minigpt.formulas.parts import IDLE, NAMES, idle, parameters
from minigpt.formulas.published import PUBLISHED, Published
from minigpt.formulas.published_decoders import OF_DECODERS
from minigpt.formulas.symbols import Symbolic, symbolic
from minigpt.models.config import Config
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.accelerators import GPUS

n = Symbol("n", integer=True, positive=True)
A, M, W = sympy.symbols("A M W", positive=True)
GPU = GPUS["rtx-3060-12gb"]  # the article's
HARDWARE = {
    A: sympy.Float(GPU.rate("float16")),
    W: sympy.Float(GPU.bandwidth),
    M: sympy.Integer(GPU.memory),
}

PASSES = {  # by mode: how many forward passes of the blocks, and of what is outside of them
    "forward": (1, 1),
    "training": (3, 3),  # the backward pass counts twice, for inputs and for weights
    "recomputed": (4, 3),
}

Parts = dict[str, Any]  # a name for people -> what execution gives for it


class Claim(NamedTuple):
    """A published formula at n keys beside what execution gives, in the terms of its source.

    What is executed is a forward pass; training is so many of them, see `PASSES`.

    Attributes:
        n: keys; or devices, of what is published of the arrays that they send.
        value, executed: in FLOP, bytes, parameters, seconds or tokens; exact where whole.
        executed_form: what execution gives as a formula.
        deviation: of `value` from `executed` in percent; None where nothing is executed.
        reasons: their difference, a line for each group of terms; none if there is no difference.
    """

    published: Published
    n: int
    value: Any
    executed: Any
    executed_form: str
    deviation: float | None
    reasons: tuple[str, ...]


def hold(
    config: Config,
    model: str,
    points: Sequence[tuple[int, int]],
    rows: Sequence[Published] | None = None,
) -> list[Claim]:
    """Published formulas beside execution, for T new tokens after N cached.

    Args:
        model: the name; rows about another one are left out.
        points: pairs of T and N. A formula for a token stands for each of the T, at n = N + T
            keys; one for a mean token or a sequence, for a sequence of n tokens.
        rows: the formulas; if not given, those that are published of such a model.
    """
    rows = [r for r in rows or rows_of(config) if r.model in (None, model)]
    forms_of = {
        scores: formulas(config, model, scores=scores, dtype="float16")
        for scores in dict.fromkeys(row.scores for row in rows)
    }
    letters = symbolic(config).letters
    values = {letters[name]: size for name, size in sizes(config).items() if name in letters}
    values = {letter: sympy.Integer(size) for letter, size in values.items()} | HARDWARE
    claims = []
    for row in rows:
        forms = forms_of[row.scores]
        said, ours = claimed(row, forms), executed(row, forms)
        form = plain(_sum(ours))
        per_key = n**2 if row.scope == "sequence" else n
        reasons = tuple(explain(said, ours, _idle(row, forms), per_key))
        for new, cached in points:
            at = values | {n: sympy.Integer(new + cached)}
            times = new if row.of == "flop" and row.scope != "sequence" else 1
            value, truth = (_number(times * e.xreplace(at)) for e in (said, _sum(ours)))
            deviation = None if truth == 0 else float(100 * (value / truth - 1))
            claims.append(Claim(row, new + cached, value, truth, form, deviation, reasons))
    return claims


def rows_of(config: Config) -> list[Published]:
    """What is published of such models: of decoders, that of a whole pass in letters they have."""
    if isinstance(config, GPT2Config):
        return [*PUBLISHED]
    known = in_sources(symbolic(config)).keys() | {"P", "n"}
    return [
        row
        for row in (*OF_DECODERS, *PUBLISHED)
        if (row.of in ("flop", "kv bytes", "weight bytes") or row.model)
        and not row.part
        and row.per == "1"
        and {str(s) for s in sympy.sympify(row.formula).free_symbols} <= known
    ]


def in_sources(of: Symbolic) -> dict[str, Any]:
    """What sources call the sizes of a model, in its symbols."""
    own = of.letters
    heads = own["H"] if "H" in own else own["K"] * own.get("G", 1)
    layers = sympy.Add(*of.times.values())
    width = own["d"] if "d" in own else heads * own["D"]
    return {**own, "d": width, "H": heads, "L": layers}


def claimed(row: Published, forms: Formulas) -> Expr:
    """A published formula in the symbols of `formulas`, n, and the hardware's A, W and M."""
    known = {str(s): s for s in (n, A, W, M)} | in_sources(forms.of) | {"P": _sum(forms.tensors)}
    return sympy.expand(sympy.sympify(row.formula, locals=known))


def executed(row: Published, forms: Formulas) -> Parts:
    """What execution gives for what a formula prices, in parts; elements are of 2 bytes.

    Args:
        forms: with the scores that the row speaks of.
    """
    return _in_terms(row._replace(source="", where="", formula="", model=None), forms)


@lru_cache(maxsize=128)
def _in_terms(row: Published, forms: Formulas) -> Parts:
    one = sympy.Integer(1)
    new, cached = (one, n - 1) if row.scope == "token" else (n, sympy.Integer(0))
    per = sympy.sympify(row.per, locals={"L": L, "H": H}) * (n if row.scope == "mean" else 1)
    return {
        name: sympy.expand(sympy.expand(e).xreplace({B: one, T: new, N: cached}) / per)
        for name, e in MEASURES[row.of](row, forms).items()
    }


def _flop(row: Published, forms: Formulas) -> Parts:
    price, counts = VIEWS[row.view], forms.counts.by(forms.of.roles.part_of)
    blocks, outside = PASSES[row.mode]
    found = {}
    for name in row.part or (name for name in NAMES if name in counts):
        found[NAMES[name]] = outside * price(counts[name])
        if blocks != outside:
            inside = (counts[name].where(f"{layer}*") for layer in forms.of.times)
            found[NAMES[name]] += (blocks - outside) * sum(map(price, inside))
    return found


def _read(row: Published, forms: Formulas) -> Parts:
    parts = {}
    for name, counts in forms.counts.by(forms.of.roles.part_of).items():
        read = counts.bytes_read
        parts[NAMES.get(name, name)] = (read["weights"] + read["kv_cache"]) / W
    return parts


def _weight_bytes(row: Published, forms: Formulas) -> Parts:
    return {"weights": forms.closed_forms["weight_bytes"]}


def _memory(row: Published, forms: Formulas) -> Parts:
    cache = {"KV cache": n * forms.closed_forms["kv_bytes_per_token"]}
    return _weight_bytes(row, forms) | cache | {"activations": forms.peak_activation_bytes}


def _fit(row: Published, forms: Formulas) -> Parts:
    free = M - forms.closed_forms["weight_bytes"]
    return {"tokens": free / forms.closed_forms["kv_bytes_per_token"]}


MEASURES = {
    "flop": _flop,
    "arithmetic seconds": lambda row, forms: {k: e / A for k, e in _flop(row, forms).items()},
    "reading seconds": _read,
    "kv bytes": lambda row, forms: {"KV cache": forms.closed_forms["kv_bytes_per_token"]},
    "parameters": lambda row, forms: parameters(forms),
    "weight bytes": _weight_bytes,
    "memory": _memory,
    "tokens that fit": _fit,
}
UNITS = dict.fromkeys(MEASURES, "B") | {
    "flop": "FLOP",
    "arithmetic seconds": "s",
    "reading seconds": "s",
    "parameters": "",
    "tokens that fit": "tokens",
}


def explain(said: Expr, parts: Parts, idle: Parts, per_key: Expr = n) -> list[str]:
    """The difference `said` - execution, term by term, each with the name of what it is.

    Args:
        parts: execution, its parts by name.
        idle: what terms that execution does not have may stand for, by name.
        per_key: what a term is divisible by that costs something for each key.
    """
    theirs, ours = _terms(said), _terms(_sum(parts))
    if said.is_number and theirs:  # a number, not a formula
        return [f"execution gives {plain(_sum(parts))}"]
    lines = []
    for other in [m for m in theirs if m not in ours and not _who(m, idle)]:
        alike = [m for m in ours if m not in theirs and ours[m] == theirs[other]]
        for mine in sorted(alike, key=lambda m: len((other / m).free_symbols)):
            if wrong := _factors(other / mine):
                lines.append(f"{_both(theirs.pop(other) * other, ours.pop(mine) * mine)}: {wrong}")
                break
    share: dict[tuple[str, Any], list[tuple[Expr, Expr]]] = {}
    for m in {**ours, **theirs}:
        has, gets = theirs.get(m, 0), ours.get(m, 0)
        if has == gets:
            continue
        pairs = [(has, gets)]
        if has and gets and _who(m, idle):  # of the same form by chance: two differences
            pairs = [(has, 0), (0, gets)]
        for has, gets in pairs:
            name = _who(m, parts if gets else idle)
            ratio = has / gets if gets else None
            share.setdefault((name, ratio), []).append((m * has, m * gets))
    for (name, ratio), found in share.items():
        has, gets = (sympy.Add(*terms) for terms in zip(*found, strict=True))
        divisible = (not sympy.fraction(term / per_key)[1].has(n) for _, term in found)
        over = " over the n keys" if any(divisible) else ""
        if ratio is None:
            lines.append(f"extra {plain(has)}: {name or 'nothing costs this'}")
        elif ratio == 0:
            lines.append(f"missing {plain(gets)}: {name}{over}")
        else:
            times = "half of" if ratio == sympy.Rational(1, 2) else f"{ratio} times"
            told = _both(has, gets) if len(found) == 1 else plain(gets)
            lines.append(f"{told}: {times} {name}{over}")
    return lines


def _both(has: Expr, gets: Expr) -> str:
    return f"{plain(has)} should be {plain(gets)}"


def _factors(ratio: Expr) -> str:
    """The letter that a term `ratio` times another has too many or lacks; "" if more than one."""
    over, under = map(plain, sympy.fraction(ratio))
    if len(over) > 1 or len(under) > 1:
        return ""
    if under == "1":
        return f"one factor {over} too many"
    return f"a factor {under} is missing" if over == "1" else f"{over} in the place of {under}"


def _who(m: Expr, parts: Parts) -> str:
    return " and ".join(name for name, e in parts.items() if m in _terms(e))


def _idle(row: Published, forms: Formulas) -> Parts:
    """What a term may stand for though it is no part of what the formula prices."""
    if "P" not in row.formula:
        softmax = VIEWS["all"](forms.counts.by(forms.of.roles.part_of)["softmax"])
        return {"softmax, which multiplies no matrices": softmax.xreplace({B: 1, T: n, N: 0})}
    unit = {"arithmetic seconds": A, "reading seconds": W}.get(row.of, 1)
    found = {why: number / unit for why, number in idle(forms).items()}
    if row.of == "reading seconds":
        del found[IDLE["norms and biases"]]  # they are read
    return found


def _sum(parts: Parts) -> Expr:
    return sympy.expand(sum(parts.values()))


def _terms(expr: Any) -> dict[Expr, Any]:
    return {m: c for m, c in sympy.expand(expr).as_coefficients_dict().items() if c != 0}


def _number(expr: Expr) -> Any:
    return int(expr) if expr.is_integer else float(expr)
