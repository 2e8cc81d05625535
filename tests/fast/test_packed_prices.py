"""Packed matrices that look alike and are not: bytes and prices are each one's own."""

import numpy as np
import pytest
from checkpoints import checkpoint, tensors
from hypothesis import given
from hypothesis import strategies as st

from counting import Counted, Ledger, category
from minigpt import load
from minigpt.commands.allocator import allocated
from minigpt.fast.packed import DTYPES, PackedMatrix
from minigpt.inference.device import witness

SCALES = [None, np.float16, np.float32, np.float64]


@st.composite
def lookalikes(draw):
    """Packed matrices of one shape (d, d), or (in, out), and one dtype, with scales of any kind."""
    d_in, d_out = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)) | st.just((3, 3)))
    made = []
    for _ in range(draw(st.integers(2, 5))):
        turned = draw(st.booleans())
        shape = (d_out, d_in) if turned else (d_in, d_out)
        kind = draw(st.sampled_from(SCALES))
        scale = None if kind is None else np.ones(shape[0], kind)
        made.append(PackedMatrix(np.ones(shape, np.int8), scale, turned))
    return made


def charged(ledger, run):
    """Totals and bytes that `run` adds to a ledger, or None where it is refused."""
    before = ledger.snapshot()
    try:
        result = run()
    except TypeError:
        return None
    assert result.nbytes == result.data.nbytes
    counts = ledger.snapshot() - before
    return counts.cost, counts.bytes_read, counts.bytes_written, dict(counts)


def calls(ledger, matrix, bare):
    """`x @ w`, `w[rows]` and the same of its transpose; w counted, or `bare` beside what counts."""
    with category("weights"):
        w = matrix if bare else Counted(matrix, ledger)
    x = Counted(np.ones((2, matrix.shape[0]), np.float32), ledger)
    back = Counted(np.ones((2, matrix.shape[1]), np.float32), ledger)
    rows = Counted(np.zeros(3, int), ledger)
    found = [charged(ledger, lambda: x @ w), charged(ledger, lambda: back @ w.T)]
    return found if bare else [*found, charged(ledger, lambda: w[rows])]


@given(lookalikes(), st.booleans())
def test_prices_of_lookalikes_are_those_they_have_alone(matrices, bare):
    together = Ledger()
    for matrix in matrices:
        assert calls(together, matrix, bare) == calls(Ledger(), matrix, bare)


@given(lookalikes())
def test_live_bytes_of_lookalikes_are_all_of_their_bytes(matrices):
    ledger = Ledger()
    with category("weights"):
        kept = [Counted(matrix, ledger) for matrix in matrices]
    total = sum(part.nbytes for matrix in matrices for part in matrix.parts)
    assert ledger.live_bytes["weights"] == ledger.peak_bytes["weights"] == total
    del kept[:]
    assert ledger.live_bytes["weights"] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernels", ["0", "1"])
def test_weights_take_what_the_allocator_says(tmp_path, monkeypatch, dtype, kernels):
    """Of a checkpoint in float64: all of it is converted, so nothing is mapped."""
    if kernels == "1":
        pytest.importorskip("llvmlite")
    monkeypatch.setenv("MINIGPT_FAST", kernels)
    folder = checkpoint(tmp_path / "tiny", tensors(dtype="f8"))
    load(folder, dtype=dtype)  # what is made once for all models is no weight of this one
    with witness("cpu") as allocations:
        lm = load(folder, dtype=dtype)
        real = allocated(allocations)["weights"]
    assert lm.ledger.live_bytes["weights"] == lm.ledger.peak_bytes["weights"] == real


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_weights_of_the_shipped_model_take_what_the_allocator_says(monkeypatch, dtype):
    monkeypatch.setenv("MINIGPT_FAST", "0")
    with witness("cpu") as allocations:
        lm = load(dtype=dtype)
        real = allocated(allocations)["weights"]
    mapped = 0  # what is stored as it is held is no allocation
    for array in (lm.model.wte.weight.data, lm.model.wpe.weight.data):
        owner = array.stored if isinstance(array, PackedMatrix) else array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        mapped += array.nbytes if owner is not None else 0
    assert lm.ledger.live_bytes["weights"] == real + mapped
