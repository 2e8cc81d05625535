"""README and docs: commands are accepted, blocks are what the program says, links lead on."""

import importlib.util
import re
import tomllib
from html import unescape
from unittest.mock import patch

import documents
import pytest
from checkpoints import ROOT, minigpt
from documents import DOCUMENTS, PROMPT, blocks, commands, matches, prose

from counting.costs import REGISTERED

BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
RUN = [block for block in BLOCKS if block.language == "console"]
WRITTEN = [block for block in BLOCKS if block.language == "sh"]


def where(block):
    return block.where


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A home and a working folder for each document, where what one block leaves the next finds."""
    found = {}

    def folder(block):
        name = block.where.split(":")[0]
        if name not in found:
            found[name] = tmp_path_factory.mktemp(re.sub(r"\W", "_", name))
        return found[name]

    return folder


@pytest.mark.parametrize("block", RUN, ids=where)
def test_a_command_says_what_is_written_under_it(block, folders):
    folder = folders(block)
    for command, written in commands(block):
        if PROMPT in written:
            lines = [line.partition(PROMPT)[2] for line in written.splitlines() if PROMPT in line]
            said = documents.session(command, lines, folder)
        else:
            said = documents.run(command, folder)
        assert matches(written, said, times=block.note == "times"), said


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
@patch.dict(REGISTERED)  # what a document registers is gone after it
def test_lines_of_python_print_what_is_written_under_them(path, tmp_path, monkeypatch):
    if path.name == "executed.md":
        pytest.importorskip("capstone", reason="capstone is not installed: .[machine]")
    monkeypatch.chdir(tmp_path)
    names, said = {"__name__": "__main__"}, {}
    for block in blocks(path):
        if block.language == "python":
            said[block.where] = documents.python(block.text, names)
        elif block.after and block.after.language == "python":
            assert matches(block.text, said.pop(block.after.where)), block.where
    assert not "".join(said.values()), "what it prints stands nowhere"


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The options of each command, read off its help."""
    folder = tmp_path_factory.mktemp("help")
    found = {}

    def options(*words):
        if words not in found:
            said = minigpt(*words, "--help", cwd=folder)
            assert said.returncode == 0, said.stderr.decode()
            found[words] = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", said.stdout.decode()))
        return found[words]

    return options


def of_minigpt():
    """Every call of the command that the documents show."""
    for path in DOCUMENTS:
        for block in blocks(path):
            if block.language in ("sh", "console"):
                yield from ((block.where, command) for command, _ in commands(block))
        yield from ((path.name, call) for call in documents.INLINE.findall(prose(path)))


def test_every_call_of_minigpt_names_a_command_and_options_that_there_are(known):
    calls = 0
    for place, line in of_minigpt():
        for call in re.findall(r"(?:^|[;&|]\s*|\s|/)minigpt((?: [^;&|]+)?)", line):
            calls += 1
            text = re.sub(r"\"[^\"]*\"|'[^']*'|…", "TEXT", call)
            words = text.split()
            command = words[: 2 if words[:1] == ["bench"] else 1]
            command = [word for word in command if word.islower() and not word.startswith("-")]
            given = {word.partition("=")[0] for word in words if word.startswith("-") and word[1:]}
            assert given <= known() | known(*command), (place, call)
    assert calls > 20


def test_what_is_installed_by_name_is_an_extra_that_there_is():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        named = [
            name for names in re.findall(r"'\.\[([\w,]+)\]'", text) for name in names.split(",")
        ]
        named += re.findall(r"the extra `(\w+)`", text)
        named += [n for line in re.findall(r"install\.sh((?: \w+)+)", text) for n in line.split()]
        assert set(named) <= {*extras}, path.name
        assert "minigpt-counting[" not in text, "the index does not have it"


def slug(heading):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in documents.LINK.findall(prose(path)):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(target), re.M)
            assert anchor in map(slug, headings), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
    for name in re.findall(r"`((?:counting|minigpt|scripts|tests|docs)/[\w./-]+)`", prose(path)):
        assert (ROOT / name).exists(), name


def test_the_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def test_ci_runs_the_commands_of_the_readme_word_for_word():
    written = [block for block in WRITTEN if block.where.startswith("README.md")]
    installs = [line for block in written for line, _ in commands(block)]
    installs = [line for line in installs if line.startswith("sh scripts/install.sh")]
    assert len(installs) == 2
    assert installs[0].endswith('generate "To be, or not to be"')
    assert installs[1].endswith("pytest")
    script = (ROOT / ".ci" / "run").read_text()
    assert "grep '^sh scripts/install.sh' README.md" in script
    assert "${commands[0]}" in script
    assert "${commands[1]}" in script


def picture_of():
    """`scripts/pictures.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "scripts" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["generate", "formulas"])
def test_a_picture_shows_what_its_command_says(name):
    """But for times: those are of the machine that it was drawn on."""
    pictures = picture_of()
    command = pictures.PICTURES[name]
    shown = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    drawn = pictures.picture(command, pictures.said(command))

    def lines(svg):
        rows = [
            unescape(text).replace("\xa0", " ")
            for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)
        ]
        return [row for row in rows if not re.match(r"loading|prefill|decode|in all", row)]

    assert len(lines(shown)) > 20
    assert lines(shown) == lines(drawn)


def test_every_picture_is_drawn_by_the_script():
    pictures = picture_of()
    drawn = {f"{name}.svg" for name in pictures.PICTURES}
    drawn |= {f"{name}.png" for name in pictures.SCREENS}
    assert {path.name for path in (ROOT / "docs" / "pictures").iterdir()} == drawn


def test_the_pythons_that_are_said_are_those_that_ci_runs_and_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    (said,) = re.findall(r"Python ((?:3\.\d+(?:, | and )?)+) are tested", prose(DOCUMENTS[0]))
    (run,) = re.findall(r"^for version in (.*); do$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert re.findall(r"3\.\d+", said) == named
    assert run.split()[: len(named)] == named
    assert project["requires-python"] == f">={named[0]}"
