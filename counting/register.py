"""A person's own operations: functions that NumPy's protocol does not know, with a rule of cost."""

from collections.abc import Callable, Sequence
from functools import update_wrapper
from inspect import BoundArguments, Parameter, Signature, signature
from itertools import islice
from types import FunctionType
from typing import Any

import numpy as np

from counting import checks
from counting.array import Counted, apply, holds, together
from counting.calls import full_name
from counting.checks import must_be
from counting.composite import composite
from counting.cost import Cost, Shape, Uncounted
from counting.costs import COSTS, REGISTERED, rule_of
from counting.known import BY_NAME
from counting.leaving import leave, leaving
from counting.names import SUBSTITUTES, made_in, making
from counting.program import plain
from counting.shapes import ShapeArray
from counting.twins import Asking, code_of


def register(
    function: Callable[..., Any],
    rule: Callable[..., Cost],
    example: Any,
    shape: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Gives `function` a row: what it costs, by a rule of shapes as those of `counting/rules.py`.

    >>> solve = register(
    ...     scipy.linalg.solve_triangular,
    ...     lambda out, a, b, **options: Cost(fma=size(out) * a[0] // 2, div=size(out)),
    ...     example=(np.eye(3), np.ones(3)),
    ... )

    Args:
        function: a ufunc without a row, or a function of arrays that gives new ones.
        rule: `rule(out, *operands, **options)`, of the shape of the (first) result, of those of
            the arrays it is called with, () of a number, and of the other arguments that it is
            given, by name.
        example: its arguments, or the only one: all is tried out on them at once, and the
            parameters that are arrays there are its operands.
        shape: `shape(*operands, **options)`, the shape of the result, or a list of those of
            several: what a run without data needs to know of a function that is no ufunc.

    Returns:
        What to call: a ufunc itself; else a function that counts where an array among its
        arguments does, and is `function` where none does.

    Raises:
        ValueError: it has a row already, it does not run on the example, or the rule or the shape
            is wrong there.
        TypeError: the rule gives no `Cost`.
    """
    if isinstance(function, Asking):  # one of NumPy's, as a program names it
        function = function.function
    checks.function("function", function)
    checks.function("rule", rule)
    must_be("a function, or None", shape is None or callable(shape), "shape", shape)
    known = REGISTERED.get(function)
    if known is not None:
        if not (_same(known.given, rule) and _same(known.shape, shape)):
            raise ValueError(f"{known.row} is registered already, with another rule")
        return known.called
    numpys = isinstance(function, composite) or code_of(function) is not None
    if numpys or function in COSTS or rule_of(function) is not None:
        raise ValueError(f"{full_name(function)} is counted already: its row stays what it is")
    made = Registered(function, rule, shape)
    with made_in(None):  # a program's arrays count: those of an example do not
        made.try_out(plain(example if isinstance(example, tuple) else (example,)))
    REGISTERED[function] = made
    return made.called


class Registered:
    """A function with a row of a person's own, to be called in its place.

    Attributes:
        row: its name in the ledger's rows.
        given: the rule, as it was given.
        called: what a person calls: this, or a ufunc.
        operands: the parameters that are arrays.
    """

    operands: frozenset[str]
    signature: Signature

    def __init__(self, function: Any, rule: Callable[..., Cost], shape: Any) -> None:
        update_wrapper(self, function)
        self.function, self.given, self.shape = function, rule, shape
        self.row = _row(function)
        self.called = function if isinstance(function, np.ufunc) else self
        self._example: tuple[Any, ...] = ()
        self._dtypes: dict[Any, list[np.dtype]] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = (*args, *options.values())
        if making.get() is None and not any(map(holds, given)):
            return self.function(*args, **options)
        try:
            arrays, call = self._spelled(self.signature.bind(*args, **options))
            return apply(call, *arrays)
        except Uncounted:
            if leaving.get():
                return leave(self.function, *args, **options)
            raise

    def _spelled(self, bound: BoundArguments) -> "tuple[list[Any], Call]":
        """The arrays among its arguments, and the call that is left without them."""
        arrays: list[Any] = []
        places: list[tuple[str, int | None]] = []
        options: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if name in self.operands and value is not None:
                several = kind is Parameter.VAR_POSITIONAL
                arrays += map(_array, value if several else (value,))
                places.append((name, len(value) if several else None))
            else:
                options |= value if kind is Parameter.VAR_KEYWORD else {name: value}
        for name, value in options.items():
            if holds(value) or isinstance(value, np.ndarray):
                known = ", ".join(sorted(self.operands))
                raise Uncounted(
                    f"{self.row} is counted of arrays as {known}, as in its example, not as {name}"
                )
        return arrays, Call(self, places, options)

    def try_out(self, example: tuple[Any, ...]) -> None:
        """Runs it, its rule and its shape on an example, before anything is counted by them."""
        is_ufunc, row = isinstance(self.function, np.ufunc), self.row
        if is_ufunc and self.shape is not None:
            raise ValueError(f"{row} is a ufunc: the shape of its result is known")
        options: dict[str, Any] = {}
        if not is_ufunc:
            try:
                self.signature = signature(self.function)
                bound = self.signature.bind(*example)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{row} cannot be called with its example: {error}") from None
            arguments = bound.arguments.items()
            self.operands = frozenset(name for name, value in arguments if _is_array(value))
            operands, call = self._spelled(bound)
            options = call.options
        else:
            operands = [x for x in example if _is_array(x)]
        if not operands:
            raise ValueError(f"the example of {row} has no array")
        before = [x.tobytes() for x in operands]
        try:
            results = _results(self.function(*example))
        except Exception as error:
            raise ValueError(f"{row} does not run on its example: {error}") from error
        if not results or not all(hasattr(x, "shape") for x in results):
            raise ValueError(f"{row} gives no array of its example")
        if [x.tobytes() for x in operands] != before:
            raise ValueError(f"{row} writes into its operand, which nothing would count")
        if any(np.may_share_memory(x, y) for x in results for y in operands):
            raise ValueError(f"{row} gives a view of its operand, which it does not make: copy it")
        shapes = [x.shape for x in operands]
        self.rule(results[0].shape, *shapes, **options)
        if self.shape is not None:
            found = _shapes(self.shape(*shapes, **options))
            if found != [x.shape for x in results]:
                raise ValueError(
                    f"the shape of {row} is {found} of its example, "
                    f"but the function gives {[x.shape for x in results]}"
                )
        self._example = example

    def rule(self, out: Shape, *operands: Shape, **options: Any) -> Cost:
        """What the rule gives, if it is a cost.

        Raises:
            ValueError: it does not run.
            TypeError: it gives no cost.
        """
        try:
            cost: Any = self.given(out, *operands, **options)
        except Exception as error:
            known = (*map(str, (out, *operands)), *(f"{k}={x!r}" for k, x in options.items()))
            said = f"does not run on {', '.join(known)}: {error}"
            raise ValueError(f"the rule of {self.row} {said}") from error
        if not isinstance(cost, Cost):
            raise TypeError(f"the rule of {self.row} gives a {type(cost).__name__}, no Cost")
        return cost

    def dtypes(self, by_name: dict[str, np.dtype]) -> list[np.dtype]:
        """Those of the results, of operands of other dtypes: found by running the example."""
        key = tuple(by_name.items())
        if key not in self._dtypes:
            bound = self.signature.bind(*self._example)
            for name in self.operands & by_name.keys():
                x, dtype = bound.arguments[name], by_name[name]
                several = type(x) is tuple
                cast = [np.asarray(one).astype(dtype) for one in (x if several else (x,))]
                bound.arguments[name] = tuple(cast) if several else cast[0]
            results = _results(self.function(*bound.args, **bound.kwargs))
            self._dtypes[key] = [x.dtype for x in results]
        return self._dtypes[key]


class Call:
    """A registered function with all of its arguments but the arrays, as `apply` runs it.

    Each is another: what comes out may depend on the numbers, so no price is remembered.
    """

    by_data = True

    def __init__(
        self,
        registered: Registered,
        places: Sequence[tuple[str, int | None]],
        options: dict[str, Any],
    ) -> None:
        self.registered, self.places, self.options = registered, places, options
        self.__name__ = registered.row

    def rule(self, out: Shape, *operands: Shape) -> Cost:
        return self.registered.rule(out, *operands, **self.options)

    def __call__(self, *bare: Any) -> Any:
        if any(type(x) is ShapeArray for x in bare):
            return self._of_shapes(bare)
        bound = BoundArguments(self.registered.signature, self._arguments(bare))
        results = _results(self.registered.function(*bound.args, **bound.kwargs))
        return results[0] if len(results) == 1 else tuple(results)

    def _arguments(self, bare: Sequence[Any]) -> dict[str, Any]:
        left, found = iter(bare), {}
        for name, n in self.places:
            found[name] = next(left) if n is None else tuple(islice(left, n))
        parameters = self.registered.signature.parameters
        named = {name: x for name, x in self.options.items() if name in parameters}
        more = {name: x for name, x in self.options.items() if name not in parameters}
        rest = (p.name for p in parameters.values() if p.kind is Parameter.VAR_KEYWORD)
        return {**found, **named, **{name: more for name in rest if more}}

    def _of_shapes(self, bare: Sequence[Any]) -> Any:
        one = self.registered
        if one.shape is None:
            raise Uncounted(f"{one.row} of shapes alone is not known: register it with `shape`")
        given = self._arguments(bare)
        by_name = {}
        for name, n in self.places:
            several = (given[name],) if n is None else given[name]
            by_name[name] = np.result_type(*(x.dtype for x in several))
        shapes = _shapes(one.shape(*(x.shape for x in bare), **self.options))
        made = tuple(map(ShapeArray, shapes, one.dtypes(by_name)))
        return made[0] if len(made) == 1 else made


def _row(function: Any) -> str:
    """The name of its rows, with its module as one imports it: `scipy.signal.lfilter`."""
    parts = (getattr(function, "__module__", None) or "").split(".")
    name = getattr(function, "__name__", type(function).__name__)
    row = ".".join((*(part for part in parts if part and part[0] != "_"), name))
    return f"registered.{row}" if row in BY_NAME else row


def _same(rule: Any, other: Any) -> bool:
    """Whether two are one, or were made of the same lines, as of a notebook's cell run twice."""
    if type(rule) is not FunctionType or type(other) is not FunctionType:
        return rule is other

    def made_of(f: FunctionType) -> tuple[Any, ...]:
        cells = [cell.cell_contents for cell in f.__closure__ or ()]
        return f.__code__, f.__defaults__, f.__kwdefaults__, cells, id(f.__globals__)

    return rule is other or made_of(rule) == made_of(other)


def _is_array(x: Any) -> bool:
    """Whether an argument of an example is an array, or one for each of `*arrays`."""
    several = type(x) is tuple and x != ()
    return isinstance(x, np.ndarray) or (several and all(map(_is_array, x)))


def _array(x: Any) -> Any:
    if making.get() is not None:  # what code is given that `counted` runs counts
        return SUBSTITUTES[np.asarray](x)
    return together(x) if type(x) in (list, tuple) else x if type(x) is Counted else np.asarray(x)


def _results(made: Any) -> list[Any]:
    """The arrays that come out; numbers of Python's as NumPy's."""
    several = [*made] if isinstance(made, tuple | list) else [made]
    return [np.asarray(x)[()] if type(x) in (bool, int, float, complex) else x for x in several]


def _shapes(found: Any) -> list[Shape]:
    return [tuple(x) for x in (found if type(found) is list else [found])]
