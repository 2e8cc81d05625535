"""Sessions with the debugger at a terminal."""

import re
from contextlib import contextmanager

import pexpect
from checkpoints import MINIGPT, PROMPT, ROOT, environment, home

SHORT = "--max-new-tokens", "4", "--seed", "1"
PARTS = ROOT / "minigpt" / "models" / "parts.py"
LINEAR = 1 + PARTS.read_text().splitlines().index("        return x @ self.weight + self.bias")
STEP = r"\(step\) "


def operations(prompt):
    """How many the prompt says there were."""
    return int(re.search(r"#(\d+) \S+ .?FLOP", prompt)[1])


class Session(pexpect.spawn):
    def __call__(self, line):
        """What a command answers, up to the next prompt, and that prompt."""
        self.sendline(line)
        self.expect(STEP)
        answer = re.sub(r"\x1b\[\??[\d;]*[a-zA-Z]", "", self.before).replace("\r\n", "\n")
        body, _, prompt = answer.removeprefix(line).strip("\n").rpartition("\n")
        return body.strip("\n"), prompt


@contextmanager
def session(folder, *options, prompt=PROMPT):
    env = environment(HOME=home(folder), TERM="dumb", PYTHONPATH=str(ROOT))
    command = [*MINIGPT, "step", prompt, *SHORT, *options]
    child = Session(
        command[0], command[1:], env=env, cwd=str(folder), encoding="utf-8", timeout=300,
        dimensions=(40, 160),
    )  # fmt: skip
    try:
        child.expect(STEP)
        yield child
    finally:
        child.close(force=True)


def ends(child):
    """The status that a session ends with, and the last that it says."""
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus is None
    return child.exitstatus, child.before.replace("\r\n", "\n").removeprefix("c\n")
