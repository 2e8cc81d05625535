"""By what terms of their closed forms the passes of two models differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sympy

from counting import Counts
from counting.views import flops
from minigpt.formulas.closed_forms import Formulas, formulas
from minigpt.formulas.notation import KINDS, plain, readable
from minigpt.formulas.symbols import T, met, sizes, symbolic
from minigpt.models.config import Config
from minigpt.models.paths import component
from minigpt.planning.forward import Pass


class Pair(NamedTuple):
    """A figure of A, and the same of B."""

    a: Any
    b: Any

    @property
    def difference(self) -> Any:
        """B - A."""
        return self.b - self.a


class Term(NamedTuple):
    """A product of sizes that a closed form adds up.

    Attributes:
        component: that it is of.
        letters: the product without its coefficient: `B T L d F`.
        forms: it, with the coefficient that it has in A and in B; None where it is not there.
        values: what it comes to, 0 where it is not there.
    """

    component: str
    letters: str
    forms: tuple[str | None, str | None]
    values: Pair


@dataclass(frozen=True)
class Difference:
    """What tells the cost of two models apart.

    Attributes:
        sizes: by letter its values, where they differ; None of a model that has no such size.
        meanings: of those letters.
        terms: by figure, one of `FIGURES`, what changed most first. Their sum is the whole figure.
    """

    sizes: dict[str, Pair]
    meanings: dict[str, str]
    terms: dict[str, list[Term]]


def moved(counts: Counts) -> Any:
    """Bytes read and written."""
    return sum((*counts.bytes_read.values(), *counts.bytes_written.values()))


Name = Callable[[str], str]  # of the component that a path is in
Price = Callable[[Counts], Any]
Terms = dict[tuple[str, str], tuple[str, int]]  # component, letters -> form, value

FIGURES: dict[str, Price] = {"flops": flops, "bytes": moved}
DERIVED = {
    "d": "width of the model",
    "H": "attention heads",
    "L": "layers",
    "S": "N + T, the keys that a query looks at",
    "S_window": "min(N, W - 1) + T, the keys that the queries of a window look at",
}


def beside(
    a: Counts, b: Counts, names: tuple[Name, Name] = (component, component)
) -> dict[str, dict[str, Pair]]:
    """By component that did anything, what each of `FIGURES` is in two runs.

    Args:
        names: of the component of a path in A, and in B.
    """
    parts = [counts.by(name) for counts, name in zip((a, b), names, strict=True)]
    none = Counts(a.columns, {})
    found = {}
    for name in parts[0] | parts[1]:
        of = [part.get(name, none) for part in parts]
        found[name] = {figure: Pair(*map(price, of)) for figure, price in FIGURES.items()}
    return {name: figures for name, figures in found.items() if any(map(any, figures.values()))}


def roles(a: Config, b: Config) -> tuple[Name, Name]:
    """What formulas call the component of a path in A, and in B: two families have the same words.

    Raises:
        InputError: a model has no closed forms.
    """
    return symbolic(a).roles.part_of, symbolic(b).roles.part_of


def difference(a: Config, b: Config, of: Pass = Pass()) -> Difference:  # noqa: B008
    """The terms of two models' closed forms, with what each comes to in a pass.

    Args:
        of: the pass of both.

    Raises:
        InputError: a model has no closed forms, or cannot run such a pass.
    """
    for config in (a, b):
        of.check(config)
    forms = [formulas(config, logits=of.logits, dtype=of.dtype) for config in (a, b)]
    at = [_values(config, of) for config in (a, b)]
    # The ring of a window takes one token in place: other bytes, and no T in them.
    one = of.T == 1 and any(form.of_one for form in forms)
    both = {"flops": forms, "bytes": [form.of_one or form for form in forms] if one else forms}
    terms = {}
    for figure, price in FIGURES.items():
        put = {T: sympy.Integer(1)} if one and figure == "bytes" else {}
        terms[figure] = _paired(
            *(_terms(*side, price, put) for side in zip(both[figure], at, strict=True))
        )
    known = {name: Pair(at[0].get(name), at[1].get(name)) for name in (*at[0], *at[1])}
    legend = {**forms[0].of.legend, **forms[1].of.legend, **DERIVED}
    differ = {name: known[name] for name in legend if name in known and len({*known[name]}) > 1}
    return Difference(differ, {name: legend[name] for name in differ}, terms)


def _terms(form: Formulas, at: Mapping[str, int], price: Price, put: Mapping[Any, Any]) -> Terms:
    """By component and letters, the terms of a figure and what each comes to.

    Args:
        put: what stands for a letter.
    """
    found: Terms = {}
    for name, counts in form.counts.by(form.of.roles.part_of).items():
        front, terms = readable(sympy.sympify(price(counts)).xreplace(put))
        for term in (term * sympy.prod(front) for term in terms if term):
            letters = plain(term.as_coeff_Mul()[1])
            value = term.xreplace({s: sympy.Integer(at[s.name]) for s in term.free_symbols})
            found[name, letters] = plain(term), int(value)
    return found


def _paired(a: Terms, b: Terms) -> list[Term]:
    """The terms of both, what changed most first."""
    none = None, 0
    found = []
    for key in a | b:
        sides = [terms.get(key, none) for terms in (a, b)]
        forms, values = zip(*sides, strict=True)
        found.append(Term(*key, forms, Pair(*values)))
    return sorted(found, key=lambda term: -abs(term.values.difference))


def _values(config: Config, of: Pass) -> dict[str, int]:
    """The value of each letter that a readable closed form has."""
    found = {"B": of.B, "T": of.T, "N": of.N, **sizes(config), **met(config, of.B * of.T)}
    if "K" in found:
        found.setdefault("H", found["K"] * found["G"])
    if "D" in found:
        found.setdefault("d", found["H"] * found["D"])
    for one, other in KINDS:
        if {one, other} <= found.keys():
            found["L"] = found[one] + found[other]
    found["S"] = of.N + of.T
    if "W" in found:
        found["S_window"] = min(of.N, found["W"] - 1) + of.T
    return found
