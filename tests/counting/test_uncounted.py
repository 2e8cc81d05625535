"""Out of the count: what an `uncounted` block lets through, and that nothing is charged for it."""

import copy
import math
from io import BytesIO

import numpy as np
import pytest
import sympy

import counting
from counting import Counted, Ledger, ShapeArray, Uncounted, observing, uncounted

NAMES = {"np": np, "copy": copy, "math": math, "BytesIO": BytesIO}
EXPRESSIONS = """x > 0
x[x > 0]
x[x == y]
x.std(), x.std(axis=0), x.var(), x.min(), x.argmax(), x.argmin(axis=1), x.any(), x.all()
np.asarray(x), np.asarray(x, np.float64), np.array(x)
float(x[0, 0]), int(x[1, 1]), complex(x[0, 0]), x[0, 0].item(), x.item(3), x.astype(int)
np.percentile(x, 5), np.median(x), np.unique(x), np.histogram(x)
x == y, x != y, np.allclose(x, y), np.array_equal(x, x)
f"{x[0, 0]:.3f}", f"{x[0, 0]:+.2e}"
np.concatenate([x, y]), np.stack([x, y], axis=1), np.array([x[0, 0], y[0, 0]])
np.sort(x), np.argsort(x, axis=0), np.linalg.norm(x), np.linalg.svd(x)
np.einsum("ij,kj->ik", x, y), np.inner(x, y), x.dot(y.T)
abs(x), x ** 2, x // 2, x % 2, np.maximum(x, y), np.isnan(x).any()
np.where(x > 0, x, 0), np.where(x > 0)
x.sum(axis=(0, 1)), x.max(axis=(0, 1)), np.max(x, initial=9.0), x.sum(dtype=np.float64)
x.T.reshape(-1), x.ravel(), x.flatten(), x.squeeze(), x.clip(0, 1), x.round(2)
x[[0, 2]], x[:, [1]], x[0, [1, 2]], x[np.array([0, 1])], x[..., None], x[:n], x[n]
np.add.reduce(x), np.add(x, 1, dtype=np.float64), np.multiply.outer(x[0], y[0])
x @ y.T, x + 1, 2 * x, x - y, x / 3, -x, x + [1, 2, 3, 4], [1, 2, 3, 4] * x
max(x[0]), min(x[0]), sorted(x[0]), sum(x[0]), any(x[0] > 0), all(x[0] < 3), 0.0 in x
bool(x[0, 0] > 0), not x[0, 0], math.sqrt(abs(x[0, 0])), range(5)[n], len(x), list(x[0])
np.take(x, [0, 1], axis=0), np.take(x, 1), np.cumsum(x, axis=1), x.cumsum()
copy.deepcopy(x), copy.copy(x), x.flat[3], x.strides, x.itemsize, np.pad(x, 1), np.split(x, 3)
np.save(BytesIO(), x), np.array2string(np.asarray(x)), np.random.default_rng(0).permutation(x)
""".splitlines()
STATEMENTS = """x[x > 0] = 0
x += 1
x **= 2
x[:, 1] = y[:, 2]
x[[0, 1]] = y[[1, 2]]
x[x == y] = y[x == y]
x[n] = 3
np.clip(x, 0, 1, out=x)
np.add(x, y, out=x)
x.sort()
np.putmask(x, x > 0, 9)
np.copyto(x, y, where=x > 0)
x[1, 2] = x[0, 0]""".splitlines()


def arrays(dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((3, 4)).astype(dtype) for _ in range(2))
    y[0] = x[0]
    return {"x": x, "y": y, "n": np.array(1)}


def counted(bare, ledger):
    return {name: Counted(array.copy(), ledger) for name, array in bare.items()}


def same(a, b):
    """Whether two results are the same, counted or not."""
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    a, b = (value.data if type(value) is Counted else value for value in (a, b))
    return np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_any_numpy_works_and_nothing_is_charged(expression, dtype):
    bare, ledger = arrays(dtype), Ledger()
    held = counted(bare, ledger)
    before, live = ledger.snapshot(), ledger.live_bytes
    with uncounted(ledger):
        assert same(eval(expression, NAMES | held), eval(expression, NAMES | bare))
    assert not ledger.snapshot() - before
    assert ledger.live_bytes == live == ledger.peak_bytes


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_write_arrives_in_the_array_which_is_counted_still(statement):
    bare, ledger = arrays("f4"), Ledger()
    held = counted(bare, ledger)
    x, before = held["x"], ledger.snapshot()
    with uncounted(ledger):
        exec(statement, NAMES | held, held)
    exec(statement, NAMES | bare, bare)
    assert held["x"] is x
    assert np.array_equal(x.data, bare["x"])
    assert not ledger.snapshot() - before


def test_outside_of_the_block_all_is_refused_as_ever():
    ledger = Ledger()
    x = Counted(np.ones((2, 2), np.float32), ledger)
    with uncounted(ledger):
        assert float(x[0, 0]) == 1
    with pytest.raises(Uncounted):
        np.asarray(x)
    with pytest.raises(Uncounted):
        float(x[0, 0])
    with pytest.raises(Uncounted):
        np.gcd(x, 2)
    with pytest.raises(AttributeError, match=r"have no tobytes: .* x\.data\.tobytes"):
        x.tobytes()


def test_a_program_is_refused_what_counted_arrays_lack_and_has_it_out_of_the_count():
    def program(x):
        with pytest.raises(AttributeError, match=r"no tobytes: run .* `with counting\.uncounted"):
            x.tobytes()
        with uncounted():
            return x.tobytes()

    x = np.arange(3.0)
    assert counting.counted(program)(x)[0] == x.tobytes()


def test_what_observes_within_the_block_hears_of_operations_that_are_not_charged():
    ledger, heard = Ledger(), []
    x = Counted(np.ones((2, 3), np.float32), ledger)
    before = ledger.snapshot()
    with uncounted(ledger), observing(ledger, lambda path, charge, *_: heard.append(charge)):
        y = x + x
    assert [charge.operation for charge in heard] == ["add"]
    assert not ledger.snapshot() - before
    assert ledger.live_bytes["activations"] == x.nbytes + y.nbytes


def test_the_block_is_for_arrays_of_symbols_too():
    a, b = sympy.symbols("a b", integer=True, positive=True)
    ledger = Ledger()
    x, y = (Counted(ShapeArray((n,)), ledger) for n in (a, b))
    x + x
    before, live, peak = ledger.snapshot(), ledger.live_bytes, ledger.peak_bytes
    with uncounted(ledger):
        kept = np.exp(y)
    assert not ledger.snapshot() - before
    assert ledger.live_bytes["activations"] == live["activations"] + kept.nbytes
    assert ledger.peak_bytes["activations"] == sympy.Max(peak["activations"], 4 * a + 8 * b)


def test_without_a_ledger_the_table_is_charged_and_the_rest_may_leave():
    ledger = Ledger()
    x = Counted(np.ones((2, 3), np.float32), ledger)
    with uncounted():
        assert type(x + 1) is Counted
        assert type(np.asarray(x)) is np.ndarray
        assert np.packbits(x > 0) == 0b11111100
    assert dict(ledger.snapshot().cost) == {"add": 6, "cmp": 6}


def test_an_error_in_the_block_is_numpys_and_ends_it():
    x = Counted(np.ones((2, 3), np.float32), Ledger())
    with pytest.raises(ValueError, match="matmul"), uncounted(x.ledger):
        np.matmul(x, x)
    with pytest.raises(Uncounted):
        np.asarray(x)
