"""The `formulas` command: closed forms as a table, LaTeX, Python or JSON."""

import json
from typing import Any

import sympy
from rich.console import Group
from rich.text import Text

from counting.table import table
from minigpt.commands.terminal import console
from minigpt.formulas.closed_forms import Formulas, formulas
from minigpt.formulas.figures import named
from minigpt.formulas.notation import plain, readable
from minigpt.schema import SCHEMA

ABBREVIATED = {"d": "H D, the width of the model", "S": "N + T, the keys that a query looks at"}


def run(model: str, form: str = "table", scores: str = "full", logits: str = "all") -> None:
    """Prints a model's closed forms.

    Args:
        model: see `figures.named`.
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
        console(prose=True).print(tables(found))


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
    """The closed forms as strings in the names of "symbols".

    Each is read again by `sympy.sympify(text, locals={name: Symbol(name) for name in symbols})`.
    """
    told = {"schema": SCHEMA, "model": found.model, "scores": found.scores, "logits": found.logits}
    return told | {"dtype": found.dtype, "symbols": found.symbols} | _strings(found.closed_forms)


def _strings(nested: Any) -> Any:
    if isinstance(nested, dict):
        return {key: _strings(value) for key, value in nested.items()}
    return str(nested)


def tables(found: Formulas) -> Group:
    """The closed forms for a terminal."""
    forms = found.closed_forms
    views, read, written = forms["views"], forms["bytes_read"], forms["bytes_written"]
    operations = table("FLOP", *views, justify="left")
    for name in views["matmul"]["by_component"]:
        row = [priced["by_component"][name] for priced in views.values()]
        if any(row):
            operations.add_row(name, *map(_cell, row))
    totals = table("FLOP of one pass", "", justify="left")
    for view, priced in views.items():
        totals.add_row(view, plain(priced["total"]))
    moved = table("bytes", "read", "written", justify="left")
    for group in ("by_component", "by_category"):
        for name in read[group]:
            moved.add_row(name, _cell(read[group][name]), _cell(written[group][name]))
        moved.add_section()
    memory = table("memory", "", justify="left")
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
    legend = table("", "", justify="left")
    for name, meaning in _legend(found).items():
        legend.add_row(name, meaning)
    title = f"{found.model}: one forward pass of T new tokens after N cached, {found.says}"
    return Group(Text(title), legend, "", operations, "", totals, "", moved, "", memory)


def _cell(expr: Any) -> str:
    return plain(expr) if expr != 0 else "-"
