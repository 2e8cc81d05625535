"""Methods of arrays that consist of others, as NumPy's do."""

import builtins
from math import prod
from typing import Any

import numpy as np

from counting import inside
from counting.charge import Spec
from counting.cost import OUT, Uncounted
from counting.leaving import leave, leaving
from counting.names import SUBSTITUTES, made_in
from counting.primitives import choose
from counting.twins import numpys


class Methods:
    """Those of a counted array. What has a row of its own is given by `operators.give_methods`."""

    __slots__ = ()
    data: Any
    spec: Spec
    ledger: Any = property(lambda self: self.spec.ledger)
    dtype: np.dtype = property(lambda self: self.spec.dtype)  # type: ignore[assignment]
    nbytes: Any = property(lambda self: self.data.nbytes)
    itemsize: int = property(lambda self: self.spec.dtype.itemsize)  # type: ignore[assignment]
    strides: Any = property(lambda self: self.data.strides)
    flags: Any = property(lambda self: self.data.flags)
    ndim: int = property(lambda self: len(self.spec.shape))  # type: ignore[assignment]
    size: Any = property(lambda self: prod(self.spec.shape))

    def _call(self: Any, function: Any, *args: Any, **options: Any) -> Any:
        return self.__array_function__(function, (), (self, *args), options)

    def copy(self, order: str = "C") -> Any:
        return self._call(np.copy, order=order)

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: str = "unsafe",
        subok: bool = True,
        copy: bool = True,
    ) -> Any:
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return self._call(np.ndarray.astype, dtype, order=order, casting=casting)

    def view(self: Any, dtype: Any = None, type: Any = None) -> Any:
        if isinstance(dtype, builtins.type) and issubclass(dtype, np.ndarray):
            dtype, type = None, dtype
        if type is not None and type not in (np.ndarray, SUBSTITUTES[np.ndarray]):
            raise Uncounted(f"operators of a {type.__name__} are not those of a plain array")
        options = {} if dtype is None else {"dtype": dtype}
        return self._call(np.ndarray.view, **options)

    def flatten(self: Any, order: str = "C") -> Any:
        lain = self.reshape(-1, order=order)
        return lain.copy() if lain.base is (self if self.base is None else self.base) else lain

    def fill(self: Any, value: Any) -> None:
        self[...] = value

    def trace(
        self: Any,
        offset: int = 0,
        axis1: int = 0,
        axis2: int = 1,
        dtype: Any = None,
        out: Any = None,
    ) -> Any:
        return self.diagonal(offset, axis1, axis2).sum(-1, dtype=dtype, out=out)

    def clip(self: Any, min: Any = None, max: Any = None, out: Any = None, **options: Any) -> Any:
        with made_in(self.ledger):
            return numpys(inside.clip_method)(self, min, max, out, **options)

    def compress(self: Any, condition: Any, axis: int | None = None, out: Any = None) -> Any:
        kept = np.asarray(condition) if type(condition) is list else condition
        return np.take(self, kept.nonzero()[0], axis=axis, out=out)

    def conj(self: Any, out: Any = None) -> Any:
        """Itself where the numbers are real, as NumPy's method gives it."""
        return self if self.dtype.kind != "c" and out is None else np.conjugate(self, out=out)

    conjugate = conj

    def choose(self: Any, *choices: Any, out: Any = None, mode: str = "raise") -> Any:
        if len(choices) == 1:
            (choices,) = choices
        if out is not None:
            if leaving.get():
                return leave(np.ndarray.choose, self, choices, out=out, mode=mode)
            raise Uncounted(f"choose is counted without out: {OUT}")
        return self._call(choose, *choices, mode=mode)

    def put(self: Any, places: Any, values: Any, mode: str = "raise") -> None:
        if mode != "raise":
            if leaving.get():
                return leave(np.ndarray.put, self, places, values, mode)
            raise Uncounted(f"put is counted of places that are there, not with mode: {OUT}")
        self.flat[places] = values
