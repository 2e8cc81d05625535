"""Closed forms as a person writes them."""

from typing import Any

import sympy
from sympy import Expr

from counting import table
from minigpt.formulas.closed_forms import B, D, H, N, S, T, d


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
    return table.si(number, "#.4g")
