"""Rotary position embedding: how queries and keys turn with their position, plain and stretched.

Su et al., 2021. Dimensions go in pairs; pair i of D / 2 turns by theta ** (-2 i / D) for each
position. Models trained on a short context slow the slow pairs down to reach a longer one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from counting.scope import at
from minigpt.checks import NAME, shown
from minigpt.models.description import identity
from minigpt.models.module import Module
from minigpt.models.ops import Array, as_dtype_of, count_up, rope, rope_interleaved
from minigpt.models.values import Values


def frequencies(theta: float, dim: int) -> list[float]:
    """Radians a position of each of the dim / 2 pairs, fastest first."""
    return [theta ** (-2 * i / dim) for i in range(dim // 2)]


@dataclass(frozen=True)
class Scaling:
    """How a model reaches beyond the context that it was first trained on: here, not at all.

    Attributes:
        attention_factor: what cosines and sines are multiplied by.
        softmax_factor: what DeepSeek's scores are multiplied by.
    """

    @property
    def attention_factor(self) -> float:
        return 1.0

    @property
    def softmax_factor(self) -> float:
        return 1.0

    def stretch(self, theta: float, dim: int) -> list[float]:
        """As `frequencies`, for the longer context."""
        return frequencies(theta, dim)


UNSCALED = Scaling()


@dataclass(frozen=True)
class LinearScaling(Scaling):
    """All positions divided by `factor` (Chen et al., 2023)."""

    factor: float

    def stretch(self, theta: float, dim: int) -> list[float]:
        return [frequency / self.factor for frequency in frequencies(theta, dim)]


@dataclass(frozen=True)
class Llama3Scaling(Scaling):
    """Llama 3.1's: pairs that turn often in the old context stay, rare ones slow by `factor`.

    Between the two, by how often they turn. Source: `apply_scaling` in Meta's llama-models.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def stretch(self, theta: float, dim: int) -> list[float]:
        low, high = self.low_freq_factor, self.high_freq_factor

        def stretched(frequency: float) -> float:
            turns = self.original_max_position_embeddings * frequency / (2 * math.pi)
            kept = min(max((turns - low) / (high - low), 0.0), 1.0)
            return kept * frequency + (1 - kept) * frequency / self.factor

        return [stretched(frequency) for frequency in frequencies(theta, dim)]


@dataclass(frozen=True)
class YarnScaling(Scaling):
    """YaRN (Peng et al., 2023), as DeepSeek uses it: the same idea, by a ramp over the pairs.

    Scores grow with the logarithm of `factor`. Source: inference/model.py of DeepSeek-V3.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32  # turns in the old context above which a pair stays
    beta_slow: float = 1  # and below which it slows by `factor`
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    said: float | None = None  # for what `attention_factor` else is computed
    truncate: bool = True  # the ramp goes from a whole pair to a whole pair

    @property
    def attention_factor(self) -> float:
        if self.said is not None:
            return self.said
        if self.mscale and self.mscale_all_dim:
            return self._growth(self.mscale) / self._growth(self.mscale_all_dim)
        return self._growth(1.0)

    @property
    def softmax_factor(self) -> float:
        return self._growth(self.mscale_all_dim) ** 2

    def _growth(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def stretch(self, theta: float, dim: int) -> list[float]:
        def pair(turns: float) -> float:  # that turns so often in the old context
            once = self.original_max_position_embeddings / (turns * 2 * math.pi)
            return dim * math.log(once) / (2 * math.log(theta))

        first, last = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, dim - 1)
        width = max(last - first, 0.001)

        def stretched(i: int, frequency: float) -> float:
            slowed = min(max((i - first) / width, 0.0), 1.0)
            return (1 - slowed) * frequency + slowed * frequency / self.factor

        return [stretched(i, frequency) for i, frequency in enumerate(frequencies(theta, dim))]


def read_scaling(said: Values) -> Scaling:
    """The scaling that the rotary parameters of a config.json ask for.

    A kind that is not computed is listed in `said.uncomputed`: it changes what a model says, and
    neither sizes nor FLOP.

    Raises:
        InputError: values are missing, or cannot be.
    """
    kind = said.given.get("rope_type", said.given.get("type", "default"))
    if must := NAME(kind):
        raise said.error(f"rope_type is {shown(kind)}; it must be {must}")
    match kind:
        case "default":
            return UNSCALED
        case "linear":
            scaling: Scaling = LinearScaling(said.factor)
        case "llama3":
            low, high = said.low_freq_factor, said.high_freq_factor
            if low >= high:
                raise said.error("low_freq_factor is not below high_freq_factor")
            old = said.original_max_position_embeddings
            scaling = Llama3Scaling(said.factor, low, high, old)
        case "yarn":
            scaling = YarnScaling(
                said.factor,
                said.original_max_position_embeddings,
                *(said.beta_fast, said.beta_slow, said.mscale, said.mscale_all_dim),
                said=said.attention_factor,
                truncate=said.truncate,
            )
        case _:
            said.uncomputed.append(f"rotary scaling {shown(kind)}")
            return UNSCALED
    if said.factor < 1:
        raise said.error(f"the factor of rotary scaling is {said.factor}, below 1")
    return scaling


@dataclass(frozen=True)
class Rope:
    """How queries and keys turn with their position.

    Attributes:
        width: R, the numbers of a head that turn, an even number: the first R of D.
        frequencies: radians a position of each of the R / 2 pairs; none if R is a symbol.
        scale: of cosines and sines.
        interleaved: the two of a pair lie side by side, not half a width apart.
        partial: R is less than D.
    """

    width: Any
    frequencies: tuple[float, ...]
    scale: float = 1.0
    interleaved: bool = False
    partial: bool = False

    def on(self, like: Array, path: str) -> "Rotary":
        """Arrays of the kind of `like`, for all layers that turn so."""
        return Rotary(like, path, self)


YARN = {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 0.0, "mscale_all_dim": 0.0}
_USUAL = {**YARN, "attention_factor": None, "truncate": True}


def rotary_parameters(c: Values, kind: str | None = None, **own: Any) -> Values:
    """What a config.json says of rotary positions, whether of old style or of new.

    Args:
        kind: of layer, if the file may give each kind its own.
        own: what holds for this kind unless the file says otherwise.
    """
    given = c.rope_parameters or c.rope_scaling or {}
    by_kind = given.get(kind)
    given = by_kind if isinstance(by_kind, dict) else own or given
    usual = {"rope_theta": c.rope_theta}
    if c.takes("partial_rotary_factor"):  # in others all of a head turns, whatever a file says
        usual["partial_rotary_factor"] = c.partial_rotary_factor
    usual["original_max_position_embeddings"] = c.max_position_embeddings
    said = Values({k: v for k, v in given.items() if v is not None}, c.source, _USUAL | usual)
    said.uncomputed = c.uncomputed
    return said


def read_rope(
    c: Values, D: Any, kind: str | None = None, interleaved: bool = False, **own: Any
) -> Rope:
    """The rotary positions of heads D wide that a config.json asks for, see `rotary_parameters`.

    Raises:
        InputError: values are missing, or cannot be.
    """
    said = rotary_parameters(c, kind, **own)
    theta, scaling = said.rope_theta, read_scaling(said)
    if not isinstance(D, int):
        return Rope(D, (), interleaved=interleaved)
    R = int(D * (said.partial_rotary_factor if c.takes("partial_rotary_factor") else 1))
    what = f"{R} of a head's {D} numbers would turn with the position"
    if R % 2 or not R:
        raise c.error(f"{what}; pairs need an even number")
    if R > MOST:
        raise c.error(f"{what}, and {MOST} can at most")
    turns = tuple(scaling.stretch(theta, R))
    return Rope(R, turns, scaling.attention_factor, interleaved, partial=R < D)


MOST = 4096  # numbers of a head that turn: more are a mistake, and are written pair by pair
Turn = Callable[[Array], Array]  # queries or keys (..., T, D) -> turned


class Rotary(Module):
    """Turns queries and keys, by angles found once a pass for all layers of a kind.

    They are computed anew in each pass, and counted: a table would hold the whole context. The
    angles are float32, for 16 bits cannot tell far positions apart.

    Args:
        like: any array of the kind to make (a weight, say).
        how: the pairs of a head, and how fast they turn.
    """

    def __init__(self, like: Array, path: str, how: Rope) -> None:
        super().__init__(path)
        self.how = how
        shape = (how.width // 2, 2) if how.interleaved else (2, how.width // 2)
        with at(path):
            self.frequencies = np.empty_like(like, dtype=np.float32, shape=shape)
            by_sign = self.frequencies.swapaxes(0, 1) if how.interleaved else self.frequencies
            for i, frequency in enumerate(how.frequencies):
                by_sign[0, i : i + 1] = -frequency
                by_sign[1, i : i + 1] = frequency

    def forward(self, x: Array, T: Any, N: Any) -> Turn:
        """What turns the queries and keys of T positions after N, in the dtype of `x`."""
        positions = count_up(x, T) + N  # (T,)
        angles = positions[:, None, None] * self.frequencies  # (T, 2, R / 2) or (T, R / 2, 2)
        cos, sin = np.cos(angles), np.sin(angles)
        if self.how.scale != 1.0:
            cos, sin = cos * self.how.scale, sin * self.how.scale
        cos, sin = as_dtype_of(cos, x), as_dtype_of(sin, x)
        turned = rope_interleaved if self.how.interleaved else rope
        R = self.how.width

        def some(x: Array) -> Array:
            y = np.empty_like(x, shape=x.shape)
            y[..., :R] = turned(x[..., :R], cos, sin)
            y[..., R:] = x[..., R:]
            return y

        return some if self.how.partial else lambda x: turned(x, cos, sin)


@dataclass(frozen=True)
class Unturned:
    """No rotary positions."""

    def on(self, like: Array, path: str) -> Callable[..., Turn]:
        """As of `Rope`: what makes nothing of queries and keys but themselves."""
        return lambda x, T, N: identity


UNTURNED = Unturned()
