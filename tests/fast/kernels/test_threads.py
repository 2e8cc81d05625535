"""Threads that share a job: every item of a range is done, and done once."""

import ctypes
import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigpt.fast.kernels.llvm import Code, Target, function
from minigpt.fast.kernels.threads import Pool, sharing
from minigpt.fast.kernels.types import i64, pointer, whole

MOST = 5000  # items of a job
GUARD = 8  # words after them, which no job may touch


def build(module, target):
    """The pool's code; a job that adds 1 to each item; one that says slowly who does each."""
    sharing(module, target)
    with function(module, "mark", pointer, i64, i64) as (b, (words, begin, end)):
        items = b.load(words, typ=pointer)
        with b.loop(begin, end, 1) as (i, _, _):
            place = b.at(items, i, i64)
            b.write(b.add(b.read(place, 0, i64), whole(1)), place, 0, i64)
    with function(module, "sign", pointer, i64, i64) as (b, (words, begin, end)):
        items = b.load(words, typ=pointer)
        with b.loop(begin, end, 1) as (i, _, _):
            place = b.at(items, i, i64)
            with b.loop(0, 100, 1):
                b.atomic_rmw("or", place, whole(0), "seq_cst")
            me = b.ptrtoint(b.intrinsic("llvm.thread.pointer.p0", pointer), i64)
            b.write(me, place, 0, i64)


@pytest.fixture(scope="module")
def code():
    target = Target()
    return Code(target.compile(build), target)


class Items:
    """The items of jobs, and whether each was done once."""

    def __init__(self, code, pool, name="mark"):
        self.job, self.pool = code[name], pool
        self.done = np.zeros(MOST + GUARD, np.int64)
        self.words = np.array([self.done.ctypes.data], np.int64)

    def run(self, total, chunk):
        self.done[:] = 0
        self.pool.run(self.job, self.words.ctypes.data, total, chunk)
        return bool((self.done[:total] == 1).all() and (self.done[total:] == 0).all())


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def pool(request, code):
    return Pool(code, request.param)


def cases(seed, number):
    """Totals and chunks, small ones as often as large ones."""
    rng = np.random.default_rng(seed)
    totals = rng.integers(0, 10 ** rng.integers(1, 4, number) // 2)
    chunks = rng.integers(1, 10 ** rng.integers(1, 4, number))
    return zip(totals.tolist(), chunks.tolist(), strict=True)


@settings(max_examples=100)
@given(total=st.integers(0, MOST), chunk=st.integers(1, MOST))
@example(total=MOST, chunk=1)
@example(total=0, chunk=1)
def test_every_item_is_done_once(code, pool, total, chunk):
    assert Items(code, pool).run(total, chunk)


def test_thousands_of_jobs_in_a_row(code, pool):
    items = Items(code, pool)
    for total, chunk in cases(pool.threads, 5000):
        assert items.run(total, chunk), (total, chunk)


def test_jobs_that_find_the_helpers_asleep_or_falling_asleep(code, pool):
    items = Items(code, pool)
    rng = np.random.default_rng(0)
    for total, chunk in cases(1, 150):
        assert items.run(total, chunk), (total, chunk)
        time.sleep(rng.choice((0, 0.0003, 0.0006, 0.002)))


def hands(code, pool):
    """How many threads worked on one of many jobs that take long, at most."""
    items = Items(code, pool, "sign")
    found = 0
    for _ in range(200):
        items.run(MOST, 10)
        found = max(found, len(set(items.done[:MOST].tolist())))
        if found == pool.threads:
            break
    return found


def test_the_helpers_help(code):
    for threads in (1, 2):
        assert hands(code, Pool(code, threads)) == threads


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_several_python_threads_at_once(code, threads):
    pool, wrong = Pool(code, threads), []

    def work(seed):
        try:
            items = Items(code, pool)
            for total, chunk in cases(seed, 3000):
                if not items.run(total, chunk):
                    wrong.append((total, chunk))
                if total < 2:
                    time.sleep(0.001)  # and the helpers go to sleep
        except BaseException as error:
            wrong.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(300)
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    assert not any(worker.is_alive() for worker in workers)


def test_after_interrupts_the_helpers_still_help(code, interruptible):
    """Ctrl-C anywhere in Python; the job itself is finished first."""
    pool = Pool(code, 2)
    items = Items(code, pool)
    rng = np.random.default_rng(0)
    interrupted = 0

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-4))
                while True:
                    items.run(1000, 10)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 300
    assert items.run(1000, 10)
    assert hands(code, pool) == 2


@pytest.mark.alone
def test_helpers_sleep_when_there_is_nothing_to_do(code):
    items = Items(code, Pool(code, 4))
    assert items.run(MOST, 1)
    time.sleep(0.1)  # they are awake for a moment
    began = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - began < 0.03


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("asleep", [False, True])
def test_a_child_works_without_the_helpers_of_its_parent(code, asleep):
    items = Items(code, Pool(code, 3))
    for _ in range(5):
        assert items.run(MOST, 7)
        time.sleep(0.01 if asleep else 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running
            child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(not all(items.run(total, chunk) for total, chunk in cases(2, 200)))
        assert os.waitpid(child, 0)[1] == 0
        assert items.run(MOST, 7)


def test_more_chunks_than_a_ticket_counts(code):
    """A limit of the ticket is none of the job."""
    done = np.zeros((1 << 21) + 3, np.int64)
    words = np.array([done.ctypes.data], np.int64)
    Pool(code, 2).run(code["mark"], words.ctypes.data, len(done), 1)
    assert (done == 1).all()


def test_code_lives_as_long_as_its_pool():
    target = Target()
    made = Code(target.compile(build), target)
    job = ctypes.c_void_p(made["mark"]).value
    pool = Pool(made, 2)
    items = Items(made, pool)
    assert items.run(MOST, 1)
    del made
    assert items.job == job
    assert items.run(MOST, 1)


def test_as_many_threads_as_cores(code, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 9}, raising=False)
    assert Pool(code).threads == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert Pool(code).threads == 1
