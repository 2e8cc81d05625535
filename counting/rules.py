"""Rules of shapes: what one call of a function costs, many functions under one rule.

A rule gives the `Cost` of one call from the shapes of its result and of its operands, and from
its options, in real floating-point numbers; `cost.executed` says what that is in other numbers.
"""

from collections.abc import Callable
from typing import Any

from counting.cost import Cost, Shape, size

Rule = Callable[..., Cost]


def each(kind: str = "", **kinds: int) -> Rule:
    """One operation for each element of the result, or several."""
    one = Cost({kind: 1} if kind else kinds)

    def rule(out: Shape, *operands: Any, **options: Any) -> Cost:
        return one * size(out)

    rule.__doc__ = (
        f"For each element of the result: {', '.join(f'{n} {k}' for k, n in one.items())}."
    )
    return rule


def reduction(kind: str) -> Rule:
    """n - 1 operations to bring n elements down to one; none where there are none."""

    def rule(out: Shape, a: Shape, **options: Any) -> Cost:
        return Cost({kind: size(a) - size(out) if size(a) != 0 else 0})

    rule.__doc__ = f"n - 1 {kind} to bring n elements down to one."
    return rule


def mean(out: Shape, a: Shape, **options: Any) -> Cost:
    """A sum and one division for each element of the result."""
    return reduction("add")(out, a) + Cost(div=size(out))


def spread(out: Shape, a: Shape, **options: Any) -> Cost:
    """The largest less the smallest."""
    return reduction("cmp")(out, a) * 2 + Cost(add=size(out))


def variance(out: Shape, a: Shape, **options: Any) -> Cost:
    """A mean, and the mean of squares of what each element is from it."""
    return mean(out, a) * 2 + Cost(add=size(a), mul=size(a))


def deviation(out: Shape, a: Shape, **options: Any) -> Cost:
    """The root of a variance."""
    return variance(out, a) + Cost(sqrt=size(out))


def running(kind: str) -> Rule:
    """n - 1 operations along an axis of n, for each result but the first."""

    def rule(out: Shape, a: Shape, axis: int | None = None, **options: Any) -> Cost:
        at = None if axis is None else range(len(a))[axis]
        rows = 1 if at is None else size((*a[:at], *a[at + 1 :]))
        return Cost({kind: size(a) - rows if size(a) != 0 else 0})

    rule.__doc__ = f"n - 1 {kind} along an axis of n."
    return rule


def matmul(out: Shape, a: Shape, b: Shape, **options: Any) -> Cost:
    """n multiply-adds for each element of the result, onto an accumulator that starts at zero."""
    return Cost(fma=size(out) * a[-1])


def dot(out: Shape, a: Shape, b: Shape, **options: Any) -> Cost:
    """As `matmul`; a product of each element where one operand has no dimensions."""
    return matmul(out, a, b) if a and b else Cost(mul=size(out))


def vdot(out: Shape, a: Shape, b: Shape, **options: Any) -> Cost:
    """As `matmul`, of all elements one after another."""
    return Cost(fma=size(a))


def einsum(out: Shape, *operands: Shape, subscripts: str) -> Cost:
    """One step for each value of all letters together: the operands' product, added to the rest.

    Where nothing is summed up there is nothing to add it to; where there is one operand, nothing
    to multiply.
    """
    terms, _, result = subscripts.partition("->")
    sizes: dict[str, Any] = {}
    for letters, shape in zip(terms.split(","), operands, strict=True):
        for letter, n in zip(letters, shape, strict=True):
            if n != 1 or letter not in sizes:
                sizes[letter] = n
    steps = size(tuple(sizes.values()))
    if {*result} == {*sizes}:
        return Cost(mul=steps * (len(operands) - 1))
    if len(operands) == 1:
        return Cost(add=steps - size(out) if steps != 0 else 0)
    return Cost(mul=steps * (len(operands) - 2), fma=steps)


def correlate(out: Shape, a: Shape, v: Shape, mode: int) -> Cost:
    """A product of each element of one with each of the other that comes to lie over it."""
    n, m = sorted((a[0], v[0]), reverse=True) if isinstance(a[0], int) else (a[0], v[0])
    before, after = {0: (0, 0), 1: (m // 2, m - m // 2 - 1), 2: (m - 1, m - 1)}[mode]
    cut = sum(over * m - over * (over + 1) // 2 for over in (before, after))
    return Cost(fma=(n - m + 1) * m + cut)


def clip(out: Shape, *operands: Any, **options: Any) -> Cost:
    """A comparison with each bound."""
    return Cost(cmp=2 * size(out))


def rounding(out: Shape, a: Shape, decimals: int = 0, **options: Any) -> Cost:
    """To whole numbers; before it a product by a power of ten, and a quotient after it."""
    return Cost(round=size(out), **({"mul": size(out), "div": size(out)} if decimals else {}))


def truths(out: Shape, a: Shape, **options: Any) -> Cost:
    """A comparison of each element with 0."""
    return Cost(cmp=size(a))


def truths_counted(out: Shape, a: Shape, **options: Any) -> Cost:
    """A comparison of each element with 0, and an addition of whole numbers."""
    return Cost(cmp=size(a), int=size(a))


def moves(out: Shape, *operands: Any, **options: Any) -> Cost:
    """Bytes are read and written, nothing is computed."""
    return Cost()


def views(out: Shape, *operands: Any, **options: Any) -> Cost:
    """The same bytes seen in another shape: nothing is read, written or computed."""
    return Cost()


# At most: how many it is depends on the numbers.


def log2(n: Any) -> Any:
    """The logarithm of a size to base 2, rounded up."""
    if isinstance(n, int):
        return (n - 1).bit_length() if n > 0 else 0
    import sympy

    return sympy.ceiling(sympy.log(n, 2))


def sorting(out: Shape, a: Shape, axis: int | None = -1, **options: Any) -> Cost:
    """The comparisons that merge sort takes of n numbers at most, n ceil(log n) - 2 ** that + 1.

    Source: Knuth, The Art of Computer Programming 3, 5.2.4. NumPy's own way depends on the dtype,
    the processor and the numbers.
    """
    if not a or size(a) == 0:
        return Cost()
    n = size(a) if axis is None else a[axis]
    return Cost(cmp=size(a) // n * (n * log2(n) - 2 ** log2(n) + 1))


def sorting_keys(out: Shape, *keys: Shape, axis: int = -1) -> Cost:
    """Those of sorting by each key."""
    return sum((sorting(out, key, axis) for key in keys), Cost())


def searching(out: Shape, a: Shape, v: Shape = (), **options: Any) -> Cost:
    """The comparisons that binary search takes at most, ceil(log(n + 1)) of n numbers."""
    return Cost(cmp=size(v) * log2(a[0] + 1))


def interpolation(out: Shape, x: Shape, at: Shape, values: Shape, **options: Any) -> Cost:
    """A search for each x, the slope of each piece once, or where it is needed, and a line."""
    slopes = min(at[0] - 1, size(x))
    found = searching(out, at, x) + Cost(add=2, div=1) * slopes
    return found + Cost(mul=1, add=2) * size(x)


def bins(out: Shape, a: Shape, weights: Shape | None = None, **options: Any) -> Cost:
    """An addition of each number's weight, or of 1."""
    return Cost({"int" if weights is None else "add": size(a)})


def places(out: Shape, indices: Shape, *more: Shape, dims: Shape = (), shape: Shape = ()) -> Cost:
    """A product and an addition of whole numbers for each axis but the first, or a division."""
    return Cost(int=2 * size(indices) * (len(dims or shape) - 1))
