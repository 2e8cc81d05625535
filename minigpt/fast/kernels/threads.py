"""Threads that share a job: chunks of its range, taken one by one by whoever is free.

One ticket, a 64-bit word, says all: which job it is (its generation), how many chunks it has and
which is next. Who adds 1 to it owns the chunk that it said before; the job's words cannot change
until that chunk is done. A helper waits awake for the next job for a moment, lets others have the
core meanwhile, then sleeps; a job does not wait for a sleeper.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from llvmlite import ir

from minigpt.fast.kernels.llvm import Builder, Code, Target, function
from minigpt.fast.kernels.types import i32, i64, pointer, void, whole

# Where things are in the shared state, in words of 64 bits; what threads contend for lies apart.
ENTRY = 4  # words of a call of `run` on a tape: job, words, total, chunk
TICKET, DONE, BUSY, JOB, WORDS, TOTAL, CHUNK, SIZE = 0, 8, 16, 24, 25, 26, 27, 32
# The ticket's bits, from below: the next chunk, the number of chunks, the generation.
NEXT_BITS = 20
NEXT = (1 << NEXT_BITS) - 1

_WORK = ir.PointerType(ir.FunctionType(void, [pointer, i64, i64]))  # a job

SLICE = 32  # jobs of a tape between two looks of Python at what happened: Ctrl-C, for one
AWAKE = 60_000  # rounds of waiting before a helper sleeps, about a millisecond


def sharing(module: ir.Module, target: Target) -> None:
    """`run(state, job, words, total, chunk)` and `replay(state, tape, n)`, n of those, for callers;
    `serve(state, rounds)` for helpers.
    """
    _help_out(module)
    _run(module, target)
    _replay(module)
    _serve(module, target)


def _help_out(module: ir.Module) -> None:
    """`help_out(state)`: chunks of the job under way, until none is left."""
    with function(module, "help_out", pointer) as (b, (state,)):
        again, mine, none = (b.append_basic_block(name) for name in ("again", "mine", "none"))
        b.branch(again)
        b.position_at_end(again)
        ticket = b.atomic_rmw("add", b.at(state, TICKET, i64), whole(1), "acq_rel")
        chunk = b.and_(ticket, whole(NEXT))
        chunks = b.and_(b.lshr(ticket, whole(NEXT_BITS)), whole(NEXT))
        b.cbranch(b.icmp_signed("<", chunk, chunks), mine, none)
        b.position_at_end(mine)
        job, words = b.read(state, JOB, _WORK), b.read(state, WORDS, pointer)
        size, total = b.read(state, CHUNK, i64), b.read(state, TOTAL, i64)
        begin = b.mul(chunk, size)
        b.call(job, [words, begin, b.least(b.add(begin, size), total)])
        b.atomic_rmw("add", b.at(state, DONE, i64), whole(1), "acq_rel")
        b.branch(again)
        b.position_at_end(none)


def _run(module: ir.Module, target: Target) -> None:
    types = (pointer, pointer, pointer, i64, i64)
    with function(module, "run", *types) as (b, (state, job, words, total, size)):
        held = b.alloca(pointer)
        b.store(job, held)
        alone = b.load(held, typ=_WORK)
        with b.if_then(b.icmp_signed("<=", total, size)):
            b.call(alone, [words, whole(0), total])
            b.ret_void()
        # One caller has the helpers; asked for here, for a signal may part two lines of Python.
        taken = b.atomic_rmw("xchg", b.at(state, BUSY, i64), whole(1), "acq_rel")
        with b.if_then(b.icmp_signed("!=", taken, whole(0))):
            b.call(alone, [words, whole(0), total])
            b.ret_void()
        for at, value in ((JOB, job), (WORDS, words), (TOTAL, total), (CHUNK, size)):
            b.write(value, state, at, i64)
        b.write(whole(0), state, DONE, i64)
        chunks = b.sdiv(b.add(total, b.sub(size, whole(1))), size)
        generation = b.add(_generation(b, state), whole(1))
        ticket = b.or_(b.shl(generation, whole(2 * NEXT_BITS)), b.shl(chunks, whole(NEXT_BITS)))
        b.atomic_rmw("xchg", b.at(state, TICKET, i64), ticket, "acq_rel")
        b.call(module.globals["help_out"], [state])
        with _waiting(b, target) as (_, until):
            until(b.icmp_signed("==", _now(b, state, DONE), chunks))
        b.atomic_rmw("xchg", b.at(state, BUSY, i64), whole(0), "acq_rel")


def _replay(module: ir.Module) -> None:
    with (
        function(module, "replay", pointer, pointer, i64) as (b, (state, tape, n)),
        b.loop(0, n, 1) as (k, _, _),
    ):
        entry = b.at(tape, b.mul(k, whole(ENTRY)), i64)
        given = [b.read(entry, i, typ) for i, typ in enumerate((pointer, pointer, i64, i64))]
        b.call(module.globals["run"], [state, *given])


def _serve(module: ir.Module, target: Target) -> None:
    with function(module, "serve", pointer, i64) as (b, (state, rounds)):
        again, idle = b.append_basic_block("again"), b.append_basic_block("idle")
        b.branch(again)
        b.position_at_end(again)
        seen = _generation(b, state)
        b.call(module.globals["help_out"], [state])
        with _waiting(b, target) as (waited, until):
            new = b.icmp_signed("!=", _generation(b, state), seen)
            until(b.or_(new, b.icmp_signed(">", waited, rounds)))
        b.cbranch(new, again, idle)
        b.position_at_end(idle)


def _now(b: Builder, state: Any, word: int) -> Any:
    return b.load_atomic(b.at(state, word, i64), "acquire", 8, typ=i64)


def _generation(b: Builder, state: Any) -> Any:
    return b.lshr(_now(b, state, TICKET), whole(2 * NEXT_BITS))


@contextmanager
def _waiting(b: Builder, target: Target) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """Rounds of waiting: yields their number so far, and what to call with the end's condition.

    Now and then another process that wants the core may have it.
    """
    before, head = b.block, b.append_basic_block("waiting")
    wait, after = b.append_basic_block("wait"), b.append_basic_block("after")
    b.branch(head)
    b.position_at_end(head)
    rounds = b.phi(i64)
    rounds.add_incoming(whole(0), before)
    yield rounds, lambda met: b.cbranch(met, after, wait)
    b.position_at_end(wait)
    if target.triple.startswith("x86_64"):
        b.intrinsic("llvm.x86.sse2.pause", void)
    more = b.add(rounds, whole(1))
    often = b.icmp_signed("==", b.and_(more, whole(255)), whole(0))
    with b.if_then(often):
        b.intrinsic("sched_yield", i32)
    rounds.add_incoming(more, b.block)
    b.branch(head)
    b.position_at_end(after)


class Pool:
    """Threads on the cores that this process may use, the caller's among them: an `Executor`.

    Args:
        code: with what `sharing` made.
        threads: how many share the work, if not one on each core.
    """

    def __init__(self, code: Code, threads: int | None = None) -> None:
        self._held = np.zeros(SIZE + 8, np.int64)  # kept alive: helpers look at it
        self._state = (self._held.ctypes.data + 63) // 64 * 64  # at the start of a cache line
        address, number = ctypes.c_void_p, ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(None, address, address, address, number, number)(code["run"])
        self._replay = ctypes.CFUNCTYPE(None, address, address, number)(code["replay"])
        self._serve = ctypes.CFUNCTYPE(None, address, number)(code["serve"])
        self._code = code  # helpers run it as long as they are
        self.threads = threads or cores()
        self._asleep: list[threading.Lock] = []
        for _ in range(self.threads - 1):
            threading.Thread(target=self._help, name="minigpt-helper", daemon=True).start()

    def _help(self) -> None:
        # A bare lock: an interrupt can leave that of a threading.Event taken for ever.
        called = threading.Lock()
        called.acquire()
        while True:
            self._serve(self._state, AWAKE)
            self._asleep.append(called)
            called.acquire()
            self._asleep.remove(called)

    def run(self, job: int, words: bytes, total: int, chunk: int) -> None:
        """`job(words, …)` over range(total), `chunk` at a time; returns when all of it is done."""
        if chunk < total:
            self._call()
        self._run(self._state, job, words, total, fitting(total, chunk))

    empty = staticmethod(np.empty)

    def fallback(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What runs in place of a function in NumPy where no kernel fits: itself."""
        return function

    def replay(self, tape: np.ndarray) -> None:
        """Jobs (n, ENTRY) of int64 one after another, as `run` takes them, but by address."""
        first, size = tape.ctypes.data, tape.strides[0]
        for begin in range(0, len(tape), SLICE):
            self._call()
            self._replay(self._state, first + begin * size, min(SLICE, len(tape) - begin))

    def _call(self) -> None:
        """Wakes who sleeps."""
        for called in tuple(self._asleep):
            with suppress(RuntimeError):  # it has been called
                called.release()


def fitting(total: int, chunk: int) -> int:
    """`chunk`, or the least that keeps the number of chunks within the bits of a ticket."""
    return max(chunk, -(-total // NEXT))


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1
