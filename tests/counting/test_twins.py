"""Programs run with arrays that count: as they would without, whatever Python they are made of."""

import enum
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial, reduce
from threading import Thread
from typing import NamedTuple

import neighbours
import numpy as np
import pytest
from neighbours import *  # noqa: F403
from twins import cost, same

from counting import Cost, counted

ROWS = np.arange(12.0).reshape(3, 4)


# Names


def test_a_name_of_the_module_that_is_given_another_value_has_it():
    assert counted(doubled_state)()[0].tolist() == [4.0, 4.0]
    assert STATE.tolist() == [1.0, 1.0]  # the module's own is left alone


STATE = np.ones(2)


def doubled_state():
    global STATE
    STATE = STATE + 1
    STATE = STATE * 2
    return STATE


def test_a_name_that_a_program_sets_is_there_for_its_other_functions():
    assert same(set_and_read) == 7.0


def set_and_read():
    global SET
    SET = np.float64(7.0)
    return read()


def read():
    return SET


def test_a_closure_reads_and_writes_the_names_around_it():
    def program(x):
        total = np.zeros(2)

        def add(part):
            nonlocal total
            total = total + part

        for row in x:
            add(row)
        return total

    same(program, np.ones((3, 2)))
    assert cost(program, np.ones((3, 2))) == Cost(add=6)


def test_functions_that_share_a_name_share_it():
    def counter():
        n = np.zeros(1)

        def add():
            nonlocal n
            n = n + 1

        return add, lambda: n

    add, read = counter()

    def program():
        add()
        add()
        return read()

    assert counted(program)()[0] == 2.0
    assert read() == 0.0


def test_defaults_are_arrays_that_count():
    def program(x, weights=ROWS[0], *, bias=ROWS[1]):
        return x * weights + bias

    same(program, np.ones(4))
    assert cost(program, np.ones(4)) == Cost(mul=4, add=4)


def test_a_function_that_calls_itself_is_counted_each_time():
    def halved(x):
        return x if len(x) == 1 else halved(x[: len(x) // 2] + x[len(x) // 2 :])

    same(halved, np.arange(8.0))
    assert cost(halved, np.arange(8.0)) == Cost(add=4 + 2 + 1)


def test_generators_and_comprehensions_are_run_too():
    def squares(x):
        for row in x:
            yield row * row

    def program(x):
        return np.stack([part + 1 for part in squares(x)])

    same(program, ROWS)
    assert cost(program, ROWS) == Cost(mul=12, add=12)


def test_what_an_asterisk_imports_is_the_programs_own():
    assert cost(lambda x: rescaled(x), np.arange(1.0, 4.0)) == Cost(cmp=2, div=3)  # noqa: F405
    assert same(lambda: looked_up(1)) == 2.0  # noqa: F405


def test_another_module_of_the_program_counts_too():
    assert cost(lambda x: neighbours.rescaled(x), np.arange(1.0, 4.0)) == Cost(cmp=2, div=3)
    same(lambda: neighbours.TABLE * 2)


# Classes


class Layer:
    scale = np.float32(2)
    made = staticmethod(np.zeros)
    array = np.array

    def __init__(self, n):
        self.weights = np.ones((n, n))

    @classmethod
    def of(cls, n):
        return cls(n)

    @property
    def size(self):
        return self.weights.sum()

    @staticmethod
    def activated(x):
        return np.maximum(x, 0)

    def __call__(self, x):
        return self.activated(x @ self.weights) * self.scale


class Deep(Layer):
    def __call__(self, x):
        return super().__call__(super().__call__(x))


def test_classes_are_run_with_their_bases_methods_and_properties():
    def program(x):
        layer = Deep.of(4)
        return layer(x), layer.size, isinstance(layer, Layer)

    same(program, ROWS)
    one = Cost(fma=3 * 4 * 4, cmp=12, mul=12)
    assert cost(lambda x: Deep(4)(x), ROWS) == one + one


def test_objects_in_the_arguments_are_counted():
    assert cost(lambda layer, x: layer(x), Layer(4), ROWS) == Cost(fma=48, cmp=12, mul=12)


def test_what_stands_for_a_function_in_c_becomes_no_method():
    same(lambda: Layer(2).array([1.0, 2.0]))


class Scaled(type):
    def __new__(cls, name, bases, names):
        return super().__new__(cls, name, bases, {**names, "made": np.ones(2)})


class OfScaled(metaclass=Scaled):
    pass


class Pair(NamedTuple):
    x: np.ndarray

    def total(self):
        return self.x.sum()


@dataclass(frozen=True, slots=True)
class Slotted:
    x: np.ndarray

    def total(self):
        return self.x.sum()


class Named(dict):
    def total(self):
        return self["a"].sum()


class Late:
    @cached_property
    def total(self):
        return np.ones(3).sum()


class Sort(enum.Enum):
    UP = 1


def three(n):
    return np.ones(n).sum()


HELD = {
    "a named tuple": Pair(np.ones(3)).total,
    "slots": Slotted(np.ones(3)).total,
    "a dict of one's own": Named(a=np.ones(3)).total,
    "part of a call": partial(three, 3),
    "a method of an array": np.ones(3).sum,
}
IN_ORDER, BY_DEFAULT, IN_LINE = (
    OrderedDict(a=np.ones(3)),
    defaultdict(list, a=np.ones(3)),
    deque([np.ones(3)], maxlen=2),
)
remembered = lru_cache(three)


@pytest.mark.parametrize("name", HELD)
def test_whatever_holds_an_array_it_counts(name):
    assert same(lambda: HELD[name]()) == 3
    assert cost(lambda: HELD[name]()) == Cost(add=2)


@pytest.mark.parametrize(
    "program",
    [
        lambda: remembered(3),
        lambda: Late().total,
        lambda: Pair(np.ones(3)).total(),
        lambda: Slotted(np.ones(3)).total(),
        lambda: IN_ORDER["a"].sum(),
        lambda: BY_DEFAULT["a"].sum(),
        lambda: IN_LINE[0].sum(),
        lambda: OfScaled.made.sum() + 1,
        lambda: reduce(np.add, [1.0, np.ones(1), np.ones(1)])[0],
    ],
)
def test_whatever_makes_an_array_it_counts(program):
    same(program)
    assert cost(program) == Cost(add=2)


def test_members_of_an_enum_are_what_they_are():
    assert same(lambda: Sort(1) is Sort.UP)


# What a program asks


def test_a_program_that_asks_for_types_is_told_those_of_plain_arrays():
    def program(x):
        return (
            isinstance(x, np.ndarray),
            type(x) is np.ndarray,
            isinstance(x.sum(), np.floating),
            isinstance(x.sum(), np.ndarray),
            type(x.sum()) is np.float64,
            np.isscalar(x[0, 0]),
            type(int) is type and isinstance(int, type),
        )

    assert same(program, ROWS)[:3] == (True, True, True)


def test_a_function_of_numpys_is_the_same_each_time():
    same(lambda: [f is np.nanmax for f in (np.nanmin, np.nanmax)])


def test_numbers_are_keys_members_and_text():
    def program(x):
        seen = {}
        for value in x:
            seen[value] = seen.get(value, 0) + 1
        return len(seen), 2.0 in x, 9.0 in x, str(x[0]), f"{x[1]:.2f}", round(x[1], 1)

    same(program, np.array([1.0, 2.0, 1.0, 2.0]))


# Threads and errors


def test_two_threads_count_each_in_its_own_ledger():
    def program(x, n):
        for _ in range(n):
            x = np.stack([x, np.ones(3)]).sum(0) + np.linspace(0, 1, 3)
        return x

    found = {}

    def run(n):
        found[n] = cost(program, np.ones(3), n)

    alone = {n: cost(program, np.ones(3), n) for n in (20, 30)}
    threads = [Thread(target=run, args=(n,)) for n in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_what_a_program_raises_it_raises():
    class Ours(Exception):
        pass

    def program(x):
        raise ValueError(f"of shape {x.shape}")

    with pytest.raises(ValueError, match=r"of shape \(3, 4\)"):
        counted(program)(ROWS)


def test_a_program_catches_what_it_raises_and_what_numpy_raises():
    def program(x):
        try:
            x @ x
        except ValueError:
            return "matmul"

    assert counted(program)(ROWS)[0] == "matmul"


def test_after_an_error_the_next_program_counts_afresh():
    with pytest.raises(IndexError):
        counted(lambda x: x[9])(ROWS)
    assert cost(lambda x: x + 1, ROWS) == Cost(add=12)
