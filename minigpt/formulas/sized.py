"""What `count` and `plan` say of a model of given sizes, as polynomials in context and batch.

The model runs with its own sizes, but for the letters below: what it then costs are expressions in
them. A layer of each kind runs, and counts as often as there are such.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Symbol

from counting import ShapeArray
from counting.views import flops, matmul
from minigpt.formulas.closed_forms import largest
from minigpt.formulas.symbols import possible
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.routing import Dispatch, Experts, fewest
from minigpt.planning.activations import levels
from minigpt.planning.forward import Pass, forward, kept_bytes
from minigpt.planning.reads import read_once

SYMBOLS = {
    "n": "tokens of each sequence, the new one included",
    "B": "sequences in the batch",
    "p": "tokens of a prompt, which comes alone",
    "U": "different experts of a layer that the new tokens meet",
    "s": "new tokens that the busiest expert of a layer meets",
    "q": "tokens of the prompt that the busiest expert of a layer meets",
}
n, B, p, U, s, q = (Symbol(name, integer=True, positive=True) for name in SYMBOLS)
_N = Symbol("N", integer=True, nonnegative=True)  # n - 1

Largest = tuple[Expr, ...]
"""Polynomials: the figure is the largest of them."""


@lru_cache(maxsize=128)
def sized(config: Config, dtype: str = "float16") -> dict[str, Largest]:
    """What a decode step of B sequences at n tokens, and a prompt of p tokens, take.

    They are in `SYMBOLS`, and where layers look through windows in `Min(n, W)` and `Min(p, W)`, W a
    number. FLOP are those of `count`, the logits of a prompt's last position; bytes are of `dtype`.

    Returns:
        flops, matmul_flops: of the step.
        prompt_flops, prompt_matmul_flops: of the prompt.
        kv_cache: bytes of cache that a sequence of n tokens must hold.
        activations: bytes at most, attention fused, in the step and in the prompt.
        weights_read: bytes, as the code reads them.
        kv_moved: bytes of cache that the step reads and writes.
        weights_once, expanded_weights_once: bytes that it must read, see `read_once`, experts as
            few as can be; of latent attention, the cache compressed or expanded.
        expanded_matmul_flops, expanded_kv_cache: as without expanded_, where the cache is.

    Raises:
        InputError: the model has no closed forms.
    """
    if isinstance(config, DecoderConfig):
        possible(config)
    step = Pass(1, _N, B, "last", dtype, assume=_all_to_one)
    prompt = Pass(p, 0, 1, "last", dtype, assume=_all_to_one)
    expanded = replace(step, cache="expanded") if config.latent_cache else step
    # Of the prompt only FLOP are asked for, which are alike in every dtype: one run serves all.
    flop_alone = replace(prompt, dtype="float16")
    of_step, of_prompt, of_expanded = (_counts(config, of) for of in (step, flop_alone, expanded))
    busy_step, busy_prompt = (replace(of, assume=_busiest(x)) for of, x in ((step, s), (prompt, q)))
    once, other = (
        read_once(config, replace(of, assume=fewest, cache=of.cache or "compressed"))
        for of in (step, expanded)
    )
    found = {
        "flops": [of_step["flops"]],
        "matmul_flops": [of_step["matmul_flops"]],
        "prompt_flops": [of_prompt["flops"]],
        "prompt_matmul_flops": [of_prompt["matmul_flops"]],
        "kv_cache": [_kv_cache(config, dtype, "compressed")],
        "activations": [*levels(config, busy_step), *levels(config, busy_prompt)],
        "weights_read": [of_step["weights_read"]],
        "kv_moved": [of_step["kv_moved"]],
        "weights_once": [once],
        "expanded_weights_once": [other],
        "expanded_matmul_flops": [of_expanded["matmul_flops"]],
        "expanded_kv_cache": [_kv_cache(config, dtype, expanded.cache or "compressed")],
    }
    return {name: largest(map(_in_n, {*candidates})) for name, candidates in found.items()}


@lru_cache(maxsize=8)
def _counts(config: Config, sizes: Pass) -> dict[str, Any]:
    """Of all layers; each expert that is met reads as much as the one that stands for all."""
    counts, times = forward(config.short()[0], sizes).counts, config.times()
    total = dict.fromkeys(("flops", "matmul_flops", "weights_read", "kv_moved"), sympy.Integer(0))
    for path in dict.fromkeys(path for path, _ in counts):
        part, met = counts.where(path), U if ".experts." in path else 1
        cache = part.bytes_read["kv_cache"] + part.bytes_written["kv_cache"]
        for name, amount in {
            "flops": flops(part),
            "matmul_flops": matmul(part),
            "weights_read": part.bytes_read["weights"] * met,
            "kv_moved": cache,
        }.items():
            total[name] += times(path) * amount
    return total


def _kv_cache(config: Config, dtype: str, cache: str) -> Any:
    return kept_bytes(config, _N + 1, dtype, cache)["kv_cache"]


def _in_n(expr: Any) -> Expr:
    return sympy.expand(sympy.sympify(expr).xreplace({_N: n - 1}).replace(sympy.Min, _smaller))


def _smaller(*of: Any) -> Expr:
    """`Min` of n - 1 and a number W - 1 is `Min` of n and W, less 1."""
    less = sympy.Min(*of)
    if less.has(n) and (n - 1) in less.args:
        return sympy.Min(*(x + 1 for x in less.args)) - 1
    return less


def _all_to_one(experts: Experts, tokens: Any) -> Dispatch:
    """One expert stands for all: products take as many FLOP in one as in several."""
    return _busiest(tokens * experts.num_experts_per_tok)(experts, tokens)


def _busiest(pairs: Any) -> Callable[[Experts, Any], Dispatch]:
    """The expert that meets the most pairs stands for all: no other holds as much."""

    def assume(experts: Experts, tokens: Any) -> Dispatch:
        places = ShapeArray((tokens * experts.num_experts_per_tok,), np.int64)
        return Dispatch("symbols", places, places, ((0, 0, pairs),))

    return assume
