"""How far a kernel may be from the NumPy line beside it, worked out in float64.

What may differ is what float32 rounds: a bound on it is worked out from the operands of each
example, `U` for each operation in the longest chain of them.
"""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

U = 2.0**-24  # the most that float32 is off, relative to the number that is rounded
LANES = 8  # in the narrowest vector: sums have so many lanes, or more
SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=40)


def chain(n):
    """Roundings in a sum of n products by lanes, and some for what is done to it after."""
    return (n / LANES + 2 * LANES + 4) * U


def assert_near(found, expected, bound):
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.all(np.abs(found - expected) <= bound)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)
