"""Weights that know how to multiply: what they answer, and what they refuse."""

import gc
import operator
import weakref

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrices import IN, OUT, ROWS, here, machines, packed

from minigpt.fast import enabled
from minigpt.fast.packed import DTYPES, PackedMatrix, quantised

U = 2.0**-24  # what float32 rounds a number by, at most


@pytest.fixture(params=machines())
def machine(request):
    return request.param()


def assert_product(found, x, w, bits=None):
    """It is x @ w, worked out in float64, but for what float32 rounds, and `bits` of x by row."""
    x = x.astype(np.float64)
    assert found.dtype == np.float32
    assert found.shape == (x @ w).shape
    bound = np.abs(x) @ np.abs(w) * (len(w) + 4) * U
    if bits:
        step = np.abs(x).max(-1, initial=0, keepdims=True) / (2 ** (bits - 1) - 1)
        bound += step * 0.501 * np.abs(w).sum(0)  # half a step, and what float32 rounds
    assert np.all(np.abs(found - x @ w) <= bound)


# What they answer.


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60)
@given(
    lead=st.lists(st.integers(0, 4), max_size=2),
    width=st.sampled_from((16, 32, 48, 7)),
    out=st.sampled_from((16, 80, 1, 5)),
    way=st.sampled_from(("rows", "stored so", "both ways")),
    form=st.sampled_from(("f4", "f8", "f2", "i4", "?", "strided", "Fortran")),
    kernels=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example([40], 32, 80, "rows", "f4", True, 0)
def test_products(dtype, lead, width, out, way, form, kernels, seed):
    """x @ w.T of rows and x @ w of what is stored so, of any x of real numbers."""
    machine = here() if kernels and enabled() else None
    if way == "rows" or dtype == "int8":
        w, numbers = packed(dtype, machine, True, (width, out), seed)
    else:
        w, numbers = packed(dtype, machine, False, (width, out), seed)
        w = w.T.T if way == "both ways" else w
    x = np.random.default_rng(seed).integers(-8, 9, (*lead, width)) / np.float32(4)
    if form == "strided":
        x = np.repeat(x, 3, axis=-1)[..., ::3]
    else:
        x = np.asfortranarray(x) if form == "Fortran" else x.astype(np.dtype(form))
    bits = 16 if machine and dtype == "int8" else None
    assert_product(x @ w, x, numbers, bits)
    assert_product(np.matmul(x, w), x, numbers, bits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_looks_like_the_matrix_that_it_is(machine, dtype):
    w, _ = packed(dtype, machine)
    scales = 4 * OUT if dtype == "int8" else 0
    assert (w.shape, w.ndim, w.dtype) == ((OUT, IN), 2, DTYPES[dtype])
    assert w.nbytes == OUT * IN * DTYPES[dtype].itemsize + scales
    assert (w.T.shape, w.T.T.shape, w.T.nbytes) == ((IN, OUT), (OUT, IN), w.nbytes)
    assert repr(w) == f"PackedMatrix(({OUT}, {IN}) {dtype}, {w.nbytes} B)"


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=hnp.arrays(int, hnp.array_shapes(max_dims=3), elements=st.integers(-OUT, OUT - 1)))
def test_rows_are_gathered_as_float32(dtype, rows):
    w, numbers = packed(dtype)
    found = w[rows]
    assert (found.shape, found.dtype) == ((*rows.shape, IN), np.float32)
    assert np.array_equal(found, numbers[rows].astype(np.float32))  # a product of two is exact
    assert np.array_equal(np.take(w, rows, axis=0), found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_made_like_it(machine, dtype):
    """Of its dtype, or of float32 where no number alone is of its dtype."""
    like = DTYPES["float32" if dtype == "int8" else dtype]
    w, _ = packed(dtype, machine)
    for matrix in (w, w.T):
        made = np.empty_like(matrix, shape=(2, 3))
        assert (type(made), made.shape, made.dtype) == (np.ndarray, (2, 3), like)
        assert np.ones_like(matrix, dtype=bool, shape=3).tolist() == [True] * 3
        assert np.empty_like(matrix).shape == matrix.shape
        ones = np.ones_like(matrix, dtype=np.float32)
        assert (ones.shape, ones.dtype, ones.min()) == (matrix.shape, np.float32, 1)


# What they refuse.

X = np.ones((3, OUT), np.float32)
REFUSED = {
    "w + 1": lambda w: w + 1,
    "1 + w": lambda w: np.float32(1) + w,
    "x + w": lambda w: np.ones(w.shape) + w,
    "w * w": lambda w: w * w,
    "-w": lambda w: -w,
    "w @ x": lambda w: w @ np.ones((IN, 2), np.float32),
    "w @ w": lambda w: w @ w.T,
    "x @ w, out": lambda w: np.matmul(X, w, out=np.empty((3, IN), np.float32)),
    "x @ w, dtype": lambda w: np.matmul(X, w, dtype=np.float64),
    "x @= w": lambda w: operator.imatmul(X, w),
    "complex": lambda w: X.astype(complex) @ w,
    "objects": lambda w: X.astype(object) @ w,
    "text": lambda w: X.astype(str) @ w,
    "list @ w": lambda w: X.tolist() @ w,
    "dot": lambda w: np.dot(X, w),
    "einsum": lambda w: np.einsum("ij,jk", X, w),
    "tensordot": lambda w: np.tensordot(X, w, 1),
    "vecdot": lambda w: np.vecdot(X, w),
    "exp": lambda w: np.exp(w),
    "sum": lambda w: np.sum(w),
    "add.reduce": lambda w: np.add.reduce(w),
    "max": lambda w: np.max(w),
    "reshape": lambda w: np.reshape(w, (-1,)),
    "transpose": lambda w: np.transpose(w),
    "swapaxes": lambda w: np.swapaxes(w, 0, 1),
    "concatenate": lambda w: np.concatenate([w, w]),
    "copy": lambda w: np.copy(w),
    "copyto": lambda w: np.copyto(np.empty(w.shape), w),
    "where": lambda w: np.where(True, w, 0),
    "zeros_like": lambda w: np.zeros_like(w),
    "array_equal": lambda w: np.array_equal(w, w),
    "asarray": lambda w: np.asarray(w),
    "array of two": lambda w: np.array([w, w]),
    "float": lambda w: float(w),
    "len": lambda w: len(w),
    "list": lambda w: list(w),
    "iter": lambda w: iter(w),
    "in": lambda w: 1.0 in w,
    "w[0]": lambda w: w[0],
    "w[0, 1]": lambda w: w[0, 1],
    "w[1:3]": lambda w: w[1:3],
    "w[None]": lambda w: w[None],
    "w[...]": lambda w: w[...],
    "w[list]": lambda w: w[[0, 1]],
    "w[mask]": lambda w: w[np.ones(OUT, bool)],
    "w[floats]": lambda w: w[ROWS.astype(float)],
    "w[rows] = 0": lambda w: operator.setitem(w, ROWS, 0),
    "take of all": lambda w: np.take(w, ROWS),
    "take of columns": lambda w: np.take(w, ROWS, axis=1),
    "take, clipped": lambda w: np.take(w, ROWS, axis=0, mode="clip"),
    "rows of the transpose": lambda w: w.T[ROWS],
    "w as rows": lambda w: np.take(np.arange(9), w, axis=0),
    "like w, by name": lambda w: np.empty_like(prototype=w),
}


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_refused(machine, name):
    for dtype in DTYPES:
        w, _ = packed(dtype, machine)
        with pytest.raises(TypeError):
            REFUSED[name](w)


def test_what_is_refused_is_named():
    w, _ = packed("int8")
    with pytest.raises(TypeError, match=r"PackedMatrix\(\(20, 32\) int8, 720 B\).*numpy.exp"):
        np.exp(w)
    with pytest.raises(TypeError, match=r"PackedMatrix.*numpy.sum"):
        np.sum(w)
    with pytest.raises(TypeError, match=r"PackedMatrix.*numpy.matmul"):
        np.matmul(w, np.ones((IN, 2)))


def test_int8_multiplies_by_rows_alone(machine):
    """By columns, each term would have a scale of its own."""
    w, _ = packed("int8", machine)
    with pytest.raises(TypeError, match="PackedMatrix"):
        X @ w
    assert (X[:, :0].sum(), (np.ones((2, IN)) @ w.T).shape) == (0, (2, OUT))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, OUT), (IN + 1,), (2, 1), (2, 0), (), (IN, 2)])
def test_shapes_that_do_not_fit_are_refused_as_numpy_does(machine, dtype, shape):
    w, numbers = packed(dtype, machine, seed=1)
    with pytest.raises(ValueError):  # noqa: PT011  # as worded by whoever multiplies
        np.ones(shape, np.float32) @ numbers.T
    with pytest.raises(ValueError, match=r"differ|dimension"):
        np.ones(shape, np.float32) @ w.T


@pytest.mark.parametrize("rows", [[OUT], [-OUT - 1], [[0], [99]]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_are_not_there_are_refused(dtype, rows):
    with pytest.raises(IndexError, match="out of bounds"):
        packed(dtype)[0][np.array(rows)]


# Eight bits.

FLOATS = st.floats(-(2.0**127), 2.0**127, width=32) | st.floats(-1, 1, width=32)


@settings(max_examples=200)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=FLOATS))
@example(np.zeros((2, 3), np.float32))
@example(np.array([[1e-45, 0], [180e-45, -1e-45]], np.float32))
def test_quantised_is_symmetric_and_off_by_half_a_step_at_most(rows):
    stored, scale = quantised(rows)
    assert (stored.dtype, stored.shape) == (np.int8, rows.shape)
    assert (scale.dtype, scale.shape) == (np.float32, rows.shape[:1])
    assert stored.min() >= -127
    assert np.all(scale > 0)
    mirrored, same = quantised(-rows)
    assert np.array_equal(mirrored, -stored)
    assert np.array_equal(same, scale)
    # Rounding the scale, and the quotient, shift 127 steps by 127 U of a step each.
    steps = np.abs(rows.astype(np.float64) / scale[:, None].astype(np.float64) - stored)
    assert steps.max() <= 0.5 + 2 * 127 * U
    large = np.abs(rows).max(axis=1) > 1e-30
    assert np.all(np.abs(stored).max(axis=1)[large] == 127)


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf])
def test_damage_outlives_eight_bits(damage):
    """A row with what is no number gives no number, rather than a wrong one."""
    rows = np.ones((3, 16), np.float32)
    rows[1, 2] = damage
    with np.errstate(all="ignore"):
        w = PackedMatrix(*quantised(rows), turned=True)
        y = np.ones(16, np.float32) @ w
    assert (np.isfinite(y) == [True, False, True]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_is_gone_when_nobody_has_it_any_more(dtype):
    gc.disable()  # it must not take a collection
    try:
        w, _ = packed(dtype, None)
        x = np.ones((2, w.shape[1]), np.float32)
        (x @ w.T).sum()
        gone = weakref.ref(w)
        del w
        assert gone() is None
    finally:
        gc.enable()
