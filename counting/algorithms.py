"""The textbook's algorithms of whole arrays of numbers that count: products, sorting, searching."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from counting.primitives import choose, correlate, count_nonzero, einsum, interp
from counting.scalar import Scalar, bare, scalar


def zero(like: Any) -> Any:
    """A number to add to, of the kind of another."""
    return scalar(type(like.value)(0), like.tally)


def summed(pairs: Iterable[tuple[Any, Any]], like: Any) -> Any:
    """An inner product: an accumulator at zero, a multiply-add for each pair."""
    total = zero(like)
    for a, b in pairs:
        total = a.fma(b, total)
    return total


def _einsum(*operands: np.ndarray, subscripts: str) -> Any:
    terms, _, made = subscripts.partition("->")
    names = terms.split(",")
    sizes: dict[str, int] = {}
    for letters, x in zip(names, operands, strict=True):
        sizes |= {c: n for c, n in zip(letters, x.shape, strict=True) if n != 1 or c not in sizes}
    inner = [letter for letter in sizes if letter not in made]

    def element(at: dict[str, int]) -> Any:
        def product(of: dict[str, int]) -> list[Any]:
            return [
                x[tuple(of[c] if n > 1 else 0 for c, n in zip(letters, x.shape, strict=True))]
                for letters, x in zip(names, operands, strict=True)
            ]

        places = itertools.product(*(range(sizes[letter]) for letter in inner))
        factors = [product({**at, **dict(zip(inner, place, strict=True))}) for place in places]
        if not inner:
            return _product(factors[0])
        if len(operands) == 1:
            return _sum([one for (one,) in factors])
        return summed(((_product(most), last) for *most, last in factors), factors[0][0])

    out = np.empty(tuple(sizes[letter] for letter in made), object)
    for index in np.ndindex(out.shape):
        out[index] = element(dict(zip(made, index, strict=True)))
    return out


def _product(factors: Sequence[Any]) -> Any:
    first, *rest = factors
    for factor in rest:
        first = first * factor
    return first


def _sum(terms: Sequence[Any]) -> Any:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


_LETTERS = "abcdefghijklmnopq"


def _dot(a: np.ndarray, b: np.ndarray) -> Any:
    if not a.ndim or not b.ndim:
        return a * b
    left, right = _LETTERS[: a.ndim - 1], _LETTERS[a.ndim : a.ndim + b.ndim - 1]
    second = right[:-1] + "z" + right[-1:] if b.ndim > 1 else "z"
    return _einsum(a, b, subscripts=f"{left}z,{second}->{left}{right}")


def _inner(a: np.ndarray, b: np.ndarray) -> Any:
    left, right = _LETTERS[: a.ndim - 1], _LETTERS[a.ndim : a.ndim + b.ndim - 1]
    return _einsum(a, b, subscripts=f"{left}z,{right}z->{left}{right}")


def _vdot(a: np.ndarray, b: np.ndarray) -> Any:
    return summed(zip(a.flat, b.flat, strict=True), a.flat[0])


def _correlate(a: np.ndarray, v: np.ndarray, mode: int) -> np.ndarray:
    n, m = len(a), len(v)
    before, after = ((0, 0), (m // 2, m - m // 2 - 1), (m - 1, m - 1))[mode]
    out = []
    for start in range(-before, n - m + 1 + after):
        over = range(max(0, -start), min(m, n - start))
        out.append(summed(((a[start + j], v[j]) for j in over), a[0]))
    return np.array(out, object)


def _round(a: np.ndarray, decimals: int = 0) -> Any:
    by = 10.0**decimals
    return np.rint(a) if decimals == 0 else np.rint(a * by) / by


# Sorting and searching.


def merge_sorted(items: Sequence[Any], key: Callable[[Any], Any]) -> list[Any]:
    """Items in order, those alike as they came, by merging halves."""
    if len(items) < 2:
        return list(items)
    half = (len(items) + 1) // 2
    left, right = merge_sorted(items[:half], key), merge_sorted(items[half:], key)
    made: list[Any] = []
    while left and right:
        made.append((right if key(right[0]) < key(left[0]) else left).pop(0))
    return made + left + right


def _lines(a: np.ndarray, axis: Any) -> Any:
    return a.reshape(1, -1) if axis is None else np.moveaxis(a, axis, -1).reshape(-1, a.shape[axis])


def _sort(a: np.ndarray, *kth: Any, axis: int = -1, **how: Any) -> None:
    moved = np.moveaxis(a, axis, -1)
    for index in np.ndindex(moved.shape[:-1]):
        moved[index] = merge_sorted([*moved[index]], lambda x: x)


def _order(a: np.ndarray, *kth: Any, axis: Any = -1, **how: Any) -> np.ndarray:
    lines = _lines(a, axis)
    rows = [merge_sorted(range(len(line)), line.__getitem__) for line in lines]
    if axis is None:
        return np.array(rows[0])
    return np.moveaxis(np.array(rows).reshape(np.moveaxis(a, axis, -1).shape), -1, axis)


def _lexsort(keys: Sequence[np.ndarray], axis: int = -1) -> np.ndarray:
    lines = [np.moveaxis(key, axis, -1) for key in keys]
    *rows, n = lines[0].shape
    out = np.empty((*rows, n), int)
    for index in np.ndindex(*rows):
        order: list[Any] = [*range(n)]
        for key in lines:
            order = merge_sorted(order, key[index].__getitem__)
        out[index] = order
    return np.moveaxis(out, -1, axis)


def found(line: np.ndarray, x: Any, side: str = "left") -> int:
    """The place of a number in a line that rises, by binary search."""
    low, high = 0, len(line)
    while low < high:
        middle = (low + high) // 2
        if line[middle] < x if side == "left" else not x < line[middle]:
            low = middle + 1
        else:
            high = middle
    return low


def _searchsorted(a: np.ndarray, v: Any, side: str = "left") -> Any:
    places = [found(a, x, side) for x in np.ravel(v)]
    return np.array(places).reshape(np.shape(v))


def _interp(x: np.ndarray, at: np.ndarray, values: np.ndarray, **outside: Any) -> np.ndarray:
    def slope(j: int) -> Any:
        return (values[j + 1] - values[j]) / (at[j + 1] - at[j])

    pieces = len(at) - 1
    slopes = [slope(j) for j in range(pieces)] if pieces <= x.size else None
    out = np.empty(x.shape, object)
    for index in np.ndindex(x.shape):
        j = found(at, x[index], "right") - 1
        if j < 0 or j >= pieces:
            out[index] = values[0] if j < 0 else values[-1]
        else:
            out[index] = (slopes[j] if slopes else slope(j)) * (x[index] - at[j]) + values[j]
    return out


# Whole numbers.


def _tested(a: np.ndarray) -> np.ndarray:
    """Which numbers are not 0."""
    return np.array([x != zero(x) for x in a.flat], bool).reshape(a.shape)


def _count_nonzero(a: np.ndarray) -> Any:
    none = Scalar(0, a.flat[0].tally, exact=True)
    n = none
    for x in a.flat:
        n = n + Scalar(int(x != none), none.tally, exact=True)
    return n


def _bincount(x: np.ndarray, *weights: np.ndarray, minlength: int = 0) -> np.ndarray:
    by = weights[0] if weights else None
    like = x.flat[0] if by is None else by.flat[0]
    places = [int(bare(one)) for one in x]
    out = np.array([zero(like) for _ in range(max(minlength, 1 + max(places)))], object)
    for i, place in enumerate(places):
        out[place] = out[place] + (scalar(1, like.tally) if by is None else by[i])
    return out


def _ravel_multi_index(places: Sequence[np.ndarray], dims: Sequence[int]) -> Any:
    line = places[0]
    for place, n in zip(places[1:], dims[1:], strict=True):
        line = line * n + place
    return line


def _unravel_index(line: np.ndarray, shape: Sequence[int]) -> tuple[Any, ...]:
    found: list[Any] = []
    for n in reversed(shape[1:]):
        found.insert(0, line % n)
        line = line // n
    return (line, *found)


ALGORITHMS: dict[Any, Callable[..., Any]] = {
    np.dot: _dot,
    np.inner: _inner,
    np.vdot: _vdot,
    einsum: _einsum,
    correlate: _correlate,
    np.ndarray.round: _round,
    np.ndarray.view: lambda a, dtype=None: a,
    np.ndarray.sort: _sort,
    np.ndarray.partition: _sort,
    np.ndarray.argsort: _order,
    np.ndarray.argpartition: _order,
    np.lexsort: _lexsort,
    np.ndarray.searchsorted: _searchsorted,
    interp: _interp,
    np.ndarray.nonzero: lambda a: np.nonzero(_tested(a)),
    count_nonzero: _count_nonzero,
    np.bincount: _bincount,
    np.ravel_multi_index: _ravel_multi_index,
    np.unravel_index: _unravel_index,
    choose: lambda which, *choices, mode="raise": np.choose(which, choices, mode=mode),
}
