"""What is published of linear algebra and transforms, against the algorithms executed.

LAPACK's note counts reciprocals, quotients and roots as products; so do these sums.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import COSTS, Cost, Scalar, inside, scalars
from counting.costs import how_known
from counting.scalar import Complex

LINALG, FOURIER = inside.LINALG, inside.FOURIER


def matrix(tally, *shape):
    """Scalars that form a matrix with an inverse and, if it is square, a root."""
    a = np.random.default_rng(0).uniform(1, 2, shape)
    a = a + a.T + 9 * np.eye(shape[0]) if len(shape) == 2 and shape[0] == shape[1] else a
    return scalars(a, tally)


def as_published(tally):
    """Products, to which quotients and roots count, and additions."""
    return Cost(mul=tally["mul"] + tally["div"] + tally["sqrt"], add=tally["add"])


def factored(a):
    """LU in place, by GETF2: a reciprocal for each column, by which it is scaled."""
    n = len(a)
    for k in range(n):
        by = 1 / a[k, k]
        for i in range(k + 1, n):
            a[i, k] = a[i, k] * by
            for j in range(k + 1, n):
                a[i, j] = a[i, j] - a[i, k] * a[k, j]


def substituted(a, b):
    """L y = b, then U x = y, in place of b, by GETRS."""
    n = len(a)
    for i in range(n):
        for j in range(i):
            b[i] = b[i] - a[i, j] * b[j]
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            b[i] = b[i] - a[i, j] * b[j]
        b[i] = b[i] / a[i, i]


SIZES = st.integers(1, 7)


@settings(max_examples=20)
@given(SIZES)
def test_a_determinant_is_lu_and_a_product_of_the_diagonal(n):
    tally = Counter()
    a = matrix(tally, n, n)
    factored(a)
    det = a[0, 0]
    for k in range(1, n):
        det = det * a[k, k]
    assert COSTS[LINALG.det]((), (n, n)) == as_published(tally)


@settings(max_examples=20)
@given(SIZES, st.integers(1, 4), st.integers(1, 3))
def test_a_solution_is_lu_and_two_triangles_for_each_column(n, columns, stack):
    tally = Counter()
    a, b = matrix(tally, n, n), matrix(tally, n, columns + 9)[:, :columns]
    factored(a)
    for column in b.T:
        substituted(a, column)
    shape = (stack, n, columns)
    cost = COSTS[LINALG.solve](shape, (stack, n, n), shape)
    assert cost == as_published(tally) * stack
    if columns == 1:
        assert COSTS[LINALG.solve1]((stack, n), (stack, n, n), (n,)) == cost
    if columns == n:
        assert COSTS[LINALG.inv](shape, shape) == cost


@settings(max_examples=20)
@given(SIZES)
def test_a_root_of_a_matrix_is_choleskys(n):
    tally = Counter()
    a = matrix(tally, n, n)
    for j in range(n):
        for k in range(j):
            a[j, j] = a[j, j] - a[j, k] * a[j, k]
        a[j, j] = a[j, j].sqrt()
        for i in range(j + 1, n):
            for k in range(j):
                a[i, j] = a[i, j] - a[i, k] * a[j, k]
            a[i, j] = a[i, j] / a[j, j]
    assert COSTS[LINALG.cholesky_lo]((n, n), (n, n)) == as_published(tally)


def transformed(x):
    """Cooley and Tukey's way, a factor for each butterfly."""
    n = len(x)
    if n == 1:
        return x
    even, odd = transformed(x[::2]), transformed(x[1::2])
    tally = x[0].tally
    made = [None] * n
    for k in range(n // 2):
        z = np.exp(-2j * np.pi * k / n)
        turned = odd[k] * Complex(Scalar(z.real, tally), Scalar(z.imag, tally))
        made[k], made[k + n // 2] = even[k] + turned, even[k] - turned
    return made


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_a_transform_is_cooley_and_tukeys(n):
    tally = Counter()
    x = np.random.default_rng(0).uniform(1, 2, n) + 1j
    made = transformed([*scalars(x, tally)])
    np.testing.assert_allclose([z.value for z in made], np.fft.fft(x))
    axes = ((-1,), (), (-1,))
    whole = COSTS[FOURIER.fft]((n,), (n,), axes=axes)
    assert whole == tally
    assert COSTS[FOURIER.ifft]((n,), (n,), axes=axes) == whole
    half = {kind: count // 2 for kind, count in whole.items()}
    assert COSTS[FOURIER.irfft]((n,), (n // 2 + 1,), axes=axes) == half
    if n > 1:
        assert COSTS[FOURIER.rfft_n_even]((n // 2 + 1,), (n,), axes=axes) == half


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6))
def test_the_rest_are_leading_terms_that_grow_with_either_side(m, n):
    for name in ("svd", "svd_s", "svd_f", "qr_r_raw", "eigh_lo", "eigvals", "eig", "eigvalsh_up"):
        function = getattr(LINALG, name, None)
        if function is None:
            continue
        square = name.startswith("eig")
        shape, wider = ((n, n), (n + 1, n + 1)) if square else ((m, n), (m, n + 1))
        less, more = (COSTS[function](s, s).flops for s in (shape, wider))
        assert 0 < less <= more
        assert how_known(function) == "published"
