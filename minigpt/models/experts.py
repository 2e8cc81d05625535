"""Experts: a feed-forward of which each token meets a part; and routers, which choose.

M  tokens to route, B * T        E  experts                 C  width of the model
T  new tokens of each sequence   A  that a token meets      F  width of an expert
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from counting.scope import scope
from minigpt.checks import a, checked
from minigpt.models.description import Part, Tensors, identity
from minigpt.models.module import Module
from minigpt.models.ops import Array, clamped_swiglu, probabilities, sigmoid, top_k
from minigpt.models.parts import Projection
from minigpt.models.routing import Assumption, Dispatch, Segments, dispatch, expected
from minigpt.models.shard import Shard

Exchange = Callable[[Array, Segments], tuple[Array, Segments, Callable[[Array], Array]]]


class Choice(NamedTuple):
    """How many experts there are, and how many of them a token meets."""

    n_routed_experts: Any
    num_experts_per_tok: Any


def stay(pairs: Array, segments: Segments) -> tuple[Array, Segments, Callable[[Array], Array]]:
    """An exchange where all experts are here, see `Experts`."""
    return pairs, segments, identity


class Experts(Module):
    """A feed-forward of which each token meets a part.

    Attributes:
        assume: which experts are met where arrays have no data, see `routing`.
        dispatch: which tokens met which experts in the last pass.
        exchange: of the pairs that tokens make, and the segments of each expert's, those that this
            device computes; and what puts their results in the place of the pairs.
        total: of what devices found that have experts each, the sum; as it is, on one.
    """

    def __init__(self, w: Tensors, router: Part, experts: Part) -> None:
        super().__init__(w.path)
        self.router, self.experts = router(w), experts(w)
        self.assume: Assumption = expected
        self.dispatch: Dispatch | None = None
        self.exchange: Exchange = stay
        self.total: Callable[[Array], Array] = identity

    def forward(self, x: Array) -> Array:  # (B, T, C) -> same
        B, T, C = x.shape
        x = x.reshape(B * T, C)  # (M, C)
        chosen, shares = self.router(x)  # (M, A) each
        with scope("dispatch"):
            self.dispatch = self._dispatch(chosen)
            pairs = x[self.dispatch.tokens]  # (M * A, C), those of one expert side by side
            rows, segments, home = self.exchange(pairs, self.dispatch.segments)
            y = np.empty_like(rows)
        for expert, start, stop in segments:
            y[start:stop] = self.experts[expert](rows[start:stop])
        with scope("combine"):
            y = home(y)[self.dispatch.back].reshape(B * T, chosen.shape[1], C)
            y = (y * shares[..., None]).sum(axis=1)  # (M, C)
        return self.total(y.reshape(B, T, C))

    def _dispatch(self, chosen: Array) -> Dispatch:
        """The pairs to make: read from the data, or assumed; of symbols, all for one expert."""
        try:
            return dispatch(np.array(chosen.tolist()))
        except TypeError:  # shapes only: nothing to read
            choice, (M, A) = self.router.choice, chosen.shape
        if all(isinstance(n, int) for n in choice):
            found = self.assume(choice, M)
            return checked("what assume gives", found, a("a Dispatch, see routing", Dispatch))
        pairs = chosen.reshape(M * A)
        return Dispatch("all to one", pairs, pairs, ((0, 0, M * A),))


class Beside(Module):
    """Two feed-forwards added up: experts that are chosen, and one that every token meets."""

    def __init__(self, w: Tensors, one: Part, other: Part) -> None:
        super().__init__(w.path)
        self.one, self.other = one(w), other(w)

    def forward(self, x: Array) -> Array:
        return self.one(x) + self.other(x)


class Opened(Module):
    """A feed-forward, of which each token takes a part: the sigmoid of one number."""

    def __init__(self, w: Tensors, C: Any, gate: str, feed_forward: Part) -> None:
        super().__init__(w.path)
        self.gate, self.feed_forward = Projection(w / gate, C, 1), feed_forward(w)

    def forward(self, x: Array) -> Array:
        y, part = self.feed_forward(x), self.gate(x)  # (..., C), (..., 1)
        with scope("act"):
            return y * sigmoid(part)


def numbers(count: Any) -> Iterable[int]:
    """Which experts a device has; of a symbolic count, one that stands for all."""
    if isinstance(count, Shard):
        return count.indices()
    return range(count if isinstance(count, int) else 1)


def apart(w: Tensors, count: Any, each: Part) -> dict[int, Module]:
    """An expert under each number."""
    return {i: each(w / str(i)) for i in numbers(count)}


class ClampedExpert(Module):
    """An expert of gpt-oss: gate and up column by column, all with biases; (in, out) matrices."""

    def __init__(self, path: str, tensors: list[Array], alpha: float, limit: float) -> None:
        super().__init__(path)
        self.gate_up, self.gate_up_bias, self.down, self.down_bias = tensors
        self.alpha, self.limit = alpha, limit

    def forward(self, x: Array) -> Array:  # (rows, C) -> same
        both = x @ self.gate_up + self.gate_up_bias  # (rows, 2F)
        with scope("act"):
            both = both.reshape(x.shape[0], self.down.shape[0], 2)
            x = clamped_swiglu(both[..., 0], both[..., 1], self.alpha, self.limit)
        return x @ self.down + self.down_bias


def stacked(
    w: Tensors, count: Any, C: Any, F: Any, alpha: float, limit: float
) -> dict[int, ClampedExpert]:
    """Experts whose tensors are stored as one."""
    stack = [
        w("gate_up_proj", count, C, F * 2),
        w("gate_up_proj_bias", count, F * 2),
        w("down_proj", count, F, C),
        w("down_proj_bias", count, C),
    ]
    return {
        i: ClampedExpert(f"{w.path}.{i}", [tensor[at] for tensor in stack], alpha, limit)
        for at, i in enumerate(numbers(count))
    }


# Routers: (M, C) -> the experts of each token and their shares, (M, A) twice.


def to_one(x: Array) -> Array:
    """Made to add up to 1 along the last axis."""
    return x / x.sum(axis=-1, keepdims=True)


def to_one_if_any(x: Array) -> Array:
    """As `to_one`, and 0 where all are 0."""
    return x / (x.sum(axis=-1, keepdims=True) + 1e-20)


class Router(Module):
    """The likeliest A of a softmax over all experts."""

    def __init__(
        self,
        w: Tensors,
        C: Any,
        choice: Choice,
        share: Callable[[Array], Array] = identity,
        factor: float = 1.0,
    ) -> None:
        super().__init__(w.path)
        self.choice, self.share, self.factor = choice, share, factor
        self.weight = w.rows("weight", choice[0], C)

    def forward(self, x: Array) -> tuple[Array, Array]:
        scores = probabilities(x @ self.weight.T)  # (M, E)
        with scope("top_k"):
            chosen, _ = top_k(scores, self.choice[1])
        with scope("shares"):
            shares = self.share(np.take_along_axis(scores, chosen, axis=-1))
            return chosen, shares if self.factor == 1.0 else shares * self.factor


class TopSoftmaxRouter(Module):
    """The best A, and a softmax over these; with a bias."""

    def __init__(self, w: Tensors, C: Any, choice: Choice) -> None:
        super().__init__(w.path)
        self.choice = choice
        self.weight, self.bias = w.rows("weight", choice[0], C), w("bias", choice[0])

    def forward(self, x: Array) -> tuple[Array, Array]:
        scores = x @ self.weight.T + self.bias  # (M, E)
        with scope("top_k"):
            chosen, _ = top_k(scores, self.choice[1])
        with scope("shares"):
            return chosen, probabilities(np.take_along_axis(scores, chosen, axis=-1))


class GroupRouter(Router):
    """The likeliest A of those groups that have the likeliest experts."""

    def __init__(
        self, w: Tensors, C: Any, choice: Choice, groups: int, best: int, **how: Any
    ) -> None:
        super().__init__(w, C, choice, **how)
        self.groups, self.best = groups, best

    def forward(self, x: Array) -> tuple[Array, Array]:
        scores = probabilities(x @ self.weight.T)  # (M, E)
        return self._of_groups(scores, scores)

    def _merit(self, choice: Array) -> Array:
        """Of each group: (M, groups, E / groups) -> (M, groups)."""
        return choice.max(axis=-1)

    def _of_groups(self, scores: Array, choice: Array) -> tuple[Array, Array]:
        """Experts chosen by `choice`, their shares by `scores`, (M, E) each."""
        M, (E, A) = choice.shape[0], self.choice
        with scope("groups"):
            choice = choice.reshape(M, self.groups, E // self.groups)
            _, others = top_k(self._merit(choice), self.best)  # -inf where a group is chosen
            choice = np.where(others[..., None] == -np.inf, choice, -np.inf).reshape(M, E)
        with scope("top_k"):
            chosen, _ = top_k(choice, A)
        with scope("shares"):
            shares = self.share(np.take_along_axis(scores, chosen, axis=-1))
            return chosen, shares * self.factor


class BalancedGroupRouter(GroupRouter):
    """The best A of the best groups, by sigmoids; a bias balances the load, no part of shares."""

    def __init__(self, w: Tensors, C: Any, choice: Choice, **how: Any) -> None:
        super().__init__(w, C, choice, **how)
        self.e_score_correction_bias = w("e_score_correction_bias", choice[0])

    def forward(self, x: Array) -> tuple[Array, Array]:
        scores = sigmoid(x @ self.weight.T)  # (M, E)
        return self._of_groups(scores, scores + self.e_score_correction_bias)

    def _merit(self, choice: Array) -> Array:
        two, _ = top_k(choice, 2)
        return np.take_along_axis(choice, two, axis=-1).sum(axis=-1)
