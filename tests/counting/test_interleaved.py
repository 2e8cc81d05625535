"""Several passes of one model in turn and beside one another: each is counted by itself."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

import numpy as np
import pytest
from checkpoints import checkpoint
from helpers import numbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from counting import Counted, Ledger, NotItsTurn, category, interval, observing
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


def test_what_another_thread_computes_beside_a_pass_is_refused_with_the_way_out(lm, alone):
    cache = lm.model.new_cache(1, 2)
    standing = Standing(lm, REQUEST)
    with pytest.raises(NotItsTurn, match=r"with counting.interval\(ledger\).*or load a model"):
        exp(lm)
    with pytest.raises(NotItsTurn):
        lm.model(np.array([[1]]), cache)
    assert standing.go_on() == alone(REQUEST)
    assert exp(lm).shape == (32,)


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


def test_an_interrupted_operation_leaves_the_paths_of_the_others_right():
    ledger = Ledger()
    with category("weights"):
        x = Counted(np.ones(4, np.float32), ledger)
    with suppress(KeyboardInterrupt), interval(ledger):
        ledger.paths.append("interrupted")  # where an operation stands between its two lines
        raise KeyboardInterrupt
    with interval(ledger) as found:
        np.exp(x)
    assert list(found.counts) == [("", "exp")]
    assert list(ledger.snapshot().where("interrupted")) == []
