"""Bytes that are alive, and how many were at most."""

from typing import Any


class Usage:
    """Live bytes and their high-water mark since the start.

    Sizes are ints, or SymPy expressions in positive symbols; a peak that depends on the symbols'
    values is a `sympy.Max`.
    """

    __slots__ = ("live", "peak")

    def __init__(self) -> None:
        self.live: Any = 0
        self.peak: Any = 0

    def grow(self, nbytes: Any) -> None:
        """`nbytes` more are alive."""
        live = self.live = self.live + nbytes
        try:
            if live > self.peak:
                self.peak = live
        except TypeError:  # symbols: which one is larger is not known, or not known to `>`
            self.peak = _larger(self.peak, live)

    def touch(self, nbytes: Any) -> None:
        """`nbytes` more were alive for a moment."""
        self.grow(nbytes)
        self.live -= nbytes


def _larger(a: Any, b: Any) -> Any:
    import sympy

    kept = []  # what of `a` may exceed `b`; SymPy's own comparison of polynomials takes seconds
    for one in a.args if isinstance(a, sympy.Max) else (a,):
        coefficients = sympy.expand(b - one).as_coefficients_dict().values()
        if all(c <= 0 for c in coefficients):
            return a
        if not all(c >= 0 for c in coefficients):
            kept.append(one)
    return sympy.Max(*kept, b, evaluate=False) if kept else b
