"""A stand-in for CuPy over NumPy, as strict as CuPy where it matters. No GPU code runs in it.

What CuPy refuses it refuses: implicit conversion to host arrays, host arrays among operands,
functions that CuPy has not. What CuPy allocates it allocates, in a pool that rounds to 512 bytes
and tells hooks: results, the float32 copies of a batched float16 product, masks. Environment
variables say what "machine" it is: see `cuda.py`.
"""

import math

import numpy as np

from cupy import cuda

__version__ = "stand-in over NumPy"

newaxis = None


def is_available():
    try:
        return cuda.runtime.getDeviceCount() > 0
    except cuda.runtime.CUDARuntimeError:
        return False


def get_default_memory_pool():
    return cuda.POOL


class ndarray:
    """An array in the memory of the pool; `_a` is a NumPy view of that memory."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, _view=None):
        if _view is not None:
            self._a, self.data, self.base = _view
            return
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.data = cuda.POOL.malloc(math.prod(shape) * dtype.itemsize)
        held = self.data.mem.buffer[: math.prod(shape) * dtype.itemsize]
        self._a = held.view(dtype).reshape(shape)
        self.base = None

    def _part(self, a):
        offset = a.ctypes.data - self._a.ctypes.data if a.size else 0
        data = cuda.MemoryPointer(self.data.mem, self.data.ptr + offset)
        return ndarray(None, _view=(a, data, self if self.base is None else self.base))

    shape = property(lambda self: self._a.shape)
    strides = property(lambda self: self._a.strides)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    flags = property(lambda self: self._a.flags)
    T = property(lambda self: self._part(self._a.T))

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self._a)

    def __getitem__(self, slices):
        if isinstance(slices, np.ndarray | ndarray):
            raise NotImplementedError("the stand-in gathers by take alone")
        index = slices if isinstance(slices, tuple) else (slices,)
        return self._part(self._a[index if Ellipsis in index else (*index, ...)])  # never a number

    def __setitem__(self, slices, value):
        copyto(self[slices], value)

    def reshape(self, *shape):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        a = self._a.reshape(shape)
        if np.may_share_memory(a, self._a):
            return self._part(a)
        copy = _new(a)  # CuPy copies in silence too,
        return copy._part(copy._a)  # and gives a view of the copy

    def swapaxes(self, axis1, axis2):
        return self._part(self._a.swapaxes(axis1, axis2))

    def transpose(self, *axes):
        return self._part(self._a.transpose(*axes))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        same = self.dtype == dtype and (order != "C" or self.flags.c_contiguous)
        with np.errstate(over="ignore"):
            return self if same and not copy else _new(self._a.astype(dtype, order=order))

    def copy(self, order="C"):
        return _new(self._a.copy(order))

    def take(self, indices, axis=None, out=None):
        if not isinstance(indices, ndarray):
            indices = array(indices, dtype=int)  # CuPy uploads them
        return _new(self._a.take(indices._a, axis, mode="wrap"))

    def get(self, stream=None, order="C", out=None, blocking=True):
        return self._a.copy(order)

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError("only a host array of the same dtype can be set")
        if arr.shape != self.shape or not self.flags.c_contiguous:
            raise ValueError("shapes differ, or the target is not contiguous")
        self._a[...] = arr

    def fill(self, value):
        self._a.fill(value)

    def tolist(self):
        return self._a.tolist()

    def item(self):
        return self._a.item()

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduced(self._a.sum(axis, dtype, keepdims=keepdims))

    def max(self, axis=None, out=None, keepdims=False):
        return self._reduced(self._a.max(axis, keepdims=keepdims))

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduced(self._a.mean(axis, dtype, keepdims=keepdims))

    def _reduced(self, result):
        made = _new(result)
        if self.flags.c_contiguous:
            cuda.POOL.malloc(1)  # CUB's workspace, given back at once
        return made

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return _new(self._a.argmax(axis, keepdims=keepdims))

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        function = UFUNCS.get(ufunc.__name__)
        known = (ndarray, np.ndarray, np.generic, int, float)
        if method != "__call__" or function is None:
            return NotImplemented
        if not all(isinstance(x, known) for x in inputs):
            return NotImplemented
        return function(*inputs, **options)

    def __array_function__(self, function, types, args, options):
        own = FUNCTIONS.get(function.__name__)
        if function.__module__ != "numpy" or own is None:
            return NotImplemented
        if not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return own(*args, **options)


def _new(a):
    """A result: NumPy's, in memory of the pool."""
    a = np.asarray(a)
    made = ndarray(a.shape, a.dtype)
    if a.flags.f_contiguous and not a.flags.c_contiguous:  # order "K"
        made._a = made._a.reshape(a.shape[::-1]).T
    made._a[...] = a
    return made


def _bare(x):
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")  # it would have to be uploaded
    return x


def _elementwise(name):
    function = getattr(np, name)

    def run(*operands):
        with np.errstate(all="ignore"):
            return _new(function(*map(_bare, operands)))

    return run


def matmul(a, b):
    x, y = _bare(a), _bare(b)
    if x.ndim == y.ndim == 2:
        return _new((x.astype("f4") @ y.astype("f4")).astype(np.result_type(x, y)))
    wide = np.promote_types(np.result_type(x, y), np.float32)
    copies = [  # as `ascontiguousarray(a, dtype)` makes them
        _new(np.ascontiguousarray(z, wide))
        for z in (x, y)
        if not (z.flags.c_contiguous and z.dtype == wide)
    ]
    result = _new((x.astype(wide) @ y.astype(wide)).astype(np.result_type(x, y)))
    del copies
    return result


UFUNCS = {
    name: _elementwise(name)
    for name in (
        *("add", "subtract", "multiply", "divide", "negative", "exp", "log", "tanh", "sqrt"),
        *("sin", "cos", "maximum", "minimum", "equal", "not_equal"),
        *("greater_equal", "less", "bitwise_and"),
    )
} | {"matmul": matmul}


def _operators():
    """Operators as CuPy's: with its own kind at once, with others by NumPy's protocol."""
    names = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}
    names |= {"matmul": "matmul", "eq": "equal", "ne": "not_equal"}
    names |= {"ge": "greater_equal", "lt": "less", "and": "bitwise_and"}

    def forward(ufunc):
        return lambda self, other: ufunc(self, other)

    def backward(ufunc):
        return lambda self, other: ufunc(other, self)

    for short, name in names.items():
        ufunc = getattr(np, name)
        setattr(ndarray, f"__{short}__", forward(ufunc))
        if short not in ("eq", "ne", "ge", "lt"):
            setattr(ndarray, f"__r{short}__", backward(ufunc))
    ndarray.__neg__ = lambda self: np.negative(self)


_operators()


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0):
    return _new(np.array(obj, dtype)) if not isinstance(obj, ndarray) else obj.copy()


def asarray(a, dtype=None, order=None):
    return a if isinstance(a, ndarray) and dtype is None else array(a, dtype)


def ascontiguousarray(a, dtype=None):
    return a if a.flags.c_contiguous else a.copy()


def empty(shape, dtype=float, order="C"):
    made = ndarray(shape, dtype)
    if made.dtype.kind == "f":
        made.fill(np.nan)  # nobody may rely on what is in it
    return made


def zeros(shape, dtype=float, order="C"):
    made = ndarray(shape, dtype)
    made.fill(0)
    return made


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    if subok is not None:
        raise TypeError("subok is not supported yet")
    return empty(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    made = empty_like(a, dtype, order, subok, shape)
    made.fill(0)
    return made


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    made = empty_like(a, dtype, order, subok, shape)
    made.fill(1)
    return made


def broadcast_to(array, shape):
    return array._part(np.broadcast_to(array._a, shape))


def copyto(dst, src, casting="same_kind", where=None):
    if isinstance(src, np.ndarray) and src.size != 1:
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    with np.errstate(over="ignore"):
        np.copyto(dst._a, src._a if isinstance(src, ndarray) else src, casting)


def where(condition, x=None, y=None):
    given = [condition.astype("?", copy=False), x, y]
    return _new(np.where(*map(_bare, given)))


def tril(m, k=0):
    mask = _new(np.tri(*m.shape[-2:], k=k, dtype=bool))
    return where(mask, m, m.dtype.type(0))


def take(a, indices, axis=None, out=None):
    return a.take(indices, axis, out)


def take_along_axis(a, indices, axis):
    return _new(np.take_along_axis(a._a, indices._a, axis))


def cumsum(a, axis=None, dtype=None, out=None):
    copy = a.copy()  # it sums in place
    result = _new(copy._a.cumsum(axis, dtype))
    del copy
    return result


def concatenate(tup, axis=0):
    return _new(np.concatenate([_bare(a) for a in tup], axis))


def copy(a, order="K"):
    return a.copy(order)


def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(a._a, b._a)


def _method(name):
    return lambda a, *args, **options: getattr(a, name)(*args, **options)


sum, max, mean, argmax = map(_method, ("sum", "max", "mean", "argmax"))
add = UFUNCS["add"]

FUNCTIONS = {
    **{name: globals()[name] for name in ("sum", "max", "mean", "argmax", "where", "tril")},
    **{name: globals()[name] for name in ("take", "take_along_axis", "cumsum", "copy", "copyto")},
    **{name: globals()[name] for name in ("empty_like", "zeros_like", "ones_like")},
    **{name: globals()[name] for name in ("concatenate", "may_share_memory")},
}


class random:
    """`cupy.random`: a generator of NumPy's."""

    class Generator:
        def __init__(self, bit_generator):
            self._rng = np.random.Generator(bit_generator)

        def standard_normal(self, size=None, dtype=float):
            return _new(self._rng.standard_normal(size, dtype))

    @staticmethod
    def default_rng(seed=None):
        return random.Generator(np.random.PCG64(seed))


class RawKernel:
    """Takes the calls of a kernel and runs none."""

    def __init__(self, code, name, options=(), backend="nvrtc"):
        self.code, self.name = code, name
        self.kernel = cuda.Function(name)

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        if len(grid) > 3 or len(block) > 3:
            raise ValueError("grid and block have at most three dimensions")
        self.kernel(grid, block, args, shared_mem, stream)
