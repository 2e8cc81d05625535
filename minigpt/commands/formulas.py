"""The `formulas` command: closed forms as a person writes them, as a table, LaTeX or JSON."""

import json
from typing import Any

import sympy
from rich.console import Group
from rich.table import Table
from rich.text import Text
from sympy import Expr

from minigpt.commands.terminal import console
from minigpt.formulas.closed_forms import B, D, Formulas, H, N, S, T, d, formulas
from minigpt.planning.forward import named
from minigpt.schema import SCHEMA

ABBREVIATED = {"d": "H D, the width of the model", "S": "N + T, the keys that a query looks at"}


def run(model: str, form: str = "table", scores: str = "full", logits: str = "all") -> None:
    """Prints a model's closed forms.

    Args:
        model: see `measure.named`.
        form: "table", "latex", "python" or "json".
        scores, logits: see `formulas`.

    Raises:
        InputError: there is no such model, or an option cannot be used.
    """
    found = formulas(named(model), model, scores=scores, logits=logits)
    if form == "json":
        print(json.dumps(document(found)))
    elif form in ("latex", "python"):
        print(latex(found) if form == "latex" else found.python())
    else:
        console(prose=True).print(table(found))


def readable(expr: Any) -> tuple[list[Any], list[Expr]]:
    """`expr` with d for H D and S for N + T: the factors B and T of the whole, and what is left.

    What is left are the terms of a sum, the highest power of d first.
    """
    expanded = sympy.expand(expr)
    if expanded.has(N):
        shorter = sympy.expand(expanded.subs(N, S - T))
        if len(shorter.as_ordered_terms()) < len(expanded.as_ordered_terms()):
            expanded = shorter
    terms = [_with_width(term) for term in expanded.as_ordered_terms()]
    front = [s for s in (B, T) if len(terms) > 1 and all(term.has(s) for term in terms)]
    terms = [term / sympy.prod(front) for term in terms]
    return front, sorted(terms, key=lambda term: -term.as_powers_dict().get(d, 0))


def _with_width(term: Expr) -> Expr:
    powers = term.as_powers_dict()
    width = min(powers.get(H, 0), powers.get(D, 0))
    return term * (d / (H * D)) ** width


def plain(expr: Any) -> str:
    """`expr` as a person writes it, on one line: 24 L d² + 4 L d n + 2 d V."""
    if isinstance(expr, sympy.Max):
        return f"max({', '.join(map(plain, expr.args))})"
    front, terms = readable(expr)
    text = ""
    for term in terms:
        minus = term.could_extract_minus_sign()
        sign = (" - " if minus else " + ") if text else ("- " if minus else "")
        text += sign + _plain_term(-term if minus else term)
    return f"{' '.join(map(str, front))} ({text})" if front else text


def _plain_term(term: Expr) -> str:
    above, below = sympy.fraction(term)
    coefficient, rest = above.as_coeff_Mul()
    powers = sorted(rest.as_powers_dict().items(), key=lambda item: _place(str(item[0])))
    factors = [f"{s}{_RAISED[int(power)]}" for s, power in powers if s != 1]
    if not factors or coefficient != 1:
        factors.insert(0, str(coefficient))
    return " ".join(factors) + (f" / {_plain_term(below)}" if below != 1 else "")


_RAISED = ["⁰", "", "²", "³", "⁴"]


def _place(name: str) -> tuple[int, str]:
    order = "BTLHDdFnNSVC"
    return (order.index(name) if name in order else len(order), name)


def si(number: float) -> str:
    """A number with four digits and its SI prefix, for a unit to follow: 3.110 G."""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "µ")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:#.4g} {prefix}"
    return f"{number:g} "


def latex(found: Formulas) -> str:
    """The operations in every view, the bytes and the parameters as LaTeX, ready to paste."""
    forms = found.closed_forms
    blocks = []
    for view, priced in forms["views"].items():
        parts = {k: e for k, e in priced["by_component"].items() if e != 0}
        blocks.append(_aligned(f"FLOP, {view}", parts | {"total": priced["total"]}))
    for way in ("bytes_read", "bytes_written"):
        moved = forms[way]["by_category"] | {"total": forms[way]["total"]}
        blocks.append(_aligned(way.replace("_", " "), moved))
    names = ("kv_bytes_per_token", "parameters", "weight_bytes", "peak_activation_bytes")
    blocks.append(_aligned("memory", {name: forms[name] for name in names}))
    legend = "; ".join(f"${name}$ {meaning}" for name, meaning in _legend(found).items())
    return f"% {found.model}: {found.says}\n{legend}.\n" + "\n".join(blocks)


def _aligned(title: str, rows: dict[str, Any]) -> str:
    lines = (
        rf"\text{{{name.replace('_', ' ')}}} &= {_latex(expr)} \\" for name, expr in rows.items()
    )
    return f"% {title}\n\\begin{{align*}}\n" + "\n".join(lines) + "\n\\end{align*}"


def _latex(expr: Any) -> str:
    if isinstance(expr, sympy.Max):
        return rf"\max({', '.join(map(_latex, expr.args))})"
    front, terms = readable(expr)
    inner = sympy.latex(sympy.Add(*terms))
    return rf"{' '.join(map(str, front))} \left({inner}\right)" if front else inner


def _legend(found: Formulas) -> dict[str, str]:
    return found.symbols | ABBREVIATED


def document(found: Formulas) -> dict[str, Any]:
    """The closed forms as texts in the names of "symbols".

    Each is read again by `sympy.sympify(text, locals={name: Symbol(name) for name in symbols})`.
    """
    told = {"schema": SCHEMA, "model": found.model, "scores": found.scores, "logits": found.logits}
    return told | {"dtype": found.dtype, "symbols": found.symbols} | _texts(found.closed_forms)


def _texts(nested: Any) -> Any:
    if isinstance(nested, dict):
        return {key: _texts(value) for key, value in nested.items()}
    return str(nested)


def table(found: Formulas) -> Group:
    """The closed forms for a terminal."""
    forms = found.closed_forms
    views, read, written = forms["views"], forms["bytes_read"], forms["bytes_written"]
    operations = _table("FLOP", *views)
    for name in views["matmul"]["by_component"]:
        row = [priced["by_component"][name] for priced in views.values()]
        if any(row):
            operations.add_row(name, *map(_cell, row))
    totals = _table("FLOP of one pass", "")
    for view, priced in views.items():
        totals.add_row(view, plain(priced["total"]))
    moved = _table("bytes", "read", "written")
    for group in ("by_component", "by_category"):
        for name in read[group]:
            moved.add_row(name, _cell(read[group][name]), _cell(written[group][name]))
        moved.add_section()
    memory = _table("memory", "")
    memory.add_row("parameters", plain(forms["parameters"]))
    elements = plain(forms["kv_elements_per_token"])
    memory.add_row(
        "KV bytes a token", f"{plain(forms['kv_bytes_per_token'])}, for {elements} elements"
    )
    peak = forms["peak_activation_bytes"]
    candidates = peak.args if isinstance(peak, sympy.Max) else (peak,)
    memory.add_row("peak activation bytes", "the largest of" if len(candidates) > 1 else "")
    for candidate in candidates:
        memory.add_row("", plain(candidate))
    legend = _table("", "")
    for name, meaning in _legend(found).items():
        legend.add_row(name, meaning)
    title = f"{found.model}: one forward pass of T new tokens after N cached, {found.says}"
    return Group(Text(title), legend, "", operations, "", totals, "", moved, "", memory)


def _cell(expr: Any) -> str:
    return plain(expr) if expr != 0 else "-"


def _table(first: str, *columns: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(first))
    for column in (first, *columns):
        made.add_column(column)
    return made
