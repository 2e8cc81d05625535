"""Sizes and bytes as they are: of any magnitude, never negative, no byte of memory twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting import Counted, Ledger, ShapeArray, trace
from counting.memory import occupied
from counting.views import VIEWS

INTEGERS = (int, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64)

# Shapes.


@given(st.lists(st.integers(0, 127), max_size=4), st.data())
def test_a_shape_of_numpys_integers_is_one_of_pythons(shape, data):
    given = tuple(data.draw(st.sampled_from(INTEGERS))(n) for n in shape)
    x = ShapeArray(given)
    assert x.shape == tuple(shape)
    assert {type(n) for n in x.shape} <= {int}
    assert (x.size, x.nbytes) == (ShapeArray(shape).size, 4 * ShapeArray(shape).size)


BIG = st.integers(0, 2**31 - 1)


@given(BIG, BIG, BIG, st.sampled_from((np.int32, np.int64)))
def test_a_cost_never_wraps_around(m, n, p, integer):
    counts = trace(np.matmul, (integer(m), integer(n)), (integer(n), integer(p)))
    assert VIEWS["matmul"](counts) == 2 * m * n * p
    assert sum(counts.bytes_read.values()) == 4 * (m * n + n * p)
    assert all(n >= 0 for row in counts.values() for n in row)


def test_a_size_beyond_64_bits_is_right():
    n = np.int64(2**40)
    counts = trace(lambda x: np.exp(x + 1.0), (n, n, 3))
    assert counts.cost == {"add": 3 * 2**80, "exp": 3 * 2**80}


MAKERS = {
    "by shape": lambda n: ShapeArray((n, 2)),
    "reshape": lambda n: ShapeArray((2 * int(n),)).reshape(n, 2),
    "reshape by a list": lambda n: ShapeArray((2 * int(n),)).reshape([n, 2]),
    "np.reshape": lambda n: np.reshape(ShapeArray((2 * int(n),)), (n, np.int64(2))),
    "ones": lambda n: np.ones_like(ShapeArray((1,)), shape=(n, 2)),
    "of no data": lambda n: np.empty_like(ShapeArray((1,)), shape=[n, 2]),
    "a slice": lambda n: ShapeArray((2**62, 2))[:n],
    "counted": lambda n: np.ones_like(Counted(ShapeArray((1,)), Ledger()), bool, shape=(n, 2)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_way_to_a_shape_ends_in_pythons_integers(name):
    x = MAKERS[name](np.int64(2**40))
    assert x.shape == (2**40, 2)
    assert {type(n) for n in x.shape} == {int}


@pytest.mark.parametrize("size", [-1, np.int64(-3)])
def test_a_negative_size_is_refused(size):
    for make in (
        lambda: ShapeArray((2, size)),
        lambda: np.ones_like(ShapeArray((2,)), shape=(size,)),
        lambda: np.empty_like(Counted(ShapeArray((2,)), Ledger()), shape=(size, 2)),
        lambda: trace(np.exp, (size,)),
    ):
        with pytest.raises(ValueError, match="negative"):
            make()
    sympy = pytest.importorskip("sympy")
    with pytest.raises(ValueError, match="negative"):
        ShapeArray((-sympy.Symbol("n", positive=True, integer=True),))


@pytest.mark.parametrize("size", [1.0, np.float64(2), "3", None, 1 / 2])
def test_a_size_that_is_no_whole_number_is_refused(size):
    with pytest.raises(TypeError, match="whole number"):
        ShapeArray((2, size))


# Bytes.


def touched(x):
    """The addresses of the bytes of an array's elements, one by one."""
    start = np.array(
        [sum(i * s for i, s in zip(index, x.strides, strict=True)) for index in np.ndindex(x.shape)]
    )
    return {int(a) + k for a in start for k in range(x.itemsize)}


@given(st.data())
def test_each_byte_of_memory_is_counted_once(data):
    dims = data.draw(st.integers(0, 3))
    shape = tuple(data.draw(st.integers(0, 4)) for _ in range(dims))
    strides = tuple(data.draw(st.integers(0, 20)) for _ in range(dims))
    dtype = data.draw(st.sampled_from(("u1", "f2", "f4", "f8", "c16")))
    memory = np.zeros(400, np.uint8)
    x = np.ndarray(shape, dtype, memory, 0, strides)
    flipped = x[tuple(slice(None, None, data.draw(st.sampled_from((1, -1)))) for _ in shape)]
    assert occupied(x) == occupied(flipped) == occupied(x.T) == len(touched(x))


WINDOWS = {
    "a row many times": (lambda: np.broadcast_to(np.arange(3.0), (1000, 3)), 24),
    "one number many times": (lambda: np.broadcast_to(np.float32(1), (10**6, 10**6)), 4),
    "windows": (lambda: np.lib.stride_tricks.sliding_window_view(np.arange(10.0), 3), 80),
    "wide windows": (
        lambda: np.lib.stride_tricks.sliding_window_view(np.zeros(10**6, "f4"), 10**5),
        4 * 10**6,
    ),
    "square windows": (
        lambda: np.lib.stride_tricks.sliding_window_view(np.zeros((20, 30)), (3, 3)),
        20 * 30 * 8,
    ),
    "a diagonal": (lambda: np.diagonal(np.zeros((5, 5))), 40),
    "a part": (lambda: np.zeros((10, 10))[::2, 1::3], 5 * 3 * 8),
    "real parts": (lambda: np.zeros(5, complex).real, 40),
    "a field": (lambda: np.zeros(5, [("a", "f4"), ("b", "f8")])["a"], 20),
    "an image as columns": (
        lambda: np.lib.stride_tricks.as_strided(np.zeros((6, 6)), (4, 4, 3, 3), (48, 8, 48, 8)),
        288,
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_live_and_read_are_the_bytes_that_are_there(name):
    make, held = WINDOWS[name]
    ledger, data = Ledger(), make()
    x = Counted(data, ledger)
    assert ledger.live_bytes["activations"] == held
    if data.size < 10**6:
        before = ledger.snapshot()
        y = x.copy()
        counts = ledger.snapshot() - before
        assert counts.bytes_read["activations"] == held
        assert counts.bytes_written["activations"] == y.nbytes == x.nbytes == data.nbytes
    part = x[:1]
    assert part.spec.nbytes == occupied(data[:1])
    del x
    assert ledger.live_bytes["activations"] >= held  # of the part


def test_a_part_of_more_elements_than_an_index_can_hold_has_its_length():
    huge = ShapeArray((2**70,))
    assert huge[1:].shape == (2**70 - 1,)
    assert huge[::-3].shape == (2**70 // 3 + 1,)
