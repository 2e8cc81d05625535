"""A composite is counted as one operation, and charged what the operations in it take."""

from collections import Counter

import numpy as np
import pytest
from helpers import SMALL, array, as_scalars, cases, numbers, opened, run
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, ShapeArray, Uncounted, category, scope
from counting.composite import composite, fused
from counting.ledger import LONGEST


@composite
def spread(x, weight, power):
    """Takes room for one temporary, the result apart."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return np.exp(centred * power) @ weight


def totals(counts):
    """What each path adds up to, whatever the operations."""
    paths = counts.by(lambda path: path)
    return {name: [part.total(c) for c in counts.columns] for name, part in paths.items()}


@settings(max_examples=100)
@given(cases() | st.sampled_from(list(SMALL.values())), st.integers(0, 2**32 - 1))
def test_a_model_with_its_composites_opened_costs_the_same(case, seed):
    for maker in (lambda: ShapeArray, lambda: numbers(seed, case.config.vocab_size)):
        closed = run(case, maker())
        with opened():
            parts = run(case, maker())
        assert totals(closed.counts) == totals(parts.counts)
        assert (closed.live, closed.peak) == (parts.live, parts.peak)
        assert len(closed.counts) < len(parts.counts)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("purpose", ["activations", "kv_cache"])
def test_a_composite_is_one_row_that_sums_its_parts(rows, purpose):
    ledger = Ledger()
    with category("weights"):
        weight = Counted(array((3, 4)), ledger)
    x = Counted(array((rows, 3)), ledger)
    with scope("here"), category(purpose):
        y = spread(x, weight, 2.0)
        held = x.nbytes if purpose == "activations" else 0
        assert ledger.peak_bytes[purpose] == held + 2 * x.nbytes + y.nbytes
        bare = spread.function(x, weight, 2.0)
    counts = ledger.snapshot()
    one, parts = (
        counts.where("here", "spread"),
        counts.where("here") - counts.where("here", "spread"),
    )
    assert one.cost == parts.cost == y.charge.cost
    assert one.bytes_read == parts.bytes_read
    assert one.bytes_written == parts.bytes_written
    assert one.total("dots") == rows * 4
    assert y.data.tobytes() == bare.data.tobytes()


def test_on_arrays_that_do_not_count_it_is_the_function():
    x, weight = array((2, 3)), array((3, 4))
    assert spread(x, weight, 2.0).tobytes() == spread.function(x, weight, 2.0).tobytes()
    assert spread(ShapeArray((2, 3)), weight, 2.0).shape == (2, 4)
    assert spread.__doc__.startswith("Takes room")


def test_in_a_block_a_fused_kernel_runs_in_its_place_at_the_same_price():
    bare = array((2, 3)), array((3, 4)), 2.0
    x, weight = (Counted(part, Ledger()) for part in bare[:2])
    weight = Counted(weight.data, x.ledger)
    sevens = np.full((2, 4), 7, np.float32)
    before = spread(x, weight, 2.0)
    with fused({spread: lambda *operands: sevens}):
        assert spread(*bare) is sevens
        inside = spread(x, weight, 2.0)
        with fused({}):
            assert np.array_equal(spread(*bare), before.data)
        assert spread(*bare) is sevens
    assert inside.data is sevens
    assert inside.charge.cost == before.charge.cost
    assert np.array_equal(spread(*bare), before.data)
    assert np.array_equal(spread(x, weight, 2.0).data, before.data)


def test_a_composite_of_scalars_executes_what_it_is_charged():
    ledger, tally = Ledger(), Counter()
    x, weight = (Counted(as_scalars(array(s, "f8"), tally), ledger) for s in ((2, 3), (3, 4)))
    assert spread(x, weight, 2.0).charge.cost == tally


def test_a_composite_hides_no_operation_without_a_row():
    ledger = Ledger()
    x = Counted(array((2, 3)), ledger)
    with pytest.raises(Uncounted, match=r"numpy\.add\.reduceat has no row in the table of costs"):
        composite(lambda x: np.add.reduceat(x, np.array([0])))(x)
    assert ledger.snapshot().total("calls") == 0


def test_a_composite_may_be_made_of_composites():
    twice = composite(lambda x, weight: spread(spread(x, weight, 1.0), weight.T.copy(), 1.0))
    x, weight = (Counted(array(shape), Ledger()) for shape in ((2, 4), (4, 3)))
    with pytest.raises(ValueError, match="two ledgers"):
        twice(x, weight)
    weight = Counted(weight.data, x.ledger)
    assert twice(x, weight).charge.cost["fma"] == 2 * 2 * 4 * 3


def test_on_shapes_a_price_that_is_known_is_not_found_again():
    """All that comes out is part of it: the code runs for the first result, and for its trace."""
    times = 0

    @composite
    def doubled(x):
        nonlocal times
        times += 1
        return x + x

    ledger = Ledger()
    x, longer = (Counted(ShapeArray((n, 3)), ledger) for n in (2, 5))
    first, again, other = doubled(x), doubled(x), doubled(longer)
    assert times == 2 * 2
    assert (first.shape, again.shape, other.shape) == ((2, 3), (2, 3), (5, 3))
    assert ledger.snapshot().cost == {"add": 6 + 6 + 15}
    del again
    assert ledger.live_bytes["activations"] == 4 * (6 + 15) * 2


@pytest.mark.parametrize("make", [np.asarray, lambda x: ShapeArray(x.shape, x.dtype)])
def test_memory_of_a_long_composite_is_that_of_its_lines(make):
    """However many operations: its own ledger keeps the events of all."""

    def lines(x):
        x = np.concatenate([x] * 9)[:4] + x  # the most comes early
        for _ in range(LONGEST // 3 + 10):
            x = x + x
        return x

    peaks = []
    for function in (lines, composite(lines)):
        ledger = Ledger()
        x = Counted(make(np.zeros(4)), ledger)
        function(x)
        peaks.append((ledger.peak_bytes, ledger.live_bytes, ledger.snapshot().cost))
    assert peaks[0] == peaks[1]
