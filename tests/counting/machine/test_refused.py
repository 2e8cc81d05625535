"""Where nothing can be stepped, and why, in one line."""

import mmap
import platform
import signal
import subprocess
import sys

import pytest

from counting.machine import Unavailable, executed, stepper


def refused(function=len, of=()):
    with pytest.raises(Unavailable) as error:
        executed(function, of)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_processor(anywhere, monkeypatch):
    pytest.importorskip("capstone", reason="capstone is not installed: .[machine]")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert refused() == "executed() steps CPython on x86-64 processors under Linux alone"


def test_without_capstone(anywhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "capstone", None)
    said = "executed() needs capstone: pip install -e '.[machine]' in the clone"
    assert refused() == said


def test_a_tracer():
    code = """
import ctypes
from counting.machine import Unavailable, executed
ctypes.CDLL(None).ptrace(0, 0, 0, 0)  # PTRACE_TRACEME: by the process that started this one
try:
    executed(len, ())
except Unavailable as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = "executed() cannot step a process that a debugger or tracer has attached\n"
    assert told.stdout == said, told.stderr


def test_memory_that_may_not_be_executed(monkeypatch):
    whole = mmap.mmap

    def denied(*args, **options):
        if options.get("prot", 0) & mmap.PROT_EXEC:
            raise PermissionError(13, "Permission denied")
        return whole(*args, **options)

    monkeypatch.setattr(mmap, "mmap", denied)
    monkeypatch.setattr(stepper, "_MADE", {})
    assert "memory that may be both written and executed" in refused()


def test_a_thread_that_blocks_the_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTRAP])
    try:
        assert "SIGTRAP, which this thread blocks" in refused()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTRAP])


def test_more_instructions_than_fit(monkeypatch):
    monkeypatch.setattr(stepper, "_ROOM", (8 * 1000, 8 * 4000))
    said = refused(sum, [1.0] * 10**4)
    assert said == "executed() has no room for more than 1,000 instructions: step a part of it"
    monkeypatch.setattr(stepper, "_ROOM", (8 * 10**6, 8 * 1000))  # of values
    assert "has no room for more than" in refused(sum, [1.0] * 10**4)
    monkeypatch.undo()
    assert executed(sum, range(10**3))[0] == 499500
