"""Conventions: the ways in which papers and tools sum up the same counts. One run, every view."""

from collections.abc import Callable
from typing import Any

from counting.counts import Counts


def macs(counts: Counts) -> Any:
    """mnp: the multiply-adds, which only matrix products have; 0 at n = 0."""
    return counts.total("fma")


def matmul(counts: Counts) -> Any:
    """2mnp: matrix products alone, each multiply-add as two operations; 0 at n = 0."""
    return 2 * macs(counts)


def flops(counts: Counts) -> Any:
    """Every floating-point operation once, a fused multiply-add as two; 2mnp of a product."""
    return counts.cost.flops


def exact(counts: Counts) -> Any:
    """As `flops`, but mp(2n - 1) for a product: its first term has nothing to be added to.

    At n = 0, where there is no first term, a product is 0.
    """
    return flops(counts) - counts.total("dots")


VIEWS: dict[str, Callable[[Counts], Any]] = {
    "matmul": matmul,
    "exact": exact,
    "all": flops,
    "macs": macs,
}
