"""An operation as a thing, conditions on it, and what is computed aside."""

import numpy as np
import pytest
from checkpoints import PROMPT
from stepped import columns

from counting import Counted, Ledger, executed, trace
from counting.machine import Unavailable
from counting.stepping.operation import condition, uncounted
from minigpt import load, steps


def test_an_operation_is_a_thing():
    [op] = (op for op in steps(load(), PROMPT) if op.path == "h.3.attn.av" and op.name == "matmul")
    assert op.output.shape == (1, 8, 7, 32)
    assert [x.shape for x in op.inputs] == [(1, 8, 7, 7), (1, 8, 7, 32)]
    assert op.cost == trace(np.matmul, *(x.shape for x in op.inputs)).cost
    assert (op.flops, op.allocation) == (2 * 8 * 7 * 7 * 32, 8 * 7 * 32 * 4)
    assert op.counts["written", "activations"] == op.output.nbytes
    assert repr(op).startswith(f"<operation {op.number}, matmul at h.3.attn.av -> Counted((1, 8")


def test_what_the_processor_executes_of_an_operation():
    pytest.importorskip("capstone")
    try:
        executed(len, ())
    except Unavailable as error:
        pytest.skip(str(error))
    ops = {(op.path, op.name): op for op in steps(load(), PROMPT)}
    most = ops["h.3.attn.softmax", "max"]
    assert most.executed().lanes("NumPy")["cmp", 32] >= most.cost["cmp"]
    product = ops["h.3.attn.av", "matmul"]
    did = product.executed().lanes("OpenBLAS")
    assert did["fma", 32] >= product.cost["fma"]
    written = next(op for op in steps(load(), PROMPT) if op.output is None)
    with pytest.raises(ValueError, match="writes in place"):
        written.executed()


def test_conditions():
    def after(text, **options):
        return next((op.number for op in steps(lm, PROMPT) if condition(text)(op)), None)

    lm = load()
    ops = [(op.number, op.flops, op.allocation) for op in steps(lm, PROMPT)]
    assert after("flops>1e6") == next(n for n, flops, _ in ops if flops > 1e6)
    assert after("alloc >= 7168") == next(n for n, _, alloc in ops if alloc >= 7168)
    assert after("flops>1e12") is None
    assert after("nan") is None
    masked = next(op for op in steps(lm, PROMPT) if condition("inf")(op))
    assert (masked.path, masked.name) == ("h.0.attn.softmax", "where")
    lm.model.h[2].mlp.c_fc.bias.data = np.full(1024, np.nan, np.float32)
    broken = next(op for op in steps(lm, PROMPT) if condition("nan")(op))
    assert (broken.path, broken.name) == ("h.2.mlp.c_fc", "add")


@pytest.mark.parametrize("text", ["", "flops", "flops>", "flops>1.2.3", "flops<1", "when nan", "1"])
def test_a_condition_that_is_none(text):
    with pytest.raises(ValueError, match="is no condition: flops>1e6, alloc>1e4, nan or inf"):
        condition(text)


def test_what_is_computed_aside_is_not_charged():
    ledger = Ledger()
    x = Counted(np.ones((4, 4), np.float32), ledger)
    y = x @ x
    before, live, peak = ledger.snapshot(), ledger.live_bytes, ledger.peak_bytes
    with uncounted(ledger):
        kept = np.exp(y @ y + x)
        kept[0] = 1.0
        assert ledger.live_bytes["activations"] == live["activations"] + kept.nbytes
    assert columns(ledger.snapshot()) == columns(before)
    assert ledger.observer is None
    assert ledger.peak_bytes == ledger.live_bytes  # what is kept is really there
    del kept
    assert ledger.live_bytes == live
    with uncounted(ledger):
        np.exp(y @ y + x)
    assert (ledger.live_bytes, ledger.peak_bytes["kv_cache"]) == (live, peak["kv_cache"])
    assert np.exp(y).charge.cost == {"exp": 16}
    assert (ledger.snapshot() - before).total("calls") == 1
