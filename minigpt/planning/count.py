"""What one forward pass of any model costs, found by running it on shapes: no weights, no data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from counting import Counts
from counting.views import flops
from minigpt.checkpoint.resolve import resolve
from minigpt.checks import a, checked
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.paths import component, layer
from minigpt.models.routing import bound, expected_experts, most_experts
from minigpt.planning.forward import Pass, counts_by_kind, kv_bytes, on_shapes, one_of, state_bytes


class Met(NamedTuple):
    """How many experts a pass meets in each layer, and the bytes of weights that it then reads."""

    met_in_each_layer: int
    weight_bytes_read: int


class Experts(NamedTuple):
    """What a pass of a mixture of experts reads, as counted and at most."""

    of_each_layer: int
    met_by_a_token: int
    expected: Met
    bound: Met


@dataclass(frozen=True)
class Count:
    """What one forward pass costs, in exact whole numbers.

    Bytes are those of the run as it is written, operation by operation: each reads its operands
    and writes its result; kernels that fuse operations move fewer.

    Attributes:
        model: the name of `config`.
        counts: operations and bytes by path and operation.
        kinds: `counts`, layers that are alike in the rows of one of them.
        peak_bytes: the most alive at once by category, N + T positions reserved.
        experts: None unless the model is a mixture of experts.
    """

    model: str
    config: Config
    sizes: Pass
    counts: Counts
    kinds: Counts
    peak_bytes: dict[str, int]
    experts: Experts | None

    def _repr_html_(self) -> str:
        from minigpt.planning import notebook

        return notebook.count(self)

    @property
    def weight_bytes(self) -> int:
        return int(self.config.parameters * self.sizes.itemsize)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of cache for one token of a sequence, in all layers."""
        return self._kv(1)

    @property
    def kv_bytes_held(self) -> int:
        """Bytes of cache that the sequences must hold after the pass: of a window, no more."""
        return self.sizes.B * self._kv(self.sizes.N + self.sizes.T)

    @property
    def kv_bytes_kept(self) -> int:
        """Bytes of cache after the pass where each layer keeps all tokens, windows or not.

        So do engines whose pages of cache have one size.
        """
        return self.sizes.B * (self.sizes.N + self.sizes.T) * self._kv(1)

    def rows(self, by: str) -> Iterator[tuple[str, Counts]]:
        """The parts of the run, see `rows`."""
        return rows(self.counts if by == "layer" else self.kinds, by)

    @property
    def state_bytes(self) -> int:
        """Bytes of state that the sequences hold, whatever their length."""
        return self.sizes.B * state_bytes(self.config, self.sizes.dtype)

    def _kv(self, tokens: int) -> int:
        return kv_bytes(self.config, tokens, self.sizes.dtype, self.sizes.cache or "compressed")

    @property
    def arithmetic_intensity(self) -> float:
        """FLOP a byte that is read or written."""
        moved = *self.counts.bytes_read.values(), *self.counts.bytes_written.values()
        return float(flops(self.counts) / sum(moved))


def count(model: str, sizes: Pass = Pass()) -> Count:  # noqa: B008
    """Counts one forward pass.

    Raises:
        InputError: there is no such model, a size or a name cannot be, or a cache is chosen that
            the model does not have.
    """
    config = config_for(model, sizes)
    counts, peak = on_shapes(config, sizes)
    kinds, experts = counts_by_kind(config, sizes), _experts(config, sizes)
    return Count(model, config, sizes, counts, kinds, dict(peak), experts)


def config_for(model: str, sizes: Pass) -> Config:
    """The configuration of a model that is to run a pass.

    Raises:
        InputError: there is no such model, or a cache is chosen that it does not have.
    """
    config = resolve(model)
    checked("sizes", sizes, a("a Pass", Pass))
    if sizes.cache is not None and not config.latent_cache:
        raise InputError(f"only DeepSeek's latent attention has a choice of cache, not {model}")
    return config


def _experts(config: Config, sizes: Pass) -> Experts | None:
    experts = config.experts
    if experts is None:
        return None

    def met(number: int, sizes: Pass) -> Met:
        return Met(number, counts_by_kind(config, sizes).bytes_read["weights"])

    tokens = sizes.B * sizes.T
    usual = met(round(expected_experts(experts, tokens)), sizes)
    most = most_experts(experts, tokens)
    at_most = usual if most == usual[0] else met(most, replace(sizes, assume=bound))
    return Experts(experts.n_routed_experts, experts.num_experts_per_tok, usual, at_most)


def rows(counts: Counts, by: str) -> Iterator[tuple[str, Counts]]:
    """The parts of a run by "component", as an indented tree, by "layer" or by "op".

    Raises:
        InputError: `by` is something else.
    """
    one_of("grouping", by, ("component", "layer", "op"))
    if by == "component":
        yield from _tree(counts)
    elif by == "layer":
        yield from counts.by(layer).items()
    else:
        for operation in dict.fromkeys(key[1] for key in counts):
            yield operation, counts.where(operation=operation)


def _tree(counts: Counts, depth: int = 0) -> Iterator[tuple[str, Counts]]:
    def label(path: str) -> str:
        return [*component(path).split("."), ""][depth]

    for head, part in counts.by(label).items():
        if head:  # "" is what the row above does itself
            yield "  " * depth + head, part
            yield from _tree(part, depth + 1)
