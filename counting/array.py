"""Arrays that count: a `Counted` holds any array and lets every operation pass `apply`."""

from collections.abc import Callable
from threading import get_ident
from typing import Any

import numpy as np

from counting import show
from counting.calls import plain, spelled
from counting.charge import Charge, Spec
from counting.checks import must_be
from counting.composite import composite
from counting.cost import OUT, Shape, Uncounted
from counting.costs import COSTS, REAL
from counting.dtypes import admitted
from counting.elements import Elements
from counting.form import UNKNOWN, by_data, describe, fingerprint
from counting.indexing import shares
from counting.leaving import Guarded, leave, leaving, refuse_the_rest
from counting.ledger import Ledger
from counting.methods import Methods
from counting.names import SUBSTITUTES, made_in, making
from counting.operators import Operators, give_methods, of_one, of_some
from counting.pricing import no_row, price
from counting.reshaping import Reshaping
from counting.rules import views
from counting.scope import place
from counting.shapes import ShapeArray, on_shapes
from counting.twins import NOT_RUN, code_of

_new = object.__new__


class Counted(Guarded, Elements, Reshaping, Methods, Operators):
    """An array whose every operation is priced by `COSTS` and recorded in its ledger.

    Args:
        data: a NumPy array of numbers or truth values, a `ShapeArray`, or an object array of
            `Scalar`s; any array that answers NumPy's functions.
        ledger: where operations and bytes are recorded; results carry it on. Without one it has
            one of its own, `x.ledger`.

    Its bytes count as live, in the category it was made in, until the last view of it is gone:
    those of the memory that its elements lie in, each once. Two that are made of the same memory
    count it twice: make one of them and take views of it.

    Raises:
        Uncounted: there is no kind of operation for `data`: text, dates, objects, `np.matrix`,
            masked arrays.

    Attributes:
        data: the array itself, out of the count.
        spec: shape, dtype, bytes and category.
        path: where it was made.
        charge: the price of the operation that made it, or None.
        base: the array whose bytes this one is a view of, or None if they are its own.
    """

    __slots__ = ("__weakref__", "base", "charge", "data", "path", "spec")

    def __init__(self, data: Any, ledger: Ledger | None = None) -> None:
        self.base: Counted | None = self  # nothing to give back if the next lines raise
        fits = not isinstance(data, Counted) and hasattr(data, "shape")
        must_be("an array, itself not counted", fits, "data", data)
        fits = ledger is None or isinstance(ledger, Ledger)
        must_be("a Ledger, or None", fits, "ledger", ledger)
        data = admitted(data)
        self.path, category = place.get()
        ledger = Ledger() if ledger is None else ledger
        self.spec = describe(ledger, data, category)
        self.data = data
        self.charge: Charge | None = None
        self.base = None
        ledger.log.extend((None, "", self.spec.born))

    def __del__(self) -> None:
        try:  # faster than to suppress
            if self.base is None:
                log = self.spec.ledger.log
                log += (None, "", self.spec.freed)
        except AttributeError:  # a signal ended what made it, in between
            pass

    @property
    def shape(self) -> Shape:
        return self.spec.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        self.data = self.data.reshape(shape)
        self.spec = describe(self.spec.ledger, self.data, self.spec.category)

    def __repr__(self) -> str:
        return show.text(self) if making.get() is None else repr(self.data)  # of a program

    def __str__(self) -> str:
        return repr(self) if making.get() is None else str(self.data)

    def _repr_html_(self) -> str:
        return show.html(self)

    def __array_wrap__(self, x: Any, *context: Any) -> Any:
        """`x` as it is: NumPy's Python code asks that of what it has computed."""
        return x

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            one = len(inputs) == 1
            done = of_one(self, ufunc) if one else of_some(self, ufunc, inputs)
            if done is not None:
                return done
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        try:
            given = plain(function, options) if options else options
            if method == "at" and type(inputs[1]) is tuple and holds(inputs[1]):
                raise Uncounted(f"ufunc.at is counted of one array of places: {OUT}")
            lists = (list,) if method == "at" else (list, tuple)
            inputs = tuple(np.asarray(x) if type(x) in lists else x for x in inputs)
        except Uncounted:
            if not leaving.get():
                raise
            return leave(function, *inputs, **options)
        if method in ("reduce", "accumulate"):
            given.setdefault("axis", 0)
        return apply(function, *inputs, **given)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if not options and len(args) > 1 and type(args[0]) is Counted:
            done = of_some(self, function, args)
            if done is not None:
                return done
        try:
            if function is np.where and len(args) == 1 and not options:
                return args[0].nonzero()
            if function not in COSTS:
                shown = function in NOT_RUN and making.get() is None
                code = None if shown else SUBSTITUTES.get(function) or code_of(function)
                if code is None:
                    raise no_row(function)
                with made_in(self.ledger, on_shapes(args)):
                    return code(*args, **options)
            operands, normal = spelled(function, args, options)
            operands = [together(x) if type(x) in (list, tuple) else x for x in operands]
            if COSTS[function] is views:
                return operands[0]._seen(function, **normal)
            return apply(function, *operands, **normal)
        except Exception as error:
            if leaving.get():
                return leave(function, *args, **options)
            lines = code_of(function) if function in REAL else None
            if lines is None or not isinstance(error, Uncounted) or type(self.data) is ShapeArray:
                raise
            with made_in(self.ledger):  # as NumPy does it, line by line
                return lines(*args, **options)

    def __composite__(self, function: composite, *operands: Any) -> Any:
        ledger = self.spec.ledger
        if ledger.observers and ledger.observer:
            return function.function(*operands)
        return apply(function, *operands)

    def tolist(self) -> Any:
        """The values as Python numbers, for control flow: a copy of them leaves the count."""
        return apply(np.copy, self, order="C").data.tolist()

    def _view(self, data: Any) -> "Counted":
        return view(self, data)

    @staticmethod
    def _apply(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
        return apply(function, *operands, **options)

    @staticmethod
    def _together(x: Any) -> Any:
        return together(x)


give_methods(Counted)
refuse_the_rest(Counted)


def apply(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """The one chokepoint: runs `function`, prices it, records it, wraps what comes out.

    Raises:
        Uncounted: `function` has no row in `COSTS`.
        ValueError: operands belong to two ledgers.
    """
    path, category = place.get()
    ledger: Any = None
    bare: list[Any] = []
    parts: list[Any] = [function, category]
    try:
        for x in operands:
            if type(x) is Counted:
                ledger = x.spec.ledger
                bare.append(x.data)
                parts.append(x.spec)
            else:
                bare.append(x)
                parts.append(fingerprint(function, x))
        if ledger is None and type(options.get("out")) is Counted:
            ledger = options["out"].ledger
        if ledger is None:
            raise Uncounted(f"{function.__name__} is counted of arrays given by position")
        given, out = options, options.get("out")
        if options:
            if type(out) is Counted and isinstance(out.data, np.generic):  # a number is no place
                out.data = np.asarray(out.data)
            given = {name: x.data if type(x) is Counted else x for name, x in options.items()}
            for name, x in options.items():
                if name == "out":
                    parts.append(x.spec if type(x) is Counted else UNKNOWN)
                else:
                    parts.append((name, x) if name != "where" or x is True else UNKNOWN)
        key = tuple(parts)
        charge = ledger.charges.get(key)
        if charge is None:
            charge, data = price(ledger, category, function, operands, options, Counted)
            if UNKNOWN not in parts and not by_data(function):
                ledger.charges[key] = charge
        else:
            data = charge.run(*bare, **given)
    except Exception:
        if leaving.get():
            return leave(function, *operands, **options)
        raise

    result = entered(ledger, path, charge, data)
    if out is not None:
        result = out
    if ledger.observers and (observer := ledger.observer):
        observer(path, charge, operands, result)
    return result


def entered(ledger: Ledger, path: str, charge: Charge, data: Any) -> Any:
    """Records a call that gave `data`, and returns that counted; None for a write in place."""
    if len(ledger.log) > ledger.longest:
        ledger.settle()
    if not ledger.observers or ledger.charging:
        ledger.log.extend((ledger.running.get(get_ident()), path, charge))
    elif charge.result:
        ledger.log.extend((None, "", charge.result.born))
    if charge.result is None:
        return None
    if type(data) is not tuple:
        return _made(data, charge.result, path, charge)
    for spec in charge.others:
        ledger.log.extend((None, "", spec.born))
    specs = (charge.result, *charge.others)
    return tuple(_made(one, spec, path, charge) for one, spec in zip(data, specs, strict=True))


def _made(data: Any, spec: Spec, path: str, charge: Charge) -> Counted:
    """An array that an operation has made."""
    result = _new(Counted)
    result.data, result.spec, result.base = data, spec, None
    result.path, result.charge = path, charge
    return result


def view(x: Counted, data: Any) -> Counted:
    """Counts `data`, which is made of the bytes of `x`: nothing is moved, nothing recorded.

    Raises:
        Uncounted: it is a copy.
    """
    if isinstance(x.data, np.generic):  # of a number there is a copy
        part = apply(np.copy, x)
        part.data, part.spec = data, describe(x.ledger, data, x.spec.category)
        return part
    if hasattr(data, "base") and not shares(data, x.data):  # NumPy, CuPy
        raise Uncounted(f"a view of {x} would copy in silence: write .copy() first, or np.take")
    spec, like = x.spec, data.dtype is x.spec.dtype
    looks = (data.shape, data.layout) if type(data) is ShapeArray else data.shape
    known = spec.views.get(looks) if like else None
    if known is None:
        known = describe(spec.ledger, data, spec.category)
        # Where no elements of `x` share memory, shape and dtype of a part tell its bytes.
        if like and spec.nbytes == x.data.nbytes:
            spec.views[looks] = known
    part = _new(Counted)
    part.base = x if x.base is None else x.base
    part.data, part.spec, part.path, part.charge = data, known, x.path, x.charge
    return part


def together(x: Any) -> Any:
    """A list as one array; the arrays in one that holds counted ones are stacked, and counted."""
    if type(x) is Counted:
        return x
    if not holds(x):
        return np.asarray(x)
    return apply(np.stack, *map(together, x), axis=0)


def holds(x: Any) -> bool:
    """Whether it is a counted array, or a list that has one in it."""
    return type(x) is Counted or (type(x) in (list, tuple) and any(map(holds, x)))
