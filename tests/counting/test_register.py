"""A person's own operations: tried out at once, counted by their rule, everywhere the same."""

from unittest.mock import patch

import numpy as np
import pytest
import sympy

import counting
from counting import Cost, Counted, ShapeArray, Uncounted, counted, register, trace
from counting.composite import composite
from counting.costs import REGISTERED

N = sympy.Symbol("n", integer=True, positive=True)


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is gone after it."""
    with patch.dict(REGISTERED):
        yield


def smooth(x, weights, axis=-1, scale=None):
    """Means of neighbours by weights, along an axis; a function that knows plain arrays alone."""
    assert type(x) is type(weights) is np.ndarray
    made = np.apply_along_axis(np.convolve, axis, x, weights, mode="valid")
    return made if scale is None else made * scale


def smoothing(out, x, weights, axis=-1, scale=None):
    """As many multiply-adds for each result as there are weights."""
    n = 1
    for m in out:
        n *= m
    return Cost(fma=n * weights[0], mul=0 if scale is None else n)


def narrowed(x, weights, axis=-1, scale=None):
    at = axis % len(x)
    return (*x[:at], x[at] - weights[0] + 1, *x[at + 1 :])


EXAMPLE = (np.ones((4, 5)), np.ones(2))


def counting_smooth(**more):
    return register(smooth, smoothing, EXAMPLE, **more)


def array(shape, dtype=np.float64):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def test_what_it_returns_counts_by_the_rule_and_gives_the_functions_result():
    f = counting_smooth()
    x, weights = Counted(array((3, 6))), array((2,))
    y = f(x, weights, axis=0)
    np.testing.assert_array_equal(y.data, smooth(x.data, weights, axis=0))
    assert y.charge.cost == {"fma": 2 * 6 * 2}
    assert f(x, weights=weights, scale=3.0).charge.cost == {"fma": 3 * 5 * 2, "mul": 3 * 5}
    counts = x.ledger.snapshot()
    (row,) = (operation for _, operation in counts)
    assert row.endswith("test_register.smooth")
    assert counts.bytes_read["activations"] == 2 * (x.nbytes + weights.nbytes)
    assert counts.bytes_written["activations"] == 8 * (2 * 6 + 3 * 5)
    assert counts.total("dots") == 0  # who knows whether its sums begin with a term
    assert "42 FLOP as registered" not in str(x.ledger.report())
    assert f"{24 * 2 + 30 * 2 + 15} FLOP as registered ({row})" in str(x.ledger.report())


def test_of_plain_arrays_it_is_the_function():
    f = counting_smooth()
    made = f(array((3, 6)), array((2,)))
    assert type(made) is np.ndarray
    np.testing.assert_array_equal(made, smooth(array((3, 6)), array((2,))))
    assert (f.__doc__, f.__wrapped__) == (smooth.__doc__, smooth)


@pytest.mark.parametrize("scale", [2, 2.0, None])
def test_what_comes_out_is_described_anew_for_each_call(scale):
    """Its dtype may depend on a number, its shape on the numbers in an array."""
    f = counting_smooth()
    x = Counted(array((3, 6), np.int64))
    for s in (3, 0.5, scale):
        y = f(x, array((2,), np.int64), scale=s)
        assert (y.shape, y.dtype) == (y.data.shape, y.data.dtype)

    def chosen(x):
        return x[x > 1.0]

    g = register(chosen, lambda out, x: Cost(cmp=x[0]), np.arange(4.0))
    for n in (2.0, 5.0):
        y = g(Counted(np.linspace(0, n, 7)))
        assert y.shape == y.data.shape
        assert y.ledger.snapshot().bytes_written["activations"] == y.data.nbytes


def test_calls_pile_up_no_prices():
    f = counting_smooth()
    x = Counted(array((6,)))
    f(x, np.ones(2))
    known = len(x.ledger.charges)
    for scale in range(5):
        f(x, np.ones(2), scale=scale)
    assert len(x.ledger.charges) == known


def test_arrays_may_be_lists_and_be_given_by_name():
    f = counting_smooth()
    x = Counted(array((6,)))
    y = f(weights=[1.0, 2.0], x=x)
    np.testing.assert_array_equal(y.data, smooth(x.data, np.array([1.0, 2.0])))
    assert y.charge.cost == {"fma": 5 * 2}
    z = f([x[0], x[1], 3.0], [1.0])
    assert z.data.tolist() == [0.0, 1.0, 3.0]


def test_an_array_in_another_place_than_in_the_example_is_refused():
    f = counting_smooth()
    x = Counted(array((6,)))
    for scale in (x[1:], x.data[1:]):
        with pytest.raises(Uncounted, match="as weights, x, as in its example, not as scale"):
            f(x, array((2,)), scale=scale)
    with counting.uncounted():
        made = f(x, array((2,)), scale=x[1:])
    np.testing.assert_array_equal(made, np.arange(5) * np.arange(1, 6))


def test_arrays_one_after_another_are_all_operands():
    def total(*arrays, by=1.0):
        return sum(arrays) * by

    f = register(total, lambda out, *a, by=1.0: Cost(add=(len(a) - 1) * out[0]), (np.ones(2),) * 3)
    x = Counted(array((4,)))
    assert f(x, x, np.ones(4), x, by=2.0).charge.cost == {"add": 12}
    assert f(x, x).data.tolist() == [0.0, 2.0, 4.0, 6.0]


def test_several_results_and_numbers_are_counted():
    def halves(x):
        return x[: len(x) // 2].copy(), x[len(x) // 2 :].copy()

    f = register(
        halves,
        lambda out, x: Cost(),
        np.ones(4),
        shape=lambda x: [(x[0] // 2,), (x[0] - x[0] // 2,)],
    )
    low, high = f(Counted(array((5,))))
    assert (low.data.tolist(), high.data.tolist()) == ([0.0, 1.0], [2.0, 3.0, 4.0])
    low, high = f(Counted(ShapeArray((5,), np.int16)))
    assert (low.shape, high.shape, low.dtype) == ((2,), (3,), np.int16)
    g = register(lambda x: float(x.sum()), lambda out, x: Cost(add=x[0] - 1), np.ones(4))
    assert g(Counted(array((5,)))).tolist() == 10.0


def test_without_data_a_shape_is_asked_and_the_example_says_the_dtype():
    f = counting_smooth(shape=narrowed)
    counts = trace(lambda x, w: np.exp(f(x, w)), (N, 8), (3,), dtype=np.float32)
    assert counts.cost == {"fma": 18 * N, "exp": 6 * N}
    y = f(Counted(ShapeArray((4, 8), np.int32)), np.ones(3, np.int8))
    assert (y.shape, y.dtype) == ((4, 6), np.int32)


def test_without_data_and_without_a_shape_it_is_refused():
    f = counting_smooth()
    with pytest.raises(Uncounted, match="register it with `shape`"):
        trace(f, (4, 8), (3,))


def test_a_composite_may_call_it():
    f = counting_smooth(shape=narrowed)

    @composite
    def twice(x, w):
        return f(f(x, w) + 1.0, w)

    x = Counted(array((10,)))
    y = twice(x, Counted(array((2,)), x.ledger))
    assert y.charge.cost == {"fma": (9 + 8) * 2, "add": 9}
    assert "34 FLOP as" not in str(x.ledger.report())
    assert "68 FLOP as registered" in str(x.ledger.report())


def test_counted_finds_it_among_the_names_of_a_program():
    f = counting_smooth()

    def program(x):
        return smooth(x, [1.0, 2.0]) + f(x, np.ones(2)) + SMOOTH[0](x, np.ones(2))

    made, ledger = counted(program)(array((6,)))
    plain = smooth(array((6,)), np.array([1.0, 2.0])) + 2 * smooth(array((6,)), np.ones(2))
    np.testing.assert_array_equal(made, plain)
    assert ledger.snapshot().cost == {"fma": 3 * 5 * 2, "add": 2 * 5}


SMOOTH = [smooth]


def test_counted_counts_it_of_lists_too():
    counting_smooth()
    made, ledger = counted(lambda: smooth([1.0, 2.0, 3.0], [1.0, 1.0]) + 1.0)()
    assert made.tolist() == [4.0, 6.0]
    assert ledger.snapshot().cost == {"fma": 4, "add": 2}


def doubled(x):
    return x * 2.0


def nothing(*shapes, **options):
    return Cost()


def sorted_copy(x):
    x.sort()
    return x.copy()


ONE, TWO = np.array([2.0, 1.0]), (np.ones(2, int), np.ones(2, int))


@pytest.mark.parametrize(
    ("function", "rule", "example", "more", "said"),
    [
        (doubled, lambda out, x: Cost(flop=1), ONE, {}, "unknown kind of operation 'flop'"),
        (doubled, lambda out, x: {"mul": 1}, ONE, {}, "gives a dict, no Cost"),
        (doubled, lambda out, x: Cost(mul=out[0] / 2), ONE, {}, r"mul is 1\.0; it must be"),
        (doubled, lambda out, x: Cost(mul=-1), ONE, {}, r"run on .* mul is -1; it must be"),
        (doubled, lambda out: Cost(), ONE, {}, r"run on \(2,\), \(2,\): .*argument"),
        (doubled, nothing, (ONE, 3, 4), {}, "cannot be called with its example"),
        (doubled, nothing, 3.0, {}, "has no array"),
        (doubled, nothing, np.array("a"), {}, "does not run on its example"),
        (lambda x: None, nothing, ONE, {}, "gives no array"),
        (lambda x: x[1:], nothing, ONE, {}, "gives a view of its operand"),
        (sorted_copy, nothing, ONE, {}, "writes into its operand"),
        (doubled, nothing, ONE, {"shape": lambda x: (3,)}, r"\[\(3,\)\] of its .* \[\(2,\)\]"),
        (np.nextafter, nothing, (ONE, ONE), {}, r"numpy\.nextafter is counted already"),
        (np.median, nothing, ONE, {}, r"numpy\.median is counted already"),
        (np.sum, nothing, ONE, {}, r"numpy\.sum is counted already"),
        (np.add.reduce, nothing, ONE, {}, r"numpy\.add\.reduce is counted already"),
        (composite(doubled), nothing, ONE, {}, "is counted already"),
        (np.gcd, nothing, TWO, {"shape": lambda *s: s[0]}, "is a ufunc"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_registered(
    function, rule, example, more, said
):
    before = dict(REGISTERED)
    with pytest.raises((ValueError, TypeError), match=said) as raised:
        register(function, rule, example, **more)
    assert "\n" not in str(raised.value)
    assert before == REGISTERED


def test_a_rule_that_fails_later_says_so():
    f = register(doubled, lambda out, x: Cost(mul=x[0] if x[0] < 4 else 1.5), np.ones(2))
    f(Counted(np.ones(3)))
    with pytest.raises(ValueError, match=r"doubled does not run .* mul is 1\.5; it must be"):
        f(Counted(np.ones(5)))


def test_another_rule_for_the_same_function_is_an_error_the_same_is_not():
    f = counting_smooth()
    assert counting_smooth() is f
    with pytest.raises(ValueError, match="registered already, with another rule"):
        register(smooth, lambda *shapes, **options: Cost(), EXAMPLE)
    with pytest.raises(ValueError, match="registered already, with another rule"):
        counting_smooth(shape=narrowed)
    assert f(Counted(array((6,))), np.ones(2)).charge.cost == {"fma": 10}


def test_a_cell_of_a_notebook_that_is_run_twice_changes_nothing():
    cell = compile("def rule(out, x, each=1): return Cost(mul=each * out[0])", "cell", "exec")
    names = {"Cost": Cost}
    for _ in range(2):
        exec(cell, names)
        register(doubled, names["rule"], np.ones(2))
    exec(compile("def rule(out, x, each=2): return Cost(mul=each * out[0])", "cell", "exec"), names)
    with pytest.raises(ValueError, match="another rule"):
        register(doubled, names["rule"], np.ones(2))


def test_a_ufunc_is_itself_and_counts_on_arrays_shapes_and_in_programs():
    assert register(np.gcd, lambda out, a, b: Cost(int=3 * out[0]), TWO) is np.gcd
    x = Counted(np.arange(1, 5))
    assert np.gcd(x, x[::-1]).charge.cost == {"int": 12}
    assert trace(np.gcd, (N,), (N,), dtype=np.int64).cost == {"int": 3 * N}
    _, ledger = counted(lambda: np.gcd([4, 6], [6, 9]) + 1)()
    assert ledger.snapshot().cost == {"int": 3 * 2 + 2}
    out = Counted(np.zeros(4, int), x.ledger)
    assert np.gcd(x, x, out=out) is out
    with pytest.raises(Uncounted):
        np.gcd.reduce(x)


def test_before_it_is_registered_a_ufunc_is_refused():
    with pytest.raises(Uncounted, match=r"numpy\.gcd has no row"):
        np.gcd(Counted(np.arange(3)), 2)


def test_arrays_of_two_ledgers_meet_nowhere():
    f = counting_smooth()
    with pytest.raises(ValueError, match="two ledgers"):
        f(Counted(array((6,))), Counted(array((2,))))


def test_what_scipy_computes_is_counted_and_reported_by_its_name():
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed: .[test]")
    linalg = pytest.importorskip("scipy.linalg")
    signal = pytest.importorskip("scipy.signal")
    erf = register(special.erf, lambda out, x: Cost(exp=x[0]), np.ones(2))
    log1p = register(special.log1p, lambda out, x: Cost(log=x[0]), np.ones(2))
    solve = register(
        linalg.solve_triangular,
        lambda out, a, b, **options: Cost(fma=a[0] * (a[0] - 1) // 2, div=a[0]),
        (np.eye(3), np.ones(3)),
        shape=lambda a, b, **options: b,
    )
    register(
        signal.lfilter,
        lambda out, b, a, x, axis=-1: Cost(fma=x[0] * (b[0] + a[0] - 1)),
        (np.ones(2), np.ones(2), np.ones(5)),
    )
    a, b = np.tri(5) + np.eye(5), np.arange(5.0)
    x = Counted(b)
    y = solve(a, x, lower=True)
    np.testing.assert_array_equal(y.data, linalg.solve_triangular(a, b, lower=True))
    assert erf is special.erf
    assert erf(y).charge.cost == {"exp": 5}
    log1p(y)
    assert [operation for _, operation in x.ledger.snapshot()] == [
        "scipy.linalg.solve_triangular",
        "erf",
        "registered.log1p",  # NumPy has a row of that name
    ]
    assert trace(solve, (N, N), (N,)).total("div") == N

    def program(x):
        from scipy.signal import lfilter

        return lfilter([1.0, 2.0], [1.0, 0.5], x) + linalg.solve_triangular(a, x, lower=True)

    made, ledger = counted(program)(b)
    np.testing.assert_array_equal(made, program(b))
    assert ledger.snapshot().cost == {"fma": 5 * 3 + 10, "div": 5, "add": 5}


@pytest.mark.parametrize("seed", range(4))
def test_a_number_among_the_operands_of_a_ufunc_has_the_shape_of_a_number(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
    given = []
    register(np.gcd, lambda out, a, b: given.append((out, a, b)) or Cost(int=7), TWO)
    x, n = Counted(rng.integers(1, 99, shape)), int(rng.integers(1, 99))
    for call, shapes in (
        ((x, n), (shape, shape, ())),
        ((n, x), (shape, (), shape)),
        ((x, np.int64(n)), (shape, shape, ())),
    ):
        assert np.gcd(*call).charge.cost == {"int": 7}
        assert given[-1] == shapes


def test_a_rule_that_does_not_run_is_named_with_what_it_was_given():
    rule = lambda out, a, b: Cost(int=out[0] // (2 - len(a)))  # noqa: E731
    register(np.gcd, rule, TWO)
    said = r"the rule of (numpy\.)?gcd does not run on \(3, 4\), \(3, 4\), \(\): integer division"
    with pytest.raises(ValueError, match=said):
        np.gcd(Counted(np.ones((3, 4), int)), 2)
    f = register(smooth, lambda out, x, weights, axis, scale: Cost(), (*EXAMPLE, -1, 3))
    with pytest.raises(ValueError, match=r"smooth does not run on .*, axis=0: .* 'scale'"):
        f(Counted(array((6,))), array((2,)), axis=0)
