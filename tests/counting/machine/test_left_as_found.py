"""The process before and after: signals, the garbage collector, threads."""

import ctypes
import gc
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from counting.machine import Unavailable, executed, signals, stepper


def state():
    """What stepping changes: actions of signals in C and in Python, the collector, threads."""
    action = ctypes.create_string_buffer(152)  # struct sigaction: the handler, its mask, flags
    assert ctypes.CDLL(None).sigaction(signal.SIGTRAP, None, action) == 0
    flags = int.from_bytes(action.raw[136:140], "little") & ~0x04000000  # of the C library's own
    interrupt = ctypes.create_string_buffer(152)
    assert ctypes.CDLL(None).sigaction(signal.SIGINT, None, interrupt) == 0
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    python = signal.getsignal(signal.SIGTRAP)
    return (
        action.raw[:16],
        interrupt.raw[:8],
        flags,
        python,
        blocked,
        gc.isenabled(),
        threading.active_count(),
    )


@pytest.fixture(params=["as Python starts", "a handler, no collector"])
def before(request):
    if request.param == "as Python starts":
        yield state()
        return
    handler = signal.signal(signal.SIGTRAP, lambda *_: None)
    gc.disable()
    yield state()
    gc.enable()
    signal.signal(signal.SIGTRAP, handler)


def test_a_result(before):
    x = np.arange(30.0)
    found, _ = executed(np.cumsum, x)
    assert np.array_equal(found, np.cumsum(x))
    assert state() == before


def test_50_exceptions_at_random_depths(before):
    rng = random.Random(1)
    for seed in range(50):

        def fails(n, seed=seed):
            if not n:
                raise LookupError(seed)
            return fails(n - 1)

        with pytest.raises(LookupError, match=f"^{seed}$"):
            executed(fails, rng.randrange(5))
        assert state() == before


# A file of /proc that was just opened is closed by its destructor, which warns.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_50_interrupts_at_random_moments(before, interruptible):
    """At some of them the function runs; at others, what is before or after it.

    Beside a thread that waits, which the system gives the signal to at some of them.
    """
    usual = 0.003  # seconds after which it may run, as found out on the way
    rng, inside, done = random.Random(1), [], threading.Event()
    waiting = threading.Thread(target=done.wait)
    waiting.start()
    before = state()
    earlier = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def long():
        inside[-1] = True
        end = time.monotonic() + 60
        while time.monotonic() < end:
            np.add(1, 1)

    def interrupted(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        executed(long)

    try:
        for _ in range(50):
            inside.append(False)
            with pytest.raises(KeyboardInterrupt):
                interrupted(usual * (0.5 + rng.random()))
            assert state() == before
            usual *= 0.7 if inside[-1] else 1.4
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        done.set()
        waiting.join()
    assert {*inside} == {False, True}
    assert executed(sum, [1, 2])[0] == 3


def test_a_signal_that_is_somebody_elses_is_no_instruction():
    def signals():
        for _ in range(3):
            signal.raise_signal(signal.SIGTRAP)

    _, plain = executed(signals)
    assert {line.text for line in plain.lines}
    assert plain.unknown == 0


def test_a_call_inside_of_a_call_is_refused():
    before = state()
    with pytest.raises(Unavailable, match="is stepping a call already"):
        executed(executed, len, ())
    assert state() == before


def test_a_call_in_another_thread_is_refused_and_the_first_one_goes_on():
    said, begun = [], threading.Event()

    def beside():
        begun.wait()
        try:
            executed(len, ())
        except Unavailable as error:
            said.append(str(error))

    def long():
        begun.set()
        while not said:
            np.add(1, 1)

    thread = threading.Thread(target=beside)
    thread.start()
    _, ran = executed(long)
    thread.join()
    assert said == ["executed() is stepping a call already"]
    assert ran.instructions > 100


def test_threads_that_begin_at_once_are_each_stepped_or_refused(monkeypatch):
    """They change at almost each line, with the machine code yet to be made."""
    made = {}
    monkeypatch.setattr(stepper, "_MADE", made)
    interval, found, wrong = sys.getswitchinterval(), [], []
    begin, before = threading.Barrier(3), state()

    def each(seed):
        rng = random.Random(seed)
        begin.wait()
        for _ in range(6):
            given = [rng.randrange(100) for _ in range(rng.randrange(9))]
            try:
                total, ran = executed(sum, given)
                found.append((total == sum(given), ran.libraries.get("Python", 0) > 10))
            except Exception as error:
                if str(error) != "executed() is stepping a call already":
                    wrong.append(error)

    threads = [threading.Thread(target=each, args=[seed]) for seed in range(3)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert state() == before
    assert len(made) == 1
    assert set(found) == {(True, True)}


def test_what_another_call_changed_meanwhile_is_not_taken_to_be_as_found(monkeypatch):
    """Signals are looked at while a call that began after this one is stepped, and ends before."""
    begun, looked, handlers = threading.Event(), threading.Event(), signals.Handlers

    def beside():
        begun.set()
        looked.wait()

    def meanwhile(*given):
        monkeypatch.setattr(signals, "Handlers", handlers)
        thread = threading.Thread(target=executed, args=[beside])
        thread.start()
        begun.wait()
        found = handlers(*given)
        looked.set()
        thread.join()
        return found

    before = state()
    monkeypatch.setattr(signals, "Handlers", meanwhile)
    with pytest.raises(Unavailable, match="is stepping a call already"):
        executed(len, ())
    assert state() == before
    assert executed(len, ())[0] == 0


@pytest.mark.parametrize("starts", ["thread", "process", "handler"])
def test_what_cannot_be_stepped_runs_to_its_end_and_is_refused(starts):
    done = []

    def function():
        if starts == "thread":
            thread = threading.Thread(target=done.append, args=[1])
            thread.start()
            thread.join()
        elif starts == "process":
            done.append(subprocess.run([sys.executable, "-c", ""]).returncode == 0)
        else:
            done.append(signal.signal(signal.SIGTRAP, signal.SIG_IGN) != signal.SIG_IGN)

    before = state()
    handler = signal.getsignal(signal.SIGTRAP)
    with pytest.raises(Unavailable, match="cannot step what starts a thread or a process"):
        executed(function)
    assert done == [True]
    if starts == "handler":
        signal.signal(signal.SIGTRAP, handler)
    assert state() == before


def test_other_threads_that_ran_are_told():
    done, begun = [], threading.Event()

    def beside():
        while not done:
            begun.set()
            np.ones(10**5).sum()

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        _, ran = executed(begun.wait)
        (spent,) = (n for name, n in ran.threads.items() if f"({thread.native_id})" in name)
        assert spent > 0
        assert f"({thread.native_id}), which ran" in str(ran)
    finally:
        done.append(1)
        thread.join()


def test_openblas_is_held_to_one_thread_and_has_its_threads_back():
    code = """
import numpy as np
from counting.machine import executed, stepper
threads = [n for _, n in stepper._openblas()]
x = np.ones((80, 90), np.float32)
y = np.ones((90, 70), np.float32)
_, ran = executed(np.matmul, x, y)
print(ran.lanes()["fma", 32] + ran.lanes()["mul", 32] >= 80 * 90 * 70)
print(threads == [n for _, n in stepper._openblas()], threads)
"""
    env = {"OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    whole, same = told.stdout.splitlines() or [told.stderr, ""]
    assert whole == "True"
    assert same in ("True [2]", "True []")  # [] of another BLAS, or of one processor
