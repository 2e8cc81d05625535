"""Scripts do nothing where they are asked for what they have not."""

import re
import subprocess
import sys

import pytest
from checkpoints import ROOT, environment

pytestmark = pytest.mark.once  # a process each, some of which load torch

SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
UNKNOWN = {name: ["--no-such-option"] for name in SCRIPTS}
WRONG = {
    "notebooks": ["nowhere"],
    "numpy_tests": ["lib.tests.nowhere"],
    "fuzz": ["nowhere"],
    "make_checkpoint": ["nowhere", "folder"],
    "train_shakespeare": ["/dev/zero", "folder"],
}


@pytest.mark.parametrize(("name", "words"), [*UNKNOWN.items(), *WRONG.items()])
def test_a_wrong_argument_is_named_and_nothing_is_done(tmp_path, name, words):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py", *words],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    ours = "minigpt|counting|fuzzing"
    if missing := re.search(rf"^ModuleNotFoundError: (?!.*'({ours})).*", done.stderr, re.MULTILINE):
        pytest.skip(missing[0])
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (2, "")
    if words == ["--no-such-option"]:
        assert done.stderr.startswith(f"usage: {name}.py")
        assert "error: " in last  # of some it is the argument that is missing
    else:
        assert last.startswith((f"{name}.py: error: ", f"{name}: "))
        assert words[0] in last
    assert not any(tmp_path.iterdir())
