"""Every call of CuPy and cuBLAS that the project makes, against the library as it is installed.

It is imported and asked what it takes; nothing runs, as there is no GPU. Calls are those that the
project makes of the stand-in, and all that stand in its code.
"""

import ast
import functools
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import ROOT, environment
from gpu import FAKES

cupy = pytest.importorskip("cupy")  # at the top: not the stand-in
pytest.importorskip("cupy.cuda.nccl")  # which `import cupy` leaves out
pytestmark = pytest.mark.skipif(
    not cupy.__version__.startswith("14.2."), reason="the table is of CuPy 14.2"
)
PAGE = ROOT / "docs" / "cupy.md"
PLACES = {"minigpt/**/*.py", "counting/**/*.py", "scripts/**/*.py"}
WHOLE = {"int", "size_t", "intptr_t", "long long", "Py_ssize_t"}  # C's types in a signature


@functools.cache
def real(name):
    """What a dotted name is in CuPy."""
    if name == "cupy.cuda.Function":
        name = "cupy.cuda.function.Function"  # of which a RawKernel's `kernel` is one
    return functools.reduce(getattr, name.removeprefix("cupy.").split("."), cupy)


@functools.cache
def signature(name):
    """What it takes: as Python knows, or as the first line of its docstring says."""
    try:
        return inspect.signature(real(name))
    except ValueError:
        pass
    given = re.match(r"[\w.]+\((.*)\)", compiled(name))
    return inspect.Signature(list(parameters(given[1]))) if given else None  # it does not say


def compiled(name):
    """The first line that is written of a function: of a compiled one its signature."""
    return [*(real(name).__doc__ or "").splitlines(), ""][0]


def parameters(text):
    """Of "self, Py_ssize_t axis, order='K', *, bool deep=False"; a C type is the annotation."""
    how = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", text):
        declared, _, default = part.strip().partition("=")
        if declared == "*":
            how = inspect.Parameter.KEYWORD_ONLY
            continue
        *of, name = declared.split()
        stars = len(name) - len(name.lstrip("*"))
        kind = (how, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)[stars]
        more = {"default": default} if default else {}
        yield inspect.Parameter(name.lstrip("*"), kind, annotation=" ".join(of), **more)
        if stars == 1:
            how = inspect.Parameter.KEYWORD_ONLY


@pytest.fixture(scope="module")
def said():
    """What `cupy_calls.py` wrote."""
    paths = (FAKES, FAKES / "cuda", ROOT / "tests", ROOT / "scripts", ROOT)
    env = environment(PYTHONPATH=":".join(map(str, paths)))
    command = [sys.executable, str(ROOT / "tests" / "cupy_calls.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bound(name, args, options):
    """The arguments of a call by parameter; a class makes what its first argument is."""
    taken = signature(name)
    if isinstance(real(name), type):
        args = args[1:]
    return taken.bind(*args, **options) if taken else None


def test_each_call_exists_and_takes_these_arguments(said):
    for name, args, options, _ in said["calls"]:
        if isinstance(real(name), cupy.ufunc):
            assert len(args) == real(name).nin, name
            assert not options, name
            continue
        call = bound(name, args, options)
        for parameter, given in call.arguments.items() if call else ():
            wanted = call.signature.parameters[parameter].annotation
            if wanted in WHOLE:
                assert given in ("int", "NumPy's int64", "True", "False"), (name, parameter)
            elif wanted in ("str", "tuple"):
                assert given[0] == {"str": "'", "tuple": "("}[wanted] or given == wanted, name


def test_a_call_that_would_not_do_is_told(said):
    good = next(call for call in said["calls"] if call[0].endswith("gemmEx"))
    with pytest.raises(TypeError, match="missing a required argument: 'algo'"):
        bound(good[0], good[1][:-1], {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'keepdim'"):
        bound("cupy.ndarray.mean", ["float32"], {"keepdim": "True"})
    with pytest.raises(AttributeError):
        real("cupy.cuda.cublas.gemmExx")


def test_each_elementwise_operation_has_a_loop_of_these_dtypes(said):
    seen = 0
    for name, args, _, result in said["calls"]:
        if not isinstance(real(name), cupy.ufunc) or name == "cupy.matmul":
            continue
        arrays = [np.dtype(x.removeprefix("NumPy's ")) for x in args if x not in ("int", "float")]
        into = np.result_type(*arrays).char
        loop = f"{into * len(args)}->{np.dtype(result).char}"
        loops = {kinds.replace("q", "l") for kinds in real(name).types}  # both are int64
        assert loop in loops, (name, args, result)
        seen += 1
    assert seen > 20


def test_the_stand_in_has_cudas_numbers(said):
    assert len(said["constants"]) == 11
    for name, value in said["constants"].items():
        assert real(name) == value, name


def test_the_stand_in_takes_no_argument_that_cupy_does_not(said):
    assert len(said["parameters"]) > 60
    for name, own in said["parameters"].items():
        taken = signature(name)
        kinds = {p.kind for p in taken.parameters.values()} if taken else set()
        if not taken or kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            continue  # it takes more than it says
        theirs, own = list(taken.parameters), own[isinstance(real(name), type) :]
        assert own == theirs[: len(own)], name


def chains(file):
    """(dotted name, its call if it is one) of all of CuPy that stands in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {"self._cupy": "cupy"}

    def dotted(node):
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute):
            whole = names.get(ast.unparse(node))
            of = dotted(node.value)
            return whole or (of and f"{of}.{node.attr}")
        return None

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names if a.name == "cupy"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cupy":
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            whole = dotted(node.value)
            if whole:
                names[node.targets[0].id] = whole
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (name := dotted(node)):
            yield name, calls.get(id(node))


def test_whatever_stands_in_the_code_exists_and_takes_these_arguments():
    found = set()
    for file in sorted(file for place in PLACES for file in ROOT.glob(place)):
        for name, call in chains(file):
            where = f"{file.relative_to(ROOT)}: {name}"
            thing = real(name) if name != "cupy" else cupy
            found.add(name)
            if call is None or any(isinstance(a, ast.Starred) for a in call.args):
                continue
            if any(keyword.arg is None for keyword in call.keywords):
                continue
            options = {keyword.arg: "" for keyword in call.keywords}
            args = ["self"] * isinstance(thing, type) + [""] * len(call.args)
            try:
                bound(name, args, options)
            except TypeError as error:
                pytest.fail(f"{where}: {error}")
    assert {"cupy.cuda.cublas.gemmEx", "cupy.cuda.Event", "cupy.RawKernel"} <= found


def test_what_it_says_of_a_device_and_tells_hooks_is_there_by_name():
    library = Path(sys.modules["cupy_backends.cuda.api.runtime"].__file__).read_bytes()
    for key in (b"multiProcessorCount", b"l2CacheSize", b"name"):
        assert key in library
    library = Path(sys.modules["cupy.cuda.function"].__file__).read_bytes()
    for key in (b"shared_mem", b"enable_cooperative_groups"):
        assert key in library
    hook = inspect.getsource(cupy.cuda.memory_hooks.DebugPrintHook)
    assert {"size", "mem_size", "pmem_id"} <= set(re.findall(r"kwargs\['(\w+)'\]", hook))
    for name in ("malloc_postprocess", "free_postprocess", "__enter__", "__exit__"):
        assert callable(getattr(cupy.cuda.MemoryHook, name))


def rows(said):
    """The table: a row for each name, with all that stood for its arguments."""
    calls = {}
    for name, args, options, result in said["calls"]:
        args = args[isinstance(real(name), type) :]
        given = ", ".join([*args, *(f"{key}={value}" for key, value in options.items())])
        calls.setdefault(name, set()).add(f"`({given}) → {result}`")
    for name in sorted(calls):
        shown = " ".join(sorted(calls[name]))
        yield f"| `{name.removeprefix('cupy.')}` | {declared(name)} | {shown} |"


def declared(name):
    """What CuPy says that it takes."""
    if isinstance(real(name), cupy.ufunc):
        return f"a ufunc of {real(name).nin}"
    taken = signature(name)
    if taken is None:
        return "it does not say"
    if re.match(r"[\w.]+\(", first := compiled(name)):  # with C's types
        return f"`{first[first.index('(') :]}`"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in taken.parameters.values()]
    return f"`{inspect.Signature(bare)}`"


def test_the_page_has_every_call(said):
    page = PAGE.read_text(encoding="utf-8").partition("## Where")[0]
    shown = [line for line in page.splitlines() if line.startswith("| `")]
    assert shown == list(rows(said)), "python -m pytest tests/inference/test_cupy.py -k page -vv"
