"""`scripts/install.sh`: what it asks pip for, and of which Python."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from checkpoints import ROOT

SH = shutil.which("sh")


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{SH}\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def clone(tmp_path):
    """The script in a folder of its own, and a way to run it where only some programs are there."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install.sh", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("dirname", "basename", "id"):
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))

    def install(*extras):
        command = [SH, str(tmp_path / "scripts" / "install.sh"), *extras]
        env = {"PATH": str(tmp_path / "bin")}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)

    install.folder = tmp_path
    return install


@pytest.mark.parametrize("extras", [(), ("test",), ("test", "peers"), ("cuda13", "tui", "test")])
def test_pip_is_asked_for_extras_that_stock_pips_read(clone, extras):
    """pip 23, which Python 3.11 brings, refuses `.[fast,]`."""
    script(clone.folder / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    script(clone.folder / ".venv" / "bin" / "pip", f'printf "%s\\n" "$@" >"{clone.folder}/asked"')
    done = clone(*extras)
    assert done.returncode == 0, done.stderr
    asked = (clone.folder / "asked").read_text().splitlines()
    assert asked[-1] == f".[{','.join(('fast', *extras))}]"
    assert asked[-2] == "--editable"


@pytest.mark.parametrize("extras", [("tuii",), ("test", "t"), ("test tui",), ("test,tui",), ("",)])
def test_an_extra_that_there_is_not_is_refused_before_anything_is_made(clone, extras):
    script(clone.folder / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    done = clone(*extras)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"unknown extra {extras[-1]}: they are fast tui views ")
    assert done.stderr.count("\n") == 1
    assert not (clone.folder / ".venv").exists()


def test_where_python3_is_too_old_a_newer_one_is_taken(clone):
    script(clone.folder / "bin" / "python3", "exit 1")
    script(clone.folder / "bin" / "python3.12", f'echo "$@" >>"{clone.folder}/used"; exit 0')
    script(clone.folder / ".venv" / "bin" / "pip", "exit 0")
    assert clone().returncode == 0
    assert "version_info" in (clone.folder / "used").read_text()


def test_no_python_that_is_new_enough_is_one_line(clone):
    script(clone.folder / "bin" / "python3", "exit 1")
    done = clone()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Python 3.11 or later is needed\n"


def test_a_broken_venv_module_without_apt_is_one_line(clone):
    script(clone.folder / "bin" / "python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = clone()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "python3 has no venv: install it\n"


def test_an_editable_install_runs_the_files_of_the_clone(tmp_path):
    """An edit of them is what runs; a breakpoint in them is hit."""
    try:
        origin = distribution("minigpt-counting").read_text("direct_url.json") or "{}"
    except PackageNotFoundError:
        pytest.skip("it runs from a checkout, not installed")
    if not json.loads(origin).get("dir_info", {}).get("editable"):
        pytest.skip("it is installed, but not by scripts/install.sh")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = "import minigpt; print(minigpt.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=env, capture_output=True, text=True
    ).stdout
    assert Path(found).is_relative_to(Path(json.loads(origin)["url"].removeprefix("file://")))
