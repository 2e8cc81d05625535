"""The sandbox of chat templates: Jinja's, in which nothing that a step makes can grow large.

A step is what runs without a look at signals: an operator, a filter, a method of a text. Before one
runs, the sizes of what it is given bound what it can make of them; after it, what it made has a
size. Loops stay as long as they are: Ctrl-C ends them.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import Environment, TemplateRuntimeError, nodes
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

LONGEST = 10**7  # characters of a text: several times what the longest contexts hold
THING = 100  # characters that one in a list is worth, for it takes as much memory
MOST = 10**8  # the sizes of what a step is given, multiplied
LARGEST = 10**5  # a whole number that a step is given: Jinja's own bound of a range
BITS = 64  # of a whole number that a step makes
_ASKS = re.compile(r"\{[^{}]*\{|\*")  # of a format that takes a width from what it is given
_OWN = (Context, Environment, nodes.EvalContext)  # what Jinja gives some filters first


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, whose steps raise `TemplateRuntimeError` rather than make too much.

    Args:
        filters: beside Jinja's own.
        options: of Jinja's.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, filters: Mapping[str, Callable[..., Any]], **options: Any) -> None:
        super().__init__(finalize=bounded, **options)
        every = {**self.filters, **filters, "bounded": bounded}
        self.filters.update({name: _of_bounds(filter) for name, filter in every.items()})
        del self.globals["lipsum"]  # texts by the book

    def from_string(self, source: Any, *others: Any, **more: Any) -> Any:
        tree = _Bounds().visit(self.parse(source))
        tree.set_environment(self)
        return super().from_string(tree, *others, **more)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """All that a template, a macro or a block prints."""
        printed, n = list[str](), 0
        for part in parts:
            n += len(part)
            if n > LONGEST:
                raise _too_much()
            printed.append(part)
        return "".join(printed)

    def call(__self, __context: Any, __called: Any, *args: Any, **named: Any) -> Any:
        if not isinstance(__called, Macro):
            method = getattr(__called, "__wrapped__", __called)  # of a format Jinja makes its own
            formats = getattr(method, "__name__", "") in ("format", "format_map")
            args = tuple(map(_all, args))
            _check([getattr(method, "__self__", None), *args, *named.values()], formats)
        return bounded(super().call(__context, __called, *args, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and whole and left.bit_length() * right > BITS:
            raise _too_much()
        if (operator == "*" and not whole) or (operator == "%" and isinstance(left, str)):
            _check([left, right], formats=operator == "%")
        return bounded(super().call_binop(context, operator, left, right))


def bounded(made: Any) -> Any:
    """What a step made. Raises TemplateRuntimeError where that is too much."""
    if isinstance(made, int):
        if made.bit_length() > BITS:
            raise _too_much()
    else:
        _size(made)
    return made


class _Bounds(NodeTransformer):
    """Has what Jinja does without asking anybody, `~` and lists and the like, done by filters."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered("join", nodes.List(node.nodes, lineno=node.lineno))

    def _literal(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        stored = getattr(node, "ctx", "load") == "store"  # the names that a loop gives
        return node if stored else _filtered("bounded", node)

    visit_List = visit_Tuple = visit_Dict = _literal


def _filtered(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _of_bounds(filter: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter)  # with the mark of those that are given the context too
    def bound(*args: Any, **named: Any) -> Any:
        args = tuple(map(_all, args))
        given = [one for one in (*args, *named.values()) if not isinstance(one, _OWN)]
        _check(given, formats=filter.__name__ == "do_format")
        return bounded(filter(*args, **named))

    return bound


def _all(value: Any) -> Any:
    """A value; of one that comes bit by bit all, or nobody knows how much that is."""
    return list(value) if isinstance(value, GeneratorType) else value


def _check(given: Iterable[Any], formats: bool) -> None:
    """Raises TemplateRuntimeError where a step can make too much of what it is given.

    Args:
        formats: the first of them is a format: numbers in it are widths, or ask for some.
    """
    most, first, widths = 1, formats, formats
    for value in given:
        number = isinstance(value, int) and not formats
        size = _width(value) if number else _size(value, widths)
        if first and isinstance(value, str):
            first, widths = False, bool(_ASKS.search(value))
        most *= max(1, size)
        if most > MOST:
            raise _too_much()


def _width(number: int | str) -> int:
    if len(str(number)) > len(str(LARGEST)) or abs(int(number)) > LARGEST:
        raise _too_much()
    return abs(int(number))


def _size(value: Any, widths: bool = False) -> int:
    """Characters and things in a value, and in all that it holds.

    Args:
        widths: numbers there are widths of what is to be made.

    Raises:
        TemplateRuntimeError: there are too many.
    """
    size, rest = 0, [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            size += len(one)
            size += sum(map(_width, re.findall(r"\d+", one))) if widths else 0
        elif isinstance(one, int):
            size += _width(one) if widths else 0
        elif isinstance(one, Collection):
            size += THING * len(one)
            rest.extend([*one, *one.values()] if isinstance(one, Mapping) else one)
        if size > LONGEST:
            raise _too_much()
    return size


def _too_much() -> TemplateRuntimeError:
    return TemplateRuntimeError("it makes more than a prompt can be")
