"""Which tokens meet which experts: read from the data, or assumed where arrays have none.

Arithmetic does not depend on it: each token meets k of E experts. The bytes of weights read do:
an expert is read once however many tokens it serves. On data the ledger says who was met, by path
(`mlp.experts.17`). On shapes only, one of three stated assumptions stands in, tokens spread evenly:

    expected  as many experts as choices met on average that are independent and uniform,
              E (1 - (1 - k / E) ** tokens), to the nearest whole one
    bound     as many as can be met, min(E, k * tokens)
    fewest    as few as can be met: all tokens choose the same k

All are exact for a single token: k experts. Nothing here is counted: it is control flow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from counting import ShapeArray


class Experts(Protocol):
    """What a configuration says of its experts: how many a layer has, and a token meets there,
    how many layers have them, and how many parameters one of them has."""

    @property
    def n_routed_experts(self) -> int: ...

    @property
    def num_experts_per_tok(self) -> int: ...

    @property
    def expert_layers(self) -> int: ...

    @property
    def expert_parameters(self) -> int: ...


Segments = tuple[tuple[int, int, int], ...]
"""Experts that are met, in order, and the first and the end of the rows of each."""


@dataclass(frozen=True)
class Dispatch:
    """Tokens sorted by expert, as pairs of a token and one of its k experts.

    Attributes:
        source: "observed", or the name of the assumption.
        tokens: the token of each pair, those of one expert side by side (tokens * k,).
        back: where the pairs went, in the order of tokens (tokens * k,).
        segments: each expert that is met, and the first and the end of its pairs.
    """

    source: str
    tokens: Any
    back: Any
    segments: Segments


Assumption = Callable[[Any, int], Dispatch]  # configuration, tokens -> who meets whom


def dispatch(chosen: np.ndarray) -> Dispatch:
    """The pairs that `chosen`, the experts of each token (tokens, k), makes."""
    flat = chosen.reshape(-1)
    order = np.argsort(flat, kind="stable")
    experts, starts = np.unique(flat[order], return_index=True)
    bounds = [*starts.tolist(), flat.size]
    segments = tuple(zip(experts.tolist(), bounds, bounds[1:], strict=False))
    return Dispatch("observed", order // chosen.shape[1], np.argsort(order), segments)


def expected_experts(experts: Experts, tokens: int) -> float:
    """How many different experts of a layer `tokens` tokens meet on average, if uniformly."""
    E, k = experts.n_routed_experts, experts.num_experts_per_tok
    return E * (1 - (1 - k / E) ** tokens)


def most_experts(experts: Experts, tokens: int) -> int:
    """How many different experts of a layer `tokens` tokens can meet."""
    return min(experts.n_routed_experts, tokens * experts.num_experts_per_tok)


def expected(experts: Experts, tokens: int) -> Dispatch:
    """The assumption that as many experts are met as on average, see above."""
    return _spread("expected", experts, tokens, round(expected_experts(experts, tokens)))


def bound(experts: Experts, tokens: int) -> Dispatch:
    """The assumption that as many experts are met as can be."""
    return _spread("bound", experts, tokens, most_experts(experts, tokens))


def fewest(experts: Experts, tokens: int) -> Dispatch:
    """The assumption that as few experts are met as can be."""
    return _spread("fewest", experts, tokens, experts.num_experts_per_tok)


def _spread(source: str, experts: Experts, tokens: int, met: int) -> Dispatch:
    """Pair i is of expert i % met: nothing is laid out, whatever the number of tokens."""
    pairs = tokens * experts.num_experts_per_tok
    each, more = divmod(pairs, met)  # the first `more` experts serve one pair more
    starts = [e * each + min(e, more) for e in range(met + 1)]
    places = ShapeArray((pairs,), np.int64)
    segments = tuple((expert, *ends) for expert, ends in enumerate(pairwise(starts)))
    return Dispatch(source, places, places, segments)
