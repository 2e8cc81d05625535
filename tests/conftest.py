"""How examples are drawn and counted, the command in this process, and the kernels of a machine."""

import gc
import os
import platform
import signal
import subprocess
import sys

# Two runs at once and a BLAS that spins on every core slow each other down many times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from helpers import DRAWN
from hypothesis import settings

from minigpt import cli

settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def command(monkeypatch, capfd, here):
    """Runs minigpt in this process: its status, what it printed, what it said beside."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["minigpt", *map(str, args)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return subprocess.CompletedProcess(args, exit.value.code or 0, *capfd.readouterr())

    return run


@pytest.fixture
def as_a_terminal_starts_it():
    """Signals as a shell gives them to what it runs; a job in the background may ignore some."""
    usual = {signal.SIGINT: signal.default_int_handler}
    usual |= dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def settle():
    """Leaves what there is now out of later collections of garbage: with all that suites keep, one
    of them takes seconds, and many tests ask for one.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item, nextitem):
    if nextitem is None or nextitem.path != item.path:
        settle()


@pytest.fixture
def interruptible():
    """No other test's garbage is collected: in what Python runs for it an interrupt is dropped."""
    callbacks = gc.callbacks[:]  # Hypothesis has one
    gc.callbacks.clear()
    settle()
    yield
    gc.callbacks[:] = callbacks


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers", reason="transformers, a witness, is not installed")
    return pytest.importorskip("torch", reason="PyTorch, a witness, is not installed")


AVX2 = ["sse4.2", "avx", "avx2", "fma", "f16c"]


@pytest.fixture(scope="session", params=["this machine", "AVX2, one thread", "AVX2, two threads"])
def machine(request, tmp_path_factory):
    """The kernels for what is here, and for an older processor, with and without help."""
    llvm = pytest.importorskip("llvmlite.binding")
    from minigpt.fast.kernels.llvm import Target
    from minigpt.fast.kernels.machine import Machine, here

    if request.param == "this machine":
        return here()
    there = llvm.get_host_cpu_features()
    if platform.machine() != "x86_64" or not all(there.get(feature) for feature in AVX2):
        pytest.skip("this processor has no AVX2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "AVX2"))
        return Machine(Target(AVX2), cores=1 if "one" in request.param else 2)


# What runs again once the peers are installed.

SKIPPED: set[str] = set()  # files, and functions of them


def pytest_addoption(parser):
    told = "run what the last run skipped, and what is marked peers"
    parser.addoption("--again", action="store_true", help=told)


def pytest_collectreport(report):
    if report.skipped:
        SKIPPED.add(report.nodeid)


def pytest_runtest_logreport(report):
    if report.skipped:
        SKIPPED.add(report.nodeid.partition("[")[0])  # what it is given may depend on the peers


def pytest_sessionfinish(session):
    if hasattr(session.config, "cache"):
        session.config.cache.set("minigpt/skipped", sorted(SKIPPED))


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--again"):
        return
    before = config.cache.get("minigpt/skipped", None)
    if before is None:
        raise pytest.UsageError("--again: no run before this one left what it skipped")

    def asks(item):
        names = item.nodeid.partition("::")[0], item.nodeid.partition("[")[0]
        return item.get_closest_marker("peers") or not set(before).isdisjoint(names)

    config.hook.pytest_deselected(items=[item for item in items if not asks(item)])
    items[:] = filter(asks, items)


def pytest_terminal_summary(terminalreporter):
    for claim, cases in DRAWN.items():
        terminalreporter.write_line(f"oracle: {claim}: {cases} cases drawn")
