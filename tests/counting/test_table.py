"""Figures in prose: digits that are kept, and prefixes from nano to peta."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting.table import PREFIXES, si


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 "),
        (7, "7 "),
        (999, "999 "),
        (999.6, "1 k"),
        (3_110_249_600, "3.11 G"),
        (2e18, "2e+03 P"),
        (0.9996, "1 "),
        (0.25, "250 m"),
        (4e-7, "400 n"),
    ],
)
def test_a_figure_has_three_digits_and_a_prefix(number, text):
    assert si(number) == text


@given(st.floats(1e-9, 9e17), st.sampled_from((".3g", "#.4g", ".6g")))
def test_a_figure_read_again_is_the_number(number, form):
    digits, _, prefix = si(number, form).partition(" ")
    power = next(n for n, name in PREFIXES.items() if name == prefix)
    assert float(digits) * 1000**power == pytest.approx(number, rel=0.006)
    assert 1 <= float(digits) < 1000
