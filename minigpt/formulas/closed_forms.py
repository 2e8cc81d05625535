"""Closed forms of what a forward pass costs, read off its execution on symbolic shapes.

The model runs once on arrays whose dimensions are symbols, with one block that stands for all L: of
layers of several kinds, one of each.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import sympy
from sympy import Expr, Symbol

from counting import KINDS, Counts
from minigpt.formulas.figures import figures, kv_bytes_per_token
from minigpt.formulas.layers import remembered
from minigpt.formulas.symbols import (
    LETTERS,
    SYMBOLS,
    B,
    C,
    D,
    F,
    H,
    L,
    N,
    S,
    Symbolic,
    T,
    V,
    d,
    letter,
    symbolic,
)
from minigpt.models.config import Config
from minigpt.models.paths import layer_of
from minigpt.planning.forward import DTYPES, Forward, Pass, forward, one_of

__all__ = ["LETTERS", "SYMBOLS", "B", "C", "D", "F", "H", "L", "N", "S", "T", "V", "d"]

SCORES = ("qk", "softmax", "av")  # what looks at keys, and could skip those a query may not see


@remembered(32)
def formulas(
    config: Config,
    model: str = "gpt2",
    *,
    scores: str = "full",
    logits: str = "all",
    dtype: str = "float32",
    cache: str | None = None,
) -> "Formulas":
    """The closed forms of one forward pass of a model's architecture.

    Args:
        config: which symbols there are, see `symbols`. In GPT-2 F is one of its own if `n_inner`
            is given, else 4 H D; a head that is not tied adds its parameters. Sizes do not matter.
        model: its name.
        scores: "full", as executed: every query against all keys of the pass, those it may not see
            masked; or "causal": the scores, softmax and values of each query over the keys that
            it may see, the sum over i = 1 … T of its execution alone at N + i - 1 cached.
            Bytes and peak are those of the execution either way.
        logits: "all" positions', or the "last" one's.
        dtype: of weights, cache and activations.
        cache: of latent attention, see `Pass`.

    Raises:
        InputError: an option has another value, or the model has no closed forms.
    """
    one_of("scores", scores, ("full", "causal"))
    one_of("logits", logits, ("all", "last"))
    one_of("dtype", dtype, DTYPES)
    one_of("cache", cache or "compressed", ("compressed", "expanded"))
    of = symbolic(config)
    sizes = Pass(T, N, B, logits, dtype, cache)
    whole = of_pass(of, sizes, scores)
    # A window's ring takes one token in place, and several in order: other bytes.
    return (
        replace(whole, model=model, of_one=of_pass(of, replace(sizes, T=1), "full"))
        if ("W" in of.legend)
        else replace(whole, model=model)
    )


@lru_cache(maxsize=64)
def of_pass(of: Symbolic, sizes: Pass, scores: str = "full") -> "Formulas":
    """The closed forms of a pass of symbolic sizes; `formulas` knows the names of its options."""
    run, peak = _run(of, sizes)
    rows = {key: list(row) for key, row in run.items()}
    if scores == "causal":
        one, _ = _run(of, replace(sizes, T=1))
        for key in rows:
            if of.roles.part_of(key[0]) in SCORES:
                for column in (run.columns[name] for name in ("dots", *KINDS)):
                    rows[key][column] = _over_queries(one[key][column])
    for (path, _), row in rows.items():
        if of.roles.part_of(path) == "experts":  # read once, however many tokens they serve
            row[run.columns["read", "weights"]] *= letter("U")
        row[:] = [of.times.get(layer_of(path) or "", 1) * entry for entry in row]
    return Formulas(
        model="",
        scores=scores,
        logits=sizes.logits,
        dtype=sizes.dtype,
        cache=sizes.cache,
        counts=Counts(run.columns, {key: tuple(row) for key, row in rows.items()}),
        tensors=_tensors(of),
        peak_activation_bytes=peak,
        of=of,
        new=sizes.T,
    )


_forward = lru_cache(maxsize=64)(forward)  # models of one family often are the same on symbols


@lru_cache(maxsize=64)
def _run(of: Symbolic, sizes: Pass) -> tuple[Counts, Any]:
    """A pass, a line in A where a token meets A experts; and its peak, where no experts are met."""
    if "A" not in of.legend:
        run = _forward(of.config, sizes)
        peak = run.peak["activations"]
        kept = largest(peak.args if isinstance(peak, sympy.Max) else [peak])
        return run.counts, sympy.Max(*kept, evaluate=False) if len(kept) > 1 else kept[0]
    two, three, four = (_forward(of.meeting(met), sizes).counts for met in (2, 3, 4))
    rows = {}
    for key in two:
        entries = zip(two.columns, *(run[key] for run in (two, three, four)), strict=True)
        lines = []
        for name, at_two, at_three, at_four in entries:
            if at_two == at_three == at_four:
                line = at_two
            else:
                slope = sympy.expand(at_three - at_two)
                line = sympy.expand(at_two + (letter("A") - 2) * slope)
                if name != "calls" and sympy.expand(at_three + slope - at_four) != 0:
                    raise ValueError(f"{key[0]} {key[1]}: {name} is no line in A")
            lines.append(of.in_groups(sympy.sympify(line)))
        rows[key] = tuple(lines)
    return Counts(two.columns, rows), None


def _tensors(of: Symbolic) -> dict[str, Any]:
    found = {}
    for key, shape in of.config.shapes().items():
        alike = letter("E") if ".experts.0." in key else 1  # one stands for all
        number = of.in_groups(sympy.expand(sympy.prod(shape))) * alike
        found[key] = number * of.times.get(layer_of(key) or "", 1)
    return found


def _over_queries(entry: Any) -> Any:
    """The sum of `entry`, of one query after N tokens, over T queries one after another."""
    i = Symbol("i", integer=True, positive=True)
    expanded = sympy.expand(entry)
    seen = sympy.Min(N, letter("W") - 1)
    through = expanded.coeff(seen)
    rest = sympy.summation(
        sympy.expand(expanded - through * seen).xreplace({N: N + i - 1}), (i, 1, T)
    )
    if through == 0:
        return rest
    near = sympy.Min(T, sympy.Max(0, letter("W") - 1 - N))  # queries whose window is not full
    keys = near * N + near * (near - 1) / 2 + (T - near) * (letter("W") - 1)
    return rest + through * keys


def largest(candidates: Iterable[Any]) -> tuple[Any, ...]:
    """Polynomials without those that never exceed another, whatever the sizes."""
    apart = {sympy.sympify(candidate): None for candidate in candidates}
    above_one = {s: s + 1 for candidate in apart for s in candidate.free_symbols if s != N}
    kept: dict[Any, Counter[Any]] = {}  # with the terms of each at sizes of one more
    for candidate in apart:
        shifted = sympy.expand(sympy.expand(candidate).xreplace(above_one))
        terms = Counter(shifted.as_coefficients_dict())
        kept = {k: of for k, of in kept.items() if not _never_above(of, terms)}
        if not any(_never_above(terms, of) for of in kept.values()):
            kept[candidate] = terms
    return tuple(kept)


def _never_above(a: Counter[Any], b: Counter[Any]) -> bool:
    """Whether a polynomial of terms that are never negative takes no more of any than another."""
    return all(a[term] <= b[term] for term in (*a, *b))


@dataclass(frozen=True, eq=False)
class Formulas:
    """Closed forms of one forward pass of T new tokens of B sequences after N cached.

    Attributes:
        model, scores, logits, dtype: as given to `formulas`.
        counts: operations and bytes by path and operation; the first layer of a
            kind stands for all of it, `h.0` for all L blocks of GPT-2.
        tensors: parameters by checkpoint key, a tied head's once; layers as in
            `counts`.
        peak_activation_bytes: the most alive at once: a polynomial, or the `Max` of several; None
            where it depends on which experts are met.
        of: the configuration on symbols.
        cache: of latent attention.
        new: tokens, T or 1.
        of_one: those of one new token, where a window's ring makes other bytes of it.
    """

    model: str
    scores: str
    logits: str
    dtype: str
    counts: Counts
    tensors: dict[str, Any]
    peak_activation_bytes: Any
    of: Symbolic
    cache: str | None = None
    new: Any = T
    of_one: "Formulas | None" = None

    @cached_property
    def closed_forms(self) -> dict[str, Any]:
        """Every closed form, as expressions in a nested dictionary: see `figures`."""
        pass_ = Forward(self.counts, {"activations": self.peak_activation_bytes})
        sizes = Pass(self.new, N, B, dtype=self.dtype, cache=self.cache)
        found = figures(pass_, sizes, sum(self.tensors.values()), self.of.roles)
        if not self.of.gpt2:
            found |= kv_bytes_per_token(self.of.config, sizes, self.of.times)
        if self.peak_activation_bytes is None:
            del found["peak_activation_bytes"]
        return _each(found, _factored)

    @cached_property
    def symbols(self) -> dict[str, str]:
        """The names that the closed forms are in, with their meanings."""
        used: set[Any] = set()
        _each(self.closed_forms, lambda e: used.update(e.free_symbols))
        letters = self.of.letters
        return {name: meaning for name, meaning in self.of.legend.items() if letters[name] in used}

    def at(self, **values: int) -> dict[str, Any]:
        """The closed forms evaluated, exactly: `at(B=1, T=1, N=1023, **sizes(config))`."""
        return self._function(**{name: values[name] for name in self.symbols})

    def python(self) -> str:
        """The source of a function `forward` that evaluates them, as whole numbers."""
        title = f"Cost of one forward pass of T new tokens after N cached: {self.says}."
        arguments = ", ".join(self.symbols)
        legend = "".join(f"        {name}: {meaning}\n" for name, meaning in self.symbols.items())
        one = ""
        if self.of_one:
            one = f"    if T == 1:\n        return {_code(self._of_one, 8)}\n"
        return (
            f"# {self.model!r}\n"
            f'def forward({arguments}):\n    """{title}\n\n    Args:\n{legend}    """\n'
            f"{one}    return {_code(self.closed_forms, 4)}\n"
        )

    @property
    def _of_one(self) -> dict[str, Any]:
        """Those of one new token: causal scores are full ones."""
        assert self.of_one
        return self.of_one.closed_forms

    @property
    def says(self) -> str:
        """The options in words."""
        last = "logits of the last position" if self.logits == "last" else "logits of all positions"
        return f"{self.scores} scores, {last}, {self.dtype}"

    @cached_property
    def _function(self) -> Callable[..., dict[str, Any]]:
        namespace: dict[str, Any] = {}
        exec(self.python(), namespace)
        return namespace["forward"]


def _each(nested: Any, function: Callable[[Any], Any]) -> Any:
    """`nested` with `function` applied to every expression in it."""
    if isinstance(nested, dict):
        return {key: _each(value, function) for key, value in nested.items()}
    return function(sympy.sympify(nested))


def _factored(expr: Any) -> Expr:
    if isinstance(expr, sympy.Max):
        return sympy.Max(*map(_factored, expr.args), evaluate=False)
    expanded = sympy.expand(expr)
    below = sympy.ilcm(1, *(c.q for c in expanded.as_coefficients_dict().values()))
    return sympy.factor_terms(sympy.expand(expanded * below)) / below


def _code(nested: Any, indent: int) -> str:
    """Python source: a nested dictionary, or an expression whose values are whole numbers."""
    if isinstance(nested, dict):
        inner = " " * (indent + 4)
        items = (f'{inner}"{key}": {_code(e, indent + 4)},\n' for key, e in nested.items())
        return "{\n" + "".join(items) + " " * indent + "}"
    if isinstance(nested, sympy.Max):
        return f"max({', '.join(_code(e, indent) for e in nested.args)})"
    above, below = (str(part) for part in sympy.fraction(nested))
    text = above if below == "1" else f"({above}) // {below}"
    return text.replace("Min(", "min(").replace("Max(", "max(")
