"""How NumPy's functions are called: operands by position, options by name and in Python's numbers.

Prices are remembered by operands and options, so one call must have one spelling.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from counting.costs import Shape, Uncounted


def full_name(function: Any) -> str:
    """A function as one writes it, with its module: `numpy.matmul`."""
    return f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}"


def dims(shape: Any) -> Shape:
    """A shape as a tuple of Python's integers, which never overflow, and SymPy expressions.

    Raises:
        TypeError: a dimension is neither.
    """
    given = shape if isinstance(shape, tuple | list) else (shape,)
    return tuple(n if type(n) is int else _whole(n) for n in given)


def _whole(n: Any) -> Any:
    if hasattr(n, "__index__"):
        return int(index(n))
    if hasattr(n, "free_symbols") and n.is_integer is not False:
        return n
    raise TypeError(f"a dimension or a diagonal is a whole number or a symbol, not {n!r}")


def _axes(axis: Any) -> Any:
    return tuple(map(index, axis)) if isinstance(axis, tuple | list) else index(axis)


NORMAL: dict[str, Callable[[Any], Any]] = {
    "axis": _axes,
    "axis1": index,
    "axis2": index,
    "axes": _axes,
    "shape": dims,
    "keepdims": bool,
    "dtype": np.dtype,
    "order": str,
    "k": _whole,
}


class Call(NamedTuple):
    """The parameters of a function in NumPy's order.

    Attributes:
        operands: how many come first that are arrays.
        parameters: the names of those that follow.
        counted: those of them that may be given; others could change what a call costs.
    """

    operands: int
    parameters: tuple[str, ...]
    counted: tuple[str, ...]


def _call(operands: int, parameters: str = "", counted: str | None = None) -> Call:
    known = parameters if counted is None else counted
    return Call(operands, tuple(parameters.split()), tuple(known.split()))


_LIKE = _call(1, "dtype order subok shape device", "dtype order shape")

CALLS: dict[Callable[..., Any], Call] = {
    np.sum: _call(1, "axis dtype out keepdims initial where", "axis keepdims"),
    np.cumsum: _call(1, "axis dtype out", "axis"),
    np.max: _call(1, "axis out keepdims initial where", "axis keepdims"),
    np.argmax: _call(1, "axis out keepdims", "axis keepdims"),
    np.mean: _call(1, "axis dtype out keepdims where", "axis keepdims"),
    np.where: _call(3),
    np.take: _call(2, "axis out mode", "axis"),
    np.take_along_axis: _call(2, "axis"),
    np.copy: _call(1, "order subok", "order"),
    np.copyto: _call(2, "casting where", ""),
    np.ones_like: _LIKE,
    np.empty_like: _LIKE,
    np.tril: _call(1, "k"),
    np.reshape: _call(1, "shape order copy", "shape"),
    np.swapaxes: _call(1, "axis1 axis2"),
    np.transpose: _call(1, "axes"),
}


def spelled(
    function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The operands of a call, and its options by name in Python's own numbers.

    Raises:
        Uncounted: it lacks an operand, has one by name, or an option that is not counted.
    """
    call = CALLS[function]
    if len(args) == call.operands and not options:
        return args, {}
    name = full_name(function)
    if len(args) < call.operands:
        raise Uncounted(f"{name} is counted of {call.operands} operands given by position")
    operands, rest = args[: call.operands], args[call.operands :]
    if len(rest) > len(call.parameters):
        raise Uncounted(f"{name} takes no {len(args)} arguments")
    given = {**dict(zip(call.parameters, rest, strict=False)), **options}
    normal: dict[str, Any] = {}
    for option, value in given.items():
        if option in call.counted:
            normal[option] = None if value is None else NORMAL[option](value)
        elif value is not None:
            known = f" with {', '.join(call.counted)}" if call.counted else ""
            raise Uncounted(f"{name} is counted{known}, not with {option}: use x.data")
    return operands, normal
