"""Closed forms as a person writes them."""

from typing import Any

import sympy
from sympy import Expr

from counting import table
from minigpt.formulas.symbols import B, D, H, L, N, S, T, d, letter

SEEN = letter("S_window")
KINDS = [("L_dense", "L_experts"), ("L_full", "L_window"), ("L_unturned", "L_turned")]


def readable(expr: Any) -> tuple[list[Any], list[Expr]]:
    """`expr` with d for H D, H for K G, S for N + T and S_window for what of it a window sees.

    The factors B and T of the whole, and what is left.

    What is left are the terms of a sum, the highest power of d first.
    """
    expanded = sympy.expand(expr)
    before = sympy.Min(N, letter("W") - 1)
    for keys, known in ((before, SEEN - T), (N, S - T)):
        if not expanded.has(keys) or (keys == N and expanded.has(sympy.Min)):
            continue
        shorter = sympy.expand(expanded.subs(keys, known))
        if len(shorter.as_ordered_terms()) < len(expanded.as_ordered_terms()):
            expanded = shorter
    for other, kind in KINDS:  # of both kinds alike: L of all layers
        one, two = letter(other), letter(kind)
        if expanded.has(one) and expanded.has(two):
            shorter = sympy.expand(expanded.subs(one, L - two))
            if len(shorter.as_ordered_terms()) < len(expanded.as_ordered_terms()):
                expanded = shorter
    terms = [_with_width(term) for term in expanded.as_ordered_terms()]
    front = [s for s in (B, T) if len(terms) > 1 and all(term.has(s) for term in terms)]
    terms = [term / sympy.prod(front) for term in terms]
    return front, sorted(terms, key=lambda term: -term.as_powers_dict().get(d, 0))


def _with_width(term: Expr) -> Expr:
    powers = term.as_powers_dict()
    width = min(powers.get(H, 0), powers.get(D, 0))
    K, G = letter("K"), letter("G")
    heads = min(powers.get(K, 0), powers.get(G, 0))
    return term * (d / (H * D)) ** width * (H / (K * G)) ** heads


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
    bases = ((_named(base), power) for base, power in rest.as_powers_dict().items())
    powers = sorted(bases, key=lambda item: _place(item[0]))
    factors = [f"{s}{_RAISED[int(power)]}" for s, power in powers if s != "1"]
    if not factors or coefficient != 1:
        factors.insert(0, str(coefficient))
    return " ".join(factors) + (f" / {_plain_term(below)}" if below != 1 else "")


def _named(base: Any) -> str:
    """A letter, or what stands for one: a sum in brackets, the smaller of two."""
    if isinstance(base, sympy.Min | sympy.Max):
        name = type(base).__name__.lower()
        return f"{name}({', '.join(map(plain, base.args))})"
    return f"({plain(base)})" if base.is_Add else str(base)


_RAISED = ["⁰", "", "²", "³", "⁴"]


# The letters in the order to write them in: how many, then how wide, then how long.
_ORDER = [
    "B",
    "T",
    "L",
    "L_dense",
    "L_experts",
    "L_full",
    "L_window",
    "L_turned",
    "L_unturned",
    "E",
    "U",
    "A",
    "H",
    "K",
    "G",
    "D",
    "D_nope",
    "D_rope",
    "D_v",
    "d",
    "Q",
    "R",
    "F",
    "M",
    "n",
    "N",
    "S",
    "S_window",
    "V",
    "C",
    "W",
]


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def si(number: float) -> str:
    """A number with four digits and its SI prefix, for a unit to follow: 3.110 G."""
    return table.si(number, "#.4g")
