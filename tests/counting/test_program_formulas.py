"""A program of plain NumPy, run on sizes that are symbols: its formula is right at drawn sizes."""

from random import Random

import numpy as np
import pytest
import sympy

from counting import ShapeArray, counted, trace

N, M = sympy.symbols("N M", integer=True, positive=True)


def ridge(X, y):
    return np.linalg.solve(X.T @ X + 0.1 * np.eye(X.shape[1]), X.T @ y)


def causal_attention(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[1])
    scores = np.where(np.tril(np.ones((len(k), len(k)), bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True) @ v


def symbolic_attention(q, k, v):  # `len` is Python's, and wants a number
    T = q.shape[0]
    scores = np.where(np.arange(T)[:, None] >= np.arange(T), q @ k.T, -np.inf)
    return np.exp(scores) @ v


def one_hot(x):
    found = np.zeros((x.shape[0], 10))
    found[np.arange(x.shape[0]), 0] = 1
    return found @ found.T


def nearest(X, centres):
    return ((X[:, None] - centres[None]) ** 2).sum(-1).argmin(1)


def convolution(x, w):
    found = np.zeros((x.shape[0] - 2,))
    for k in range(3):
        found += x[k : x.shape[0] - 2 + k] * w[k]
    return found


def positions(x):
    T, C = x.shape
    angles = np.arange(T)[:, None] / np.power(10000, np.arange(0, C, 2) / C)
    found = np.empty((T, C))
    found[:, 0::2] = np.sin(angles)
    found[:, 1::2] = np.cos(angles)
    return x + found


def padded(x):
    return np.concatenate([np.zeros((2, x.shape[1])), x[::-1], np.full((1, x.shape[1]), 2.0)]) * 2


def every_second(x):
    return x[1::2] + np.identity(x.shape[1])[0]


PROGRAMS = {
    ridge: ((N, M), (N,)),
    symbolic_attention: ((N, 4), (N, 4), (N, 4)),
    one_hot: ((N, 3),),
    nearest: ((N, M), (8, M)),
    convolution: ((N,), (3,)),
    positions: ((N, 2 * M),),
    padded: ((N, M),),
    every_second: ((N, M),),
}


def numbers(shapes, sizes):
    return [tuple(int(sympy.sympify(n).subs(sizes)) for n in shape) for shape in shapes]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_formula_of_a_program_is_what_a_run_on_numbers_counts(program, seed):
    rng = Random(seed)
    sizes = {N: rng.randint(3, 40), M: rng.randint(1, 20)}
    arrays = [np.ones(shape, np.float32) for shape in numbers(PROGRAMS[program], sizes)]
    _, ledger = counted(program)(*arrays)
    formula, executed = trace(program, *PROGRAMS[program]), ledger.snapshot()
    assert formula.keys() == executed.keys()
    for key, row in formula.items():
        assert [sympy.sympify(n).subs(sizes) for n in row] == [*executed[key]], key


@pytest.mark.parametrize("seed", range(5))
def test_sizes_that_are_numbers_need_no_data(seed):
    rng = Random(seed)
    shapes = [(rng.randint(1, 9), 4)] * 3
    _, ledger = counted(causal_attention)(*(np.ones(shape, np.float32) for shape in shapes))
    assert dict(trace(causal_attention, *shapes)) == dict(ledger.snapshot())


def test_values_that_are_not_there_are_written_into_no_array_that_has_some():
    table = np.zeros((3, 4), np.float32)

    def program(x):
        table[1] = x
        return table[0] > 0

    with pytest.raises(TypeError, match="takes no values without data"):
        counted(program)(ShapeArray((4,)))


def test_what_a_program_does_to_names_and_objects_is_done():
    class Told:
        last = None

    seen, told, named, n = [], Told(), {}, 0

    def program(x):
        nonlocal n
        for row in range(3):
            n += 1
            seen.append(x[row] + 1.0)
            named[row] = told.last = helper(x)

    def helper(x):
        return x * np.zeros(x.shape)

    assert trace(program, (3, 4)).cost == {"add": 12, "mul": 36}
    assert n == len(seen) == len(named) == 3
    assert told.last is named[2]


@pytest.mark.parametrize("size", [4, N])
def test_masks_and_places_of_numbers_are_known_without_data(size):
    def program(x):
        chosen = np.zeros(4, bool)
        chosen[1] = True
        places = np.zeros(2, int)
        places[1] += 3
        return x[chosen] + x[places][:1], [0.0] * int(places[1])

    assert trace(program, (4, size)).cost == {"int": 1, "add": size}


def test_shapes_anywhere_in_the_arguments_have_the_program_run_on_shapes():
    def program(given):
        found = np.zeros(2)
        found[:] = given["x"][0]
        return found * 2

    _, ledger = counted(program)({"x": [ShapeArray((2,), np.float64)]})
    assert ledger.snapshot().cost == {"mul": 2}
    with pytest.raises(TypeError, match="no data"):
        bool(ShapeArray((0,)))
