"""Several passes of one model in turn and beside one another: each is counted by itself."""

import asyncio
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dis import opname
from itertools import count, islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from checkpoints import checkpoint
from helpers import numbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import counting
from counting import Counted, Ledger, category, interval, observing, scope
from counting.ledger import _moment
from counting.views import flops
from minigpt import InputError, generate, load, run_with_cache, steps
from minigpt.inference.sample import Sampling
from minigpt.models.architectures import read
from minigpt.stepping.stepper import ModelStepper

SIZES = {"n_embd": 32, "n_positions": 64}
OTHERS = {"seconds", "live_bytes", "peak_bytes"}  # of a record: of the clock, of the whole model
WAIT = 60  # seconds that a thread may take


@pytest.fixture(scope="module", params=["0", "1"], ids=["NumPy", "kernels"])
def folder(request, tmp_path_factory):
    """A model, with kernels or without, whose decode steps can be recorded."""
    if request.param == "1":
        pytest.importorskip("llvmlite")
    folder = checkpoint(tmp_path_factory.mktemp("interleaved") / "m", {}, **SIZES)
    config = read(folder / "config.json")
    make = numbers(0, config.vocab_size)
    tensors = {key: make(shape, "f4") for key, shape in config.shapes().items()}
    save_file(tensors, folder / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_FAST", request.param)
        yield folder


@pytest.fixture(scope="module")
def lm(folder):
    return load(folder)


@pytest.fixture(scope="module")
def alone(folder):
    """What a generation records when nothing else runs, by its prompts, length and seed."""
    quiet, known = load(folder), {}

    def of(request):
        if request not in known:
            known[request] = [facts(step) for step in begun(quiet, request)]
        return known[request]

    return of


def begun(lm, request):
    prompts, length, seed = request
    options = {"max_new_tokens": length, "seed": seed, "ignore_eos": True}
    return generate(lm, list(prompts), **options)


def facts(step):
    """What a step says of its pass alone: its record, and all of that by path."""
    record = {key: value for key, value in step.record().items() if key not in OTHERS}
    parts = step.counts.by(str).items()
    return record, {path: (part.cost, part.bytes_read, part.bytes_written) for path, part in parts}


def exp(lm):
    """Arithmetic of the user's own; 32 operations."""
    return np.exp(lm.model.ln_f.weight + 1.0)


def fails(lm):
    """A pass that breaks off in the midst of its operations."""

    def refuse(path, *_):
        if path == "h.1.attn.qk":
            raise ZeroDivisionError

    with suppress(ZeroDivisionError), interval(lm.ledger), observing(lm.ledger, refuse):
        lm.model(np.array([[1, 2]]), lm.model.new_cache(1, 2))


def asks_for_too_much(lm):
    with suppress(InputError):
        generate(lm, "ab", max_new_tokens=99)


class Bystander:
    """What else can be done with a model between two steps of a generation."""

    def __init__(self, lm):
        self.lm, self.stepped = lm, []

    def begins_to_step(self):
        self.stepped.append(steps(self.lm, "abc"))

    def goes_on_stepping(self):
        for each in self.stepped:
            for op in islice(each, 7):
                assert op.cost is not None

    def stops_stepping(self):
        if self.stepped:
            self.stepped.pop(0).close()

    def keeps_activations(self):
        run_with_cache(self.lm, "abcd", "h.*.attn.softmax")

    def computes(self):
        with interval(self.lm.ledger) as found:
            exp(self.lm)
        assert flops(found.counts) == 64

    def runs_a_pass(self):
        with interval(self.lm.ledger):
            self.lm.forward(np.array([[1, 2, 3]]), self.lm.model.new_cache(1, 40))

    def computes_in_no_interval(self):
        exp(self.lm)

    def runs_a_pass_in_no_interval(self):
        self.lm.model(np.array([[1, 2, 3]]), self.lm.model.new_cache(1, 3))

    def fails(self):
        fails(self.lm)

    def asks_for_too_much(self):
        asks_for_too_much(self.lm)

    def looks(self):
        assert self.lm.ledger.live_bytes["weights"] > 0
        assert sum(flops(part) for part in self.lm.ledger.snapshot().by(str).values()) >= 0


DEEDS = [name for name in vars(Bystander) if not name.startswith("_")]
TEXTS = st.sampled_from([("a",), ("To be",), ("abcdefgh" * 4,), ("abc", "xyz")])
REQUESTS = st.tuples(TEXTS, st.integers(1, 20), st.integers(0, 2))
PLANS = st.lists(
    st.tuples(REQUESTS, st.integers(0, 20)),  # each with the steps after which it is closed
    min_size=1,
    max_size=4,
)
SLOW = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(PLANS, st.data())
def test_generations_in_turn_record_what_each_does_alone(lm, alone, plans, data):
    bystander, running = Bystander(lm), []
    for request, patience in plans:
        running.append((request, patience, begun(lm, request), []))
    while running:
        which = data.draw(st.integers(0, len(running) - 1))
        for deed in data.draw(st.lists(st.sampled_from(DEEDS), max_size=2)):
            getattr(bystander, deed)()
        request, patience, generation, records = running[which]
        step = next(generation, None)
        if step is not None:
            records.append(facts(step))
        if step is None or len(records) == patience:
            generation.close()
            assert records == alone(request)[: len(records)]
            del running[which]
    while bystander.stepped:
        bystander.stops_stepping()
    assert lm.ledger.hot is lm.ledger.charges


@SLOW
@given(
    st.lists(st.tuples(PLANS, st.lists(st.sampled_from(DEEDS), max_size=6)), min_size=2, max_size=4)
)
def test_generations_in_threads_record_what_each_does_alone(lm, alone, plans):
    start = threading.Barrier(len(plans))

    def work(plan, deeds):
        bystander, found = Bystander(lm), []
        start.wait(WAIT)
        for request, patience in plan:
            generation = begun(lm, request)
            found.append((request, [facts(step) for step in islice(generation, patience)]))
            generation.close()
            for deed in deeds:
                getattr(bystander, deed)()
        while bystander.stepped:
            bystander.stops_stepping()
        return found

    with ThreadPoolExecutor(len(plans)) as pool:
        for done in [pool.submit(work, *plan) for plan in plans]:
            for request, records in done.result(WAIT):
                assert records == alone(request)[: len(records)]
    lm.ledger.snapshot().by(str)  # each charge has its path


@SLOW
@given(st.lists(st.tuples(REQUESTS, st.booleans()), min_size=2, max_size=4))
def test_generations_in_tasks_record_what_each_does_alone(lm, alone, plans):
    async def work(request, aside):
        generation, records = begun(lm, request), []
        while True:
            step = (
                await asyncio.to_thread(next, generation, None) if aside else next(generation, None)
            )
            if step is None:
                return records
            records.append(facts(step))
            await asyncio.sleep(0)

    async def all_of_them():
        return await asyncio.gather(*(work(*plan) for plan in plans))

    for (request, _), records in zip(plans, asyncio.run(all_of_them()), strict=True):
        assert records == alone(request)


def test_whoever_asks_for_figures_changes_none(lm, alone):
    request, over = (("To be",), 20, 0), threading.Event()

    def look():
        bystander = Bystander(lm)
        while not over.is_set():
            bystander.looks()

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            assert [facts(step) for step in begun(lm, request)] == alone(request)
        finally:
            over.set()
        for each in looking:
            each.result(WAIT)


def test_with_kernels_decode_steps_are_recorded_ones(lm):
    generation = begun(lm, (("To be",), 20, 0))
    list(islice(generation, 3))
    recorded = bool(getattr(lm.forward, "_steps", None))
    assert recorded == (lm.forward is not lm.model)


# In the midst of a pass.


class Standing:
    """A generation in a thread of its own that stands still in the midst of its first pass."""

    def __init__(self, lm, request):
        self._there, self._go_on = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._found = self._pool.submit(self._run, lm, request)
        assert self._there.wait(WAIT)

    def _run(self, lm, request):
        def stand(path, *_):
            if path == "h.1.attn.qk":
                self._there.set()
                assert self._go_on.wait(WAIT)

        with observing(lm.ledger, stand):
            return [facts(step) for step in begun(lm, request)]

    def go_on(self):
        self._go_on.set()
        self._pool.shutdown()
        return self._found.result()


REQUEST, OTHER = (("To be",), 4, 0), (("abc", "xyz"), 4, 1)


def test_while_a_pass_stands_still_another_thread_waits_and_both_are_right(lm, alone):
    standing = Standing(lm, REQUEST)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: [facts(step) for step in begun(lm, OTHER)])
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        assert standing.go_on() == alone(REQUEST)
        assert waiting.result(WAIT) == alone(OTHER)


def test_what_another_thread_computes_beside_a_pass_is_counted_and_no_part_of_it(lm, alone):
    cache = lm.model.new_cache(1, 2)
    exp(lm)
    standing, before = Standing(lm, REQUEST), lm.ledger.snapshot()
    exp(lm)
    assert flops(lm.ledger.snapshot() - before) == 64
    lm.model(np.array([[1]]), cache)
    assert standing.go_on() == alone(REQUEST)


def test_another_model_does_not_wait(lm, folder, alone):
    standing, other = Standing(lm, REQUEST), load(folder)
    assert [facts(step) for step in begun(other, OTHER)] == alone(OTHER)
    assert standing.go_on() == alone(REQUEST)


def test_a_pass_within_a_pass_is_no_part_of_it(lm, alone):
    inside = []

    def observer(path, *_):
        if path == "h.0.attn.qk" and not inside:
            inside.append(None)
            inside.extend(facts(step) for step in begun(lm, OTHER))
            list(steps(lm, "ab"))
            run_with_cache(lm, "ab")

    with observing(lm.ledger, observer):
        outside = [facts(step) for step in begun(lm, REQUEST)]
    assert outside == alone(REQUEST)
    assert inside[1:] == alone(OTHER)


class Prompt(ModelStepper):
    """A debugger at whose prompt somebody runs the same model, whatever way there is."""

    def stopped(self, *_):
        self.set_continue()
        list(begun(self.lm, OTHER))
        list(steps(self.lm, "ab"))
        run_with_cache(self.lm, "ab")


def test_what_runs_at_the_prompt_of_a_debugger_is_no_part_of_the_pass(lm, alone):
    (prompt,), length, seed = REQUEST
    stepper = Prompt()
    sampling = Sampling(max_new_tokens=length, seed=seed, ignore_eos=True)
    stepper.generate(lm, prompt, sampling, at="h.1.attn.qk", token=2)
    assert stepper.stops == 1
    assert [facts(step) for step in stepper.came] == alone(REQUEST)


def test_two_that_step_in_turn_hear_of_their_own_operations(lm):
    def told(op):
        return op.number, op.path, op.name, op.cost

    texts = ["ab", "abcd"]
    expected = [[told(op) for op in steps(lm, text)] for text in texts]
    found = [[], []]
    for first, second in zip(*(steps(lm, text) for text in texts), strict=True):
        found[0].append(told(first))
        found[1].append(told(second))
    assert found == expected


# Whatever a caller is inside of.


PLACES = st.sampled_from(
    [nullcontext, *(lambda n=n: category(n) for n in ("kv_cache", "weights")), lambda: scope("foo")]
)


@SLOW
@given(st.lists(PLACES, min_size=1, max_size=4))
def test_scopes_of_a_caller_are_none_of_the_pass(lm, alone, places):
    request, records = (("To be",), 8, 0), []
    generation = begun(lm, request)
    for i in range(8):
        with places[i % len(places)]():
            step = next(generation)
        records.append(facts(step))
        assert list(step.sampling.by(str)) == ["sample"]
        assert not step.sampling.bytes_written["kv_cache"]
    assert records == alone(request)


@SLOW
@given(PLACES)
def test_nor_of_operations_one_by_one_and_of_activations_kept(lm, place):
    def told(op):
        return op.path, op.name, op.output is not None and op.output.spec.category

    def kept():
        logits, found = run_with_cache(lm, "ab")
        return logits.spec.category, {path: x.spec.category for path, x in found.items()}

    expected = [told(op) for op in steps(lm, "ab")], kept()
    with place():
        assert ([told(op) for op in steps(lm, "ab")], kept()) == expected


@SLOW
@given(PLACES)
def test_whatever_a_generation_does_is_no_part_of_an_interval_of_its_caller(lm, place):
    expected = dict(next(begun(lm, (("ab",), 2, 0))).reserving)
    with interval(lm.ledger) as found, place():
        reserving = [step.reserving for step in begun(lm, (("ab",), 2, 0))]
        list(islice(steps(lm, "ab"), 9))
        run_with_cache(lm, "ab")
    assert not found.counts
    assert [dict(each) for each in reserving] == [expected] * 2
    assert {path for path, _ in expected} == {""}


# At any moment.


def noise(lm, over):
    """What one thread computes, without intervals, until an event; how many times it did."""
    rows, cache = np.array([[1, 2, 3]]), lm.model.new_cache(1, 3)
    known = lm.model(rows, cache).data.copy()
    for n in count(1):
        for layer in cache.layers:
            layer.length = 0
        for _ in range(20):
            assert (lm.model.ln_f.weight + 1.0).shape == (32,)
        assert np.array_equal(lm.model(rows, cache).data, known)
        if over.is_set():
            return n


def test_no_moment_of_another_thread_is_charged_to_a_pass(lm, alone):
    """Threads change places as often as Python lets them."""
    request, over, usual = (("To be",), 20, 0), threading.Event(), sys.getswitchinterval()
    once = threading.Event()
    once.set()
    before = lm.ledger.snapshot()
    assert noise(lm, once) == 1
    first = lm.ledger.snapshot() - before
    once_more = lm.ledger.snapshot()
    noise(lm, once)
    found, ran = lm.ledger.snapshot() - once_more, 0
    assert first.cost == found.cost
    with ThreadPoolExecutor(2) as pool:
        before = lm.ledger.snapshot()
        sys.setswitchinterval(1e-6)
        beside = [pool.submit(noise, lm, over) for _ in range(2)]
        try:
            for _ in range(4):
                generated = [*begun(lm, request)]
                assert [facts(step) for step in generated] == alone(request)
                ran += sum(step.flops for step in generated)
        finally:
            over.set()
            sys.setswitchinterval(usual)
        times = sum(each.result(WAIT) for each in beside)
    all_of_it = flops(lm.ledger.snapshot() - before)
    known, again = flops(found), lm.ledger.snapshot()
    lm.model(np.array([[1, 2, 3]]), lm.model.new_cache(1, 3))
    a_pass = flops(lm.ledger.snapshot() - again)
    assert all_of_it == ran + times * (known - a_pass) + 2 * a_pass


def test_an_interval_that_a_generator_leaves_open_keeps_no_thread_waiting(lm, alone):
    def standing():
        with interval(lm.ledger) as found:
            exp(lm)
            yield
            exp(lm)
        yield found

    generator = standing()
    next(generator)
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(lambda: [facts(step) for step in begun(lm, REQUEST)])
        assert there.result(WAIT) == alone(REQUEST)
    assert [facts(step) for step in begun(lm, OTHER)] == alone(OTHER)
    assert flops(next(generator).counts) == 128


def children(test, moments):
    """Runs `test` in a child of this process at each moment, seconds from the one before."""
    for moment in moments:
        time.sleep(moment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running
            child = os.fork()
        if not child:
            signal.alarm(WAIT)  # ends it
            status = 1
            try:
                status = 0 if test() else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@FORKS
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 0.03), min_size=4, max_size=4))
def test_a_child_of_a_process_whose_threads_are_busy_is_not_kept_waiting(lm, alone, moments):
    over, expected = threading.Event(), alone(REQUEST)

    def work():
        while not over.is_set():
            list(begun(lm, OTHER))
            list(islice(steps(lm, "ab"), 9))

    def test():
        before = lm.ledger.snapshot()
        right = [facts(step) for step in begun(lm, REQUEST)] == expected
        return right and len(list(steps(lm, "ab"))) > 9 and len(lm.ledger.snapshot() - before) > 9

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            children(test, moments)
        finally:
            over.set()
        working.result(WAIT)


@FORKS
def test_nor_one_that_is_made_in_the_midst_of_a_pass(lm, alone):
    standing = Standing(lm, REQUEST)

    def test():
        threads = [
            threading.Thread(target=exp, args=(lm,)) for _ in range(4)
        ]  # as the one that stood
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        quick = lm.ledger.hot is lm.ledger.charges
        return quick and [facts(step) for step in begun(lm, OTHER)] == alone(OTHER)

    alone(OTHER)
    children(test, [0, 0])
    assert standing.go_on() == alone(REQUEST)


LOOKS = "CALL", "JUMP_BACKWARD", "RESUME"  # after these Python looks for signals, and nowhere else


def interrupted(operation, at):
    """Whether it was, by Ctrl-C at the `at`th step of its code at which one may come."""
    done, own, steps = 0, Path(counting.__file__).parent, {}

    def trace(frame, event, _):
        nonlocal done
        frame.f_trace_opcodes = True
        code = frame.f_code
        counted = Path(code.co_filename).parent == own and code.co_name != "__del__"
        if event == "opcode" and counted:  # what is raised in a __del__, Python drops
            before = steps.get(frame, "")
            steps[frame] = opname[code.co_code[frame.f_lasti]]
            if before.startswith(LOOKS):
                done += 1
                if done == at:
                    raise KeyboardInterrupt
        return trace

    with scope("interrupted"):
        usual = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # or Python 3.12 gives none of their events
        sys.settrace(trace)
        try:
            operation()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(usual)
            assert not _moment._is_owned()
    return False


def test_an_operation_that_is_interrupted_anywhere_leaves_those_after_it_right():
    ledger = Ledger()
    x, y = (Counted(np.ones(4, np.float32), ledger) for _ in range(2))
    operations = [lambda: x + y, lambda: -x, lambda: np.exp(x), lambda: x.sum(), lambda: x[1]]
    operations += [lambda: x.__setitem__(slice(2), y[:2]), lambda: x.__iadd__(y)]

    for operation in operations:
        operation()
        for at in count(1):
            before = ledger.snapshot()
            was = interrupted(operation, at)
            with interval(ledger) as found:
                np.exp(x)
            assert list(found.counts) == [("", "exp")]
            between = (ledger.snapshot() - before) - found.counts
            assert {path for path, _ in between} <= {"interrupted"}
            if not was:
                break
        assert at > 5


@pytest.mark.parametrize("seed", range(3))
def test_figures_whose_working_out_is_interrupted_anywhere_are_right_after_it(seed, monkeypatch):
    monkeypatch.setattr("counting.counts.UNSETTLED", 40)  # some are folded into rows meanwhile
    rng, ledger, ran = Random(seed), Ledger(), Counter()
    x = Counted(np.ones(4, np.float32), ledger)
    kept = [x]
    for at in count(1):
        with interval(ledger) as found:
            for _ in range(rng.randint(1, 5)):
                path = rng.choice("abc")
                with scope(path):
                    kept.append(x + x)
                ran[path] += 1
            kept = kept[rng.randint(0, 2) :] or [x]
            was = interrupted(ledger.snapshot, at)
        assert {
            path: found.total("calls") for path, found in ledger.snapshot().by(str).items()
        } == ran
        assert ledger.live_bytes["activations"] == 16 * len({id(each) for each in (x, *kept)})
        assert found.counts.total("calls") <= 5
        if not was:
            break
    assert at > 50
