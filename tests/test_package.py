"""What a user installs: the wheel, and the commands of the README."""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import distributions

import pytest
from checkpoints import ROOT, SHIPPED

PRESET_FILES = [*(ROOT / "minigpt/models/presets").glob("*.json")]


def run(*command, **options):
    options = {"check": True, "capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run([str(part) for part in command], **options).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason="build is not installed: .[test]")
    folder = tmp_path_factory.mktemp("wheel")
    here = importlib.util.find_spec("hatchling")  # or a place of its own, which pip fills
    alone = ["--no-isolation"] if here else []
    run(sys.executable, "-m", "build", "--wheel", *alone, "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_the_packages_the_shipped_model_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        sizes = {name: archive.getinfo(name).file_size for name in names}
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"counting", "minigpt"}
    for file in SHIPPED.iterdir():
        assert sizes[f"minigpt/shipped/shakespeare/{file.name}"] == file.stat().st_size
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"counting/py.typed", "minigpt/py.typed"} <= set(names)
    assert not any("__pycache__" in name for name in names)
    presets = {f"minigpt/models/presets/{file.name}" for file in PRESET_FILES}
    assert presets
    assert presets <= set(names)
    views = ROOT / "minigpt/views"
    drawn = {file for folder in ("vega", "templates") for file in (views / folder).iterdir()}
    assert {"vega.js", "LICENSE", "page.html", "page.css"} <= {file.name for file in drawn}
    assert {str(file.relative_to(ROOT)) for file in drawn} <= set(names)


def test_the_wheel_runs_the_main_job_in_an_empty_folder(wheel, tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel
    )
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # What it depends on is borrowed from the environment of the tests, behind its own.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    with open(os.path.join(packages, "borrowed.pth"), "w") as file:
        file.write("\n".join(borrowed))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    where = "import minigpt, counting; print(minigpt.__file__, counting.__file__)"
    found = run(python, "-c", where, cwd=here, env=env)
    assert found.count(packages) == 2
    command = home / "bin" / "minigpt", "generate", "To be", "--max-new-tokens", "8", "--seed", "1"
    (metadata,) = (dist for dist in distributions(path=[packages]) if "minigpt" in dist.name)
    said = f"minigpt {metadata.version}\n"
    for name in ("minigpt", "minigpt-counting"):  # what uvx and pipx run look for
        assert run(home / "bin" / name, "--version", cwd=here, env=env) == said
    text = run(*command, "--log", "run.jsonl", cwd=here, env=env)
    assert text.startswith("To be")
    assert len(text) > len("To be") + 8
    assert [file.name for file in here.iterdir()] == ["run.jsonl"]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_a_clone_that_was_never_installed_knows_its_version():
    code = f"""
import importlib.metadata, sys
def missing(name): raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = missing
sys.path.insert(0, {str(ROOT)!r})
import minigpt
print(minigpt.__version__)
"""
    assert run(sys.executable, "-c", code) == f"{PROJECT['version']}\n"


@pytest.mark.parametrize("package", ["counting", "minigpt"])
def test_what_a_package_shows_is_what_is_public(package):
    """Each name imported before any other, in a fork of a process that has NumPy alone."""
    code = f"""
import os, numpy
import {package} as p
assert dir(p) == sorted(p.__all__)
for name in dir(p):
    if not (child := os.fork()):
        exec(f"from {package} import {{name}}")
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0), name
"""
    assert run(sys.executable, "-c", code) == ""


def test_the_citation_says_what_the_project_says():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # required by CFF 1.2
    assert cited["cff-version"] == "1.2.0"
    for key in ("version", "license", "keywords"):
        assert cited[key] == PROJECT[key]
    (author,) = cited["authors"]
    assert author == {"name": re.search(r"\(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())[1]}
