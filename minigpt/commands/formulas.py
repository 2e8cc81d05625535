"""The `formulas` command: closed forms as a table, LaTeX, Python or JSON."""

import json
from typing import Any

import sympy
from rich.console import Group, RenderableType
from rich.text import Text

from counting.table import table
from minigpt.commands.terminal import console
from minigpt.formulas.closed_forms import Formulas, formulas
from minigpt.formulas.decoded import of_a_token, told, ways
from minigpt.formulas.figures import named
from minigpt.formulas.notation import KINDS, plain, readable
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
    blocks.append(_aligned("memory", {name: forms[name] for name in names if name in forms}))
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
    if found.of.gpt2:
        return found.symbols | ABBREVIATED
    words = {name: meaning for name, meaning in ABBREVIATED.items() if name == "S"}
    for one, other in KINDS:
        if {one, other} <= found.symbols.keys():
            words["L"] = f"{one} + {other}"
    if "G" in found.symbols:
        words["H"] = "K G, the query heads"
    if "W" in found.symbols:
        words["S_window"] = "min(N, W - 1) + T, the keys that the queries of a window look at"
    return found.symbols | words


def one_token(found: Formulas) -> dict[str, str]:
    """What a decoded token that looks at n keys costs in matmul FLOP, and of latents both ways."""
    total = of_a_token(found.closed_forms["views"]["matmul"]["total"])
    both = ways(found)
    if both is None:
        return {"FLOP of one decoded token, n keys, matmul": told(total)}
    return {
        "FLOP of one decoded token, n keys, latents cached": told(both.compressed),
        "the same, keys and values cached": told(both.expanded),
        "elements of cache a token, latents": plain(both.elements[0]),
        "the same, keys and values": plain(both.elements[1]),
        "new tokens from which it is fewer FLOP to make keys and values of N >> T cached "
        "latents anew than to attend to the latents": f"{plain_ratio(both.crossover)}, "
        f"here {both.at:.1f}",
    }


def plain_ratio(expr: Any) -> str:
    """A quotient of two sums as a person writes it."""
    above, below = sympy.fraction(expr)
    if above.could_extract_minus_sign():
        above, below = -above, -below
    return f"({plain(above)}) / ({plain(below)})"


def document(found: Formulas) -> dict[str, Any]:
    """The closed forms as strings in the names of "symbols".

    Each is read again by `sympy.sympify(text, locals={name: Symbol(name) for name in symbols})`.
    """
    said: dict[str, Any] = {
        "schema": SCHEMA,
        "model": found.model,
        "scores": found.scores,
        "logits": found.logits,
    }
    said |= {"dtype": found.dtype, "symbols": found.symbols}
    return said | _strings(found.closed_forms)


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
    peak = forms.get("peak_activation_bytes")
    if peak is None:
        memory.add_row("peak activation bytes", "as the experts are met: see minigpt plan")
    else:
        candidates = peak.args if isinstance(peak, sympy.Max) else (peak,)
        memory.add_row("peak activation bytes", "the largest of" if len(candidates) > 1 else "")
        for candidate in candidates:
            memory.add_row("", plain(candidate))
    legend = table("", "", justify="left")
    for name, meaning in _legend(found).items():
        legend.add_row(name, meaning)
    title = f"{found.model}: one forward pass of T new tokens after N cached, {found.says}"
    parts: list[RenderableType] = [Text(title), legend, ""]
    if not found.of.gpt2:
        decoded = table("one decoded token", "", justify="left")
        for what, line in one_token(found).items():
            decoded.add_row(what, line)
        parts += [decoded, ""]
    return Group(*parts, operations, "", totals, "", moved, "", memory)


def _cell(expr: Any) -> str:
    return plain(expr) if expr != 0 else "-"
