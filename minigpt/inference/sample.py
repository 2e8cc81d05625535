"""Logits to a token.

It runs on bare arrays and on counted ones, whose ledger gets all arithmetic: 6 n - 1 operations for
n candidates. What orders candidates and finds one among them, a sort and binary searches, takes
comparisons whose number depends on the data: they are not counted.
"""

import secrets
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from counting import Counted
from minigpt.checks import SEED, SWITCH, checked, checked_fields, function, number, optional, whole


def share(value: Any) -> str | None:
    """A part of the whole: never nothing."""
    fits = type(value) in (int, float) and 0 < value <= 1
    return None if fits else "a number above 0 and at most 1"


CHECKS = {
    "max_new_tokens": whole(),
    "temperature": number(),
    "top_k": optional(whole()),
    "top_p": optional(share),
    "seed": optional(SEED),
    "ignore_eos": SWITCH,
}


@dataclass(frozen=True)
class Sampling:
    """How many tokens a generation draws, and how: the options of `generate`.

    Raises:
        InputError: one cannot be used, whatever the model.
    """

    max_new_tokens: int = 64
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        checked_fields(self, CHECKS)

    def seeded(self) -> "Sampling":
        """The same with a seed, drawn if none was given, so that it can be run again."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))


def sample(
    logits: Any,
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

    Raises:
        InputError: an argument cannot be used.
    """
    checked("logits", logits, _scores)
    checked("rng", rng, _generator)
    temperature = checked("temperature", temperature, number(below=sys.float_info.max))
    top_k = checked("top_k", top_k, CHECKS["top_k"])
    top_p = checked("top_p", top_p, CHECKS["top_p"])
    if temperature == 0:
        return int(_bare(np.argmax(logits)))
    order = _descending(_bare(logits))[:top_k]
    likely = logits[order]  # (k,), most likely first
    exact = np.empty_like(likely, dtype=np.float64)
    exact[...] = likely
    with np.errstate(over="ignore"):  # a temperature so low that all but the first are at -inf
        weights = np.exp((exact - exact[0]) / temperature)
    cumulative = np.cumsum(weights / weights.sum(), axis=0)
    sums = _bare(cumulative)
    kept = len(sums) if top_p is None else min(int(np.searchsorted(sums, top_p)) + 1, len(sums))
    drawn = _bare(rng.random() * cumulative[kept - 1])
    chosen = int(np.searchsorted(sums[:kept], drawn, side="right"))
    return int(order[min(chosen, kept - 1)])


def _scores(logits: Any) -> str | None:
    """Logits of which a token can be drawn; some may be at minus infinity."""
    fits = isinstance(logits, np.ndarray | Counted) and logits.ndim == 1 and logits.size
    if fits and logits.dtype.kind == "V":  # as bfloat16 is, and an array of fields
        fits = np.can_cast(logits.dtype, np.float64)
    fits = fits and logits.dtype.kind in "iufOV" and np.isfinite(_bare(logits).max())
    return None if fits else "an array (V,) of numbers, the largest of which is finite"


def _generator(rng: Any) -> str | None:
    """What draws numbers."""
    return "a Generator of NumPy" if function(getattr(rng, "random", None)) else None


def _descending(values: np.ndarray) -> np.ndarray:
    """Where the largest of some values is, then the next; of equals the first comes first."""
    return len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]


def _bare(x: Any) -> np.ndarray:
    return np.asarray(x.data if isinstance(x, Counted) else x, np.float64)
