"""Who may import whom."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

EVERYTHING = ("counting/**/*.py", "minigpt/**/*.py", "scripts/**/*.py")
MODEL = ("minigpt/models/**/*.py",)
ASKING = (  # for shapes alone: of a model's tensors, and of pairs that are assumed
    "minigpt/models/decoder_config.py",
    "minigpt/models/routing.py",
)
RECORDING = [
    "amounts",
    "array",
    "calls",
    "charge",
    "checks",
    "composite",
    "cost",
    "costs",
    "counts",
    "cupy_memory",
    "dtypes",
    "elements",
    "form",
    "growing",
    "indexing",
    "flat",
    "leaving",
    "inside",
    "known",
    "layout",
    "ledger",
    "memory",
    "methods",
    "names",
    "numpy_memory",
    "observers",
    "operators",
    "pricing",
    "primitives",
    "process_memory",
    "published",
    "reshaping",
    "rules",
    "scalar",
    "scope",
    "shape_functions",
    "shape_products",
    "shape_rules",
    "shapes",
    "textbook",
    "twins",
]
REPORTS = tuple(
    f"counting.{file.stem}"
    for file in ROOT.glob("counting/*.py")
    if file.stem not in (*RECORDING, "__init__")
)
LEDGER = tuple(f"counting/{part}.py" for part in ("charge", "counts", "ledger"))
NAMING = ("counting.scope", "counting.composite")
GPU = (
    "minigpt/fast/**/*.py",
    "counting/cupy_memory.py",
    "minigpt/inference/device.py",
    "minigpt/parallel/nccl.py",
    "scripts/gpu_check.py",
    "scripts/gpu_visit/*.py",
)

# Folders and files from the ground up: each imports of itself, and of those before it.
GROUND = ("minigpt.harmless", "minigpt.schema", "minigpt.version")
ORDER = (
    ("counting", *GROUND),
    ("minigpt.errors", "minigpt.notes"),
    ("minigpt.checks", "minigpt.storage"),
    ("minigpt.models",),
    ("minigpt.parallel",),
    ("minigpt.checkpoint",),
    ("minigpt.fast", "minigpt.planning"),
    ("minigpt.inference", "minigpt.formulas"),
    ("minigpt.recording",),
    ("minigpt.views",),
    ("minigpt.commands",),
    ("minigpt.stepping",),
    ("minigpt.bench",),
    ("minigpt.__init__",),
    ("minigpt.cli",),
    ("minigpt.__main__",),
)

# claim: the files it is about but for some, what they never import but for some
RULES = {
    "counting has never heard of minigpt": (("counting/**/*.py",), (), ("minigpt",), ()),
    "the model names its parts, and knows no more of counting": (
        MODEL,
        ASKING,
        ("counting",),
        NAMING,
    ),
    "the ledger knows no report": (LEDGER, (), REPORTS, ()),
    "the model knows no fused kernel": (MODEL, (), ("minigpt.fast",), ()),
    "cupy stays where it belongs": (EVERYTHING, GPU, ("cupy", "cupyx"), ()),
    "nothing imports scripts or tests": (EVERYTHING, (), ("scripts", "tests", "helpers"), ()),
}


def files(globs):
    return {file for glob in globs for file in ROOT.glob(glob)}


def imported(file):
    """The dotted names that a file imports: `from a.b import c` is `a.b.c`."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name, modules):
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("claim", RULES)
def test_imports(claim):
    globs, excepted, never, but = RULES[claim]
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted(files(globs) - files(excepted))
        for name in imported(file)
        if within(name, never) and not within(name, but)
    ]
    assert not wrong


def modules():
    """Every module of the two packages, by its dotted name."""
    packages = (*ROOT.glob("counting/**/*.py"), *ROOT.glob("minigpt/**/*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in packages}


def imports():
    """The modules of the two packages that each of them imports, at the top or in a function."""
    known = modules()

    def module(name):
        """The one that a dotted name is, or is in."""
        package = name.rpartition(".")[0]
        places = (name, f"{name}.__init__", package, f"{package}.__init__")
        return next((place for place in places if place in known), None)

    found = {}
    for importer, file in known.items():
        found[importer] = {module(name) for name in imported(file)} - {importer, None}
    return found


def test_folders_import_one_way():
    height = {name: level for level, names in enumerate(ORDER) for name in names}

    def folder(module):
        [found] = (name for name in height if within(module, [name]))
        return found

    wrong = []
    for module, reached in imports().items():
        for other in map(folder, reached):
            if other != folder(module) and height[other] >= height[folder(module)]:
                wrong.append(f"{module} imports of {other}")
    assert not wrong


def test_no_modules_import_in_a_circle():
    graph = TopologicalSorter(imports())
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(f"in a circle: {' <- '.join(error.args[1])}")


def test_the_reader_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "a" / "b" / "c.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import x.y as z\nfrom p.q import r\nfrom . import s\ndef f():\n from ..t import u"
    )
    assert set(imported(file)) == {"x.y", "p.q.r", "a.b.s", "a.t.u"}


def test_the_rules_are_about_files_that_exist():
    assert files(EVERYTHING) >= files(MODEL) > set()
    assert {*RECORDING} <= {file.stem for file in ROOT.glob("counting/*.py")}
    assert REPORTS
