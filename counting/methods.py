"""Methods of arrays that consist of others, as NumPy's do."""

from typing import Any

import numpy as np

from counting.primitives import choose


class Methods:
    """Those of a counted array. What has a row of its own is given by `operators.give_methods`."""

    __slots__ = ()
    data: Any
    dtype: np.dtype
    shape: Any
    ndim: int
    __array_function__: Any
    reshape: Any
    diagonal: Any
    nonzero: Any
    T: Any
    flat: Any

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
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

    def flatten(self, order: str = "C") -> Any:
        return (self if order == "C" else self.T).copy().reshape(-1)

    def fill(self, value: Any) -> None:
        self[...] = value  # type: ignore[index]

    def trace(
        self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
    ) -> Any:
        return self.diagonal(offset, axis1, axis2).sum(-1, dtype=dtype, out=out)

    def clip(self, min: Any = None, max: Any = None, out: Any = None, **options: Any) -> Any:
        if min is None and max is None:
            return np.positive(self, out=out, **options)
        if min is None or max is None:
            bound, function = (max, np.minimum) if min is None else (min, np.maximum)
            return function(self, bound, out=out, **options)
        return np._core.umath.clip(self, min, max, out=out, **options)

    def compress(self, condition: Any, axis: int | None = None, out: Any = None) -> Any:
        kept = np.asarray(condition) if type(condition) is list else condition
        return np.take(self, kept.nonzero()[0], axis=axis, out=out)

    def choose(self, choices: Any, out: Any = None, mode: str = "raise") -> Any:
        return self._call(choose, *choices, mode=mode)

    def put(self, places: Any, values: Any, mode: str = "raise") -> None:
        self.flat[places] = values
