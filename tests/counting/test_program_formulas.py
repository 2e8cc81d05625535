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
