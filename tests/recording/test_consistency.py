"""Lines of a recording that are right one by one, but do not fit each other, are refused."""

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recordings import recorded

from counting import scope
from minigpt import InputError, load
from minigpt.commands import diff, report
from minigpt.recording.read import read
from minigpt.views.panels.components import components
from minigpt.views.panels.memory import memory

SEEDS = range(6)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The lines of a recording of a batch, with operations."""
    from checkpoints import checkpoint

    folder = tmp_path_factory.mktemp("recorded")
    lm = load(checkpoint(folder / "m"))
    recorded(lm, ["abc", "cab"], folder / "run.jsonl", True, max_new_tokens=3)
    return [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]


def of(lines, kind, rng):
    """The place of a drawn line of a type."""
    return int(rng.choice([n for n, line in enumerate(lines) if line["type"] == kind]))


def changed(kind, **fields):
    """What changes fields of a line of a type: each by its value, or by a function of the line."""

    def change(lines, rng):
        at = of(lines, kind, rng)
        new = {name: to(lines[at]) if callable(to) else to for name, to in fields.items()}
        lines[at] = lines[at] | new

    return change


def missing(lines, rng):
    """Takes an operation out; without the last one a recording would be one that was cut."""
    last = max(n for n, line in enumerate(lines) if line["type"] == "operation")
    del lines[of(lines[:last], "operation", rng)]


def twice(kind):
    def change(lines, rng):
        at = of(lines, kind, rng)
        lines.insert(at, lines[at])

    return change


def exchanged(kind, other):
    def change(lines, rng):
        a, b = of(lines, kind, rng), of(lines, other, rng)
        lines[a], lines[b] = lines[b], lines[a]

    return change


def more(name, n):
    return {name: lambda line: line[name] + n}


def also(name):
    """A category that the first line does not have."""
    return {name: lambda line: line[name] | {"wire": 1}}


def prompts(**fields):
    return {"prompts": lambda line: [line["prompts"][0] | fields, *line["prompts"][1:]]}


DEFECTS = {
    "an operation is missing": (missing, "number is|is alive"),
    "an operation stands twice": (twice("operation"), "number is|is alive"),
    "a number that was given": (changed("operation", **more("number", -1)), "number is"),
    "a number that is to come": (changed("operation", **more("number", 7)), "number is"),
    "freed that was never made": (changed("operation", freed=[10**6]), "is alive"),
    "freed by a token": (changed("token", freed=[10**6]), "is alive"),
    "freed twice": (changed("operation", freed=[2, 2]), "is alive"),
    "freed that is no list": (changed("token", freed=3), "freed is 3"),
    "another pass": (changed("operation", **{"pass": 9}), "passes have ended"),
    "an operation's category": (changed("operation", category="wire"), "no category wire"),
    "an operation reads": (changed("operation", **also("bytes_read")), "no category wire"),
    "a row reads": (changed("row", **also("bytes_read")), "no category wire"),
    "a row writes": (changed("row", **also("bytes_written")), "no category wire"),
    "alive after a token": (changed("token", **also("live_bytes")), "live_bytes has"),
    "at most alive": (changed("end", **also("peak_bytes")), "peak_bytes has"),
    "the first line has more": (changed("run", **also("live_bytes")), "live_bytes has"),
    "no prompt": (changed("run", prompts=[]), "one or more"),
    "a prompt without tokens": (changed("run", **prompts(tokens=[], pieces=[])), "one or more"),
    "a prompt of other length": (
        changed("run", **prompts(tokens=[1], pieces=["a"])),
        "equal lengths",
    ),
    "more pieces than tokens": (changed("run", **prompts(pieces=["a"] * 9)), "equal lengths"),
    "a sequence too many": (changed("token", sequence=2), "sequence is 2"),
    "a sequence twice": (twice("token"), "sequence is|is alive"),
    "a token of another pass": (changed("token", **more("pass", 3)), "passes have ended"),
    "a position": (changed("token", **more("position", 1)), "position is"),
    "a context that is too short": (changed("run", context=2), "beyond the context"),
    "keys of tokens to come": (changed("token", **more("keys", 9)), "keys is"),
    "new tokens of nothing": (changed("token", new_tokens=99), "new_tokens 99"),
    "a phase": (
        changed("token", phase=lambda line: "decode" if line["pass"] == 0 else "prefill"),
        "phase is",
    ),
    "another batch": (changed("token", batch=7), "batch is 7"),
    "a pass of no time": (changed("token", seconds=0), "seconds is 0"),
    "a pass that does nothing": (changed("token", flops=0), "flops is 0"),
    "a pass that reads nothing": (changed("token", bytes_read={}), "weights not 0"),
    "a model without weights": (
        changed("token", live_bytes=lambda line: dict.fromkeys(line["live_bytes"], 0)),
        "weights not 0",
    ),
    "a row among operations": (exchanged("operation", "row"), "comes too late|number is|is alive"),
    "a token after the rows": (exchanged("token", "row"), "comes too late|passes|sequence is"),
    "a row after the end": (exchanged("row", "end"), "comes too late"),
    "two ends": (twice("end"), "comes too late, after 'end'"),
    "other tokens in all": (changed("end", **more("tokens", 1)), "tokens is"),
    "a row without FLOP": (changed("row", flops=None), "flops is None"),
    "a path of two lines": (changed("row", path="h.0\nattn"), "path is"),
    "a path that turns text around": (changed("row", path="h.\u202e0"), "path is"),
    "a path that is none": (changed("operation", path=["h.0"]), "path is"),
    "a dtype": (changed("run", dtype="nosuch"), "dtype is 'nosuch'"),
    "half a character": (changed("token", more="\ud800"), "is no JSON object"),
    "half a name": (changed("run", device="\ud800"), "device is"),
}


@pytest.mark.parametrize("what", DEFECTS)
def test_what_does_not_fit_is_refused_with_its_line(what, lines, tmp_path):
    change, says = DEFECTS[what]
    for seed in SEEDS:
        made = [dict(line) for line in lines]
        change(made, np.random.default_rng([seed, *what.encode()]))
        if made == lines:
            continue
        file = tmp_path / "bad.jsonl"
        file.write_text("".join(f"{json.dumps(line)}\n" for line in made))
        with pytest.raises(InputError, match=says) as error:
            read(file)
        assert re.match(rf"{re.escape(str(file))}, line \d+[:,] .+$", str(error.value))


def test_a_model_of_fewer_positions_than_were_reserved_is_refused_by_who_asks_it(lines, tmp_path):
    header = lines[0] | {"context": 10**9}
    file = tmp_path / "long.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in [header, *lines[1:]]))
    with pytest.raises(InputError, match="context is 1000000000; the model has"):
        _ = read(file).config


@pytest.mark.parametrize("seed", range(10))
def test_whatever_part_of_a_recording_is_there_has_every_view(seed, lines, tmp_path, capsys):
    """Where it ends is drawn; of rows alone, which would mislead, nothing is said."""
    n = int(np.random.default_rng(seed).integers(1, len(lines) + 1))
    file = tmp_path / "part.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:n]))
    report.run(file)
    diff.run(str(file), str(file), {})
    assert "did not end" in capsys.readouterr().out or n == len(lines)
    found = read(file)
    assert not found.rows or found.end
    report.run(file, [tmp_path / "view.csv"])
    for ending in (".speedscope.json", ".folded"):
        if found.operations:
            report.run(file, [tmp_path / f"view{ending}"])
        else:
            with pytest.raises(InputError, match="nothing to weigh: the run did not end"):
                report.run(file, [tmp_path / f"view{ending}"])


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
PATHS = st.lists(NAMES | st.from_regex(r"[0-9]{1,5000}", fullmatch=True), max_size=5)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS.map(".".join), seed=st.integers(0, 2**32))
@example(path="h." + "9" * 5000, seed=0)
@example(path="h.²", seed=0)
@example(path="[/x]; $^$ <b>%s.-1..", seed=0)
def test_whatever_scope_an_operation_is_in_the_recording_has_every_view(
    path, seed, lines, tmp_path, capsys
):
    with scope(path):  # such a path can be
        pass
    rng, made = np.random.default_rng(seed), [dict(line) for line in lines]
    for kind in ("operation", "row"):
        changed(kind, path=path)(made, rng)
    file = tmp_path / "run.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in made))
    report.run(file)
    diff.run(str(file), str(file), {})
    drawn = {".svg"} if find_spec("matplotlib") else set()
    for ending in report.VIEWS.keys() - {".html", ".pdf", ".png", ".svg"} | drawn:
        report.run(file, [tmp_path / f"view{ending}"])
    found = read(file)  # of the page, which takes seconds, what has paths
    assert components(found).tables
    assert memory(found).tables
