"""Closed forms of what a forward pass costs, read off its execution on symbolic shapes.

The model runs once on arrays whose dimensions are symbols, with one block that stands for all L.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sympy
from sympy import Expr, Symbol

from counting import KINDS, Counts
from minigpt.formulas.figures import figures, part_of
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.forward import DTYPES, Forward, Pass, forward, one_of

SYMBOLS = {
    "B": "sequences in the batch",
    "T": "new tokens of each sequence",
    "N": "tokens of each sequence already in the cache",
    "L": "layers",
    "H": "attention heads",
    "D": "width of a head; the model is d = H D wide",
    "F": "width of the feed-forward layer",
    "V": "tokens in the vocabulary",
    "C": "positions of the context",
}
# Sizes are whole numbers of 1 or more; only the cache may be empty.
LETTERS = {
    name: Symbol(name, integer=True, nonnegative=True, positive=None if name == "N" else True)
    for name in SYMBOLS
}
B, T, N, L, H, D, F, V, C = LETTERS.values()
d, S = sympy.symbols("d S", integer=True, positive=True)

SCORES = ("qk", "softmax", "av")  # what looks at keys, and could skip those a query may not see


def formulas(
    config: GPT2Config,
    model: str = "gpt2",
    *,
    scores: str = "full",
    logits: str = "all",
    dtype: str = "float32",
) -> "Formulas":
    """The closed forms of one forward pass of a model's architecture.

    Args:
        config: which symbols there are: F is one of its own if `n_inner` is given, else 4 H D;
            a head that is not tied adds its parameters. Sizes do not matter.
        model: its name.
        scores: "full", as executed: every query against all N + T keys, those it may not see
            masked; or "causal": the scores, softmax and values of each query over the keys that
            it may see, the sum over i = 1 … T of its execution alone at N + i - 1 cached.
            Bytes and peak are those of the execution either way.
        logits: "all" positions', or the "last" one's.
        dtype: of weights, cache and activations.

    Raises:
        InputError: an option has another value.
    """
    one_of("scores", scores, ("full", "causal"))
    one_of("logits", logits, ("all", "last"))
    one_of("dtype", dtype, DTYPES)
    width = None if config.n_inner is None else F
    block = replace(
        config, vocab_size=V, n_positions=C, n_embd=H * D, n_layer=1, n_head=H, n_inner=width
    )
    run = forward(block, Pass(T, N, B, logits, dtype))
    rows = {key: list(row) for key, row in run.counts.items()}
    if scores == "causal":
        one = forward(block, Pass(1, N, B, logits, dtype)).counts
        for key in rows:
            if part_of(key[0]) in SCORES:
                for column in (run.counts.columns[name] for name in ("dots", *KINDS)):
                    rows[key][column] = _over_queries(one[key][column])
    for (path, _), row in rows.items():
        if _in_block(path):
            row[:] = [L * entry for entry in row]
    return Formulas(
        model=model,
        scores=scores,
        logits=logits,
        dtype=dtype,
        counts=Counts(run.counts.columns, {key: tuple(row) for key, row in rows.items()}),
        tensors={
            key: sympy.prod(shape) * (L if _in_block(key) else 1)
            for key, shape in block.shapes().items()
        },
        peak_activation_bytes=_largest(run.peak["activations"]),
    )


def _in_block(path: str) -> bool:
    return path.startswith("h.0")


def _over_queries(entry: Any) -> Any:
    """The sum of `entry`, of one query after N tokens, over T queries one after another."""
    i = Symbol("i", integer=True, positive=True)
    return sympy.summation(sympy.expand(entry).xreplace({N: N + i - 1}), (i, 1, T))


def _largest(peak: Any) -> Any:
    """A `Max` without the polynomials that never exceed another, whatever the sizes."""
    above_one = {s: s + 1 for s in LETTERS.values() if s != N}
    kept: list[Any] = []
    for candidate in peak.args if isinstance(peak, sympy.Max) else (peak,):
        kept = [k for k in kept if not _never_above(k, candidate, above_one)]
        if not any(_never_above(candidate, k, above_one) for k in kept):
            kept.append(candidate)
    return sympy.Max(*kept, evaluate=False) if len(kept) > 1 else kept[0]


def _never_above(a: Any, b: Any, above_one: dict[Any, Any]) -> bool:
    slack = sympy.expand(sympy.expand(b - a).xreplace(above_one))
    return all(coefficient >= 0 for coefficient in slack.as_coefficients_dict().values())


@dataclass(frozen=True)
class Formulas:
    """Closed forms of one forward pass of T new tokens of B sequences after N cached.

    Attributes:
        model, scores, logits, dtype: as given to `formulas`.
        counts: operations and bytes by path and operation; `h.0` stands for all L blocks.
        tensors: parameters by checkpoint key, a tied head's once; `h.0` again for all L blocks.
        peak_activation_bytes: the most alive at once: a polynomial, or the `Max` of several.
    """

    model: str
    scores: str
    logits: str
    dtype: str
    counts: Counts
    tensors: dict[str, Any]
    peak_activation_bytes: Any

    @cached_property
    def closed_forms(self) -> dict[str, Any]:
        """Every closed form, as expressions in a nested dictionary: see `figures`."""
        pass_ = Forward(self.counts, {"activations": self.peak_activation_bytes})
        found = figures(pass_, Pass(T, N, B, dtype=self.dtype), sum(self.tensors.values()))
        return _each(found, _factored)

    @cached_property
    def symbols(self) -> dict[str, str]:
        """The names that the closed forms are in, with their meanings."""
        used: set[Any] = set()
        _each(self.closed_forms, lambda e: used.update(e.free_symbols))
        return {name: meaning for name, meaning in SYMBOLS.items() if LETTERS[name] in used}

    def at(self, **values: int) -> dict[str, Any]:
        """The closed forms evaluated, exactly: `at(B=1, T=1, N=1023, **sizes(config))`."""
        return self._function(**{name: values[name] for name in self.symbols})

    def python(self) -> str:
        """The source of a function `forward` that evaluates them, as whole numbers."""
        title = f"Cost of one forward pass of T new tokens after N cached: {self.says}."
        arguments = ", ".join(self.symbols)
        legend = "".join(f"        {name}: {meaning}\n" for name, meaning in self.symbols.items())
        return (
            f"# {self.model!r}\n"
            f'def forward({arguments}):\n    """{title}\n\n    Args:\n{legend}    """\n'
            f"    return {_code(self.closed_forms, 4)}\n"
        )

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
    above, below = sympy.fraction(nested)
    return str(above) if below == 1 else f"({above}) // {below}"
