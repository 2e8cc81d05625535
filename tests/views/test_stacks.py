"""Profiles for speedscope and folded stacks: what they weigh is what was counted."""

import json
import math
from collections import Counter

import pytest
from recordings import FAMILIES
from viewed import cut, ran, written

from counting.views import flops
from minigpt import InputError
from minigpt.recording.read import read

WEIGHTS = ("flops", "bytes", "seconds")


def folded(path):
    """The weights of folded stacks, as flame graph programs read them."""
    lines = (line.rpartition(" ") for line in path.read_text().splitlines())
    found = [((*stack.split(";"),), int(weight)) for stack, _, weight in lines]
    assert len({stack for stack, _ in found}) == len(found)
    return Counter(dict(found))


def speedscope(path):
    """Samples and weights of a profile, after what its format asks for."""
    whole = json.loads(path.read_text())
    assert whole["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = [frame["name"] for frame in whole["shared"]["frames"]]
    assert len({*frames}) == len(frames)
    [profile] = whole["profiles"]
    assert profile["type"] == "sampled"
    assert profile["startValue"] == 0
    assert profile["endValue"] == sum(profile["weights"])
    stacks = [(*(frames[i] for i in sample),) for sample in profile["samples"]]
    return profile, [*zip(stacks, profile["weights"], strict=True)]


def counted(run, weight):
    if weight == "flops":
        return flops(run.counts)
    return sum((*run.counts.bytes_read.values(), *run.counts.bytes_written.values()))


@pytest.mark.parametrize("ops", [False, True])
@pytest.mark.parametrize("weight", WEIGHTS[:2])
@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_their_sums_are_the_ledgers(seed, weight, ops, tmp_path):
    run = ran(seed, ops, tmp_path)
    profile, samples = speedscope(written(run.recording, ".speedscope.json", weight=weight))
    stacks = folded(written(run.recording, ".folded", weight=weight))
    assert profile["endValue"] == stacks.total() == counted(run, weight)
    assert profile["unit"] == {"flops": "none", "bytes": "bytes"}[weight]
    added = Counter()
    for stack, n in samples:
        added[stack] += n
    assert added == stacks
    for phase in ("prefill", "decode"):
        lines = [one for one in run.recording.passes if one["phase"] == phase]
        part = sum(n for stack, n in stacks.items() if stack[0] == phase)
        if weight == "flops":
            assert part == sum(one["flops"] for one in lines)
    for path in {path for path, _ in run.counts}:
        part = sum(n for stack, n in stacks.items() if ".".join(stack[1:-1]) == path)
        only = run._replace(counts=run.counts.where(path.replace("[", "[[]")))
        assert part == counted(only, weight)


def test_seconds_are_whole_nanoseconds_of_operations(tmp_path):
    run = ran(4, True, tmp_path)
    profile, samples = speedscope(written(run.recording, ".speedscope.json", weight="seconds"))
    assert profile["unit"] == "nanoseconds"
    times = [line["seconds"] for line in run.recording.operations]
    assert len(samples) == len(times)
    for (_, ns), seconds in zip(samples, times, strict=True):
        assert ns == pytest.approx(1e9 * seconds, abs=0.5 + 1e-6)
    total = folded(written(run.recording, ".folded", weight="seconds")).total()
    assert total == profile["endValue"]
    assert total == pytest.approx(1e9 * math.fsum(times), abs=len(times))


def test_without_operations_there_are_no_seconds(tmp_path):
    recording = ran(5, False, tmp_path).recording
    for ending in (".folded", ".speedscope.json"):
        with pytest.raises(InputError, match="record it with --ops"):
            written(recording, ending, weight="seconds")


@pytest.mark.parametrize("ending", [".folded", ".speedscope.json"])
def test_of_a_run_that_was_cut_nothing_is_weighed(ending, tmp_path):
    part = read(cut(ran(0, False, tmp_path).recording, 2))
    with pytest.raises(InputError, match="nothing to weigh: the run did not end"):
        written(part, ending)
