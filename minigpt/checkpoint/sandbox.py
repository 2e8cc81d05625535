"""The sandbox of chat templates: Jinja's, in which nothing that a step makes can grow large.

A step is what runs without a look at signals: an operator, a filter, a method of a text. What most
make is no larger than what they are given, and is measured when it is made. The few that repeat
what they are given, as often as a number or another text says, are measured before they run. Loops
stay as long as they are: Ctrl-C ends them.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import wraps
from math import prod
from string import Formatter
from types import GeneratorType
from typing import Any

from jinja2 import Environment, TemplateRuntimeError, nodes
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Namespace
from jinja2.visitor import NodeTransformer

LONGEST = 10**7  # characters of a text: several times what the longest contexts hold
THING = 50  # characters that one in a list is worth, for it takes memory, and time to look at
DEEPEST = 1000  # levels of what JSON indents: Python's bound of a recursion
NUMBER = 500  # characters of the longest number, written out
MOST = 10**8  # the sizes of what a step repeats, multiplied
LARGEST = 10**5  # a number of repetitions, or a width: Jinja's own bound of a range
BITS = 64  # of a whole number that a step makes
_TEXTS = ("center", "expandtabs", "indent", "ljust", "replace", "rjust", "translate", "zfill")
_PRODUCTS = frozenset(("*", "batch", "round", "to_bytes", "tojson", *_TEXTS))
_BETWEEN = frozenset(("join", "urlize", "wordwrap"))  # one text between the things of another
_FORMATS = frozenset(("%", "format", "format_map"))
_OWN = (Context, Environment, nodes.EvalContext)  # what Jinja gives some filters first
_HOLDERS = (Namespace, Cycler, LoopContext)  # Jinja's things that hold values


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
        self.filters.update({name: _of_bounds(name, filter) for name, filter in every.items()})
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
            name = getattr(method, "__name__", "")
            args = _all(name, args)
            _check(name, [getattr(method, "__self__", None), *args, *named.values()])
        return bounded(super().call(__context, __called, *args, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and whole and left.bit_length() * right > BITS:
            raise _too_much()
        if operator == "%" and isinstance(left, str | bytes):
            _check("%", [left, right])
        if operator == "*" and any(isinstance(one, Collection) for one in (left, right)):
            _check("*", sorted((left, right), key=lambda one: isinstance(one, int)))
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


def _of_bounds(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    step = "%" if name == "format" else name

    @wraps(filter)  # with the mark of those that are given the context too
    def bound(*args: Any, **named: Any) -> Any:
        args = _all(step, args)
        _check(step, [one for one in (*args, *named.values()) if not isinstance(one, _OWN)])
        made = filter(*args, **named)
        return _one_by_one(made) if isinstance(made, GeneratorType) else bounded(made)

    return bound


def _one_by_one(made: Iterable[Any]) -> Iterator[Any]:
    """What comes bit by bit, bounded as a whole."""
    size = 0
    for one in made:
        size += THING + _size(one)
        if size > LONGEST:
            raise _too_much()
        yield one


def _all(step: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a step is given; of what comes bit by bit all, where it matters how much that is."""
    if step not in _PRODUCTS | _BETWEEN | _FORMATS:
        return args
    return tuple(list(value) if isinstance(value, Iterator) else value for value in args)


def _check(step: str, given: list[Any]) -> None:
    """Raises TemplateRuntimeError where a step can make too much of what it is given."""
    sizes = list(map(_size, given))
    most = 0
    if step in _FORMATS:
        most = _formatted(step, str(given[0]), given[1:])
    elif step in _BETWEEN:
        most = prod(max(1, len(one)) for one in given if isinstance(one, Collection))
    elif step == "replace" and all(isinstance(one, str) for one in given[:3]) and given[2:]:
        most = given[0].count(given[1]) * len(given[2])
    elif step in _PRODUCTS:
        if step == "tojson":  # indents things, not characters
            sizes[0] = DEEPEST * _size(given[0], texts=False)
        most = prod(max(1, size) for size in sizes)
        most *= prod(max(1, _width(one)) for one in given[1:] if isinstance(one, int))
    if most > MOST:
        raise _too_much()


def _formatted(step: str, form: str, values: list[Any]) -> int:
    """The characters that a format can make of values, each of which it may name many times."""
    if step == "%":  # after a name, which may have parentheses in it, stands a width too
        begin = "[%)]" if "%(" in form else "%"
        specs = re.findall(begin + r"[-+ #0]*([\d*]*\.?[\d*]*)", form)
        asks = any("*" in spec for spec in specs)
    else:
        specs = [spec or "" for _, name, spec, _ in Formatter().parse(form) if name is not None]
        asks = any("{" in spec for spec in specs)
    return sum(map(_widths, specs)) + len(specs) * (NUMBER + _size(values, widths=asks))


def _widths(spec: str) -> int:
    return sum(map(_width, re.findall(r"\d+", spec)))


def _width(number: int | str) -> int:
    if len(str(number)) > len(str(LARGEST)) or abs(int(number)) > LARGEST:
        raise _too_much()
    return abs(int(number))


def _size(value: Any, texts: bool = True, widths: bool = False) -> int:
    """Characters and things in a value, and in all that it holds.

    Args:
        texts: the characters count.
        widths: numbers there are widths of what is to be made.

    Raises:
        TemplateRuntimeError: there are too many.
    """
    size, rest = 0, [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            size += len(one) if texts else 0
            size += _widths(one) if widths else 0
        elif isinstance(one, int):
            size += _width(one) if widths else 0
        elif isinstance(one, _HOLDERS):
            size += DEEPEST  # slow to look into
            rest.extend(object.__getattribute__(one, "__dict__").values())
        elif isinstance(one, Collection):
            size += THING * len(one)
            rest.extend([*one, *one.values()] if isinstance(one, Mapping) else one)
        if size > LONGEST:
            raise _too_much()
    return size


def _too_much() -> TemplateRuntimeError:
    return TemplateRuntimeError("it makes more than a prompt can be")
