"""The price of a call: what runs, what comes out, and what that adds to a ledger."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MethodDescriptorType
from typing import Any

import numpy as np

from counting.amounts import Amounts, amounts, what_is_made
from counting.calls import JOINS, full_name, joined, row_name
from counting.charge import Charge, Spec
from counting.composite import composite
from counting.cost import OUT, Uncounted
from counting.costs import IN_REAL_NUMBERS, rule_of
from counting.form import IN_PLACE, describe, is_at, is_packed
from counting.known import known_by
from counting.ledger import Ledger
from counting.memory import levels
from counting.primitives import setitem
from counting.rules import views
from counting.scope import at
from counting.scope import category as in_category
from counting.shapes import SHAPES, ShapeArray
from counting.textbook import runner
from counting.twins import NOT_RUN

CACHED = 50_000  # prices that a ledger keeps; shapes that grow with every token would pile up


def no_row(function: Any) -> Uncounted:
    can = not (isinstance(getattr(function, "__self__", None), np.ufunc) or function in NOT_RUN)
    way = "counting.register gives it one, or " if can else ""
    return Uncounted(f"{full_name(function)} has no row in the table of costs: {way}{OUT}")


def price(
    ledger: Ledger,
    category: str,
    function: Any,
    operands: Sequence[Any],
    options: Mapping[str, Any],
    counted: Any,
) -> tuple[Charge, Any]:
    """The price of a call, and the result of the first one: its shape is part of the price.

    Args:
        category: what the result is for.
        counted: the type of arrays that are counted; makes one of an array and a ledger.

    Raises:
        Uncounted: there is no row in `COSTS` for it.
        ValueError: operands belong to two ledgers.
    """
    bare: list[Any] = []
    known: list[Spec] = []
    numbers: list[np.dtype] = []
    for x in operands:
        bare.append(x.data if type(x) is counted else x)
        if type(x) is counted:
            if x.spec.ledger is not ledger:
                raise ValueError("arrays of two ledgers meet: make both with one")
            known.append(x.spec)
        elif hasattr(x, "shape"):
            known.append(describe(ledger, x, "activations"))
        elif type(x) in (bool, int, float, complex):
            numbers.append(np.dtype(type(x)))
    out = options.get("out", operands[0] if function in IN_PLACE or is_at(function) else None)
    if out is not None and type(out) is not counted:
        raise Uncounted(f"a plain array takes no counted values: count it too, or {OUT}")
    run, code = _runner(function, bare, counted)
    chosen = None
    if function is setitem or is_at(function):  # before they are written, maybe over the index
        chosen = what_is_made(function, bare, out, None, ())
    data = run(*bare, **{k: x.data if type(x) is counted else x for k, x in options.items()})
    results = [] if out is not None else [*data] if type(data) is tuple else [data]
    for made in results:
        if not hasattr(made, "shape"):
            raise Uncounted(f"{function.__name__} of {bare} gives no array")
        if made.dtype.kind == "O" and not any(s.dtype.kind == "O" for s in known):
            raise Uncounted(f"{function.__name__} of {bare} makes objects of numbers")
    if type(data) is ShapeArray and out is None:
        run = partial(_always, data)  # all that comes out is in the price: it need not run again
    specs = [describe(ledger, made, category) for made in results]
    result, others = (specs[0], tuple(specs[1:])) if specs else (None, ())
    if len(ledger.charges) > CACHED:
        ledger.charges.clear()
        ledger.specs.clear()
    name = row_name(function)
    if known_by(name) != "executed" and isinstance(function, composite):
        name = full_name(function)  # no row of NumPy's
    if code is None:
        made = chosen or what_is_made(function, bare, out, result, others)
        columns = _by_column(ledger, amounts(function, bare, known, numbers, made, options))
        return Charge(name, (("", name, columns),), columns, result, run, (), others), data
    scratch = Ledger(ledger.memory)
    shapes = list(_on_shapes(known, bare, scratch, counted))
    found, moments = _traced(partial(code, *shapes, **options), shapes, scratch, category)
    rows = _joined(found, name)
    priced = tuple((*key, _by_column(ledger, row)) for key, row in rows.items())
    columns = _by_column(ledger, _sum(rows.values()))
    return Charge(name, priced, columns, result, run, moments), data


def _always(data: Any, *bare: Any, **options: Any) -> Any:
    """What a call on shapes gives, whose price was found."""
    return data


def _runner(
    function: Any, bare: Sequence[Any], counted: Callable[[Any, Ledger], Any]
) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    """What runs on bare arrays, and the code whose trace is the price, if no row of `COSTS` is.

    Raises:
        Uncounted: `function` has no row.
    """
    on_scalars = any(hasattr(x, "dtype") and x.dtype.kind == "O" for x in bare)
    if isinstance(function, composite):
        code = function.function
        return (_one_by_one(code, counted) if on_scalars else function), code
    if rule_of(function) in (None, views):
        raise no_row(function)
    packed = next(filter(is_packed, bare), None)
    if any(type(x) is ShapeArray for x in bare):
        run = SHAPES.get(function, function)
    else:
        run = runner(function) if on_scalars else function
        run = joined(run) if function in JOINS else run
        run = _in_a_list(run) if function in IN_REAL_NUMBERS else run
        run = _method(run.__name__) if type(run) is MethodDescriptorType else run
    return run, None if packed is None else packed.reference(function)


def _method(name: str) -> Callable[..., Any]:
    """A method of whatever kind of array it is called with."""
    return lambda x, *args, **options: getattr(x, name)(*args, **options)


def _in_a_list(transform: Callable[..., Any]) -> Callable[..., Any]:
    """A Fourier transform whose axes are a tuple, so that its price can be remembered."""
    return lambda *args, axes, **options: transform(*args, axes=[*axes], **options)


def _one_by_one(
    code: Callable[..., Any], counted: Callable[[Any, Ledger], Any]
) -> Callable[..., Any]:
    """A composite on bare arrays of Scalars, each operation run as counted arrays run it."""

    def run(*bare: Any) -> Any:
        scratch = Ledger()
        return code(*(counted(x, scratch) if hasattr(x, "shape") else x for x in bare)).data

    return run


def _on_shapes(
    specs: Iterable[Spec], bare: Iterable[Any], scratch: Ledger, counted: Callable[..., Any]
) -> Iterator[Any]:
    """The operands on shapes alone, one that is packed as its parts."""
    left = iter(specs)
    for x in bare:
        if not hasattr(x, "shape"):
            yield x
            continue
        with in_category(next(left).category):
            for part in x.parts if is_packed(x) else (x,):
                dtype = np.float64 if part.dtype.kind == "O" else part.dtype  # a Scalar is as wide
                yield counted(ShapeArray(part.shape, dtype), scratch)


def _traced(
    code: Callable[[], Any], operands: Sequence[Any], scratch: Ledger, category: str
) -> tuple[dict[tuple[str, str], Amounts], tuple[Any, ...]]:
    """What `code` adds to a ledger, by path and operation, and its `levels` of memory.

    Of symbols the most alone is known, which is no more than one of the levels.
    """
    alive, before = scratch.live_bytes[category], scratch.snapshot()
    with at(""), in_category(category), scratch.unsettled():
        result = code()
    if any((result if result.base is None else result.base) is x for x in operands):
        raise Uncounted("a composite gives a view of its operand, which it does not make: copy it")
    events = scratch.events(scratch.memory[category])
    counts = scratch.snapshot() - before
    rows = {key: dict(zip(counts.columns, row, strict=True)) for key, row in counts.items()}
    most = scratch.peak_bytes[category] - alive
    return rows, tuple(levels(events)) if type(most) is int else (most,)


def _joined(rows: dict[tuple[str, str], Amounts], name: str) -> dict[tuple[str, str], Amounts]:
    """What lies outside of scopes as one row called `name`, then the others.

    What is not known by executing it stays apart too: a table says what there is of it.
    """

    def is_own(path: str, operation: str) -> bool:
        return not path and known_by(operation) == "executed"

    own = [row for key, row in rows.items() if is_own(*key)]
    apart = {key: row for key, row in rows.items() if not is_own(*key)}
    return {("", name): _sum(own), **apart} if own else apart


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for column, n in part.items():
            total[column] = total.get(column, 0) + n
    return total


def _by_column(ledger: Ledger, row: Amounts) -> tuple[tuple[int, Any], ...]:
    return tuple((ledger.columns[name], n) for name, n in row.items() if n != 0)
