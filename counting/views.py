"""Conventions: the ways in which papers and tools sum up the same counts. One run, every view."""

from collections.abc import Callable
from typing import Any

from counting.ledger import Counts


def macs(counts: Counts) -> Any:
    """mnp: the multiply-adds, which only matrix products have."""
    return counts.total("fma")


def matmul(counts: Counts) -> Any:
    """2mnp: matrix products alone, each multiply-add as two operations."""
    return 2 * macs(counts)


def flops(counts: Counts) -> Any:
    """Every arithmetic operation once, a fused multiply-add as two."""
    cost = counts.cost
    return sum(cost.values()) + cost.get("fma", 0)


def exact(counts: Counts) -> Any:
    """As `flops`, but mp(2n - 1) for a product: its first term has nothing to be added to."""
    return flops(counts) - counts.total("dots")


VIEWS: dict[str, Callable[[Counts], Any]] = {
    "matmul": matmul,
    "exact": exact,
    "all": flops,
    "macs": macs,
}
