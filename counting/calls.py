"""How NumPy's functions are called: operands by position, options by name and in Python's numbers.

Prices are remembered by operands and options, so one call must have one spelling.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from counting.checks import shown
from counting.cost import OUT, Shape, Uncounted
from counting.costs import IN_REAL_NUMBERS, INSIDE, REGISTERED


def full_name(function: Any) -> str:
    """A function as one writes it, with its module: `numpy.matmul`, `numpy.add.reduce`."""
    if hasattr(REGISTERED.get(function, function), "rule"):
        return row_name(function)
    return f"{getattr(function, '__module__', None) or 'numpy'}.{row_name(function)}"


def row_name(function: Any) -> str:
    """The name of a function in a ledger's rows, as NumPy's users know it: `add.reduce`."""
    if function in REGISTERED:
        return REGISTERED[function].row
    if function in INSIDE:
        return function.__name__.partition("_")[0].rstrip("1")
    ufunc = getattr(function, "__self__", None)
    before = f"{ufunc.__name__}." if isinstance(ufunc, np.ufunc) else ""
    return f"{before}{function.__name__}"


def dims(shape: Any) -> Shape:
    """A shape as a tuple of Python's integers, which never overflow, and SymPy expressions.

    Raises:
        TypeError: a dimension is neither.
    """
    ndim = getattr(shape, "ndim", 0)
    if type(ndim) is int and ndim > 0:
        shape = shape.tolist()
    given = shape if isinstance(shape, tuple | list) else (shape,)
    return tuple(n if type(n) is int else _whole(n) for n in given)


def _whole(n: Any) -> Any:
    if hasattr(n, "__index__"):
        return int(index(n))
    if hasattr(n, "free_symbols") and n.is_integer is not False:
        return n
    raise TypeError(f"a dimension or a diagonal is a whole number or a symbol, not {shown(n)}")


def _number(x: Any) -> Any:
    return x.tolist() if hasattr(x, "spec") else x


def _pairs(axes: Any) -> Any:
    return tuple(tuple(map(index, part)) for part in axes)


def _axes(axis: Any) -> Any:
    several = hasattr(axis, "__iter__") and getattr(axis, "ndim", 1) > 0
    return tuple(map(index, axis)) if several else index(axis)


def _dtype(dtype: Any) -> np.dtype:
    kind: Any = dtype
    return kind() if isinstance(dtype, type) and issubclass(dtype, np.dtype) else np.dtype(dtype)


NORMAL: dict[str, Callable[[Any], Any]] = {
    "axis": _axes,
    "axis1": index,
    "axis2": index,
    "axes": _axes,
    "source": _axes,
    "destination": _axes,
    "shape": dims,
    "kth": _axes,
    "repeats": _axes,
    "minlength": index,
    "initial": _number,
    "decimals": index,
    "offset": index,
    "dims": dims,
    "keepdims": bool,
    "dtype": _dtype,
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


_SORT = _call(1, "axis kind order stable", "axis kind stable")
_PARTITION = _call(1, "kth axis kind order", "kth axis kind")
_LIKE = _call(1, "dtype order subok shape device", "dtype order shape")

CALLS: dict[Callable[..., Any], Call] = {
    np.sum: _call(1, "axis dtype out keepdims initial where"),
    np.cumsum: _call(1, "axis dtype out"),
    np.max: _call(1, "axis out keepdims initial where"),
    np.prod: _call(1, "axis dtype out keepdims initial where"),
    np.min: _call(1, "axis out keepdims initial where"),
    np.argmax: _call(1, "axis out keepdims"),
    np.argmin: _call(1, "axis out keepdims"),
    np.any: _call(1, "axis out keepdims where"),
    np.all: _call(1, "axis out keepdims where"),
    np.ptp: _call(1, "axis out keepdims"),
    np.var: _call(1, "axis dtype out ddof keepdims", "axis ddof keepdims"),
    np.std: _call(1, "axis dtype out ddof keepdims", "axis ddof keepdims"),
    np.cumprod: _call(1, "axis dtype out"),
    np.mean: _call(1, "axis dtype out keepdims where"),
    np.where: _call(3),
    np.take: _call(2, "axis out mode"),
    np.take_along_axis: _call(2, "axis"),
    np.copy: _call(1, "order subok", "order"),
    np.copyto: _call(2, "casting where"),
    np.ones_like: _LIKE,
    np.empty_like: _LIKE,
    np.tril: _call(1, "k"),
    np.ndarray.astype: _call(1, "dtype order casting subok copy", "dtype order casting"),
    np.ndarray.repeat: _call(1, "repeats axis"),
    np.ndarray.diagonal: _call(1, "offset axis1 axis2"),
    np.ndarray.view: _call(1, "dtype type", "dtype"),
    np.ndarray.round: _call(1, "decimals out"),
    np.ndarray.nonzero: _call(1),
    np.ndarray.sort: _SORT,
    np.ndarray.argsort: _SORT,
    np.ndarray.partition: _PARTITION,
    np.ndarray.argpartition: _PARTITION,
    np.ndarray.searchsorted: _call(2, "side sorter", "side"),
    np.dot: _call(2, "out"),
    np.inner: _call(2),
    np.vdot: _call(2),
    np.bincount: _call(1, "weights minlength"),
    np.unravel_index: _call(1, "shape order", "shape"),
    np.lib.stride_tricks.as_strided: _call(1, "shape strides subok writeable"),
    np.broadcast_to: _call(1, "shape subok"),
    np.reshape: _call(1, "shape order copy", "shape order"),
    np.swapaxes: _call(1, "axis1 axis2"),
    np.transpose: _call(1, "axes"),
    np.squeeze: _call(1, "axis"),
    np.expand_dims: _call(1, "axis"),
    np.moveaxis: _call(1, "source destination"),
    np.ravel: _call(1, "order"),
    np.flip: _call(1, "axis"),
}


JOINS: dict[Callable[..., Any], str] = {
    np.concatenate: "axis",
    np.stack: "axis",
    np.vstack: "",
    np.hstack: "",
    np.dstack: "",
    np.column_stack: "",
    np.lexsort: "axis",
    np.ravel_multi_index: "dims",
}
"""Functions of a list of arrays, and what is counted beside."""


def joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `JOINS`, its arrays one after another."""
    return lambda *arrays, **options: function(arrays, **options)


def spelled(
    function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The operands of a call, and its options by name in Python's own numbers.

    Raises:
        Uncounted: it lacks an operand, has one by name, or an option that is not counted.
    """
    if function in JOINS and len(args) in (1, 2) and not isinstance(args[0], np.ndarray):
        given = {**dict(zip(JOINS[function].split(), args[1:], strict=False)), **options}
        if given.keys() <= set(JOINS[function].split()):
            arrays = [np.asarray(x) if type(x) is list else x for x in args[0]]
            return arrays, {k: x if x is None else NORMAL[k](x) for k, x in given.items()}
    if function in JOINS:
        raise Uncounted(f"{full_name(function)} is counted of arrays in a list, and an axis")
    if function not in CALLS:
        return args, dict(options)
    call = CALLS[function]
    if function in (np.dot, np.inner, np.vdot):  # an array of a number too, as in NumPy
        args = [*(x if hasattr(x, "shape") else np.asarray(x) for x in args[:2]), *args[2:]]
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
        if option in _IDLE or value is np._NoValue:
            continue
        if option in call.counted:
            normal[option] = None if value is None else NORMAL.get(option, _same)(value)
        elif value is not None:
            known = f" with {', '.join(call.counted)}" if call.counted else ""
            raise Uncounted(f"{name} is counted{known}, not with {option}: {OUT}")
    if normal.get("weights") is not None:
        operands = (*operands, normal.pop("weights"))
    return operands, normal


_IDLE = ("subok", "device")  # of plain arrays, in memory, they change nothing

_OF_UFUNCS = (
    "dtype",
    "signature",
    "casting",
    "order",
    "where",
    "out",
)  # the last stays the last, see `array.apply`
_OF_METHODS = ("axis", "keepdims", "dtype", "initial", "where", "out")


def plain(function: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a ufunc or of its method, and as `out` the one array that is written.

    Raises:
        Uncounted: one of them could change what a call costs; or there are several outputs.
    """
    counted: tuple[str, ...] = _OF_UFUNCS if isinstance(function, np.ufunc) else _OF_METHODS
    if function in IN_REAL_NUMBERS:
        counted = ("axes", *counted)
    elif options.get("axis") == -1 and function is np.vecdot:  # as without
        options = {name: x for name, x in options.items() if name != "axis"}
    for name in options.keys() - {*counted, *_IDLE}:
        known = ", ".join(counted)
        raise Uncounted(f"{full_name(function)} is counted with {known}, not with {name}: {OUT}")
    said = {n: x for n, x in options.items() if x is not None or n in ("axis", "initial")}
    given = {name: said[name] for name in counted if name in said}
    if type(out := given.get("out")) is tuple:
        if len(out) != 1:
            raise Uncounted(f"{full_name(function)} is counted with one output: {OUT}")
        given["out"] = out[0]
    normal = {**NORMAL, "axes": _pairs}
    return {name: x if x is None else normal.get(name, _same)(x) for name, x in given.items()}


def _same(x: Any) -> Any:
    return x
