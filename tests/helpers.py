"""Tiny GPT-2s on every kind of array, and calls of every function that is counted."""

import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from counting import Counted, Counts, Ledger, category, scalars
from counting.calls import JOINS
from counting.composite import composite
from counting.primitives import getitem, setitem
from counting.shapes import REDUCTIONS
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


# A function, called.

SHAPES = hnp.array_shapes(max_dims=4, max_side=4)
MATRICES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)
FLOATS = ("f4", "f8")
DTYPES = ("f2", "f4", "f8", "i4", "i8", "u1", "?")


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


WHOLE = (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert)  # of whole numbers alone
WHOLE += (np.left_shift, np.right_shift, np.bitwise_count)


@st.composite
def calls(draw, function, dtypes=DTYPES, masks=False):
    """Arguments of a function that has a row in COSTS: a tuple, and a dict of named ones.

    Args:
        masks: elements may be chosen by a mask, which shapes alone do not know.
    """

    def some(shape):
        return array(shape, draw(st.sampled_from(dtypes)))

    def axis(x):
        return draw(st.integers(-x.ndim, x.ndim - 1))

    def broadcastable(n):
        shapes = hnp.mutually_broadcastable_shapes(num_shapes=n, max_dims=4, max_side=4)
        return [some(shape) for shape in draw(shapes).input_shapes]

    number = st.sampled_from((2, 2.0))
    x = some(draw(SHAPES))
    if isinstance(function, np.ufunc) and function.signature:  # of rows and matrices
        signature = function.signature.replace("?", "")
        fit = draw(hnp.mutually_broadcastable_shapes(signature=signature, max_dims=2))
        return tuple(map(some, fit.input_shapes)), {}
    if function in WHOLE:
        dtypes, number = ("i4", "i8", "?"), st.just(2)
        x = some(x.shape)
    if function is np.ldexp:
        return (x, 2), {}
    if function in (np.arcsin, np.arccos, np.arctanh):
        return (x / 4,), {}
    if isinstance(function, np.ufunc) and function.nin == 1:
        return (x,), {}
    if isinstance(function, np.ufunc):
        either = st.sampled_from(((x, draw(number)), (draw(number), x)))
        return draw(st.just(tuple(broadcastable(2))) | either), {}
    if function in REDUCTIONS:
        axes = st.none() | st.just(axis(x))
        if function not in (np.argmax, np.argmin):
            axes |= st.sets(st.integers(0, x.ndim - 1)).map(tuple)
        options = {"axis": axes, "keepdims": st.booleans()}
        if function in (np.var, np.std):
            options["ddof"] = st.just(1) if x.size == 0 else st.just(0.5)
        if function is np.prod:
            x = (x / 2).astype(x.dtype)
        return (x,), draw(st.fixed_dictionaries({}, optional=options))
    if function in (np.cumsum, np.cumprod):
        x = (x / 2).astype(x.dtype)
        return (x,), draw(
            st.fixed_dictionaries({}, optional={"axis": st.none() | st.just(axis(x))})
        )
    if function is np.where:
        mask, x, y = broadcastable(3)
        return (mask > 2, x, draw(st.just(y) | number)), {}
    if function is np.take:
        rows = draw(hnp.arrays(int, draw(SHAPES), elements=st.integers(0, len(x) - 1)))
        return (x, rows), {"axis": 0}
    if function is np.take_along_axis:
        by = axis(x)
        shape = [draw(st.sampled_from((1, dim))) for dim in x.shape]
        shape[by] = draw(st.integers(1, 4))
        places = draw(hnp.arrays(int, tuple(shape), elements=st.integers(0, x.shape[by] - 1)))
        return (x, places), {"axis": by}
    if function is np.copy:
        return (x,), draw(st.sampled_from(({}, {"order": "C"})))
    if function is np.copyto:
        shape = tuple(draw(st.sampled_from((1, dim))) for dim in x.shape)
        return (x, array(shape[draw(st.integers(0, x.ndim)) :], x.dtype)), {}
    if function in (np.ones_like, np.empty_like):
        options = {"dtype": st.sampled_from((bool, np.float32)), "shape": SHAPES}
        return (x,), draw(st.fixed_dictionaries({}, optional=options))
    if function is np.tril:
        return (some(draw(MATRICES)), draw(st.integers(-4, 4))), {}
    if function is np.reshape:
        shape = list(draw(st.permutations(x.shape)))
        shape.insert(draw(st.integers(0, x.ndim)), draw(st.just(1) | st.just(shape.pop())))
        shape = [*shape, x.size // int(np.prod(shape))]
        if draw(st.booleans()):
            shape[draw(st.integers(0, len(shape) - 1))] = -1
        return (x, tuple(shape)), {}
    if function is np.swapaxes:
        return (x, axis(x), axis(x)), {}
    if function is np.transpose:
        order = tuple(i - draw(st.sampled_from((0, x.ndim))) for i in range(x.ndim))
        return (x, *draw(st.just(()) | st.tuples(st.permutations(order).map(tuple)))), {}
    if function in JOINS:
        by = draw(st.integers(0, x.ndim - 1))
        lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        arrays = [some((*x.shape[:by], n, *x.shape[by + 1 :])) for n in lengths]
        if function is not np.concatenate:
            arrays = [some(x.shape) for _ in lengths]
        axes = st.just(by) | (st.none() if function is np.concatenate else st.just(-1))
        options = {"axis": axes} if JOINS[function] else {}
        return (arrays,), draw(st.fixed_dictionaries(options))
    if function in (getitem, setitem):
        index = draw(st.sampled_from(("places", "some", "mask" if masks else "some")))
        by = draw(st.integers(0, x.ndim - 1))
        places = hnp.arrays(int, draw(SHAPES), elements=st.integers(-1, x.shape[by] - 1))
        parts = {
            "places": (*[slice(None)] * by, draw(places)),
            "some": (*[slice(None, None, 2)] * by, draw(places), None),
            "mask": (draw(hnp.arrays(bool, x.shape)),),
        }[index]
        return (x, *parts) if function is getitem else (x, draw(number), *parts), {}
    if function is np.squeeze:
        shape = draw(hnp.array_shapes(max_dims=4, max_side=2))
        ones = [i for i, n in enumerate(shape) if n == 1]
        axes = st.none() | st.sets(st.sampled_from(ones or [0])).map(tuple) if ones else st.none()
        return (some(shape),), draw(st.fixed_dictionaries({}, optional={"axis": axes}))
    if function is np.expand_dims:
        return (x, draw(st.integers(-x.ndim - 1, x.ndim))), {}
    if function is np.moveaxis:
        both = st.permutations(range(x.ndim))
        n = draw(st.integers(1, x.ndim))
        return (x, tuple(draw(both)[:n]), tuple(draw(both)[:n])), {}
    if function is np.ravel:
        return (x,), {}
    if function is np.flip:
        return (x,), draw(st.fixed_dictionaries({}, optional={"axis": st.just(axis(x))}))
    if function is operator.getitem:
        return (x, draw(hnp.basic_indices(x.shape, allow_newaxis=True))), {}
    raise NotImplementedError(f"say here how {function.__name__} is called")
