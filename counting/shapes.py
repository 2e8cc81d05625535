"""Arrays without data: what a program would cost, for arrays of any size, found by running it.

A `ShapeArray` answers NumPy's functions with the shape and dtype that NumPy would give.
Dimensions are ints or SymPy expressions; two symbolic dimensions fit if they are equal as written.
"""

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting.calls import dims, full_name, spelled
from counting.checks import shown
from counting.cost import Shape, size
from counting.indexing import chosen
from counting.layout import (
    UNKNOWN,
    Layout,
    alike,
    laid_out,
    of_axes,
    of_stacks,
    reshaped,
    strides,
)
from counting.primitives import getitem, setitem
from counting.shape_rules import (
    broadcast,
    filled,
    indexed,
    length_of,
    of_signature,
    places,
    reduced,
    several,
)


def reduction(function: Callable[..., Any]) -> Callable[..., "ShapeArray"]:
    def rule(
        a: "ShapeArray",
        axis: int | tuple[int, ...] | None = None,
        dtype: Any = None,
        out: "ShapeArray | None" = None,
        keepdims: bool = False,
        ddof: Any = 0,
        **more: Any,
    ) -> "ShapeArray":
        options = {} if dtype is None else {"dtype": dtype}
        made = function(np.ones(1, a.dtype), **options).dtype
        shape, layout = reduced(a.shape, axis, keepdims), None
        if a.layout is not None and function not in (np.argmax, np.argmin):
            gone = range(a.ndim) if axis is None else places(several(axis), a.ndim)
            left = [i for i in range(a.ndim) if i not in gone]
            kept = tuple(a.shape[i] for i in left)
            layout = alike(kept, [(kept, of_axes(a.shape, a.layout, left))])
            if keepdims and layout is not None and layout is not UNKNOWN:
                steps = iter(layout)
                layout = laid_out(shape, [1 if i in gone else next(steps) for i in range(a.ndim)])
        return written(ShapeArray(shape, made, layout), out)

    return rule


def written(result: "ShapeArray", out: "ShapeArray | None", casting: Any = "same_kind") -> Any:
    """What a call gives: its result, or the array `out` that this is written into."""
    if out is None:
        return result
    if broadcast(result.shape, out.shape) != out.shape:
        raise ValueError(f"cannot write shape {result.shape} into {out.shape}")
    if not np.can_cast(result.dtype, out.dtype, casting):
        raise TypeError(f"cannot write {result.dtype} into {out.dtype}")
    refuse_data(out)
    return out


def refuse_data(out: Any) -> None:
    """Raises TypeError if an array has data: it would be others than those that are written."""
    if isinstance(out, np.ndarray):
        raise TypeError(f"an array with data, of shape {out.shape}, takes no values without data")


# What functions, and methods of ufuncs, make of shapes; `shape_functions.py` fills it.
SHAPES: dict[Callable[..., Any], Callable[..., Any]] = {}
METHODS: dict[str, Callable[..., Any]] = {}

REDUCTIONS: tuple[Callable[..., Any], ...] = (
    *(np.sum, np.prod, np.max, np.min, np.argmax, np.argmin, np.any, np.all, np.ptp),
    *(np.mean, np.var, np.std),
)


class ShapeArray(NDArrayOperatorsMixin):
    """A shape and a dtype that stand for an array: `ShapeArray((3, 4), np.float32)`.

    Args:
        layout: where elements lie, see `layout.py`; in a row if it is None.

    Raises:
        TypeError: a dimension is no whole number and no symbol.
        ValueError: a dimension is negative.
    """

    __slots__ = ("dtype", "layout", "shape")

    def __init__(self, shape: Shape, dtype: Any = np.float32, layout: Layout = None) -> None:
        self.shape, self.layout = dims(shape), layout
        for n in self.shape:
            if (n < 0) if type(n) is int else n.is_negative:
                raise ValueError(f"a dimension is negative: {self.shape}")
        try:
            self.dtype = np.dtype(dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"dtype is {shown(dtype)}; {error}") from None

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: size(self.shape))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    T = property(lambda self: np.transpose(self))
    real = property(lambda self: self._part())
    imag = property(lambda self: self._part())

    def __repr__(self) -> str:
        return f"ShapeArray({self.shape}, {self.dtype})"

    def __bool__(self) -> bool:
        return bool(self.tolist())

    def __format__(self, form: str) -> str:
        return str(self.tolist() if form else self)

    def _part(self) -> "ShapeArray":
        """Real or imaginary parts: every second of the numbers that complex ones are."""
        if self.dtype.kind != "c":
            return self
        layout = self.layout
        if layout is not UNKNOWN:
            layout = laid_out(self.shape, [2 * step for step in strides(self.shape, layout)])
        return ShapeArray(self.shape, np.empty(0, self.dtype).real.dtype, layout)

    @property
    def flags(self) -> SimpleNamespace:
        """Where elements lie, as NumPy says it; False of what is not known."""
        rows, columns = self.layout is None, self.T.layout is None
        return SimpleNamespace(
            c_contiguous=rows,
            f_contiguous=columns,
            contiguous=rows,
            forc=rows or columns,
            fnc=columns and not rows,
            writeable=True,
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self.tolist()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(x, list | tuple) for x in inputs):
            return NotImplemented
        if method != "__call__":
            if type(options.get("out")) is tuple:
                (options["out"],) = options["out"]
            rule = METHODS.get(method)
            return NotImplemented if rule is None else rule(ufunc, *inputs, **options)
        out, dtype = options.pop("out", (None,)), options.pop("dtype", None)
        casting, asked = options.pop("casting", "same_kind"), options.pop("signature", None)
        options.pop("where", None)  # no shape depends on it
        if "axes" in options:  # of Fourier transforms, which say what is made
            return out[0]
        if options.keys() - {"order"} or len(out) != 1:
            return NotImplemented
        shapes = [shape_of(x) for x in inputs]
        found = (
            of_signature(ufunc, *shapes) if ufunc.signature else [broadcast(*shapes)] * ufunc.nout
        )
        dtypes = asked.partition("->")[2] if asked else resolved(ufunc, inputs, dtype, casting)
        layouts = _layouts(ufunc, inputs, found)
        made = [ShapeArray(*one) for one in zip(found, dtypes, layouts, strict=True)]
        return tuple(made) if ufunc.nout > 1 else written(made[0], out[0], casting)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in SHAPES:
            raise TypeError(f"{full_name(function)} of shapes alone is not known: give it data")
        operands, options = spelled(function, args, kwargs)
        return SHAPES[function](*operands, **options)

    def __len__(self) -> int:
        return length_of(self.shape)

    def __iter__(self) -> Iterator["ShapeArray"]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: Any) -> "ShapeArray":
        if (chosen_by := chosen(index)) is not None:
            return SHAPES[getitem](self, *chosen_by)
        kept = indexed(self.shape, index)
        shape = tuple(n for n, _, _ in kept)
        if self.layout is UNKNOWN:
            return ShapeArray(shape, self.dtype, UNKNOWN)
        steps = strides(self.shape, self.layout)
        found = [1 if axis is None else step * steps[axis] for _, axis, step in kept]
        return ShapeArray(shape, self.dtype, laid_out(shape, found))

    def __setitem__(self, index: Any, value: Any) -> None:
        if (chosen_by := chosen(index)) is not None:
            return SHAPES[setitem](self, value, *chosen_by)
        SHAPES[np.copyto](self[index], value)

    def reshape(self, *shape: Any) -> "ShapeArray":
        new = self._reshaped(shape)
        return ShapeArray(new, self.dtype, reshaped(self.shape, self.layout, new)[1])

    def reshapes_to_a_view(self, *shape: Any) -> bool:
        """Whether NumPy makes no copy to reshape it.

        Raises:
            TypeError: it is not known without data.
        """
        return reshaped(self.shape, self.layout, self._reshaped(shape))[0]

    def _reshaped(self, shape: Any) -> Shape:
        return filled(self.shape, dims(shape[0] if len(shape) == 1 else shape))

    def swapaxes(self, axis1: int, axis2: int) -> "ShapeArray":
        order = list(range(self.ndim))
        order[axis1], order[axis2] = order[axis2], order[axis1]
        return self.transpose(order)

    def transpose(self, *axes: Any) -> "ShapeArray":
        given = axes[0] if len(axes) == 1 else axes
        chosen = given if isinstance(given, tuple | list | None) else axes
        order = [range(self.ndim)[i] for i in chosen] if chosen else range(self.ndim)[::-1]
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"axes {chosen} are not those of {self.shape}")
        layout = of_axes(self.shape, self.layout, order)
        return ShapeArray(tuple(self.shape[i] for i in order), self.dtype, layout)

    def tolist(self) -> Any:
        raise TypeError(f"the program asks for values of {self}, which has no data")

    def copy(self, order: str = "C") -> "ShapeArray":
        return ShapeArray(self.shape, self.dtype, ordered(self, order))

    sum = reduction(np.sum)
    max = reduction(np.max)
    mean = reduction(np.mean)


def on_shapes(arrays: Iterable[Any]) -> bool:
    """Whether one of some arrays, counted or bare, has no data."""
    return any(type(x.data if hasattr(x, "spec") else x) is ShapeArray for x in arrays)


def layout_of(x: Any) -> Layout:
    if not isinstance(x, np.ndarray):
        return getattr(x, "layout", None)
    return laid_out(x.shape, [step // x.itemsize for step in x.strides])


def ordered(x: ShapeArray, order: str | None) -> Layout:
    """The layout of a copy of an array."""
    if order == "C" or order is None:
        return None
    if order == "F" or (order == "A" and x.T.layout is None):
        return of_axes(x.shape[::-1], None, range(x.ndim)[::-1])
    return alike(x.shape, [(x.shape, x.layout)])


def shape_of(x: Any) -> Shape:
    return getattr(x, "shape", ())


def straight_or_unknown(*arrays: Any) -> Layout:
    """The layout of what is made of arrays that lie straight; else it is not known."""
    return None if all(layout_of(x) is None for x in arrays) else UNKNOWN


def dtype_of(x: Any) -> Any:
    if hasattr(x, "dtype"):
        return x.dtype
    if isinstance(x, bool):
        return np.dtype(bool)
    if isinstance(x, int | float | complex):
        return type(x)
    return int if x.is_integer else float  # SymPy


def resolved(ufunc: np.ufunc, inputs: Any, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """The dtypes of its results."""
    given = (*map(dtype_of, inputs), *[None] * ufunc.nout)
    asked: dict[str, Any] = {}
    if dtype is not None:
        asked["signature"] = (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout
    return ufunc.resolve_dtypes(given, casting=casting, **asked)[ufunc.nin :]


def _layouts(ufunc: np.ufunc, inputs: Any, made: list[Shape]) -> list[Layout]:
    """Of the results of a ufunc."""
    given = [(shape_of(x), layout_of(x)) for x in inputs if shape_of(x)]
    if all(layout is None for _, layout in given):
        return [None] * len(made)
    if not ufunc.signature:
        return [alike(made[0], given)] * len(made)
    if ufunc is not np.matmul or any(len(of) < 2 for of, _ in given):
        return [UNKNOWN] * len(made)
    stacks = [
        (of[:-2], UNKNOWN if layout is UNKNOWN else strides(of, layout)[:-2])
        for of, layout in given
    ]
    return [of_stacks(made[0][:-2], made[0][-2:], stacks)]
