"""`python -m counting program.py`: the program is what it was, and what it did is listed."""

import importlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from textwrap import dedent

import numpy as np
import pytest
from checkpoints import environment

from counting import counted
from counting.__main__ import main


@pytest.fixture
def folder(tmp_path):
    """Writes files by name, dedented, and gives the folder that they are in."""

    def write(**files):
        for name, text in files.items():
            file = tmp_path / f"{name.replace('__in__', '/')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(dedent(text).lstrip())
        return tmp_path

    return write


def python(*args, cwd):
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment(), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def counting(*args, cwd):
    """How the command ended: its output, what it said before its report, the report, the status."""
    done = python("-m", "counting", *args, cwd=cwd)
    said, heading, report = done.stderr.partition("operation  ")
    return done.stdout, said, heading + report, done.returncode


def rows(report):
    """The cells of a report by the first word of each line; of a heading they are its names."""
    return {line.split()[0]: line.split()[1:] for line in report.splitlines() if line.strip()}


PROGRAM = """
    import sys
    from dataclasses import dataclass

    import numpy as np
    from numpy.random import default_rng

    import layers
    from parts.inner import SCALE, shifted


    @dataclass
    class Net:
        w: np.ndarray

        def __call__(self, x):
            return layers.dense(shifted(x), self.w) * SCALE


    if __name__ == "__main__":
        n = int(sys.argv[1])
        net = Net(np.ones((4, 3)))
        y = net(np.linspace(0.0, 1.0, 4 * n).reshape(n, 4))
        print(sys.argv, __file__, f"{y.sum():.3f}", y[0])
        print(default_rng(0).integers(9, size=2))
    """
HELPERS = {
    "layers": """
        import numpy

        TABLE = numpy.ones((2, 2)) @ numpy.ones((2, 2))  # counted as the module is imported


        def dense(x, w):
            return numpy.tanh(x @ w)
        """,
    "parts__in____init__": "",
    "parts__in__inner": """
        from numpy import *

        from .constants import ONE

        SCALE = array(2.0)


        def shifted(x):
            return x + ONE
        """,
    "parts__in__constants": "import numpy as np\n\nONE = np.float64(1.0)",
}


def test_a_program_and_its_modules_run_as_they_stand_and_are_counted(folder):
    here = folder(program=PROGRAM, **HELPERS)
    plain = python("program.py", "5", "--help", cwd=here)
    said, complaints, report, status = counting("program.py", "5", "--help", cwd=here)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (said, complaints, status) == (plain.stdout, "", 0)
    found = rows(report)
    assert found["matmul"][:2] == ["2", str(2 * (2 * 2 * 2 + 5 * 4 * 3))]
    assert found["tanh"][:2] == ["1", "15"]
    assert found["random.integers"][0] == "1"
    assert found["activations"]


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit()", 0),
        ("sys.exit(7)", 7),
        ("sys.exit('enough')", 1),
        ("raise KeyError('x') from ValueError('y')", 1),
        ("x @ np.ones(7)", 1),
        ("raise KeyboardInterrupt", 130),
        ("def deep(): deep()\ndeep()", 1),
        ("import broken", 1),
    ],
)
def test_however_it_ends_its_status_and_traceback_are_its_own(folder, ending, status):
    text = f"import sys\nimport numpy as np\nx = np.ones(3)\nx + x\nprint('done')\n{ending}\n"
    here = folder(program=text, broken="import numpy as np\n1 / 0\n")
    plain, done = (python(*m, "program.py", cwd=here) for m in ([], ["-m", "counting"]))
    killed = plain.returncode < 0  # by a signal, which a shell shows as 128 and its number
    assert done.returncode == status == (128 - plain.returncode if killed else plain.returncode)
    assert done.stdout == plain.stdout == "done\n"
    own, said = (
        re.sub(r"repeated \d+ more", "repeated", x.stderr).splitlines() for x in (plain, done)
    )
    assert said[: len(own)] == own
    assert "counting/" not in done.stderr
    assert rows(done.stderr[done.stderr.index("operation  ") :])["add"][:2] == ["1", "3"]


RUNNING = """
import sys
import numpy as np
x = np.ones(3)
{first}
print("begun", flush=True)
try:
    while True:
        {line}
finally:
    print("cleaned up")
"""
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
RUNS = {"forgets arrays": ("x + x", "x + x"), "sleeps": ("", "__import__('time').sleep(60)")}


@pytest.mark.usefixtures("as_a_terminal_starts_it")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("run", RUNS)
def test_a_signal_that_ends_it_is_followed_by_the_report(folder, run, number):
    command = [sys.executable, "-m", "counting", "program.py"]
    first, line = RUNS[run]
    here = folder(program=RUNNING.format(first=first, line=line))
    with subprocess.Popen(command, cwd=here, env=environment(), **PIPES) as ran:
        assert ran.stdout.readline() == b"begun\n"
        time.sleep(random.uniform(0, 0.3))
        ran.send_signal(number)
        printed, said = ran.communicate(timeout=120)
    assert (ran.returncode, printed) == (128 + number, b"cleaned up\n")
    own, _, report = said.decode().partition("operation  ")
    if run == "forgets arrays":
        assert rows(report)["add"]
    else:
        own = own.removesuffix("nothing was counted\n")
    assert "ignored" not in own
    assert own.endswith("KeyboardInterrupt\n" * (number == signal.SIGINT))
    assert bool(own) == (number == signal.SIGINT)


@pytest.mark.parametrize("way", ["closes its output", "closes its errors", "nobody reads"])
def test_whatever_becomes_of_its_streams_the_status_and_the_report_stay(folder, way):
    lines = {
        "closes its output": "sys.stdout.close()",
        "closes its errors": "sys.stderr = None",
        "nobody reads": "print('x' * 10**6, flush=True)",
    }
    here = folder(program=f"import sys\nimport numpy as np\nnp.ones(3) + 1\n{lines[way]}\n")
    ends = []
    for words in ([], ["-m", "counting"]):
        command = [sys.executable, *words, "program.py"]
        with subprocess.Popen(command, cwd=here, env=environment(), **PIPES) as ran:
            ran.stdout.close()
            said = ran.stderr.read().decode()
        ends.append(ran.returncode)
    assert ends[0] == ends[1]
    assert rows(said[said.index("operation  ") :])["add"][:2] == ["1", "3"]


def test_what_is_refused_names_the_line_of_the_program(folder):
    here = folder(program="import numpy as np\n\nx = np.ones(3)\nnp.packbits(x > 0)\n")
    _, said, report, status = counting("program.py", cwd=here)
    assert status == 1
    assert 'program.py", line 4, in <module>\n    np.packbits(x > 0)\n' in said
    assert said.splitlines()[-1].startswith("counting.cost.Uncounted: numpy.packbits has no row")
    assert rows(report)["greater"][0] == "1"


def test_a_program_without_arrays_has_no_table(folder):
    done = python("-m", "counting", "program.py", cwd=folder(program="print(3)\n"))
    assert (done.stdout, done.stderr, done.returncode) == ("3\n", "nothing was counted\n", 0)


REFUSED = {  # in a program: what is refused, and the ways out that its error names
    "np.gcd(np.array([4, 6]), np.array([6, 9]))": """
        register(np.gcd, rule, example=(np.array([4, 6]), np.array([6, 9])))
        print(np.gcd(np.array([4, 6]), np.array([6, 9])), np.gcd([4, 6], 2))
    """,
    "np.packbits(np.ones(9, np.uint8))": """
        packbits = register(np.packbits, rule, example=np.ones(9, np.uint8))
        print(packbits(np.ones(9, np.uint8)))
    """,
    "cdist(np.ones((2, 3)), np.ones((4, 3)))": """
        cdist = register(cdist, rule, example=(np.ones((2, 3)), np.ones((4, 3))))
        print(cdist(np.ones((2, 3)), np.ones((4, 3))))
    """,
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_a_program_is_refused_has_two_ways_out_that_work_there(folder, call):
    pytest.importorskip("scipy", reason="SciPy is not installed: .[test]")
    imports = """
        import numpy as np
        from scipy.spatial.distance import cdist
        from counting import Cost, register, uncounted

        def rule(out, *shapes, **options):
            return Cost(add=out[0])
    """
    programs = {
        "refused": f"print({call})",
        "registered": dedent(REFUSED[call]),
        "uncounted": f"with uncounted():\n    made = {call}\nprint(made, (made + 1).sum())",
    }
    texts = {name: f"{dedent(imports)}\n{text}" for name, text in programs.items()}
    here = folder(**texts)
    _, said, _, status = counting("refused.py", cwd=here)
    assert status == 1
    error = said.splitlines()[-1]
    assert all(way in error for way in ("counting.register", "with counting.uncounted():")), error
    assert "x.data" not in error
    for name in ("registered", "uncounted"):
        plain = python(f"{name}.py", cwd=here)
        printed, said, report, status = counting(f"{name}.py", cwd=here)
        assert (status, said, printed) == (0, "", plain.stdout)
        assert ("registered" in report) == (name == "registered")


@pytest.mark.parametrize("text", ["x = (\n", "x = 1 +\n", "x = " + "-" * 100_000 + "1\n"])
def test_a_program_with_a_fault_of_syntax_does_not_start(folder, text):
    here = folder(program=text)
    plain, done = (python(*m, "program.py", cwd=here) for m in ([], ["-m", "counting"]))
    assert (done.stderr, done.returncode, done.stdout) == (plain.stderr, 1, "")


def test_it_may_name_its_parts(folder):
    here = folder(
        program="""
        import numpy as np
        from counting import scope

        with scope("layer"):
            np.ones(3) + 1.0
        """
    )
    report = python("-m", "counting", "program.py", cwd=here).stderr
    assert ["layer", "add", "1", "3", "3", "24", "24", "executed"] in map(
        str.split, report.splitlines()
    )


def test_arrays_that_numpy_makes_of_anything_count(folder):
    """Of numbers, files and memory: what is computed of a plain array would be counted nowhere."""
    here = folder(
        program="""
        import io
        import numpy as np

        file = io.BytesIO()
        np.savez(file, a=np.ones(3))
        file.seek(0)
        made = [
            np.linspace(0, 1, 3), np.geomspace(1, 2, 3), np.frombuffer(bytes(24)),
            np.fromiter([1, 2, 3], float), np.load(file)["a"], np.ndarray((3,)),
            np.loadtxt(io.StringIO("1 2 3")), np.fromstring("1 2 3", sep=" "), np.full(3, 2.0),
            np.identity(3)[0], np.random.rand(3), np.r_[1.0, 2.0, 3.0],
        ]
        for x in made:
            x // 2.0
        print(len(made))
        """
    )
    said, complaints, report, _ = counting("program.py", cwd=here)
    assert complaints == ""
    assert rows(report)["floor_divide"][0] == said.strip()


def test_what_numpy_computes_of_numbers_alone_is_counted():
    """0 to 4, each times the step, and 1 added to each."""
    made, ledger = counted(lambda: np.linspace(1.0, 3.0, 5))()
    assert made.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    cost = ledger.snapshot().where("*", "multiply").cost + ledger.snapshot().where("*", "add").cost
    assert cost == {"mul": 5, "add": 5}


def test_masked_arrays_are_refused(folder):
    here = folder(program="import numpy as np\n\nnp.ma.array([1.0, 2.0]) + 1\n")
    _, said, _, status = counting("program.py", cwd=here)
    assert status == 1
    assert said.endswith(
        "Uncounted: np.ma.array is not counted: multiply by a mask, or index with one\n"
        "nothing was counted\n"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "a program is missing"),
        (["-m", "this"], "unknown option -m"),
        (["nowhere.py"], "nowhere.py: no such file or directory"),
        (["."], ".: is a directory"),
        (["/dev/zero"], "/dev/zero: no regular file"),
        (["fifo"], "fifo: nobody writes to this pipe"),
        (["long"], "long: more than 16,777,216 bytes"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capsys, monkeypatch, tmp_path, args, said):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    os.truncate(os.open("long", os.O_CREAT | os.O_WRONLY), 10**12)
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"python -m counting: {said}")


def test_a_program_may_come_through_a_pipe(folder):
    text = f"import numpy as np\nprint(np.ones(3) + 1)  # {'long' * 50_000}\n"
    script = f"exec {sys.executable} -m counting <(sleep 0.3; cat program.py)"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder(program=text), env=environment(), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("[2. 2. 2.]\n", 0)
    assert rows(done.stderr)["add"][:2] == ["1", "3"]


@pytest.mark.parametrize("line", ["np.ones(3) + 1", "sys.exit('enough')", "1 / 0"])
def test_without_a_standard_error_nothing_is_said_elsewhere(folder, line):
    here = folder(program=f"import sys\nimport numpy as np\nprint(1)\n{line}\n")
    for name in ("program.py", "nowhere.py"):
        script = f'exec {sys.executable} "$@" 2>&-'
        ends = [
            subprocess.run(
                ["bash", "-c", script, "", *words, name], cwd=here, env=environment(),
                stdout=subprocess.PIPE, timeout=120,
            )
            for words in ([], ["-m", "counting"])
        ]  # fmt: skip
        assert ends[0].stdout == ends[1].stdout
        assert ends[0].returncode == ends[1].returncode


CHILDREN = """
import multiprocessing, os, signal, time
import numpy as np

def sleep(pipe):
    np.ones(3) + 1
    os.write(pipe, b".")
    time.sleep(60)

def forked(pipe):
    if child := os.fork():
        os.read(reader, 1)
        os.kill(child, number)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sleep(pipe)

def started(pipe):
    child = multiprocessing.get_context("fork").Process(target=sleep, args=(pipe,))
    child.start()
    os.read(reader, 1)
    os.kill(child.pid, number)
    child.join()
    return child.exitcode

reader, writer = os.pipe()
for number in (signal.SIGTERM, signal.SIGHUP):
    print(forked(writer), started(writer))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.usefixtures("as_a_terminal_starts_it")
def test_processes_that_it_forks_end_by_a_signal_as_without_counting(folder):
    here = folder(program=CHILDREN)
    plain = python("program.py", cwd=here)
    done = python("-m", "counting", "program.py", cwd=here)
    assert plain.stdout == "-15 -15\n-1 -1\nTrue\n"
    assert (done.stdout, done.stderr) == (plain.stdout, "nothing was counted\n")


def test_help_is_one_screen(capsys):
    assert main(["--help"]) == main(["-h"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()[: len(out.splitlines()) // 2]
    assert lines[0].startswith("usage: python -m counting program.py [arguments]")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert err == ""


def test_a_function_that_counted_runs_finds_its_modules_as_a_program_does(folder, monkeypatch):
    """Imported inside of it, by relative names and all names; what it sets there, it finds."""
    here = folder(
        stranger="""
        def program(x):
            import parts_of_it.inner as inner

            inner.SCALE = inner.SCALE * 3.0
            return inner.scaled(x)
        """,
        parts_of_it__in____init__="",
        parts_of_it__in__inner="""
        from numpy import *

        SCALE = ones(1)


        def scaled(x):
            from .tools import shifted

            return shifted(x) * SCALE
        """,
        parts_of_it__in__tools="import numpy as n\n\ndef shifted(x):\n    return n.add(x, [1.0])\n",
    )
    monkeypatch.syspath_prepend(str(here))
    program = importlib.import_module("stranger").program
    made, ledger = counted(program)(np.arange(3.0))
    assert made.tolist() == [3.0, 6.0, 9.0]
    assert ledger.snapshot().cost == {"mul": 1 + 3, "add": 3}
    assert sys.modules["parts_of_it.inner"].SCALE.tolist() == [1.0]  # its own, not the program's
