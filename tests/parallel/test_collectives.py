"""Sums and rows over processes: the values of MPI's own, and the bytes that sockets count."""

import pickle

import numpy as np
import pytest
import sympy
from checkpoints import ROOT
from one_rank import cases, counted
from ranks import over_tcp, run, two_hosts

from counting import Counted, Counts, Ledger, ShapeArray
from counting.ledger import CATEGORIES
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.communicators import Alone, OnPaper
from minigpt.planning.devices import SENT

COLUMNS = Ledger((*CATEGORIES, "wire")).columns


def found_by(size, seed, folder, **options):
    """Of each rank: the bytes of a message that are no data of ours, and what it found."""
    ran = run(size, ROOT / "tests/one_rank.py", folder, seed, **options)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(size)]


def check(case, size, ranks):
    """One case as each rank has found it: (values, rows, bytes moved, values
    of bare arrays, MPI's own), ..."""
    xs = case.inputs(size)
    exact = np.concatenate(xs, axis=-1) if case.widths else np.sum(xs, axis=0, dtype=np.float64)
    n, itemsize = exact.size, xs[0].dtype.itemsize
    sent, received, added = [], [], []
    for rank, (values, rows, _, bare, theirs) in enumerate(ranks):
        assert values.dtype == xs[0].dtype
        assert values.tobytes() == ranks[0][0].tobytes() == bare.tobytes()
        if case.widths:
            assert np.array_equal(values, exact)
            assert np.array_equal(values, theirs)
        else:
            atol = 9 * size**2 * np.finfo(values.dtype).eps * 4
            np.testing.assert_allclose(values, exact, rtol=0, atol=atol)
            np.testing.assert_allclose(values, theirs, rtol=0, atol=atol)
        shape, paper = counted(
            case, ShapeArray(xs[rank].shape, xs[rank].dtype), OnPaper(rank, size)
        )
        assert (shape.shape, shape.dtype) == (values.shape, values.dtype)
        assert dict(paper) == rows
        counts = Counts(COLUMNS, rows)
        passed = counts.where(operation=SENT)
        sent.append(sum(passed.bytes_read.values()))
        received.append(sum(passed.bytes_written.values()))
        assert received[-1] == counts.bytes_written["wire"]  # nothing else is written there
        assert not passed.cost
        added.append(counts.cost.get("add", 0))
        assert counts.cost.flops == added[-1]
    assert sent == received[1:] + received[:1]
    times = 1 if case.widths else 2  # that each element goes to all others
    assert sum(sent) == times * (size - 1) * n * itemsize
    assert sum(added) == (0 if case.widths else (size - 1) * n)
    if not case.widths and n % size == 0:
        assert set(sent) == {2 * (size - 1) * n // size * itemsize}
        assert set(added) == {(size - 1) * n // size}
    return sent


def check_all(size, seed, found):
    every = list(cases(seed, size))
    for rank, (framing, results, _) in enumerate(found):
        assert len(results) == len(every)
        assert framing == found[0][0]
        assert (framing > 0) == (size > 1), rank
    for number, case in enumerate(every):
        ranks = [(*results[number], theirs[number]) for _, results, theirs in found]
        sent = check(case, size, ranks)
        messages = 0 if size == 1 else (1 if case.widths else 2) * (size - 1)
        for (_, _, moved, *_), nbytes in zip(ranks, sent, strict=True):
            assert moved == nbytes + messages * found[0][0], case


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ranks_add_and_gather_and_their_sockets_send_what_is_counted(size, tmp_path):
    check_all(size, 5, found_by(size, 5, tmp_path, **over_tcp()))


def test_ranks_of_two_hosts_do_too(tmp_path):
    with two_hosts(tmp_path) as hosts:
        check_all(2, 6, found_by(2, 6, tmp_path, **hosts))


# On paper.


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_the_closed_forms_of_a_ring_are_read_off_a_run_on_a_symbol(size):
    m = sympy.Symbol("m", integer=True, positive=True)
    for rank in range(size):
        ledger = Ledger((*CATEGORIES, "wire"))
        x = Counted(ShapeArray((3, size * m), np.float32), ledger)
        total = all_reduce(x, OnPaper(rank, size))
        summed = ledger.snapshot()
        part = Counted(ShapeArray((3, m), np.float32), ledger)
        row = all_gather(part, [m] * size, OnPaper(rank, size))
        gathered = ledger.snapshot() - summed
        assert total.shape == row.shape == (3, size * m)
        n = 3 * size * m
        for counts, times in ((summed, 2), (gathered, 1)):
            passed = counts.where(operation=SENT)
            expected = sympy.Rational(times * (size - 1), size) * n * 4
            assert sympy.simplify(sum(passed.bytes_read.values()) - expected) == 0
            assert sympy.simplify(counts.bytes_written["wire"] - expected) == 0
        added = sympy.Rational(size - 1, size) * n
        assert sympy.simplify(summed.cost.flops - added) == 0
        assert gathered.cost.flops == 0


def test_alone_there_is_nothing_to_send():
    ledger = Ledger()
    x = Counted(np.ones((2, 3)), ledger)
    assert all_reduce(x, Alone()) is x
    assert all_gather(x, [3], Alone()) is x
    assert not ledger.snapshot()


def test_a_ledger_without_memory_of_the_wire_refuses():
    x = Counted(ShapeArray((4,)), Ledger())
    with pytest.raises(ValueError, match="unknown category 'wire'"):
        all_reduce(x, OnPaper(0, 2))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "bool"])
def test_arrays_of_any_numbers_are_passed_on(dtype, tmp_path):
    program = tmp_path / "rank.py"
    program.write_text(f"""
import ml_dtypes, numpy as np
from minigpt.parallel.collectives import all_gather
from minigpt.parallel.communicators import MPI
ring = MPI()
xs = [np.arange(6).reshape(2, 3)[:, : rank + 1].astype({dtype!r}) for rank in range(2)]
row = all_gather(xs[ring.rank], [1, 2], ring)
assert row.dtype == xs[0].dtype and np.array_equal(row, np.concatenate(xs, -1)), row
""")
    ran = run(2, program)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
