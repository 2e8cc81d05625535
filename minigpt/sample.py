"""Logits to a token."""

import numpy as np


def sample(
    logits: np.ndarray,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """A token drawn from softmax(logits / temperature), logits of shape (V,).

    Args:
        temperature: 0 takes the most likely token.
        top_k: draw from the k most likely tokens only.
        top_p: draw from the fewest most likely tokens that together reach probability p.
    """
    if temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")[:top_k]  # most likely first
    below = logits[order].astype(np.float64) - float(logits[order[0]])
    with np.errstate(over="ignore"):  # a temperature so low that all but the first are at -inf
        weights = np.exp(below / temperature)
    cumulative = np.cumsum(weights / weights.sum())
    if top_p is not None:
        kept = int(np.searchsorted(cumulative, top_p)) + 1
        cumulative = cumulative[:kept]
    drawn = rng.random() * cumulative[-1]
    return int(order[min(np.searchsorted(cumulative, drawn, side="right"), len(cumulative) - 1)])
