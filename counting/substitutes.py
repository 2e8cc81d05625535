"""What stands for functions in C in NumPy's own code: rows, or what passes a counted array on."""

import operator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from counting import inside, primitives
from counting.array import Counted, apply, view
from counting.cost import OUT, Uncounted, size
from counting.creation import asarray, ledger_here, made, number
from counting.leaving import leave
from counting.names import SUBSTITUTES
from counting.shape_rules import broadcast
from counting.shapes import ShapeArray
from counting.twins import MODULES, NOT_RUN, numpys


class _Array(type):
    """Counted arrays are arrays, for code that asks, and made where it makes one."""

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x.data if type(x) is Counted else x, np.ndarray | ShapeArray)

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if cls is not ndarray:
            raise Uncounted(f"operators of a {cls.__name__} are not those of a plain array")
        bare = np.ndarray(*map(number, args), **{name: number(x) for name, x in options.items()})
        return made(bare, "ndarray", written=False)


class ndarray(np.ndarray, metaclass=_Array):
    """NumPy's class as its own code sees it."""


_NUMBERS = (int, float, complex)


class _Converter:
    """Arrays out of what a function was given, as NumPy's class in C gives them."""

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.arrays = tuple(map(asarray, given))
        self.scalar_input = tuple(not hasattr(x, "shape") for x in given)

    def __iter__(self) -> Any:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> Any:
        return self.arrays[i]

    def as_arrays(self, subok: bool = True, pyscalars: str = "convert") -> Any:
        return self.arrays

    def result_type(self, extra_dtype: Any = None, ensure_inexact: bool = False) -> np.dtype:
        pairs = zip(self.given, self.arrays, strict=True)
        dtype = np.result_type(*(x if type(x) in _NUMBERS else y.dtype for x, y in pairs))
        dtype = dtype if extra_dtype is None else np.result_type(dtype, extra_dtype)
        return np.result_type(dtype, 1.0) if ensure_inexact and dtype.kind not in "fc" else dtype

    def wrap(self, x: Any, *, to_scalar: Any = None) -> Any:
        return x


def result_type(*given: Any) -> np.dtype:
    return np.result_type(*(x.dtype if hasattr(x, "spec") else x for x in given))


def _can_cast(from_: Any, *to: Any, **how: Any) -> bool:
    return np.can_cast(from_.dtype if hasattr(from_, "spec") else from_, *to, **how)


def _as_strided(x: Any, *args: Any, **options: Any) -> Any:
    x = asarray(x)
    return x.__array_function__(np.lib.stride_tricks.as_strided, (), (x, *args), options)


class _Broadcast:
    """The shape that arrays have together; of counted ones no elements."""

    def __init__(self, *given: Any) -> None:
        self.shape = broadcast(*(tuple(np.shape(x)) for x in given))
        self.numiter = len(given)
        self.ndim = self.nd = len(self.shape)
        self.size = size(self.shape)


def _broadcast(*given: Any) -> Any:
    return _Broadcast(*given) if any(hasattr(x, "spec") for x in given) else np.broadcast(*given)


class _Elementwise:
    """A Python function of numbers, called for each element."""

    def __init__(self, function: Any, nin: int, nout: int, **options: Any) -> None:
        self.function, self.nout = function, nout

    def __call__(self, *given: Any, **out: Any) -> Any:
        arrays = numpys(np.broadcast_arrays)(*map(asarray, given))
        rows = [self.function(*row) for row in zip(*(x.reshape(-1) for x in arrays), strict=True)]
        if self.nout == 1:
            return asarray(rows).reshape(arrays[0].shape)
        return tuple(
            asarray([*column]).reshape(arrays[0].shape) for column in zip(*rows, strict=True)
        )


def _monotonicity(bins: Any) -> int:
    """1 of a line that rises, -1 of one that falls, else 0."""
    bins = asarray(bins)
    for sign, follows in ((1, np.greater_equal), (-1, np.less_equal)):
        if all(follows(bins[1:], bins[:-1]).tolist()):
            return sign
    return 0


def _broadcast_to(array: Any, shape: Any, subok: bool = False, readonly: bool = True) -> Any:
    return np.broadcast_to(asarray(array), shape)


def _einsum(*operands: Any, **options: Any) -> Any:
    if options.pop("out", None) is not None or {*options} - {"order", "casting"}:
        raise Uncounted(f"np.einsum is counted without out and dtype: {OUT}")
    terms, made, arrays = numpys(inside.parse_einsum_input)(operands)
    if len(arrays) == 1 and {*made} == {*terms}:  # NumPy gives a view: a diagonal, a transpose
        return view(arrays[0], np.einsum(f"{terms}->{made}", arrays[0].data))
    return apply(primitives.einsum, *arrays, subscripts=f"{terms}->{made}")


def _correlate(a: Any, v: Any, mode: Any = 0) -> Any:
    return apply(primitives.correlate, asarray(a), asarray(v), mode=MODES.get(mode, mode))


MODES = {"valid": 0, "same": 1, "full": 2}


def _correlate2(a: Any, v: Any, mode: Any = 0) -> Any:
    a, v, mode = asarray(a), asarray(v).conj(), MODES.get(mode, mode)
    if len(a) < len(v):
        return _correlate(v, a, mode)[::-1]
    return _correlate(a, v, mode)


def _interp(x: Any, at: Any, values: Any, left: Any = None, right: Any = None) -> Any:
    return apply(
        primitives.interp, *map(asarray, (x, at, values)), left=number(left), right=number(right)
    )


def _place(array: Any, mask: Any, values: Any) -> None:
    if not hasattr(array, "shape"):
        raise TypeError("place writes into an array")
    mask, values = asarray(mask).astype(bool), asarray(values).reshape(-1)
    n = int(np.count_nonzero(mask))
    if n and not len(values):
        raise ValueError("Cannot insert from an empty array")
    if len(values) != n:
        values = np.resize(values, n)
    array[mask.reshape(array.shape)] = values


def _putmask(array: Any, mask: Any, values: Any) -> None:
    values = asarray(values)
    if values.size not in (1, array.size):
        values = np.resize(values, array.size)
    line = values.reshape(-1) if values.size == 1 else values.reshape(array.shape)
    np.copyto(array, line, casting="unsafe", where=asarray(mask).astype(bool))


def _memmap(*args: Any, **options: Any) -> Any:
    return Counted(np.memmap(*args, **options).view(np.ndarray), ledger_here())


class _Masked:
    """The module `numpy.ma`: what its arrays compute would go uncounted."""

    @staticmethod
    def is_masked(x: Any) -> bool:
        return False  # as NumPy's code asks; counted arrays never are

    isMaskedArray = isMA = is_masked

    def __getattr__(self, name: str) -> Any:
        raise Uncounted(f"np.ma.{name} is not counted: multiply by a mask, or index with one")


def _index(x: Any) -> Any:
    """As `operator.index`, with which NumPy's code makes numbers of sizes; a symbol passes."""
    return x if getattr(x, "is_integer", None) is True else operator.index(x)


MODULES["numpy.ma"] = _Masked()
MODULES["operator"] = SimpleNamespace(**{**vars(operator), "index": _index})


def _bincount(x: Any, *args: Any, **options: Any) -> Any:
    x = asarray(x, np.intp) if type(x) in (list, tuple) and len(x) == 0 else asarray(x)
    return np.bincount(x, *args, **options)


SUBSTITUTES |= {
    np.memmap: _memmap,
    np.bincount: _bincount,
    np.ndarray: ndarray,
    np.ndindex: np.ndindex,
    np.result_type: result_type,
    np.broadcast: _broadcast,
    np.frompyfunc: _Elementwise,
    inside.monotonicity: _monotonicity,
    np.min_scalar_type: lambda x: np.min_scalar_type(x.data if hasattr(x, "spec") else x),
    np.can_cast: _can_cast,
    np.putmask: _putmask,
    np.may_share_memory: lambda x, y, **work: np.may_share_memory(x.data, y.data, **work),
    np.shares_memory: lambda x, y, **work: np.shares_memory(x.data, y.data, **work),
    np.lib.stride_tricks.as_strided: _as_strided,
    inside.array_converter: _Converter,
    inside.unique_hash: lambda *args, **options: NotImplemented,
    inside.broadcast_to: _broadcast_to,
    inside.place: _place,
    inside.interp: _interp,
    inside.interp_complex: _interp,
    inside.correlate: _correlate,
    inside.correlate2: _correlate2,
    inside.count_nonzero: lambda x: apply(primitives.count_nonzero, asarray(x)),
    inside.c_einsum: _einsum,
    inside.concatenate: np.concatenate,
}
SUBSTITUTES |= {f: partial(leave, f) for f in NOT_RUN}  # a program shows and keeps its results
SUBSTITUTES.pop(None, None)  # what this version of NumPy lacks
