"""Straight-line programs, drawn by a seed: views, writes in place, elements, gathers, arithmetic.

Numbers are small and dyadic, so that what is done one by one is exact as well, but for the sign of
zero.
"""

import operator
import random

import numpy as np

from counting import Counted, ShapeArray, Uncounted

DTYPES = ("f8", "f8", "f4", "i8", "i4", "?", "c16")
BINARY = {  # and the kinds of dtype that are counted
    np.add: "fibc",
    np.subtract: "fibc",
    np.multiply: "fibc",
    np.maximum: "fib",
    np.minimum: "fib",
    np.equal: "fib",
    np.not_equal: "fib",
}
INEXACT = (np.exp, np.log, np.tanh, np.sqrt, np.sin, np.cos, np.divide)  # no further
VIEWS = ("index", "reshape", "T", "transpose", "swapaxes", "rows")
REDUCTIONS = (np.sum, np.max, np.argmax, np.mean, np.cumsum)
LEFT = {np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul}


IN_PLACE = {"add": "iadd", "subtract": "isub", "multiply": "imul"}


class Step:
    """One instruction: `make` of the variables it names; what comes out becomes a variable.

    Attributes:
        text: for people.
        of: numbers of the variables.
        make: (call, variables…) -> results, a list; `call(function, …)` calls a NumPy function.
        kept: whether results become variables.
        refused: whether counted arrays refuse it, for a reason that they name.
        likes: arrays of the dtypes and the layout of the results.
    """

    def __init__(self, text, of, make, kept=True, refused=False):
        self.text, self.of, self.make = text, of, make
        self.kept, self.refused, self.likes = kept, refused, []

    def __repr__(self):
        return f"{self.text} of {self.of}"


class Program:
    """A program drawn by a seed, of 5 to 30 steps, which has been run on plain arrays."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.inputs = [self.array(self.shape()) for _ in range(self.draw.randint(2, 4))]
        self.variables = [x.copy() for x in self.inputs]
        self.log, self.steps = [], []
        length = self.draw.randint(5, 30)
        for _ in range(20 * length):
            if len(self.steps) == length:
                break
            if step := self.step():
                self.steps.append(step)

    # Drawing.

    def shape(self):
        return tuple(
            self.draw.choice((1, 2, 2, 3, 4)) for _ in range(self.draw.choice((1, 1, 2, 2, 3)))
        )

    def array(self, shape):
        dtype = np.dtype(self.draw.choice(DTYPES))
        low = 0 if dtype.kind == "b" else -3
        values = [self.draw.randint(low, 3) for _ in range(int(np.prod(shape)))]
        if dtype.kind == "c":
            values = [complex(v, self.draw.randint(-3, 3)) for v in values]
        return np.array(values).reshape(shape).astype(dtype)

    def index(self, shape):
        """What NumPy takes as a basic index of an array of this shape."""
        parts = []
        for n in shape[: self.draw.randint(0, len(shape))]:
            whole = self.draw.choice((int, np.int64))(self.draw.randint(-n, n - 1)) if n else None
            step = self.draw.choice((None, 1, 2, -1))
            ends = [self.draw.choice((None, self.draw.randint(-n, n))) for _ in range(2)]
            parts.append(self.draw.choice((whole, whole, slice(*ends, step))))
        for extra in (None, Ellipsis):
            if self.draw.random() < 0.2:
                parts.insert(self.draw.randint(0, len(parts)), extra)
        return parts[0] if len(parts) == 1 and self.draw.random() < 0.5 else tuple(parts)

    def step(self):
        """An instruction, done; None if what was drawn cannot be, or leads out of small numbers."""
        kinds = (self.view, self.view, self.element, self.write, self.write, self.swap, self.gather)
        kinds += (self.binary, self.binary, self.reduce, self.product, self.refused, self.inexact)
        kinds += (self.choose, self.copied, self.in_place)
        step = self.draw.choice(kinds)()
        if step is None:
            return None
        if step.refused:
            return step
        try:
            with np.errstate(all="ignore"):
                made = step.make(lambda f, *args, **options: f(*args, **options), *self.named(step))
        except (ValueError, TypeError, IndexError):
            return None
        if step.kept and not all(map(small, made)):
            return None
        step.likes = [np.empty_like(x) for x in made]
        self.log += made if not step.kept else []
        self.variables += made if step.kept else []
        return step

    def named(self, step):
        return [self.variables[i] for i in step.of]

    def some(self, kinds="fibc", least=0):
        found = [
            i for i, x in enumerate(self.variables) if x.dtype.kind in kinds and x.ndim >= least
        ]
        return self.draw.choice(found) if found else None

    def view(self):
        i = self.some(least=1)
        x = self.variables[i]
        order = self.draw.sample(range(x.ndim), x.ndim)
        index, sides = self.index(x.shape), self.draw.choice(((-1,), (x.size, 1), (1, -1)))
        how = self.draw.choice(("index", "index", "reshape", "T", "transpose", "swapaxes", "rows"))
        make = {
            "index": lambda call, x: [x[index]],
            "reshape": lambda call, x: [x.reshape(sides)],
            "T": lambda call, x: [x.T],
            "transpose": lambda call, x: [call(np.transpose, x, tuple(order))],
            "swapaxes": lambda call, x: [x.swapaxes(0, -1)],
            "rows": lambda call, x: list(x),
        }[how]
        if how == "reshape" and not np.shares_memory(x.reshape(sides), x):
            return Step(f"reshape{sides}, a copy", [i], make) if x.size else None
        return Step(f"{how} {index if how == 'index' else ''}", [i], make)

    def element(self):
        i = self.some(least=1)
        index = tuple(self.draw.randint(-n, n - 1) if n else 0 for n in self.variables[i].shape)
        return Step(f"element {index}", [i], lambda call, x: [x[index]])

    def write(self):
        i, j = self.some(least=1), self.some()
        x, y = self.variables[i], self.variables[j]
        if not np.can_cast(y.dtype, x.dtype, "same_kind") or not x.flags.writeable:
            return None
        index = self.index(x.shape)
        number = self.draw.choice((None, None, 0, 1)) if x.dtype.kind != "b" else None
        try:
            to = x[index]
        except IndexError:
            return None
        if number is None and overlapping(to, y):
            return None

        given = index if isinstance(index, tuple) else (index,)

        def make(call, x, y):
            value = y if number is None else number
            if cast := getattr(call, "cast", None):  # and an array is no element of objects
                like = np.empty(np.shape(value), dtype)
                x[given if Ellipsis in given else (*given, ...)] = cast(value, like)
            else:
                x[index] = value
            return []

        dtype = x.dtype
        return Step(f"write {index} {number}", [i, j], make)

    def in_place(self):
        i, j = self.some(least=1), self.some()
        x, y = self.variables[i], self.variables[j]
        name = self.draw.choice(("add", "subtract", "multiply"))
        function, write = getattr(np, name), getattr(operator, IN_PLACE[name])
        try:
            made = function(x, y)
        except (TypeError, ValueError):
            return None
        fits = made.shape == x.shape and np.can_cast(made.dtype, x.dtype, "same_kind")
        if not fits or not x.flags.writeable or not small(made.astype(x.dtype)):
            return None
        like = np.empty_like(x)

        def make(call, x, y):
            if cast := getattr(call, "cast", None):
                x[...] = cast(call(function, x, y), like)
            else:
                write(x, y)
            return []

        return Step(f"in place {name}", [i, j], make)

    def swap(self):
        i = self.some(least=1)
        x = self.variables[i]
        if not x.flags.writeable or not len(x):
            return None
        a, b = self.draw.randrange(len(x)), self.draw.randrange(len(x))

        def make(call, x):
            x[a], x[b] = x[b], x[a]
            return []

        return Step(f"swap {a} {b}", [i], make)

    def gather(self):
        i = self.some(least=1)
        x = self.variables[i]
        axis = self.draw.randrange(-x.ndim, x.ndim)
        if not x.shape[axis] or not x.shape[0]:
            return None
        n = self.draw.randint(1, 4)
        places = np.array([self.draw.randrange(x.shape[axis]) for _ in range(n)])
        rows = np.array([self.draw.randrange(len(x)) for _ in range(n)])
        by = self.draw.choice((int, np.int64))(axis)
        if x.flags.c_contiguous and self.draw.random() < 0.5:  # else their order is NumPy's secret
            return Step(f"gather {rows}", [i], lambda call, x: [x[rows]])
        return Step(f"take {places} {by!r}", [i], lambda call, x: [call(np.take, x, places, by)])

    def binary(self):
        function = self.draw.choice([*BINARY])
        i, j = self.some(BINARY[function]), self.some(BINARY[function])
        if i is None or j is None:
            return None
        x, y = self.variables[i], self.variables[j]
        if function is np.subtract and x.dtype.kind == y.dtype.kind == "b":
            return None
        number = self.draw.choice((None, None, None, 2, 2.0, True))
        if number is not None and x.dtype.kind == "b":
            number = None
        if function in LEFT and number is not None and self.draw.random() < 0.5:
            return Step(
                f"{number} {function.__name__}", [i], lambda call, x: [LEFT[function](number, x)]
            )

        def make(call, x, y):
            return [call(function, x, y if number is None else number)]

        return Step(f"{function.__name__} {number}", [i, j], make)

    def reduce(self):
        function = self.draw.choice(REDUCTIONS)
        i = self.some("fibc" if function is np.sum else "fi", least=1)
        if i is None:
            return None
        x = self.variables[i]
        axis = self.draw.choice((None, self.draw.randrange(-x.ndim, x.ndim)))
        options = {} if axis is None else {"axis": self.draw.choice((int, np.int64))(axis)}
        if function is not np.cumsum and self.draw.random() < 0.3:
            options["keepdims"] = True
        return Step(
            f"{function.__name__} {options}", [i], lambda call, x: [call(function, x, **options)]
        )

    def product(self):
        i, j = self.some(least=2), self.some(least=2)
        if i is None or j is None:
            return None
        return Step("matmul", [i, j], lambda call, x, y: [call(np.matmul, x, y)])

    def choose(self):
        i, j = self.some(least=1), self.some(least=1)
        mask = np.array([self.draw.random() < 0.5 for _ in range(self.variables[i].shape[-1])])
        return Step(f"where {mask}", [i, j], lambda call, x, y: [call(np.where, mask, x, y)])

    def copied(self):
        i = self.some(least=1)
        function = self.draw.choice((np.copy, np.ones_like, np.tril))
        if function is np.tril and self.variables[i].ndim < 2:
            return None
        if function is np.ones_like and self.variables[i].dtype.kind != "f":
            return None
        return Step(function.__name__, [i], lambda call, x: [call(function, x)])

    def inexact(self):
        function = self.draw.choice(INEXACT)
        i = self.some("fi")
        if i is None:
            return None
        x = self.variables[i]
        if (abs(x) > 8).any() or (function is np.sqrt and (x < 0).any()):
            return None
        if function is np.log and (x <= 0).any():
            return None
        if function is np.divide:
            return Step("halved", [i], lambda call, x: [call(np.divide, x, 2.0)], kept=False)
        return Step(function.__name__, [i], lambda call, x: [call(function, x)], kept=False)

    def refused(self):
        i = self.some(least=1)
        plain = np.zeros(self.variables[i].shape)

        def into(make):
            def refuses(call, x):
                make(x)
                return []

            return refuses

        name, make = self.draw.choice(
            (
                ("out=", lambda x: np.add(x, x, out=plain)),
                ("a plain array +=", lambda x: operator.iadd(plain, x)),
                ("np.copyto", lambda x: np.copyto(plain, x)),
                ("np.take into", lambda x: np.take(x, np.array([0]), 0, plain[:1])),
                ("np.asarray", np.asarray),
            )
        )
        return Step(name, [i], into(make), refused=True)

    # Running.

    def run(self, variables, call):
        """Does the steps on other arrays: variables and what went no further, and what differs."""
        log = []
        for step in self.steps:
            named = [variables[i] for i in step.of]
            if step.refused:
                if all(type(x) is Counted and type(x.data) is not ShapeArray for x in named):
                    refuses(step, call, named)
                continue
            made = step.make(call, *named)
            if cast := getattr(call, "cast", None):
                views = step.text.split()[0] in VIEWS
                made = made if views else [*map(cast, made, step.likes)]
            (variables if step.kept else log).extend(made)
        return log


def refuses(step, call, named):
    try:
        step.make(call, *named)
    except (Uncounted, IndexError):
        return
    raise AssertionError(f"{step} was not refused")


def overlapping(to, value):
    """Whether NumPy reads what it has just written, so that x[:, 2] = x[1] gives another column.

    In one dimension it makes no copy first. Nor do counted arrays, where NumPy writes.
    """
    one = np.ndim(to) == 1 and np.ndim(value) and to.strides != value.strides[-1:]
    return one and np.shares_memory(to, value)


def small(x):
    """Whether there are numbers, far from what floats of 32 bits cannot hold."""
    parts = (
        np.stack((np.real(x), np.imag(x))).astype(float) if x.dtype.kind == "c" else x.astype(float)
    )
    return bool(
        x.size and (np.abs(parts) < 256).all() and (parts * 16 == np.rint(parts * 16)).all()
    )
