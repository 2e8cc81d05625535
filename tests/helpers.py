"""Tiny GPT-2s on every kind of array, and calls of every function that is counted."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from counting import Counted, Counts, Ledger, category, scalars
from counting.composite import composite
from minigpt.models.architectures import build
from minigpt.models.families.deepseek import deepseek_v3
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

DRAWN: Counter[str] = Counter()  # claim -> the examples it was tried on


# A model, run.


@dataclass(frozen=True)
class Case:
    """A model and what it is given: `chunks` are the lengths of its successive forward passes."""

    config: Any
    batch: Any
    chunks: tuple[Any, ...]
    capacity: Any
    logits: str = "all"
    cached: Any = 0  # tokens that the cache is taken to hold already


class Run(NamedTuple):
    """What a run recorded, its live and peak bytes at the end, the logits of each chunk."""

    counts: Counts
    live: dict[str, Any]
    peak: dict[str, Any]
    logits: list[Counted]

    @property
    def record(self):
        return dict(self.counts), self.live, self.peak


def run(case, make, dtype=np.float32):
    """Runs a case on the arrays that `make(shape, dtype)` gives, tokens being of dtype int."""
    ledger = Ledger()
    with category("weights"):
        weights = {k: Counted(make(s, dtype), ledger) for k, s in case.config.shapes().items()}
    model = build(case.config, weights)
    cache = model.new_cache(case.batch, case.capacity)
    for layer in cache.layers:
        layer.length = case.cached
    prompts = (Counted(make((case.batch, T), int), ledger) for T in case.chunks)
    logits = [model(tokens, cache, case.logits) for tokens in prompts]
    return Run(ledger.snapshot(), ledger.live_bytes, ledger.peak_bytes, logits)


def opened():
    """A context in which composites are counted as the operations that they are made of."""
    return mock.patch.object(composite, "__call__", lambda self, *xs: self.function(*xs))


def numbers(seed, vocab):
    """A maker of random arrays: the same seed, the same arrays."""
    rng = np.random.default_rng(seed)

    def make(shape, dtype):
        if dtype is int:
            return rng.integers(vocab, size=shape)
        return (0.5 * rng.standard_normal(shape)).astype(dtype)

    return make


def counting_scalars(seed, vocab, tally):
    """A maker of the arrays of `numbers`, each number a Scalar."""
    make = numbers(seed, vocab)
    return lambda shape, dtype: held(make(shape, dtype), lambda x: as_scalars(x, tally))


def as_scalars(array, tally):
    return scalars(array, tally) if array.dtype.kind == "f" else array


SMALL_LLAMA = llama(
    vocab_size=7,
    hidden_size=6,
    intermediate_size=5,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=2,
    max_position_embeddings=9,
)
SMALL_DEEPSEEK = deepseek_v3(
    vocab_size=7,
    hidden_size=6,
    intermediate_size=5,
    moe_intermediate_size=4,
    num_hidden_layers=2,
    num_attention_heads=2,
    q_lora_rank=3,
    kv_lora_rank=4,
    qk_nope_head_dim=3,
    qk_rope_head_dim=2,
    v_head_dim=3,
    n_routed_experts=8,
    n_shared_experts=1,
    num_experts_per_tok=3,
    n_group=4,
    topk_group=2,
    first_k_dense_replace=1,
    max_position_embeddings=9,
)
SMALL = {  # one of each architecture
    "gpt2": Case(GPT2Config(7, 9, 6, 2, 3), 2, (3, 1), 5),
    "llama": Case(SMALL_LLAMA, 2, (3, 1), 5),
    "deepseek": Case(SMALL_DEEPSEEK, 2, (3, 1), 5),
}


@st.composite
def cases(draw):
    """Tiny models with a prompt of 1 to 4 tokens and up to two more passes, B of 1 or 2."""
    chunks = (draw(st.integers(1, 4)), *draw(st.lists(st.sampled_from((1, 1, 2)), max_size=2)))
    capacity = sum(chunks) + draw(st.integers(0, 2))
    heads = draw(st.integers(1, 3))
    return Case(
        config=GPT2Config(
            vocab_size=draw(st.integers(2, 9)),
            n_positions=capacity + draw(st.integers(0, 2)),
            n_embd=heads * draw(st.integers(1, 3)),
            n_layer=draw(st.integers(1, 2)),
            n_head=heads,
            n_inner=draw(st.none() | st.integers(1, 7)),
            tie_word_embeddings=draw(st.booleans()),
        ),
        batch=draw(st.integers(1, 2)),
        chunks=chunks,
        capacity=capacity,
        logits=draw(st.sampled_from(("last", "all"))),
    )


# Arrays.


def array(shape, dtype="f4"):
    """Numbers that no counted function minds: from 1 to 3."""
    return np.random.default_rng(0).uniform(1, 3, shape).astype(dtype)


def held(x, hold):
    """`x`, each NumPy array in it, at whatever depth, held by `hold(array)`."""
    if isinstance(x, np.ndarray):
        return hold(x)
    if isinstance(x, tuple | list):
        return type(x)(held(part, hold) for part in x)
    return {k: held(part, hold) for k, part in x.items()} if isinstance(x, dict) else x
