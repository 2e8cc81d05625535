"""Arrays on an NVIDIA GPU that multiply as they are stored: weights, and the KV cache."""

import math
from typing import Any

import cupy
import numpy as np
from cupy.cuda import cublas, runtime

# Factors of the product and of what it is added to; cuBLAS reads them where they lie.
_FACTORS = np.array([1, 0], np.float32)
_ONE = _FACTORS.ctypes.data
_ZERO = _ONE + _FACTORS.itemsize
_TYPES = {  # by name: of bfloat16 only CuPy has to know
    "float16": runtime.CUDA_R_16F,
    "bfloat16": runtime.CUDA_R_16BF,
    "float32": runtime.CUDA_R_32F,
}


class CublasArray:
    """An array of 16 or 32 bits on the GPU that knows how to multiply: float32 in, float32 out.

    CuPy's own product of float16 gives float16, and of more than two dimensions first copies both
    operands to float32. Here the left operand is rounded to what is stored, this one is read in
    place, whatever its strides, sums are float32 and so is the result. So a model's code needs no
    casts: between two products everything is float32.

    It answers `x @ a`, `np.take`, `np.copyto` into it and out of it, `np.empty_like` (without a
    dtype one more of its kind, a cache) and views; anything else raises TypeError.

    Args:
        data: the CuPy array that holds it.
    """

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    nbytes = property(lambda self: self.data.nbytes)
    T = property(lambda self: CublasArray(self.data.T))

    def __getitem__(self, index: Any) -> Any:
        if getattr(index, "shape", ()) != ():
            return self.__array_function__(np.take, (), (self, index), {"axis": 0})
        return CublasArray(self.data[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        cupy.copyto(self.data[index], value)

    def get(self) -> np.ndarray:
        """A copy on the host, as stored."""
        return self.data.get()

    def swapaxes(self, axis1: int, axis2: int) -> "CublasArray":
        return CublasArray(self.data.swapaxes(axis1, axis2))

    def transpose(self, *axes: int) -> "CublasArray":
        return CublasArray(self.data.transpose(*axes))

    def reshape(self, *shape: Any) -> "CublasArray":
        """A view in another shape.

        Raises:
            TypeError: it would be a copy.
        """
        data = self.data.reshape(*shape)
        if not cupy.may_share_memory(data, self.data):  # a copy may have a base too
            raise TypeError(f"{self.shape} as {data.shape} would be a copy of a weight or cache")
        return CublasArray(data)

    def reference(self, function: Any) -> Any:
        """The code that prices `function` of it, where that is not one operation, or None."""
        return widened_rows if function is np.take and self.dtype != np.float32 else None

    @property
    def parts(self) -> tuple[Any, ...]:
        """The bare arrays that `reference` takes in its place."""
        return (self.data,)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        x, w = inputs if len(inputs) == 2 else (None, None)
        if method != "__call__" or options or not isinstance(x, cupy.ndarray) or w is not self:
            return NotImplemented
        return matmul(x, self.data) if ufunc is np.matmul else NotImplemented

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.take and args[0] is self:
            return self.data.take(*args[1:], **options).astype(np.float32, copy=False)
        if function is np.copyto and not options:
            return cupy.copyto(*(x.data if type(x) is CublasArray else x for x in args))
        if function is np.empty_like:
            like = cupy.empty_like(self.data, *args[1:], order="C", **options)
            return like if "dtype" in options or args[1:] else CublasArray(like)
        return NotImplemented


def widened_rows(table: Any, index: Any, axis: int) -> Any:
    """`np.take` of float16 as it is done: gathered, then widened to float32."""
    rows = np.take(table, index, axis=axis)
    wide = np.empty_like(rows, dtype=np.float32)
    wide[...] = rows
    return wide


def matmul(x: Any, w: Any) -> Any:
    """x (..., M, K) @ w (..., K, N) in float32, w of any strides, read in place.

    Batch axes broadcast. The last of them that w does not have become rows, so that for a plain
    matrix the product is two-dimensional; the others are one batch where their strides allow.

    Raises:
        ValueError: shapes do not fit, or rows and columns of w are both strided.
    """
    if min(x.ndim, w.ndim) < 2 or x.shape[-1] != w.shape[-2] or w.ndim > x.ndim:
        raise ValueError(f"shapes do not fit: {x.shape} @ {w.shape}")
    (M, K), N = x.shape[-2:], w.shape[-1]
    missing = (0,) * (x.ndim - w.ndim)
    lead, batch = x.shape[:-2], (*(1 for _ in missing), *w.shape[:-2])
    along_w = (*missing, *(s // w.itemsize for s in w.strides[:-2]))
    out = np.broadcast_shapes(lead, batch)
    kept = max((i + 1 for i, n in enumerate(batch) if n != 1), default=0)
    rows = M * math.prod(lead[kept:])

    rounded = x.astype(w.dtype, order="C", copy=False)
    y = cupy.empty((*out, M, N), np.float32)
    axes: list[tuple[int, int, int, int]] = []  # length and steps of x, w, y; the innermost first
    step_x, step_y = rows * K, rows * N
    for i in reversed(range(kept)):
        n = out[i]
        axis = n, step_x if lead[i] != 1 else 0, along_w[i] if batch[i] != 1 else 0, step_y
        step_x, step_y = step_x * lead[i], step_y * n
        if axes and all(a == axes[-1][0] * b for a, b in zip(axis[1:], axes[-1][1:], strict=True)):
            axes[-1] = (n * axes[-1][0], *axes[-1][1:])
        elif n != 1:
            axes.append(axis)
    inner, outer = axes[0] if axes else (1, 0, 0, 0), axes[1:]
    for index in np.ndindex(*(n for n, *_ in outer)):
        at_x, at_w, at_y = (
            array.data.ptr
            + array.itemsize * sum(i * axis[k] for i, axis in zip(index, outer, strict=True))
            for k, array in enumerate((rounded, w, y), start=1)
        )
        _gemm((rows, K, N), w, inner, at_x, at_w, at_y)
    return y


def _gemm(
    shape: tuple[int, int, int],
    w: Any,
    batch: tuple[int, int, int, int],
    at_x: int,
    at_w: int,
    at_y: int,
) -> None:
    """Products of x (M, K) and w (K, N), as many as `batch` says, from addresses on."""
    M, K, N = shape
    count, step_x, step_w, step_y = batch
    transposed, leading = _layout(w)
    kind = _TYPES[w.dtype.name]
    # BLAS counts by columns: what it takes for y, x and w are their transposes, y.T = w.T @ x.T.
    sizes = cupy.cuda.get_cublas_handle(), transposed, cublas.CUBLAS_OP_N, N, M, K, _ONE
    left, right, out = (at_w, kind, leading), (at_x, kind, K), (at_y, runtime.CUDA_R_32F, N)
    how = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT
    if count == 1:
        cublas.gemmEx(*sizes, *left, *right, _ZERO, *out, *how)
    else:
        steps = (*left, step_w, *right, step_x, _ZERO, *out, step_y)
        cublas.gemmStridedBatchedEx(*sizes, *steps, count, *how)


def _layout(matrix: Any) -> tuple[int, int]:
    """How cuBLAS is told of a matrix: transposed or not, and elements from row to row (column)."""
    rows, columns = matrix.shape[-2:]
    down, along = (s // matrix.itemsize for s in matrix.strides[-2:])
    if along == 1:
        return cublas.CUBLAS_OP_N, max(down, columns)
    if down == 1:
        return cublas.CUBLAS_OP_T, max(along, rows)
    raise ValueError(f"a matrix of strides {matrix.strides} has to be copied to be multiplied")
