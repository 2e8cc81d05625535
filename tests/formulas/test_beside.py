"""A NumPy program beside other counters: their figures, and what is named of the differences."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.commands.verify import run
from minigpt.errors import InputError
from minigpt.formulas import beside as room
from minigpt.formulas.beside import Beside, beside, selected
from minigpt.formulas.other_counters import installed
from minigpt.formulas.programs import in_place_of_numpy, name_here

SOFTMAX = """
import numpy as np
from numpy import exp

def exps(x):
    return exp(x - x.max(axis=-1, keepdims=True))

def program(a, b):
    e = exps(a @ b)
    return e / e.sum(axis=-1, keepdims=True)

arguments = np.ones(({m}, {n}), np.{dtype}), np.ones(({n}, {p}), np.{dtype})
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("programs") / "given.py"

    def write(source):
        path.write_text(source)
        return str(path)

    return write


@pytest.fixture
def alone(monkeypatch):
    """Where no peer is installed."""
    monkeypatch.setattr(room, "installed", lambda package: False)


sizes = st.integers(2, 9)
real = settings(max_examples=8, deadline=None)


def of(name, path):
    counts, peers = beside(path)
    return counts, next(peer for peer in peers if peer.name == name)


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
@real
@given(sizes, sizes, sizes)
def test_jax_counts_ours_without_transcendentals_before_it_compiles(written, m, n, p):
    counts, told = of("JAX cost_analysis", written(SOFTMAX.format(m=m, n=n, p=p, dtype="float32")))
    compiling = told.differences.pop("by compiling: shared, folded, computed again", 0)
    assert told.differences == {"as transcendentals are apart": -m * p}
    assert told.flop == counts.cost.flops - m * p + compiling


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
@real
@given(sizes, sizes)
def test_jax_counts_selects_in_functions_that_are_called_twice(written, m, n):
    source = "import numpy as np\ndef program(a):\n    return np.where(a > 1, a, 0) + {}\n"
    source += "arguments = (np.ones(({}, {}), np.float32),)"
    path = written(source.format("np.where(a > 2, a, 1)", m, n))
    _, told = of("JAX cost_analysis", path)
    told.differences.pop("by compiling: shared, folded, computed again", 0)
    converted = 2  # the integers 0 and 1
    assert told.differences == {"as selects and conversions count": 2 * m * n + converted}


@pytest.mark.skipif(not installed("flopscope"), reason="flopscope is not installed")
@real
@given(sizes, sizes, sizes, st.sampled_from([("float32", 1), ("float64", 2)]))
def test_flopscope_bills_exact_products_and_weights(written, m, n, p, kind):
    dtype, rate = kind
    counts, told = of("flopscope", written(SOFTMAX.format(m=m, n=n, p=p, dtype=dtype)))
    plain = counts.cost.flops - m * p
    (weights,) = (name for name in told.differences if name.startswith("by weights"))
    assert ("float64 2" in weights) == (rate == 2)
    assert told.differences == {
        weights: (plain + 15 * m * p) * rate - plain,
        "as a product is mp(2n - 1), not 2mnp": -m * p,
    }


@pytest.mark.parametrize("package", ["jax", "flopscope"])
def test_a_peer_that_cannot_run_a_program_says_so_in_a_line(written, package):
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    source = "import numpy as np\ndef program(a):\n    a[0] = 1\n    return a * 2\n"
    counts, peers = beside(written(source + "arguments = (np.zeros(3),)"))
    assert counts.cost == {"mul": 3}
    (note,) = next(p for p in peers if p.name == room.PEERS[package][0]).notes
    assert note.startswith("cannot run it: TypeError: ")
    assert "\n" not in note


# With fakes.


class Log(SimpleNamespace):
    """Functions that bill each element of their result, by weights that can be taken away."""

    def __getattr__(self, name):
        def bill(*args, **options):
            out = getattr(np, name)(*args, **options)
            cost = out.size * self.weights.get(name, 1)
            self.log.append(SimpleNamespace(op_name=name, flop_cost=cost, resolved_dtype="float32"))
            return out

        if name.startswith("__"):
            raise AttributeError(name)
        return bill


@given(sizes)
def test_what_is_billed_otherwise_is_named_by_operation(n):
    numpy, weights, scope = (ModuleType(f"flopscope{end}") for end in (".numpy", "._weights", ""))
    log = Log(log=[], weights={"exp": 16})
    for name in ("array", "exp", "true_divide", "concatenate"):
        setattr(numpy, name, getattr(log, name))
    weights.reset_weights = log.weights.clear
    weights.load_weights = lambda: log.weights.update(exp=16)
    weights.get_weight = lambda name: log.weights.get(name, 1)
    weights.get_dtype_rate = lambda name: 1

    class Budget:
        def __init__(self, **options):
            self.op_log = log.log

        def __enter__(self):
            log.log.clear()
            return self

        def __exit__(self, *error):
            pass

    scope.BudgetContext = Budget

    def program(a):
        return np.true_divide(np.concatenate([np.exp(a), a]), 2)

    counts = room.counted(program)(np.ones(n))[1].snapshot()
    modules = {module.__name__: module for module in (numpy, weights, scope)}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        told = room._flopscope(program, (np.ones(n),), counts)
    assert told.flop == (16 + 2 + 2) * n
    assert told.differences == {
        "by weights: exp 16": 15 * n,
        "in concatenate, moved alone here": 2 * n,
    }
    assert log.weights == {"exp": 16}  # as they were


def test_what_a_function_uses_is_of_the_other_numpy():
    other = SimpleNamespace(exp=lambda x: f"exp({x})", linalg=SimpleNamespace(norm="a norm"))
    scale, names = np.ones(2), {"np": np, "linalg": np.linalg, "__name__": __name__}
    exec(
        "def even(n): return odd(n - 1) if n else np.exp(0)\n"
        "def odd(n): return even(n - 1) if n else linalg.norm\n",
        names,
    )

    def closed():
        return scale

    made = {}
    assert in_place_of_numpy(names["even"], other, tuple, made)(4) == "exp(0)"
    assert in_place_of_numpy(names["even"], other, tuple, made)(3) == "a norm"
    assert in_place_of_numpy(closed, other, tuple, made)() == (1, 1)
    assert in_place_of_numpy(np.exp, other, tuple, made) is other.exp
    assert names["np"] is np


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("true_divide", "divide"), ("abs", "absolute"), ("linalg.solve", "solve")]
    + [(name, name) for name in ("add.reduce", "concatenate", "sum", "no.such")],
)
def test_an_operation_is_found_by_the_name_that_a_ledger_gives_it(theirs, ours):
    assert name_here(theirs) == ours


def test_selects_are_counted_once_a_call():
    text = """HloModule jit_f

_where.1 {
  ROOT s.1 = f32[3,4]{1,0} select(Arg_0.1, Arg_1.1, Arg_2.1)
}

ENTRY main.2 {
  a.1 = f32[3,4]{1,0} call(b.1), to_apply=_where.1
  ROOT c.1 = f32[3,4]{1,0} call(a.1), to_apply=_where.1
  d.1 = f32[] convert(e.1)
}
"""
    assert selected(text) == 2 * 3 * 4 + 1


def test_the_command_tells_what_is_not_installed(written, alone, capsys):
    path = written(SOFTMAX.format(m=2, n=3, p=4, dtype="float32"))
    assert run(path, peers=True, as_json=True) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert told["schema"] == 1
    assert (told["program"], told["kinds"]["fma"], told["kinds"]["exp"]) == (path, 24, 8)
    assert {peer["flop"] for peer in told["peers"]} == {None}
    assert {peer["ratio"] for peer in told["peers"]} == {None}
    assert sum("not installed: pip install" in row for row in shown) == 2


def test_the_command_tells_a_figure_a_ratio_and_why(written, monkeypatch, capsys):
    def ask(program, arguments, counts):
        return Beside("another", 3 * counts.cost.flops, {"as threes": 12}, ["and a note"])

    def fail(program, arguments, counts):
        arguments[0][0] = 7  # of its own
        raise RuntimeError("no\nmore")

    monkeypatch.setattr(room, "installed", lambda package: True)
    monkeypatch.setattr(room, "PEERS", {"b": ("failing", fail), "a": ("another", ask)})
    path = written("import numpy as np\nprogram, arguments = np.exp, (np.ones(6),)")
    assert run(path, peers=True) == 0
    shown = capsys.readouterr().out
    row = next(row for row in shown.splitlines() if row.startswith("another"))
    assert row.split()[:3] == ["another", "18", "3"]
    assert "+12 as threes; and a note" in row
    assert "cannot run it: RuntimeError: no\n" in "\n".join(map(str.rstrip, shown.splitlines()))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1", "define a function `program` and a tuple `arguments` of arrays in it"),
        ("def program(): pass\narguments = 1,", "a tuple `arguments` of arrays"),
        ("def program(: pass", "SyntaxError: "),
        ("raise SystemExit", "SystemExit"),
        ("def program(): 1 / 0\narguments = ()", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_is_no_such_program_is_refused_in_a_line(written, alone, source, told):
    with pytest.raises(InputError, match=told) as error:
        run(written(source), peers=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{}, {"peers": True, "seed": 1}, {"peers": True, "past": 0}])
def test_options_of_a_model_are_none_of_a_program(written, options):
    with pytest.raises(InputError, match="program"):
        run(written("program, arguments = abs, ()"), **options)
