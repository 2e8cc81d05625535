"""Rotary position embedding: the angles by which queries and keys turn, plain and stretched.

Su et al., 2021. Dimensions go in pairs; pair i of D / 2 turns by theta ** (-2 i / D) for each
position. Models trained on a short context slow the slow pairs down to reach a longer one.
"""

import math
from dataclasses import MISSING, dataclass, fields
from typing import Any

from minigpt.models.config import Values


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

    @property
    def attention_factor(self) -> float:
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

        first = max(math.floor(pair(self.beta_fast)), 0)
        last = min(math.ceil(pair(self.beta_slow)), dim - 1)
        width = max(last - first, 0.001)

        def stretched(i: int, frequency: float) -> float:
            slowed = min(max((i - first) / width, 0.0), 1.0)
            return (1 - slowed) * frequency + slowed * frequency / self.factor

        return [stretched(i, frequency) for i, frequency in enumerate(frequencies(theta, dim))]


_OLD = "original_max_position_embeddings"
_KINDS: dict[str, type[Llama3Scaling] | type[YarnScaling]] = {
    "llama3": Llama3Scaling,
    "yarn": YarnScaling,
}


def read_rope(values: Values) -> tuple[float, Scaling]:
    """Theta and scaling from a config.json, whether of old style (`rope_scaling`) or of new.

    Raises:
        InputError: it is a kind that is not computed here, or has values that cannot be.
    """
    given = values.given.get("rope_parameters") or values.given.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise values.error(f"the rotary parameters are {given!r}, not an object")
    rope = Values({**values.given, **given}, values.source).over({"rope_theta": 10000.0})
    theta = rope.numbers("rope_theta", least=2)["rope_theta"]
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return theta, UNSCALED
    if kind not in _KINDS:
        supported = ", ".join(["default", *_KINDS])
        raise values.error(f"rotary scaling is {kind!r}; supported are {supported}")
    expected = {field.name: field for field in fields(_KINDS[kind])}
    known = {"rope_type", "type", "rope_theta", *expected}
    given = {name: value for name, value in given.items() if value is not None}
    if unknown := given.keys() - known:
        raise values.error(f"{kind} rotary scaling with {min(unknown)} is not supported")
    given.setdefault(_OLD, values.given.get("max_position_embeddings"))
    for name, field in expected.items():
        if field.default is MISSING and name not in given:
            raise values.error(f"{kind} rotary scaling lacks {name}")
    rope = Values(given, values.source)
    checked: dict[str, Any] = dict(rope.sizes(_OLD))
    for name in expected.keys() - {_OLD}:
        checked |= rope.numbers(name, least=0 if name.startswith("mscale") else 1e-6)
    scaling = _KINDS[kind](**checked)
    if isinstance(scaling, Llama3Scaling) and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise values.error("low_freq_factor is not below high_freq_factor")
    if scaling.factor < 1:
        raise values.error(f"the factor of rotary scaling is {scaling.factor}, below 1")
    return theta, scaling
