"""Markdown as a reader runs it: blocks apart, commands replayed, output held against it."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass

import pexpect
from checkpoints import ROOT, environment, home

DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
DOCUMENTS += [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "weights/README.md")]
DOCUMENTS = [path for path in DOCUMENTS if path.exists()]

_FENCE = re.compile(r"^```(\w*) *(.*?)\n(.*?)^```$", re.M | re.S)
_ESCAPES = re.compile(r"\x1b\[\??[\d;]*[a-zA-Z]|\x1b\][^\x07]*\x07")
PROMPT = "(step) "
INLINE = re.compile(r"`(minigpt [^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        where: file and line.
        language: what stands behind the fence: sh, console, python, json.
        note: and behind that; "times" for output whose numbers are those of one machine.
        text: without the fences.
        after: the block before it, if it follows at once: what printed it.
    """

    where: str
    language: str
    note: str
    text: str
    after: "Block | None" = None


def blocks(path):
    """The fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    found, end = [], -1
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        follows = found and not text[end : match.start()].strip()
        before = found[-1] if follows else None
        where = f"{path.relative_to(ROOT)}:{line}"
        found.append(Block(where, match[1], match[2], match[3], before))
        end = match.end()
    return found


def prose(path):
    """A document without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def commands(block):
    """The commands of a block, in order: (command, what it printed)."""
    found = []
    for line in block.text.splitlines():
        if block.language == "console" and not line.startswith("$ "):
            found[-1][1].append(line)
        elif line.strip() and not line.startswith("#"):
            found.append((line.removeprefix("$ ").split("  #")[0].rstrip(), []))
    return [(command, "\n".join(said)) for command, said in found]


def matches(written, said, times=False):
    """Whether what a program said is what is written, where … stands for anything.

    A line that is … alone stands for any number of lines; with `times` a number stands for any.
    """
    pattern = "".join(
        r"(?:[^\n]*\n)*?"
        if line.strip() == "…"
        else r"[^\n]*".join(_literal(part, times) for part in line.rstrip().split("…")) + r" *\n"
        for line in written.strip("\n").splitlines()
    )
    return re.fullmatch(pattern + r"\s*", said.strip("\n") + "\n") is not None


def _literal(text, times):
    escaped = re.escape(text)
    return re.sub(r"\d+(?:(?:,|\\\.)\d+)*", r"\\d[\\d,.]*", escaped) if times else escaped


def run(command, folder, **variables):
    """What a command says, on both streams, in a shell where `minigpt` and `python` are ours."""
    env = environment(HOME=home(folder), HF_HUB_OFFLINE="1", PATH=shims(folder), **variables)
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder / "here",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    return result.stdout.decode()


def session(command, lines, folder):
    """A transcript at a terminal: the command, and what is typed at each prompt of the debugger."""
    env = environment(HOME=home(folder), TERM="dumb", PATH=shims(folder))
    child = pexpect.spawn(
        "bash", ["-c", command], cwd=str(folder / "here"), env=env, encoding="utf-8", timeout=300,
        dimensions=(60, 160),
    )  # fmt: skip
    said = ""
    for line in lines:
        child.expect_exact(PROMPT)
        said += child.before + PROMPT
        child.sendline(line)
    child.expect(pexpect.EOF)
    said += child.before
    child.close()
    return _ESCAPES.sub("", said).replace("\r\n", "\n")


def python(text, names):
    """What lines of Python print; they share `names` with those before them."""
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(text, "<document>", "exec"), names)
    return said.getvalue()


def shims(folder):
    """A PATH on which `minigpt` and `python` are what runs these tests."""
    bin_ = folder / "bin"
    if not bin_.exists():
        (folder / "here").mkdir(parents=True)
        for name in ("scripts", "weights"):
            (folder / "here" / name).symlink_to(ROOT / name)
        bin_.mkdir()
        for name, start in (("python", ""), ("minigpt", " -m minigpt")):
            script = bin_ / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{start} "$@"\n')
            script.chmod(0o755)
    return f"{bin_}:/usr/bin:/bin"
