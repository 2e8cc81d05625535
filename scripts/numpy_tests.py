"""NumPy's own tests, run with arrays that count: does counting change what programs find?

    python scripts/numpy_tests.py            # the table of docs/numpy-tests.md
    python scripts/numpy_tests.py lib.tests.test_ufunclike --show wrong

Each test that passes as it stands is run again as a program of `counted`: the same code, in which
arrays count. What NumPy's functions for testing compare is bare again.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counting import Ledger, Uncounted
from counting.names import SUBSTITUTES, made_in
from counting.program import Program, own, plain

FILES = (
    "lib.tests.test_function_base",
    "lib.tests.test_shape_base",
    "lib.tests.test_twodim_base",
    "lib.tests.test_nanfunctions",
    "lib.tests.test_arraysetops",
    "lib.tests.test_arraypad",
    "lib.tests.test_index_tricks",
    "lib.tests.test_histograms",
    "lib.tests.test_polynomial",
    "lib.tests.test_stride_tricks",
    "lib.tests.test_ufunclike",
    "lib.tests.test_type_check",
    "_core.tests.test_numeric",
    "_core.tests.test_shape_base",
    "_core.tests.test_function_base",
    "_core.tests.test_einsum",
    "_core.tests.test_umath",
    "_core.tests.test_ufunc",
    "_core.tests.test_indexing",
    "_core.tests.test_multiarray",
    "linalg.tests.test_linalg",
    "fft.tests.test_pocketfft",
    "fft.tests.test_helper",
)
# Of a file that tests much beside arrays of numbers: what computes, makes, indexes or writes.
PARTS = {
    "_core.tests.test_multiarray": "Methods Assignment Argmax Argmin MinMax Clip Compress Take"
    " Lexsort Stats Vdot Dot Matmul Inner Choose Repeat Where Arange ZeroRank ScalarIndexing"
    " Subscripting FancyIndexing Newaxis Flat"
}
FOLDER = Path(np.__file__).parent
SECONDS = 60  # that a test may take

_COMPARING = (
    "assert_ assert_equal assert_almost_equal assert_approx_equal assert_array_equal"
    " assert_array_less assert_string_equal assert_array_almost_equal assert_allclose"
    " assert_array_almost_equal_nulp assert_array_max_ulp print_assert_equal"
)


def _comparing(function: Any) -> Any:
    """A function for testing, which is given bare arrays."""
    return lambda *args, **options: function(
        *map(plain, args), **{name: plain(x) for name, x in options.items()}
    )


def _tests(module: str | None) -> bool:
    """Whether a module is the program's own: NumPy's tests are."""
    if module is None or own(module):
        return module is not None
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return file.startswith(str(FOLDER)) and "tests" in Path(file).parts


class Plugin:
    """Runs tests, as they stand or with arrays that count, and keeps how each ends."""

    def __init__(self, counting: bool) -> None:
        self.counting = counting
        self.found: dict[str, tuple[str, str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
        names = pyfuncitem._fixtureinfo.argnames
        given = {name: pyfuncitem.funcargs[name] for name in names}
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(SECONDS)
        try:
            if self.counting:
                _run(pyfuncitem.obj, given)
            else:
                pyfuncitem.obj(**given)
        finally:
            signal.alarm(0)
        return True

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        if report.outcome == "skipped" or hasattr(report, "wasxfail"):
            self.found[item.nodeid] = ("skipped", "")
        elif report.when == "call" or report.failed:
            error = call.excinfo and call.excinfo.value
            how = "passed" if error is None else "refused" if _refused(error) else "wrong"
            told = f"{call.excinfo.typename}: {error}\n{report.longreprtext}" if error else ""
            self.found.setdefault(item.nodeid, (how, told))


def _run(test: Any, given: dict[str, Any]) -> None:
    ledger = Ledger()
    program = Program(ledger, _tests)
    with made_in(ledger):
        twin = program.meaning(test)
        assert twin is not test, "it would run as it stands"
        twin(**program.meaning(given))


class _TooLong(Exception):
    """A test takes longer than it may."""


def _too_long(*signal: Any) -> None:
    raise _TooLong


WAYS_OUT = "bytes-like object is required, not 'Counted'|counted arrays have no"

# Why an array is refused, by what is said.
WHY = {
    "text, dates, objects": "no numbers that are counted|objects count nothing|makes obj|gives no",
    "subclasses of arrays": r"not those of a plain array|np\.ma\.",
    "complex numbers in what has no textbook": "of complex numbers is not counted",
    "records": "an array of fields|an element with fields",
    "functions without a row": "has no row in",
    "an option, or operands by name": "is counted|into a new array",
    "memory by other ways": "bytes-like|counted arrays have no|out of the count|in silence|a plain",
    "longer than the time given": "_TooLong",
}


def why(told: str) -> str:
    """For which of these reasons a test was refused."""
    return next((reason for reason, said in WHY.items() if re.search(said, told)), "other")


def _refused(error: BaseException | None) -> bool:
    """Whether an array was refused, there or on the way."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, Uncounted | _TooLong) or re.search(WAYS_OUT, str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _worker(file: str, counting: bool, to: Path) -> None:
    """Runs a file of tests, and writes how each ends."""
    for name in _COMPARING.split():
        if function := getattr(np.testing, name, None):
            SUBSTITUTES[function] = _comparing(function)
    plugin = Plugin(counting)
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "-m", "not slow", "--tb=short"]
    options += [
        f"--rootdir={FOLDER.parent}",
        "-p",
        "no:warnings",
        "-p",
        "no:randomly",
        "--no-header",
    ]
    if file in PARTS:
        options += ["-k", " or ".join(f"Test{name}" for name in PARTS[file].split())]
    pytest.main([*options, "--pyargs", f"numpy.{file}"], plugins=[plugin])
    to.write_text(json.dumps(plugin.found))


def outcomes(file: str) -> dict[str, tuple[str, str]]:
    """How each test of a file of NumPy's ends with arrays that count, and why.

    Of those that pass as they stand.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for counting in (False, True):
            to = Path(folder, str(counting))
            command = [sys.executable, __file__, file, "--worker", str(int(counting)), str(to)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
            found.append(json.loads(to.read_text()))
    plainly, counted = found
    return {name: counted[name] for name, (how, _) in plainly.items() if how == "passed"}


def row(file: str, found: dict[str, tuple[str, str]]) -> str:
    """The line of the table for a file."""
    ends = Counter(how for how, _ in found.values())
    figures = (len(found), *(ends[how] for how in ("passed", "refused", "wrong")))
    return f"| `{file}` | " + " | ".join(map(str, figures)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--show", choices=("passed", "refused", "wrong"))
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := [file for file in given.files if file not in FILES]:
        parser.error(f"{unknown[0]} is none of {', '.join(FILES)}")
    if given.worker:
        _worker(given.files[0], given.worker[0] == "1", Path(given.worker[1]))
        return
    print(f"NumPy {np.__version__}\n\n| file | pass plainly | counted | refused | wrong |")
    print("| --- | --: | --: | --: | --: |")
    reasons: Counter[str] = Counter()
    everything: dict[str, tuple[str, str]] = {}
    pool = ThreadPoolExecutor(os.cpu_count())
    for file, found in zip(given.files, pool.map(outcomes, given.files), strict=True):
        print(row(file, found), flush=True)
        everything |= {f"{file} {name}": end for name, end in found.items()}
        reasons.update(why(told) for how, told in found.values() if how == "refused")
        for name, (how, told) in found.items():
            if how == given.show:
                print(f"\n{name}\n{told}")
    print(row("all", everything).replace("`", ""))
    print("\n| refused | tests |\n| --- | --: |")
    for reason, n in reasons.most_common():
        print(f"| {reason} | {n} |")


if __name__ == "__main__":
    main()
