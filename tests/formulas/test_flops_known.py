"""Counts against numbers known from elsewhere: GPT-2 XL on paper, and PyTorch's own count."""

import numpy as np
import pytest
from helpers import Case, run
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, ShapeArray
from counting.views import VIEWS
from minigpt.formulas.other_counters import cache_name
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config

XL = GPT2_SIZES["gpt2-xl"]


def test_gpt2_xl_has_its_parameters():
    assert XL.parameters == 1_557_611_200
    weights = run(Case(XL, 1, (1,), 1), ShapeArray).live["weights"]
    assert weights == 4 * XL.parameters


@pytest.mark.parametrize(
    ("cached", "new", "flops"),
    [(0, 8, 24_899_200_000), (1023, 1, 3_424_515_200), (0, 1024, 3_506_703_564_800)],
)
def test_gpt2_xl_takes_its_flops(cached, new, flops):
    counts = run(Case(XL, 1, (new,), 1024, cached=cached), ShapeArray).counts
    assert VIEWS["matmul"](counts) == flops
    L, d, V = 48, 1600, 50257  # and on paper, with every query against every key
    assert flops == new * (24 * L * d**2 + 4 * L * (cached + new) * d + 2 * d * V)


@pytest.mark.parametrize(("dtype", "written"), [(np.float16, 307_200), (np.float32, 614_400)])
def test_gpt2_xl_keeps_its_keys_and_values(dtype, written):
    one = run(Case(XL, 1, (1,), 1024, cached=1023), ShapeArray, dtype)
    assert one.counts.bytes_written["kv_cache"] == written
    assert one.counts.bytes_read["kv_cache"] == one.live["kv_cache"] == 1024 * written


def test_only_the_last_logits_save_the_head_of_the_others():
    last, every = (run(Case(XL, 1, (8,), 8, which), ShapeArray).counts for which in ("last", "all"))
    assert VIEWS["matmul"](every) - VIEWS["matmul"](last) == 7 * 2 * 1600 * 50257


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="the peers are not installed: .[peers]")
    pytest.importorskip("transformers", reason="the peers are not installed: .[peers]")
    torch.set_num_threads(1)
    return torch


@st.composite
def peers(draw):
    """A small case, its last chunk one token."""
    heads = draw(st.integers(1, 4))
    chunks = (draw(st.integers(1, 9)), 1)
    config = GPT2Config(
        vocab_size=draw(st.integers(2, 99)),
        n_positions=16,
        n_embd=heads * draw(st.integers(1, 8)),
        n_layer=draw(st.integers(1, 3)),
        n_head=heads,
        n_inner=draw(st.none() | st.integers(1, 50)),
        tie_word_embeddings=draw(st.booleans()),
        eos_token_id=None,
    )
    return Case(config, draw(st.integers(1, 3)), chunks, sum(chunks))


@settings(max_examples=25)
@given(peers(), st.integers(0, 2**32 - 1))
def test_flops_and_logits_are_those_of_pytorch(torch, case, seed):
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import GPT2Config as PeerConfig
    from transformers import GPT2LMHeadModel

    c = case.config
    sizes = {name: getattr(c, name) for name in c.__dataclass_fields__}
    config = PeerConfig(**sizes, bos_token_id=None, attn_implementation="eager")
    peer = GPT2LMHeadModel(config).eval().double().requires_grad_(False)
    torch.manual_seed(seed)
    for parameter in peer.parameters():
        parameter.normal_(std=0.5)
    theirs = {k.removeprefix("transformer."): v.numpy() for k, v in peer.state_dict().items()}

    ledger, name, past = Ledger(), cache_name(peer), None
    model = GPT2(c, {key: Counted(weight, ledger) for key, weight in theirs.items()})
    cache = model.new_cache(case.batch, case.capacity)
    for T in case.chunks:
        tokens = torch.randint(c.vocab_size, (case.batch, T))
        before = ledger.snapshot()
        logits = model(Counted(tokens.numpy(), ledger), cache, "all")
        with FlopCounterMode(display=False) as counter:
            out = peer(tokens, **{name: past}, use_cache=True)
        past = out[name]
        assert VIEWS["matmul"](ledger.snapshot() - before) == counter.get_total_flops() > 0
        np.testing.assert_allclose(logits.data, out.logits.numpy(), rtol=1e-9, atol=1e-9)
