"""Drawn programs on every kind of array: what they do must not depend on it.

    python tests/differential.py 20000 [FIRST SEED]

Each runs on plain arrays, on counted ones, on shapes and on numbers that count themselves.
"""

import sys
from collections import Counter

import numpy as np
from programs import Program

from counting import Counted, Ledger, ShapeArray, scalars
from counting.dtypes import arithmetic
from counting.scalar import Complex, Scalar
from counting.textbook import runner


def counted(program):
    """The program on counted arrays: same values, same aliasing, live bytes of what is held."""
    ledger = Ledger()
    variables = [Counted(x.copy(), ledger) for x in program.inputs]
    log = program.run(variables, lambda f, *args, **options: f(*args, **options))
    for mine, plain in zip([*variables, *log], [*program.variables, *program.log], strict=True):
        assert (mine.shape, mine.dtype, mine.nbytes) == (plain.shape, plain.dtype, plain.nbytes)
        assert np.asarray(mine.data).tobytes() == np.asarray(plain).tobytes(), (mine, plain)
    pairs = [*zip(variables, program.variables, strict=True)]
    for i, (x, a) in enumerate(pairs):
        for y, b in pairs[:i]:
            assert np.shares_memory(x.data, y.data) == np.shares_memory(a, b), (x, y)
            assert (root(x) is root(y)) == same_memory(a, b), (x, y)
    held = {id(root(x)): root(x).spec.nbytes for x in [*variables, *log]}
    assert sum(ledger.live_bytes.values()) == sum(held.values())
    return ledger.snapshot()


def root(x):
    return x if x.base is None else x.base


def same_memory(a, b):
    """Whether two are arrays made of the memory of one."""
    a, b = bottom(a), bottom(b)
    return a is b and isinstance(a, np.ndarray)


def bottom(x):
    while isinstance(getattr(x, "base", None), np.ndarray):
        x = x.base
    return x


def on_shapes(program):
    ledger = Ledger()
    variables = [Counted(ShapeArray(x.shape, x.dtype), ledger) for x in program.inputs]
    program.run(variables, lambda f, *args, **options: f(*args, **options))
    for mine, plain in zip(variables, program.variables, strict=True):
        assert (mine.shape, mine.dtype) == (plain.shape, plain.dtype)
    return ledger.snapshot()


class OneByOne:
    """Calls NumPy's functions on arrays of Scalars, as NumPy's casts would have it."""

    def __init__(self, tally):
        self.tally = tally

    def __call__(self, function, *args, **options):
        first = args[0]
        if function is np.mean:  # its sum is one of floats
            first = self.cast(first, np.empty(first.shape, float))
        elif function is np.sum and isinstance(first, np.ndarray):  # truth is added as numbers
            kinds = {type(x.value) for x in first.flat}
            first = self.cast(first, np.empty(first.shape, int)) if kinds == {bool} else first
        elif function is np.matmul and any(type(x.flat[0]) is Complex for x in args if x.size):
            args = [self.cast(x, np.empty(x.shape, complex)) for x in args]
            first = args[0]
        return runner(function)(first, *args[1:], **options)

    def cast(self, x, like):
        """Elements as what the dtype of `like` stands for, bare ones as Scalars; laid out as it is.

        How an array is laid out decides whether NumPy gives a view of it or a copy.
        """
        kinds = {"logic": bool, "int": int, "float": float, "complex": complex}
        of = kinds[arithmetic([like.dtype])]

        def one(v):
            if isinstance(v, Scalar | Complex) and type(v.value) is of:
                return v
            value = v.value if isinstance(v, Scalar | Complex) else v
            return scalars(np.array(of(value)), self.tally)[()]

        if isinstance(x, np.ndarray) and x.ndim:
            found = np.empty_like(like, dtype=object)
            for i in np.ndindex(x.shape):
                found[i] = one(x[i])
            return found
        return one(x[()] if isinstance(x, np.ndarray) else x)


def one_by_one(program):
    """The program on numbers that count themselves: same values; what they counted."""
    tally = Counter()
    variables = [scalars(x, tally) for x in program.inputs]
    log = program.run(variables, OneByOne(tally))
    for mine, plain in zip(variables, program.variables, strict=True):
        values = [v.value for v in mine.flat] if isinstance(mine, np.ndarray) else [mine.value]
        assert values == plain.ravel().tolist(), (mine, plain)
    for mine, plain in zip(log, program.log, strict=True):
        values = [v.value for v in mine.flat] if isinstance(mine, np.ndarray) else [mine.value]
        np.testing.assert_allclose(
            values, plain.ravel(), rtol=1e-6 if plain.itemsize < 8 else 1e-12
        )
    return {kind: n for kind, n in tally.items() if n}


def check(seed):
    """One program on every kind of array; its steps."""
    program = Program(seed)
    try:
        counts = counted(program)
        assert dict(on_shapes(program)) == dict(counts)
        assert one_by_one(program) == counts.cost
    except Exception as error:
        steps = "\n".join(f"  {step!r}" for step in program.steps)
        raise AssertionError(f"program {seed}: {error!r}\n{program.inputs}\n{steps}") from error
    return program.steps


if __name__ == "__main__":
    programs, start = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    done: Counter[str] = Counter()
    for seed in range(start, start + programs):
        done.update(step.text.split()[0] for step in check(seed))
    print(f"{programs:,} programs from seed {start}, {done.total():,} steps: all agree")
    print(", ".join(f"{name} {n:,}" for name, n in done.most_common()))
