"""`generate --record` and `minigpt report`, as a user meets them."""

import json
import os
import random
import resource
import stat

import pexpect
import pytest
from checkpoints import MINIGPT, PROMPT, SHORT, checkpoint, environment

from minigpt.commands.report import VIEWS
from minigpt.recording.read import read


@pytest.fixture
def recording(command, here):
    """A recording of a short run of the shipped model."""
    command("generate", PROMPT, *SHORT, "--record", "run.jsonl", "--quiet")
    return here / "run.jsonl"


def test_a_recording_has_all_that_a_log_has(command, here, said):
    result = command("generate", PROMPT, *SHORT, "--quiet", "--log", "log", "--record", "run")
    assert (result.stdout, result.stderr) == (f"{said}\n", "")
    logged = [json.loads(line) for line in (here / "log").read_text().splitlines()]
    found = read(here / "run")
    assert found.header["prompts"][0]["text"] + "".join(t["text"] for t in found.tokens) == said
    for line, token in zip(logged, found.tokens, strict=True):
        assert line.items() <= token.items()


def test_a_recording_goes_to_standard_output_in_place_of_text(command):
    result = command("generate", PROMPT, *SHORT, "--quiet", "--record", "-", "--ops")
    kinds = [json.loads(line)["type"] for line in result.stdout.splitlines()]
    assert (kinds[0], kinds[-1], kinds.count("token")) == ("run", "end", 6)


def rows(text):
    """The rows of tables, of any width."""
    return [line.split() for line in text.splitlines() if line.strip()]


def test_report_says_what_generate_said(command, recording):
    told = rows(command("generate", PROMPT, *SHORT).stderr)
    report = rows(command("report", recording).stdout)
    begin, end = ([row[0] for row in told].index(name) for name in ("component", "time"))
    told = [row for row in told[begin:end] if row[0] != "sample"]  # it is no part of a pass
    assert report[-len(told) :] == told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ops"], "--ops adds operations to a recording: give --record FILE too"),
        (["--record", "-", "--log", "-"], "--log - and --record - print on standard output"),
        (["--record", "-", "--json"], "--record - and --json print on standard output"),
        (["--record", "x", "--log", "./x"], "x cannot be both the log and the recording"),
    ],
)
def test_what_would_print_twice_is_refused_before_anything_runs(command, here, options, says):
    result = command("generate", PROMPT, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr.replace("./x", "x")
    assert not list(here.iterdir())


def test_a_recording_is_never_written_over_the_model(command, here):
    model = checkpoint(here / "model")
    weights = model / "model.safetensors"
    before = weights.read_bytes()
    result = command("generate", "ab", "--model", model, *SHORT, "--record", weights)
    assert result.returncode == 2
    assert "in use" in result.stderr
    assert weights.read_bytes() == before


def test_a_view_is_never_written_over_the_recording(command, recording):
    link = recording.with_name("link.csv")
    link.symlink_to(recording)
    before = recording.read_bytes()
    result = command("report", recording, "--to", link)
    assert (result.returncode, recording.read_bytes()) == (2, before)


@pytest.mark.parametrize("said", [("no room",), (28, "no room")])
def test_a_view_that_fails_says_why_whether_or_not_the_error_has_a_number(
    command, recording, monkeypatch, said
):
    """As encoders of pictures do, whose errors are OSErrors without one."""

    def write(*_):
        raise OSError(*said)

    monkeypatch.setattr("minigpt.views.frames.write", write)
    result = command("report", recording, "--to", "a.csv")
    line = "minigpt: a.csv cannot be written: no room\n"
    assert (result.returncode, result.stderr) == (2, line)
    assert not list(recording.parent.glob("a.csv*"))


@pytest.mark.parametrize(
    "to",
    [
        ["a.csv", "a.pickle"],  # the second needs --ops
        ["a.csv", "a.svg"],
        ["a.csv", "a.html", "no/a.csv"],
        ["a.csv", "./a.csv"],
        ["a.csv", "new/../a.csv"],
        ["a.csv", "a"],
    ],
)
def test_views_are_written_all_or_none(command, recording, to):
    cut = recording.read_text().splitlines(keepends=True)[:1]  # no pass to draw
    recording.write_text("".join(cut))
    before = {*recording.parent.iterdir()}
    options = [word for name in to for word in ("--to", name)]
    result = command("report", recording, *options)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert to[-1].removeprefix("./") in result.stderr or str(recording) in result.stderr
    assert {*recording.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gpu", "h100"], "--gpu would do nothing beside a report without --to"),
        (["--weight", "bytes"], "--weight would do nothing beside a report without --to"),
        (["--figure", "kv", "--to", "x.csv"], "--figure would do nothing beside --to x.csv"),
        (["--weight", "bytes", "--to", "x.svg"], "--weight would do nothing beside --to x.svg"),
        (
            ["--gpu", "h100", "--to", "x.csv", "--to", "x.folded"],
            "--gpu would do nothing beside --to x.csv and --to x.folded",
        ),
        (
            ["--gpu", "h100", "--figure", "kv", "--to", "x.svg"],
            "--gpu would do nothing beside --figure kv",
        ),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(command, recording, options, says):
    before = {*recording.parent.iterdir()}
    result = command("report", recording, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"minigpt: {says}: leave one of them out\n"
    assert {*recording.parent.iterdir()} == before


def test_an_option_that_one_of_the_views_heeds_is_taken(command, recording):
    result = command("report", recording, "--weight", "bytes", "--to", "a.csv", "--to", "a.folded")
    assert result.returncode == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["a.csv", "a.folded"]


def test_a_terminal_is_told_what_is_being_made(recording):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "report", recording.name, "--to", "a.csv"],
        cwd=str(recording.parent), env=environment(TERM="xterm"), encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert "making a.csv" in child.read()
    child.close()
    assert child.exitstatus == 0


# Files that are there already.


def hard(path, link):
    link.hardlink_to(path)


def symbolic(path, link):
    link.symlink_to(path)


@pytest.mark.parametrize("alias", [symbolic, hard, None])
@pytest.mark.parametrize("ending", [".html", ".svg", ".speedscope.json"])
def test_a_view_is_never_written_over_the_gpu_that_it_draws(command, recording, alias, ending):
    gpu = recording.with_name(f"gpu{ending}")
    gpu.write_text(json.dumps({"name": "mine", "memory_gb": 8}))
    to, before = gpu, gpu.read_bytes()
    if alias:
        alias(gpu, to := recording.with_name(f"to{ending}"))
    result = command("report", recording, "--gpu", gpu, "--to", "a.html", "--to", to)
    assert (result.returncode, "in use" in result.stderr) == (2, True)
    assert (gpu.read_bytes(), to.read_bytes()) == (before, before)


@pytest.mark.parametrize("seed", range(8))
def test_a_view_is_written_to_what_a_link_means_and_keeps_its_mode(command, recording, seed):
    rng, folder = random.Random(seed), recording.parent
    file = folder / "there" / "file"
    file.parent.mkdir()
    mode = None
    if rng.random() < 0.7:  # else the links lead to what is not there yet
        file.write_text("old")
        file.chmod(mode := rng.choice([0o600, 0o640, 0o660, 0o666, 0o755]))
    name = file
    for i in range(rng.randrange(4)):
        target = name if rng.random() < 0.5 else os.path.relpath(name, folder)
        (name := folder / f"link{i}").symlink_to(target)
    (to := folder / "a.csv").symlink_to(name)
    result = command("report", recording, "--to", to)
    assert result.returncode == 0
    assert to.is_symlink()
    assert file.read_text().startswith("type,pass")
    assert mode is None or stat.S_IMODE(file.stat().st_mode) == mode
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.symlink_to("/dev/null"), "it is no regular file"),
        (os.mkdir, "it is a folder: name a file in it"),
        (lambda path: path.symlink_to("no/such"), "there is no folder"),
    ],
    ids=["a pipe", "a device", "a folder", "a link to nowhere"],
)
def test_what_no_view_can_be_written_to_stays_and_is_said(command, recording, make, why):
    def is_it():  # of its status; to follow a link changes its time
        status = to.lstat()
        return status.st_ino, status.st_mode

    make(to := recording.with_name("a.csv"))
    before = is_it()
    result = command("report", recording, "--to", "b.csv", "--to", to.name)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"minigpt: a.csv cannot be written: {why}")
    assert is_it() == before
    assert not recording.with_name("b.csv").exists()


def test_links_to_one_file_are_no_two_views(command, recording):
    for name in ("a.csv", "b.csv"):
        recording.with_name(name).symlink_to("file")
    result = command("report", recording, "--to", "a.csv", "--to", "b.csv")
    assert (result.returncode, "cannot be written twice" in result.stderr) == (2, True)


NEEDS = {".pdf": "matplotlib", ".png": "matplotlib", ".svg": "matplotlib", ".pftrace": "perfetto"}


@pytest.mark.parametrize("ending", VIEWS)
def test_a_disk_that_is_full_is_said_in_a_line_and_nothing_is_left(
    command, here, monkeypatch, ending
):
    if ending in NEEDS:
        pytest.importorskip(NEEDS[ending])
    command("generate", PROMPT, *SHORT, "--record", "run.jsonl", "--quiet", "--ops")
    monkeypatch.setattr("minigpt.views.page.page", lambda *_: "a page" * 1000)  # it takes seconds
    options = ("--figure", "kv") if NEEDS.get(ending) == "matplotlib" else ()
    # What matplotlib and fontconfig remember of fonts they write the first time.
    assert command("report", "run.jsonl", "--to", f"before{ending}", *options).returncode == 0
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, usual[1]))
    try:
        result = command("report", "run.jsonl", "--to", f"a{ending}", *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    said = f"minigpt: a{ending} cannot be written: File too large\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", said)
    assert {*os.listdir(here)} == {"run.jsonl", f"before{ending}"}
