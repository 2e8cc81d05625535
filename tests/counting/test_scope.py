"""Scopes belong to the code that opens them, in whatever order functions and generators end."""

import asyncio
import contextlib
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from helpers import array
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted, Ledger, category, scope
from counting.scope import Place, at, here

OUTSIDE = Place("", "activations")


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def x(ledger):
    return Counted(array((2, 3)), ledger)


def rows(ledger):
    return list(ledger.snapshot())


def test_scopes_nest_and_end(ledger, x):
    with scope("h"):
        with scope("3"):
            x + 1
        x + 1
    with pytest.raises(ZeroDivisionError), scope("gone"):
        1 / 0  # noqa: B018
    x + 1
    assert rows(ledger) == [("h.3", "add"), ("h", "add"), ("", "add")]


def test_an_array_knows_where_and_by_what_it_was_made(x):
    with scope("mlp"), category("kv_cache"):
        y = x @ array((3, 4))
    for part in ("(2, 4)", "float32", "32 B", "kv_cache", "mlp", "matmul", "fma", "24"):
        assert part in repr(y)
    assert "matmul" not in repr(x)


def test_threads_do_not_mix_scopes():
    ledgers, together = {name: Ledger() for name in "ab"}, threading.Barrier(2)

    def work(name):
        x = Counted(array((3,)), ledgers[name])
        with scope(name):
            together.wait(60)
            x + 1.0
            together.wait(60)
        x * 2.0

    threads = [threading.Thread(target=work, args=name) for name in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, ledger in ledgers.items():
        assert rows(ledger) == [(name, "add"), ("", "multiply")]


def test_tasks_do_not_mix_scopes(ledger, x):
    async def work(name):
        with scope(name):
            await asyncio.sleep(0)
            x + 1.0

    async def both():
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(both())
    assert rows(ledger) == [("a", "add"), ("b", "add")]


def test_a_task_is_inside_of_what_its_maker_is_inside_of(ledger, x):
    async def work():
        x + 1.0

    async def main():
        with scope("all"):
            await asyncio.gather(work(), work())

    asyncio.run(main())
    assert rows(ledger) == [("all", "add")]


# Generators.


def test_two_generators_that_end_in_another_order(ledger, x):
    def layer(name):
        with scope(name):
            yield x + 1.0
            yield x + 1.0

    one, two = layer("one"), layer("two")
    next(one), next(two), list(one), list(two)
    x * x
    assert {key: row[0] for key, row in ledger.snapshot().items()} == {
        ("one", "add"): 2,
        ("two", "add"): 2,
        ("", "multiply"): 1,
    }


def test_between_two_values_a_generator_labels_nothing(ledger, x):
    def values():
        with at("inside"), category("kv_cache"):
            yield x + 1.0
            yield x + 1.0

    with scope("outside"):
        for y in values():
            assert y.spec.category == "kv_cache"
            assert (y * 2.0).spec.category == "activations"
    assert rows(ledger) == [("inside", "add"), ("outside", "multiply")]


def test_a_generator_is_inside_of_whoever_runs_it():
    def values():
        with scope("g"):
            while True:
                yield here().path

    g = values()
    with scope("a"):
        assert next(g) == "a.g"
    assert next(g) == "g"
    with scope("b"):
        assert next(g) == "b.g"
        with scope("c"):
            assert (next(g), here().path) == ("b.c.g", "b.c")
    g.close()
    assert here() == OUTSIDE


def test_a_generator_that_is_dropped_ends_its_scope():
    def values():
        with scope("g"):
            yield

    g = values()
    next(g)
    del g
    assert here() == OUTSIDE


@contextmanager
def named(name):
    with scope(name):
        yield


class Named:
    def __init__(self, name):
        self.scope = scope(name)

    def __enter__(self):
        self.scope.__enter__()

    def __exit__(self, *exception):
        self.scope.__exit__(*exception)


@contextmanager
def stacked(name):
    with ExitStack() as stack:
        stack.enter_context(named(name))
        yield


WAYS = [scope, named, Named, stacked]


@pytest.mark.parametrize("way", WAYS)
def test_a_context_manager_of_ones_own_opens_it_for_its_block(way):
    with way("a"), scope("b"):
        assert here().path == "a.b"

    def values():
        with way("g"):
            yield here().path

    g = values()
    assert (next(g), here().path, list(g), here()) == ("g", "", [], OUTSIDE)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_blocks_left_by_hand_in_any_order_leave_nothing(order):
    scopes = [scope("a"), category("weights"), at("c")]
    for one in scopes:
        one.__enter__()
    for i in order:
        scopes[i].__exit__(None, None, None)
    assert here() == OUTSIDE


def test_a_block_whose_end_never_ran_ends_with_the_one_around_it():
    """As where a debugger is left on the line of a `with`, which Python then does not end."""

    def values():
        with scope("g"):
            scope("lost").__enter__()
            yield here().path

    with scope("a"):
        scope("lost").__enter__()
        assert here().path == "a.lost"
        g = values()
        assert next(g) == "a.lost.g.lost"
        category("weights").__enter__()
        assert here() == ("a.lost", "weights")
    assert here() == OUTSIDE
    assert (list(g), here()) == ([], OUTSIDE)


# Schedules, drawn: a body is a list of actions, the first of them the program's own.

ACTORS = 3
ACTIONS = st.recursive(
    st.sampled_from(("look", "yield", *(("next", i) for i in range(ACTORS)))),
    lambda inner: st.tuples(
        st.just("in"),
        st.integers(0, len(WAYS) - 1),
        st.sampled_from("abc"),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)
BODY = st.lists(ACTIONS, max_size=8)
SCHEDULES = st.tuples(
    BODY, st.lists(BODY, min_size=ACTORS, max_size=ACTORS), st.permutations([*range(ACTORS)])
)


class Schedule:
    """Actors by number, a main one and generators, what they are inside of, and who runs whom."""

    def __init__(self, schedule):
        self.main, bodies, self.ends = schedule
        self.bodies = dict(enumerate(bodies))
        self.inside = {who: [] for who in ("main", *self.bodies)}
        self.running = ["main"]
        self.looks = 0

    def look(self):
        self.looks += 1
        names = [name for who in self.running for name in self.inside[who]]
        assert here() == (".".join(names), "activations")

    @contextmanager
    def entered(self, who, name):
        self.inside[who].append(name)
        try:
            yield
        finally:
            self.inside[who].pop()

    def ended(self):
        assert here() == OUTSIDE


class Functions(Schedule):
    """Generators, run by a function."""

    def run(self):
        self.generators = {i: self.generator(i, body) for i, body in self.bodies.items()}
        self.function(self.main)
        for i in self.ends:
            self.look()
            self.generators[i].close()
        self.ended()

    def function(self, body):
        for action in body:
            if action[0] == "in":
                _, way, name, inner = action
                with WAYS[way](name), self.entered("main", name):
                    self.function(inner)
            else:
                self.act(action)

    def generator(self, who, body):
        for action in body:
            if action[0] == "in":
                _, way, name, inner = action
                with WAYS[way](name), self.entered(who, name):
                    yield from self.generator(who, inner)
            elif action == "yield":
                yield
            else:
                self.act(action)

    def act(self, action):
        if action[0] == "next" and action[1] not in self.running:
            self.running.append(action[1])
            next(self.generators[action[1]], None)
            self.running.pop()
        self.look()


class Coroutines(Schedule):
    """Asynchronous generators, run by a coroutine that others run between."""

    async def run(self):
        self.generators = {i: self.generator(i, body) for i, body in self.bodies.items()}
        await self.coroutine(self.main)
        for i in self.ends:
            self.look()
            await self.generators[i].aclose()
        self.ended()

    async def coroutine(self, body):
        for action in body:
            if action[0] == "in":
                _, way, name, inner = action
                with WAYS[way](name), self.entered("main", name):
                    await self.coroutine(inner)
            else:
                await self.act(action)

    async def generator(self, who, body):
        for action in body:
            if action[0] == "in":
                _, way, name, inner = action
                with WAYS[way](name), self.entered(who, name):
                    async with contextlib.aclosing(self.generator(who, inner)) as parts:
                        async for _ in parts:
                            yield
            elif action == "yield":
                yield
            else:
                await self.act(action)

    async def act(self, action):
        await asyncio.sleep(0)
        if action[0] == "next" and action[1] not in self.running:
            self.running.append(action[1])
            await anext(self.generators[action[1]], None)
            self.running.pop()
        self.look()


@settings(max_examples=300)
@given(SCHEDULES)
def test_drawn_schedules_of_generators(schedule):
    Functions(schedule).run()


@settings(max_examples=30)
@given(st.lists(SCHEDULES, min_size=2, max_size=3))
def test_drawn_schedules_in_threads(schedules):
    failed = []

    def work(schedule):
        try:
            Functions(schedule).run()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(schedule,)) for schedule in schedules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@settings(max_examples=100)
@given(st.lists(SCHEDULES, min_size=1, max_size=3))
def test_drawn_schedules_of_asynchronous_generators_in_tasks(schedules):
    async def main():
        await asyncio.gather(*(Coroutines(schedule).run() for schedule in schedules))

    asyncio.run(main())


def test_scopes_of_generators_label_no_other_ledger():
    def layer(name):
        with scope(name), category("weights"):
            yield
            yield

    one, two = layer("one"), layer("two")
    next(one), next(two), next(one), next(two)
    other = Ledger()
    y = Counted(np.ones(3), other) * 2.0
    assert (rows(other), y.path, y.spec.category) == ([("", "multiply")], "", "activations")
