"""Arrays in programs that `counted` runs: made, written and laid out as NumPy does, or refused."""

import numpy as np
import pytest
from twins import cost, same

from counting import Cost, Uncounted, counted

ROWS = np.arange(12.0).reshape(3, 4)


# Arrays that are made


@pytest.mark.parametrize(
    "program",
    [
        lambda: np.linspace(0, 1, 5),
        lambda: np.ones((2, 3), np.float32),
        lambda: np.full(3, 2.5),
        lambda: np.eye(3, dtype=bool),
        lambda: np.identity(2),
        lambda: np.tri(3),
        lambda: np.logspace(0, 2, 3),
        lambda: np.meshgrid([1, 2], [3.0, 4.0]),
        lambda: np.fromiter((i * i for i in range(4)), float),
        lambda: np.broadcast_to(1.5, (2, 2)),
        lambda: np.concatenate([[1.0, 2.0], [3.0]]),
        lambda: np.block([[np.ones((2, 2)), np.zeros((2, 1))]]),
        lambda: np.mgrid[:2, :3],
        lambda: np.random.default_rng(0).normal(size=3),
    ],
)
def test_an_array_made_of_numbers_counts_whatever_makes_it(program):
    same(program)
    assert cost(lambda: [x * 2 for x in _all(program())]) != cost(program)


def _all(x):
    return x if isinstance(x, list | tuple) else [x]


def test_random_numbers_keep_pythons_type():
    """They are weaker than arrays: a product with one keeps the array's dtype."""
    same(lambda x: (x * np.random.default_rng(0).random()).dtype, np.ones(2, np.float32))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_shuffle_is_numpys(axis):
    def program(x):
        np.random.default_rng(3).shuffle(x, axis=axis)
        return x

    assert np.array_equal(counted(program)(ROWS.copy())[0], program(ROWS.copy()))


def test_functions_that_draw_count_under_a_name_of_their_own():
    draw = np.random.rand
    assert cost(lambda: draw(4) + 1) == Cost(add=4)


# Writing


def test_what_is_written_into_an_argument_is_written_into_the_callers_array():
    def program(x):
        x[0] = 7
        x += 1

    x = np.zeros(2)
    counted(program)(x)
    assert x.tolist() == [8.0, 1.0]


def test_what_is_written_into_a_view_of_an_argument_is_written_into_it():
    def program(x):
        x.T[1] = 5
        x.reshape(-1)[0] = 3
        np.einsum("ii->i", x)[2:] = 9
        x.flat[1:3] = 4

    plainly, x = np.zeros((3, 3)), np.zeros((3, 3))
    program(plainly)
    counted(program)(x)
    assert np.array_equal(x, plainly)


def test_two_arguments_of_the_same_memory_stay_so():
    def program(x, part):
        part[...] = 1
        return x.sum()

    plainly, x = np.zeros(4), np.zeros(4)
    assert counted(program)(x, x[:2])[0] == program(plainly, plainly[:2]) == 2


def test_an_array_given_twice_is_one():
    assert counted(lambda x, y: x is y)(ROWS, ROWS)[0]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.int64, 2.7),
        (np.uint8, 7),
        (bool, 3),
        (np.float32, np.array([1.5, 2.5], np.float64)),
        (np.int32, np.array([1.5, -2.5])),
        (np.float64, [1, 2]),
        (np.uint8, np.array([3, 4])),
    ],
)
def test_an_index_writes_into_an_array_of_any_dtype(dtype, value):
    def program(value):
        x = np.zeros(2, dtype)
        x[:] = value
        return x

    same(program, value)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 300), (np.int8, -200), (int, np.nan)])
def test_a_number_that_has_no_place_is_refused_as_numpy_does(dtype, value):
    def program():
        x = np.zeros(2, dtype)
        x[0] = value
        return x

    with pytest.raises((OverflowError, ValueError)) as plainly:
        program()
    with pytest.raises(plainly.type):
        counted(program)()


def test_parts_of_complex_numbers_are_written():
    def program():
        x = np.zeros(3, complex)
        x.real = [1, 2, 3]
        x.imag[1:] = 4
        return x

    same(program)


def test_a_mask_that_overwrites_itself_counts_what_it_chose():
    def program(mask):
        mask[mask] = False

    _, ledger = counted(program)(np.ones(8, bool))
    (row,) = [row for (_, name), row in ledger.snapshot().items() if name == "setitem"]
    assert 8 in row


def test_places_in_several_axes_are_added_to():
    def program(x):
        np.add.at(x, ([0, 1, 1], [2, 0, 0]), 5.0)
        return x

    assert np.array_equal(counted(program)(np.zeros((3, 3)))[0], program(np.zeros((3, 3))))
    assert cost(program, np.zeros((3, 3))) == Cost(add=3)


# `flat`, order in memory


@pytest.mark.parametrize("x", [ROWS, ROWS.T, ROWS[:, ::2]])
def test_the_elements_one_after_another_are_numpys(x):
    def program(x):
        x = x.copy() if x.flags.c_contiguous else x
        first = x.flat[1:3]
        x.flat[[0, 2]] = [50, 60]
        places = [(place, float(value)) for place, value in np.ndenumerate(x)]
        return first, list(map(float, x.flat)), places, x.flat[4]

    plainly, given = x.copy(order="K"), x.copy(order="K")
    np.testing.assert_equal(counted(program)(given)[0], program(plainly))
    assert np.array_equal(given, plainly)


@pytest.mark.parametrize("order", ["C", "F", "A", "K", "f"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_elements_are_laid_out_in_numpys_order(order, axes):
    x = np.arange(24.0).reshape(2, 3, 4).transpose(axes)
    same(lambda x: x.ravel(order=order), x)
    same(lambda x: x.flatten(order=order), x)


def test_a_contiguous_array_is_one():
    same(lambda x: np.ascontiguousarray(x.T).flags.c_contiguous, ROWS)
    same(lambda x: np.asfortranarray(x).flags.f_contiguous, ROWS)


@pytest.mark.parametrize(
    "program",
    [
        lambda z: np.mean(z),
        lambda z: np.var(z),
        lambda z: np.std(z, ddof=1),
        lambda z: np.var(z.real, where=z.real > 0),
        lambda z: np.mean(z.real, dtype=np.float32),
        lambda z: np.clip(np.array([1, 2, 3], np.int8), -1000, 2),
        lambda z: np.einsum("ii->i", np.outer(z, z)),
        lambda z: np.quantile(z.real, 0.3, method="averaged_inverted_cdf"),
        lambda z: np.histogram(z.real, bins="auto")[0],
        lambda z: np.histogramdd([z.real, z.imag], bins=2)[0],
        lambda z: np.unique(np.array([3, 1, 3]), return_inverse=True),
        lambda z: np.piecewise(2.0, [True, False], [1, 2]),
        lambda z: np.max(z.real[:0], initial=3.0),
        lambda z: np.bincount([]),
        lambda z: (np.inner(3.0, z.real), np.dot(z.real.astype(np.float32), 2.0)),
        lambda z: (z.real.conj() is z.real.conj(), z.conj()),
        lambda z: np.array([1, 0]).choose(z.real[:2], z.imag[:2]),
        lambda z: np.float32(z.real.sum()) * np.ones(2, np.float32),
    ],
)
def test_what_numpys_tests_have_found(program):
    same(program, np.array([1 + 2j, -3j, 2.5, 4 - 1j]))


def test_a_mean_of_complex_numbers_is_a_sum_and_a_quotient():
    z = np.array([1 + 2j, -3j, 2.5, 4 - 1j])
    assert cost(np.mean, z) == cost(lambda z: np.add.reduce(z) / np.intp(4), z)


def test_an_extreme_of_nothing_is_an_error_as_it_is_numpys():
    with pytest.raises(ValueError, match="no identity"):
        counted(lambda: np.maximum.reduce(np.ones(0), initial=None))()


# What is refused


class Own(np.ndarray):
    pass


@pytest.mark.parametrize(
    "program",
    [
        lambda: np.array(["a", "b"]),
        lambda: np.array([1, None]),
        lambda: np.array([1, 2], dtype=object),
        lambda: np.ones(3, object),
        lambda: np.array(["2020-01-01"], "M8[D]"),
        lambda: np.ones(3).view(Own),
        lambda: np.ma.masked_array(np.ones(3)),
        lambda: np.ma.array([1.0, 2.0], mask=[True, False]),
        lambda: np.ma.zeros(3),
        lambda: Own((3,)),
        lambda: np.matrix([[1.0, 2.0]]),
        lambda: np.einsum("i,i", np.ones(2), np.ones(2), dtype=complex),
        lambda: np.random.default_rng(0).random(out=np.zeros(2)),
        lambda: np.add.at(np.zeros((2, 2)), (np.array([0]), np.array([1])), 1.0),
        lambda: np.ones(3).choose([np.ones(3)], out=np.ones(3)),
    ],
)
def test_what_is_no_array_of_numbers_or_cannot_be_counted_is_refused(program):
    with pytest.raises(Uncounted):
        counted(program)()


def test_an_array_made_by_its_class_counts():
    def program():
        x = np.ndarray((3,))
        x[:] = 2
        return x * x

    assert same(program).tolist() == [4.0, 4.0, 4.0]
    assert cost(program) == Cost(mul=3)
