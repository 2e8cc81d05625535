"""Calls of every function that is counted, drawn: arguments that NumPy takes."""

import operator
from types import MethodDescriptorType

import numpy as np
from helpers import array
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from counting import Counted, ShapeArray, inside
from counting.array import apply
from counting.calls import JOINS
from counting.primitives import choose, correlate, count_nonzero, einsum, getitem, interp, setitem
from counting.shapes import REDUCTIONS
from counting.shapes import SHAPES as SHAPES_OF

SHAPES = hnp.array_shapes(max_dims=4, max_side=4)
MATRICES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)
FLOATS = ("f4", "f8")
DTYPES = ("f2", "f4", "f8", "i4", "i8", "u1", "?")


WHOLE = (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert)  # of whole numbers alone
WHOLE += (np.left_shift, np.right_shift, np.bitwise_count)


@st.composite
def calls(draw, function, dtypes=DTYPES, masks=False):
    """Arguments of a function that has a row in COSTS: a tuple, and a dict of named ones.

    Args:
        masks: elements may be chosen by a mask, which shapes alone do not know.
    """

    def some(shape):
        return array(shape, draw(st.sampled_from(dtypes)))

    def axis(x):
        return draw(st.integers(-x.ndim, x.ndim - 1))

    def broadcastable(n):
        shapes = hnp.mutually_broadcastable_shapes(num_shapes=n, max_dims=4, max_side=4)
        return [some(shape) for shape in draw(shapes).input_shapes]

    number = st.sampled_from((2, 2.0))
    x = some(draw(SHAPES))
    if function in vars(inside.LINALG).values():
        return _matrices(draw, function, dtypes), {}
    if function in vars(inside.FOURIER).values():
        return _transform(draw, function)
    if isinstance(function, np.ufunc) and function.signature:  # of rows and matrices
        signature = function.signature.replace("?", "")
        fit = draw(hnp.mutually_broadcastable_shapes(signature=signature, max_dims=2))
        return tuple(map(some, fit.input_shapes)), {}
    if function in WHOLE:
        dtypes, number = ("i4", "i8", "?"), st.just(2)
        x = some(x.shape)
    if function is np.ldexp:
        return (x, 2), {}
    if function in (np.arcsin, np.arccos, np.arctanh):
        return (x / 4,), {}
    if isinstance(function, np.ufunc) and function.nin == 1:
        return (x,), {}
    if isinstance(function, np.ufunc) and function.nin == 2:
        either = st.sampled_from(((x, draw(number)), (draw(number), x)))
        return draw(st.just(tuple(broadcastable(2))) | either), {}
    if function in REDUCTIONS:
        axes = st.none() | st.just(axis(x))
        if function not in (np.argmax, np.argmin):
            axes |= st.sets(st.integers(0, x.ndim - 1)).map(tuple)
        options = {"axis": axes, "keepdims": st.booleans()}
        if function in (np.var, np.std):
            options["ddof"] = st.just(1) if x.size == 0 else st.just(0.5)
        if function is np.prod:
            x = (x / 2).astype(x.dtype)
        return (x,), draw(st.fixed_dictionaries({}, optional=options))
    if function in (np.cumsum, np.cumprod):
        x = (x / 2).astype(x.dtype)
        return (x,), draw(
            st.fixed_dictionaries({}, optional={"axis": st.none() | st.just(axis(x))})
        )
    if function is np.where:
        mask, x, y = broadcastable(3)
        return (mask > 2, x, draw(st.just(y) | number)), {}
    if function is np.take:
        rows = draw(hnp.arrays(int, draw(SHAPES), elements=st.integers(0, len(x) - 1)))
        return (x, rows), {"axis": 0}
    if function is np.take_along_axis:
        by = axis(x)
        shape = [draw(st.sampled_from((1, dim))) for dim in x.shape]
        shape[by] = draw(st.integers(1, 4))
        places = draw(hnp.arrays(int, tuple(shape), elements=st.integers(0, x.shape[by] - 1)))
        return (x, places), {"axis": by}
    if function is np.copy:
        return (x,), draw(st.sampled_from(({}, {"order": "C"})))
    if function is np.copyto:
        shape = tuple(draw(st.sampled_from((1, dim))) for dim in x.shape)
        return (x, array(shape[draw(st.integers(0, x.ndim)) :], x.dtype)), {}
    if function in (np.ones_like, np.empty_like):
        options = {"dtype": st.sampled_from((bool, np.float32)), "shape": SHAPES}
        return (x,), draw(st.fixed_dictionaries({}, optional=options))
    if function is np.tril:
        return (some(draw(MATRICES)), draw(st.integers(-4, 4))), {}
    if function is np.reshape:
        shape = list(draw(st.permutations(x.shape)))
        shape.insert(draw(st.integers(0, x.ndim)), draw(st.just(1) | st.just(shape.pop())))
        shape = [*shape, x.size // int(np.prod(shape))]
        if draw(st.booleans()):
            shape[draw(st.integers(0, len(shape) - 1))] = -1
        return (x, tuple(shape)), {}
    if function is np.swapaxes:
        return (x, axis(x), axis(x)), {}
    if function is np.transpose:
        order = tuple(i - draw(st.sampled_from((0, x.ndim))) for i in range(x.ndim))
        return (x, *draw(st.just(()) | st.tuples(st.permutations(order).map(tuple)))), {}
    if function in JOINS and function not in (np.lexsort, np.ravel_multi_index):
        by = draw(st.integers(0, x.ndim - 1))
        lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        arrays = [some((*x.shape[:by], n, *x.shape[by + 1 :])) for n in lengths]
        if function is not np.concatenate:
            arrays = [some(x.shape) for _ in lengths]
        axes = st.just(by) | (st.none() if function is np.concatenate else st.just(-1))
        options = {"axis": axes} if JOINS[function] else {}
        return (arrays,), draw(st.fixed_dictionaries(options))
    if function in (getitem, setitem):
        index = draw(st.sampled_from(("places", "some", "mask" if masks else "some")))
        by = draw(st.integers(0, x.ndim - 1))
        places = hnp.arrays(int, draw(SHAPES), elements=st.integers(-1, x.shape[by] - 1))
        parts = {
            "places": (*[slice(None)] * by, draw(places)),
            "some": (*[slice(None, None, 2)] * by, draw(places), None),
            "mask": (draw(hnp.arrays(bool, x.shape)),),
        }[index]
        return (x, *parts) if function is getitem else (x, draw(number), *parts), {}
    if function is np.squeeze:
        shape = draw(hnp.array_shapes(max_dims=4, max_side=2))
        ones = [i for i, n in enumerate(shape) if n == 1]
        axes = st.none() | st.sets(st.sampled_from(ones or [0])).map(tuple) if ones else st.none()
        return (some(shape),), draw(st.fixed_dictionaries({}, optional={"axis": axes}))
    if function is np.expand_dims:
        return (x, draw(st.integers(-x.ndim - 1, x.ndim))), {}
    if function is np.moveaxis:
        both = st.permutations(range(x.ndim))
        n = draw(st.integers(1, x.ndim))
        return (x, tuple(draw(both)[:n]), tuple(draw(both)[:n])), {}
    if function is np.ravel:
        return (x,), {}
    if function is np.flip:
        return (x,), draw(st.fixed_dictionaries({}, optional={"axis": st.just(axis(x))}))
    if function is operator.getitem:
        return (x, draw(hnp.basic_indices(x.shape, allow_newaxis=True))), {}
    found = _more(draw, function, x, some, axis, broadcastable)
    if found is None:
        raise NotImplementedError(f"say here how {function.__name__} is called")
    return found


BY_DATA = (np.ndarray.nonzero, np.bincount)  # how much comes out depends on the numbers


def call(function, *args, **options):
    """Calls a function, or a method of whatever array comes first, or what NumPy has inside."""
    kinds = {*map(type, args)}
    inside_numpy = function in (choose, correlate, count_nonzero, einsum, interp)
    if ShapeArray in kinds and (inside_numpy or isinstance(function, MethodDescriptorType)):
        return SHAPES_OF[function](*args, **options)
    if Counted in kinds and inside_numpy:
        return apply(function, *args, **options)
    if function is np.lib.stride_tricks.as_strided and not isinstance(args[0], np.ndarray):
        return args[0].__array_function__(function, (), args, options)  # it asks nobody
    if isinstance(function, MethodDescriptorType):
        return getattr(args[0], function.__name__)(*args[1:], **options)
    return function(*args, **options)


METHODS = {np.ndarray.sort, np.ndarray.argsort, np.ndarray.partition, np.ndarray.argpartition}


def _more(draw, function, x, some, axis, broadcastable):
    """Of functions that are rarer."""
    optional = st.fixed_dictionaries
    if function is np.ndarray.astype:
        return (x, draw(st.sampled_from(("f4", "f8", "i8", "?")))), {}
    if function is np.ndarray.repeat:
        return (x, draw(st.integers(0, 3))), draw(optional({}, optional={"axis": st.just(axis(x))}))
    if function is np.ndarray.diagonal:
        return (some(draw(MATRICES)), draw(st.integers(-1, 1))), {}
    if function is np.ndarray.view:
        return (x, x.dtype), {}
    if function is np.ndarray.round:
        return (x, draw(st.integers(0, 2))), {}
    if function in (np.ndarray.nonzero, count_nonzero):
        return (x > 2 if draw(st.booleans()) else x,), {}
    if function in METHODS:
        by = axis(x)
        kth = (draw(st.integers(0, x.shape[by] - 1)),) if "part" in function.__name__ else ()
        return (x, *kth), draw(st.sampled_from(({}, {"axis": by}))) if not kth else {"axis": by}
    if function is np.ndarray.searchsorted:
        return (np.sort(some((draw(st.integers(1, 9)),))), x), {}
    if function is np.lexsort:
        return (tuple(some(x.shape) for _ in range(draw(st.integers(1, 3)))),), {}
    if function is np.bincount:
        n = draw(st.integers(1, 9))
        weights = {"weights": array((n,), "f8")} if draw(st.booleans()) else {}
        return (draw(hnp.arrays(int, n, elements=st.integers(0, 5))),), weights
    if function is np.ravel_multi_index:
        n = draw(st.integers(1, 3))
        places = hnp.arrays(int, x.shape, elements=st.integers(0, 1))
        return ([draw(places) for _ in range(n)],), {"dims": (2,) * n}
    if function is np.unravel_index:
        return (draw(hnp.arrays(int, x.shape, elements=st.integers(0, 5))), (2, 3)), {}
    if function is np.broadcast_to:
        return (x, (*draw(hnp.array_shapes(max_dims=2, max_side=3)), *x.shape)), {}
    if function is np.lib.stride_tricks.as_strided:
        x = some((6,))
        return (x, (2, 3), (x.itemsize, x.itemsize)), {}
    if function is choose:
        which = draw(hnp.arrays(int, x.shape, elements=st.integers(0, 1)))
        return (which, some(x.shape), some(x.shape[-1:])), {}
    if function is interp:
        line = np.sort(array((draw(st.integers(2, 6)),), "f8"))
        return (array(x.shape, "f8"), line, line * 2), {}
    if function is correlate:
        m = draw(st.integers(1, 4))
        n = draw(st.integers(m, 7))
        return (some((n,)), some((m,))), {"mode": draw(st.integers(0, 2))}
    if function in (np.dot, np.inner, np.vdot):
        n, outer = draw(st.integers(1, 4)), hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)
        a, b = draw(outer), draw(outer)
        if function is np.vdot:
            return (some((*a, n)), some((*a, n))), {}
        if function is np.dot and b:
            b = (*b[:-1], n, b[-1])
            return (some((*a, n)), some(b)), {}
        return (some((*a, n)), some((*b, n))), {}
    if function is einsum:
        sizes = {letter: draw(st.integers(1, 3)) for letter in "abcd"}
        terms = draw(st.lists(st.permutations("abcd"), min_size=1, max_size=3))
        terms = ["".join(t[: draw(st.integers(1, 3))]) for t in terms]
        letters = sorted({*"".join(terms)})
        made = "".join(draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))])
        arrays = [some(tuple(sizes[letter] for letter in term)) for term in terms]
        return tuple(arrays), {"subscripts": f"{','.join(terms)}->{made}"}
    if function is inside.clip:
        return (x, 1.5, draw(st.sampled_from((2, 2.5)))), {}
    return None


def _matrices(draw, function, dtypes):
    """Matrices that have an inverse, roots and logarithms."""
    dtype = draw(st.sampled_from([d for d in dtypes if d in ("f4", "f8", "c8")] or ["f8"]))
    batch, n = draw(hnp.array_shapes(min_dims=0, max_dims=1)), draw(st.integers(1, 4))
    name, square = function.__name__, array((*batch, n, n), dtype)
    square = square + square.swapaxes(-1, -2) + 9 * np.eye(n, dtype=dtype)
    m = draw(st.integers(1, 5))
    if name in ("solve", "solve1"):
        return square, array((*batch, n, m) if name == "solve" else (*batch, n), dtype)
    if name.startswith("lstsq"):
        return array((*batch, m, n), dtype), array((*batch, m, 2), dtype), 1e-6
    if name.startswith(("qr_reduced", "qr_complete")):
        m = max(m, n)
        return array((*batch, m, n), dtype), array((*batch, n), dtype) / 9
    if name.startswith(("svd", "qr")):
        return (array((*batch, m, n), dtype),)
    return (square,)


def _transform(draw, function):
    """A Fourier transform along the last axis, into an output."""
    rows, n = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    name = function.__name__
    a = array((rows, n), "f8" if name.startswith("rfft") else "c16")
    length = {"rfft_n_even": 2 * (n // 2) // 2 + 1, "rfft_n_odd": n // 2 + 1}.get(name, n)
    if (name == "rfft_n_even" and n % 2) or (name == "rfft_n_odd" and not n % 2):
        a = array((rows, n + 1), "f8")
        length = (n + 1) // 2 + 1
    out = np.zeros((rows, length), "f8" if name == "irfft" else "c16")
    return (a, 1.0), {"axes": [(-1,), (), (-1,)], "out": out}
