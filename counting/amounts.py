"""What one call adds to a ledger: its row of `COSTS`, applied to its operands and its result.

Bytes follow one law: each operand's memory is read once (a broadcast operand at its own size,
elements that share memory as one), the result is written once, a view moves nothing, a gather
reads what it gathers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from counting.calls import full_name
from counting.charge import Spec
from counting.cost import COMPLEX, Cost, Shape, Uncounted, executed, size
from counting.costs import IN_REAL_NUMBERS, OTHERWISE, REAL, REGISTERED, how_known, rule_of
from counting.dtypes import arithmetic
from counting.form import is_at
from counting.indexing import selected
from counting.primitives import getitem, setitem
from counting.shapes import ShapeArray

_SPECIAL = {function for function, _ in OTHERWISE}

Amounts = dict[Any, Any]  # by the names of a ledger's columns


class Made(NamedTuple):
    """What a call writes.

    Attributes:
        shape: of what is computed: of the result, or of the part of an array that is written.
        nbytes: of what is written, all results together.
    """

    shape: Shape
    dtype: np.dtype
    category: str
    nbytes: Any


def what_is_made(
    function: Any, bare: Sequence[Any], out: Any, result: Spec | None, others: Iterable[Spec]
) -> Made:
    if is_at(function) or function is setitem:
        index = bare[2:] if function is setitem else bare[1:2]
        if type(index[0]) is tuple:
            (index,) = index
        some = selected(bare[0], tuple(index))
        nbytes = size(some) * out.dtype.itemsize
        return Made(some, out.dtype, out.spec.category, nbytes)
    spec = out.spec if result is None else result
    nbytes = spec.nbytes + sum(other.nbytes for other in others)
    return Made(spec.shape, spec.dtype, spec.category, nbytes)


def amounts(
    function: Any,
    operands: Sequence[Any],
    specs: list[Spec],
    numbers: list[np.dtype],
    made: Made,
    options: Mapping[str, Any],
) -> Amounts:
    """What one call adds to its row, by column name."""
    reads = [(spec.category, spec.nbytes) for spec in specs]
    if function in (np.copyto, setitem):
        del reads[0]
    elif function in _GATHERS or is_at(function):
        reads[0] = (specs[0].category, made.nbytes)
    elif function in (np.ones_like, np.empty_like):
        reads.clear()
    shapes, written = [made.shape, *(spec.shape for spec in specs)], made.nbytes
    if function in REGISTERED:  # a person's rule is told of numbers too
        shapes[1:] = (getattr(x, "shape", ()) for x in operands)
    mask, initial = options.get("where", True), options.get("initial")
    if mask is not True:
        chosen, shapes = _where(function, bare(mask), shapes, options.get("axis"))
        read = specs[1:] if function is np.copyto else specs
        reads = [(s.category, min(s.nbytes, chosen * s.dtype.itemsize)) for s in read]
        reads.append(("activations", np.asarray(bare(mask)).nbytes))
        written = chosen * made.dtype.itemsize if _elementwise(function) else written
    if initial is not None:  # one more number for each result
        shapes = [made.shape, (size(shapes[1]) + size(made.shape),)]
    writes = [] if function is np.empty_like else [(made.category, written)]
    rule = rule_of(function)
    assert rule is not None
    others = {name: x for name, x in options.items() if name not in _FREE}
    cost = rule(*shapes, **others)
    found: Amounts = {"calls": 1}
    if cost or function in _SPECIAL:
        dtypes = [*numbers, *(spec.dtype for spec in specs)]
        if function not in _PLACES:
            dtypes.append(made.dtype)
        found |= _executed(function, cost, arithmetic(dtypes), made)
    for way, moved in (("read", reads), ("written", writes)):
        for name, nbytes in moved:
            found[way, name] = found.get((way, name), 0) + nbytes
    return found


# Options that no rule asks for.
_FREE: tuple[str, ...] = (
    "out",
    "where",
    "initial",
    "signature",
    "casting",
    "order",
    "kind",
    "stable",
    "side",
)
_FREE += ("kth", "repeats", "minlength", "left", "right", "period")
_GATHERS = (np.take, np.take_along_axis, getitem)
# What gives places, not numbers.
_PLACES: tuple[Any, ...] = (np.argmax, np.argmin, np.lexsort, np.ndarray.nonzero)
_PLACES += (np.ndarray.argsort, np.ndarray.argpartition, np.ndarray.searchsorted)


def _where(function: Any, mask: Any, shapes: list[Shape], axis: Any) -> tuple[int, list[Shape]]:
    """How many elements a mask chooses, and shapes that stand for these.

    Raises:
        TypeError: it has no data.
    """
    if type(mask) is ShapeArray:
        raise TypeError(f"how many elements {mask} chooses is not known without data")
    if _elementwise(function):
        n = int(np.count_nonzero(np.broadcast_to(mask, shapes[0])))
        return n, [(n,)] * len(shapes)
    chosen = np.broadcast_to(mask, shapes[1])
    n, results = (int(np.count_nonzero(x)) for x in (chosen, np.any(chosen, axis)))
    return n, [(results,), (n,)]


def _elementwise(function: Any) -> bool:
    return isinstance(function, np.ufunc) or function is np.copyto


def bare(x: Any) -> Any:
    """The array that a counted one holds."""
    return x.data if hasattr(x, "spec") else x


def _executed(function: Any, cost: Cost, by: str, made: Made) -> Amounts:
    special = OTHERWISE.get((function, by))
    unknown = function in REAL or cost.keys() - COMPLEX.keys()
    if function in IN_REAL_NUMBERS:
        return dict(cost)
    if by == "complex" and special is None and unknown:
        raise Uncounted(
            f"{full_name(function)} of complex numbers is not counted: it has no one algorithm"
        )
    found: Amounts = {**(executed(cost, by) if special is None else special * size(made.shape))}
    if "fma" in cost and how_known(function) == "executed" and by in ("float", "complex"):
        # Inner products that begin with a term; a complex one is two real ones, twice as long.
        found["dots"] = size(made.shape) * (2 if by == "complex" else 1)
    return found
