"""`minigpt step --tui` in a terminal: that it leaves cleanly, whatever happens."""

import re
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest
from checkpoints import MINIGPT, PROMPT, ROOT, complaint, environment, home, minigpt

pytest.importorskip("textual", reason="textual is not installed: .[tui]")

from screens import PATIENCE

from minigpt import generate, load


@contextmanager
def terminal(folder, *options, term="xterm-256color"):
    env = environment(HOME=home(folder), TERM=term, PYTHONPATH=str(ROOT))
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "step", PROMPT, "--tui", *options], env=env, cwd=str(folder),
        encoding="utf-8", timeout=PATIENCE, dimensions=(24, 80),
    )  # fmt: skip
    try:
        yield child
    finally:
        child.close(force=True)


def children(pid):
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


LEAVE = {
    "q": (lambda child: child.send("q"), 0),
    "Ctrl-C": (lambda child: child.send("\x03"), 130),
    "SIGINT": (lambda child: child.kill(signal.SIGINT), 130),
    "SIGTERM": (lambda child: child.kill(signal.SIGTERM), 143),
}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("way", LEAVE)
def test_it_leaves_cleanly_and_takes_its_process_along(way, tmp_path):
    leave, status = LEAVE[way]
    with terminal(tmp_path, "--seed", "1") as child:
        child.expect("token 1/")
        workers = children(child.pid)
        assert workers
        leave(child)
        child.expect(re.escape("\x1b[?1049l"))  # back to the screen that was there before
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == status
        end = time.monotonic() + 10
        while not all(map(gone, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert all(map(gone, workers))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_the_process_ends_with_a_screen_that_was_killed(tmp_path):
    with terminal(tmp_path, "--seed", "1", "--max-new-tokens", "200") as child:
        child.expect("token 1/")
        workers = children(child.pid)
        child.send("c")
        child.expect("running")
        child.kill(signal.SIGKILL)
        end = time.monotonic() + 20
        while not all(map(gone, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert all(map(gone, workers))


def test_the_finished_text_is_printed(tmp_path):
    said = "".join(s.text for s in generate(load(), PROMPT, max_new_tokens=4, seed=1))
    with terminal(tmp_path, "--seed", "1", "--max-new-tokens", "4") as child:
        child.expect("token 1/")
        child.send("c")
        child.expect("finished")
        child.send("q")
        child.expect(re.escape("\x1b[?1049l"))
        child.expect(pexpect.EOF)
        assert (PROMPT + said).replace("\n", "\r\n") in child.before
        child.wait()
        assert child.exitstatus == 0


def test_the_seed_that_was_drawn_is_said_at_the_end(tmp_path):
    with terminal(tmp_path, "--max-new-tokens", "2") as child:
        child.expect("token 1/")
        child.send("c")
        child.expect("finished")
        child.send("q")
        child.expect(r"drawn with --seed \d+\r\n")
        child.expect(pexpect.EOF)


def test_what_is_wrong_is_one_line(tmp_path):
    with terminal(tmp_path, "--model", "nowhere/") as child:
        child.expect("minigpt: .*nowhere")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 2
    step = "step", PROMPT, "--tui"
    assert "--tui needs a terminal" in complaint(minigpt(*step, cwd=tmp_path))
    with terminal(tmp_path, term="dumb") as child:
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 2
        said = "minigpt: --tui needs a terminal that is not dumb: leave it out for a prompt"
        assert child.before.strip() == said
    without = "import sys; sys.modules['textual'] = None; " + MINIGPT[2]
    code = [sys.executable, "-c", without, *step]
    child = pexpect.spawn(code[0], code[1:], cwd=str(tmp_path), encoding="utf-8", timeout=300)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 2
    assert child.before.strip() == (
        "minigpt: --tui needs textual: pip install -e '.[tui]' in the clone"
    )
