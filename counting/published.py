"""Rules of what libraries in C and Fortran do, as published: nobody looks at what they execute.

LAPACK's are those of its Working Note 41 (Blackford and Dongarra), which count a division as a
product. What iterates until it is near enough has no count: there is a leading term by Golub and
Van Loan, Matrix Computations, 4th edition, an estimate, half of it products and half additions.
"""

from collections.abc import Callable
from typing import Any

from counting.cost import Cost, Shape, size
from counting.rules import Rule, log2


def ratio(p: Any, q: int) -> Any:
    """A fraction of a whole number rounded up; of a symbol as it is."""
    return -(-p // q) if isinstance(p, int) else p / q


def _stacked(shape: Shape, one: Cost) -> Cost:
    """What a stack of matrices costs of which `one` is the cost of each."""
    return one * size(shape[:-2]) if size(shape) != 0 else Cost()


def _lu(n: Any) -> Cost:
    mul = ratio(2 * n**3 + 4 * n, 6)
    return Cost(mul=mul, add=ratio(2 * n**3 - 3 * n**2 + n, 6))


def _lu_solved(n: Any, columns: Any) -> Cost:
    return _lu(n) + Cost(mul=columns * n * n, add=columns * n * (n - 1))


def determinant(out: Shape, a: Shape) -> Cost:
    """LU and the product of its diagonal: GETRF in LAPACK Working Note 41."""
    return _stacked(a, _lu(a[-1]) + Cost(mul=a[-1] - 1))


def log_determinant(out: Shape, a: Shape) -> Cost:
    """LU, and the logarithms of its diagonal added up."""
    n = a[-1]
    return _stacked(a, _lu(n) + Cost(log=n, add=n, cmp=n))


def solution(out: Shape, a: Shape, b: Shape) -> Cost:
    """LU and two triangles: GETRF and GETRS in LAPACK Working Note 41."""
    columns = 1 if len(out) == 1 or len(b) == 1 else b[-1]
    return _lu_solved(a[-1], columns) * size(out[:-2])


def solution_of_vectors(out: Shape, a: Shape, b: Shape) -> Cost:
    """As `solution`, of one right side."""
    return _lu_solved(a[-1], 1) * size(out[:-1])


def inverse(out: Shape, a: Shape) -> Cost:
    """As NumPy does it: the solution with the identity."""
    return _stacked(a, _lu_solved(a[-1], a[-1]))


def cholesky(out: Shape, a: Shape) -> Cost:
    """POTRF in LAPACK Working Note 41."""
    n = a[-1]
    return _stacked(a, Cost(mul=ratio(n**3 + 3 * n**2 + 2 * n, 6), add=ratio(n**3 - n, 6)))


def householder(out: Shape, a: Shape) -> Cost:
    """QR, R alone: GEQRF in LAPACK Working Note 41."""
    m, n = a[-2:]
    wide = isinstance(m, int) and isinstance(n, int) and m < n
    if wide:
        mul = ratio(m * (6 * m * n - 2 * m * m - 3 * m + 12 * n + 23), 6)
        return _stacked(
            a, Cost(mul=mul, add=ratio(m * (6 * m * n - 2 * m * m - 3 * m + 6 * n + 5), 6))
        )
    mul = ratio(n * (6 * m * n - 2 * n * n + 3 * n + 6 * m + 23), 6)
    return _stacked(a, Cost(mul=mul, add=ratio(n * (6 * m * n - 2 * n * n + 3 * n + 5), 6)))


def orthogonal(out: Shape, a: Shape, tau: Shape) -> Cost:
    """Q of a QR: ORGQR in LAPACK Working Note 41."""
    m, n, k = *out[-2:], tau[-1]
    mul = ratio(k * (6 * m * n + 6 * n - 5 + k * (2 * k - 3 * (m + n) - 3)), 3)
    add = ratio(k * (6 * m * n + 3 * n - 3 * m + 1 + k * (2 * k - 3 * (m + n))), 3)
    return _stacked(out, Cost(mul=mul, add=add))


def _golub(said: str, factor: Callable[[Any, Any], Any]) -> Rule:
    """A leading term by Golub and Van Loan, Matrix Computations, 4th edition: an estimate."""

    def rule(out: Shape, a: Shape, *more: Shape) -> Cost:
        m, n = a[-2:]
        if isinstance(m, int) and isinstance(n, int) and m < n:
            m, n = n, m
        return _stacked(a, Cost(fma=ratio(factor(m, n), 6)))

    rule.__doc__ = f"An estimate, {said} FLOP for m rows and n columns: Golub and Van Loan."
    return rule


# FLOP, times 3, of matrices of m rows and n columns, m not less than n.
symmetric_values = _golub("4/3 n^3", lambda m, n: 4 * n**3)
symmetric_vectors = _golub("9 n^3", lambda m, n: 27 * n**3)
values = _golub("10 n^3", lambda m, n: 30 * n**3)
vectors = _golub("25 n^3", lambda m, n: 75 * n**3)
singular_values = _golub("4 m n^2 - 4/3 n^3", lambda m, n: 12 * m * n**2 - 4 * n**3)
singular_thin = _golub("14 m n^2 + 8 n^3", lambda m, n: 42 * m * n**2 + 24 * n**3)
singular_full = _golub(
    "4 m^2 n + 8 m n^2 + 9 n^3", lambda m, n: 12 * m**2 * n + 24 * m * n**2 + 27 * n**3
)


def least_squares(out: Shape, a: Shape, b: Shape, *more: Shape) -> Cost:
    """The singular values and vectors, and a product with both: an estimate."""
    m, n = a[-2:]
    return singular_thin(out, a) + Cost(fma=2 * m * n * b[-1])


def _fourier(length: Callable[[Any], Any], of: int) -> Rule:
    """Radix 2 by Cooley and Tukey, 5 n log n FLOP; half of it where one side is real.

    Source: the convention of the FFTW benchmarks. Lengths that are no power of 2 take as many,
    rounded up.
    """

    def rule(out: Shape, a: Shape, *factor: Shape, axes: Any) -> Cost:
        made = out[axes[-1][0]]
        n = length(made)
        steps = size(out) // made * ratio(n * log2(n), of)
        return Cost(mul=2 * steps, add=3 * steps)

    rule.__doc__ = _fourier.__doc__
    return rule


fourier = _fourier(lambda made: made, 1)
to_real = _fourier(lambda made: made, 2)
of_real_even = _fourier(lambda made: 2 * (made - 1), 2)
of_real_odd = _fourier(lambda made: 2 * made - 1, 2)
