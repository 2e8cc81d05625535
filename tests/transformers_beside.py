"""A model and the same one of transformers, pass by pass."""

import numpy as np

from counting import Counted, Ledger
from counting.views import matmul
from minigpt.formulas.other_counters import cache_name


def passes(theirs, make, weights):
    """Prefill and chunks of both over the same tokens, whose logits must agree.

    Args:
        make: counted weights by key -> our model.

    Yields:
        Where a pass starts, and the matmul FLOP of ours and of theirs.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    ledger = Ledger()
    ours = make({key: Counted(weight, ledger) for key, weight in weights.items()})
    cache, past = ours.new_cache(2, 40), None
    tokens = np.random.default_rng(0).integers(11, size=(2, 40))
    name = cache_name(theirs)
    for start, stop in ((0, 30), (30, 31), (31, 39), (39, 40)):
        new = tokens[:, start:stop]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            answer = theirs(torch.tensor(new), **{name: past}, use_cache=True)
        past = answer[name]
        before = ledger.snapshot()
        logits = ours(Counted(new, ledger), cache, "all")
        np.testing.assert_allclose(logits.data, answer.logits.numpy(), rtol=1e-4, atol=1e-4)
        yield start, matmul(ledger.snapshot() - before), counter.get_total_flops()
