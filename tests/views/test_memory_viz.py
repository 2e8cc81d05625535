"""Snapshots for memory_viz, read by an unpickler that makes no objects, and by PyTorch."""

import base64
import io
import json
import pickle
import pickletools
import re
from collections import Counter

import numpy as np
import pytest
from recordings import FAMILIES
from viewed import ran, written

from minigpt import InputError
from minigpt.recording.memory import moments

READ = """APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPUT BINUNICODE EMPTY_DICT
EMPTY_LIST EMPTY_TUPLE FRAME LONG1 LONG_BINGET LONG_BINPUT MARK MEMOIZE NEWFALSE NEWTRUE NONE PROTO
SETITEM SETITEMS SHORT_BINUNICODE STOP TUPLE TUPLE1 TUPLE2 TUPLE3"""
"""What the page reads of pickle: the cases of `unpickle` in PyTorch's MemoryViz.js."""


class Plain(pickle.Unpickler):
    def find_class(self, module, name):
        raise AssertionError(f"{module}.{name} is no built-in container")


def snapshot(recording):
    return Plain(io.BytesIO(written(recording, ".pickle").read_bytes())).load()


def replayed(events):
    """Bytes alive by category after each event, each event's address held to be what it says."""
    alive, segments, live = {}, {}, Counter()
    for event in events:
        address, size = event["addr"], event["size"]
        match event["action"]:
            case "segment_alloc":
                assert address not in segments
                assert all(address >= a + n or a >= address + size for a, n in segments.items())
                segments[address] = size
            case "alloc":
                assert segments[address] == size
                alive[address] = event["category"], size
                live[event["category"]] += size
            case "free_requested":
                assert alive[address] == (event["category"], size)
            case "free_completed":
                live[event["category"]] -= size
                del alive[address]
            case "segment_free":
                assert address not in alive
                assert segments.pop(address) == size
            case other:
                assert other == "snapshot"
        yield live, alive


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_its_events_are_the_memory_of_the_run(seed, tmp_path):
    run = ran(seed, True, tmp_path)
    found = snapshot(run.recording)
    [events] = found["device_traces"]
    peak, most, alive = Counter(), 0, {}
    for live, alive in replayed(events):  # noqa: B007
        peak |= live
        most = max(most, live.total())
    assert peak == Counter(run.peak)
    before = sum(run.recording.header["live_bytes"].values())
    levels = [sum(moment.live.values()) for moment in moments(run.recording)]
    assert most == max(before, *levels)
    blocks = {
        segment["address"]: block["size"]
        for segment in found["segments"]
        for block in segment["blocks"]
        if block["state"] == "active_allocated"
    }
    assert blocks == {address: size for address, (_, size) in alive.items()}
    assert sum(blocks.values()) == sum(run.recording.end["live_bytes"].values())
    at = [event["time_us"] for event in events[1:]]
    assert at == sorted(at)


def test_what_was_made_says_where(tmp_path):
    recording = ran(0, True, tmp_path).recording
    [events] = snapshot(recording)["device_traces"]
    made = {e["frames"][0]["line"]: e for e in events if e["action"] == "alloc"}
    lines = [line for line in recording.operations if line["bytes"]]
    assert made.keys() - {0} == {line["number"] for line in lines}
    for line in lines:
        first, *outer = made[line["number"]]["frames"]
        assert first["filename"] == (line["path"] or "cache")
        assert first["name"].startswith(line["operation"])
        parts = reversed([frame["name"] for frame in outer])
        assert ".".join(parts) == line["path"]


@pytest.mark.parametrize("size", [2**31, 2**40 + 7])
def test_the_page_reads_all_that_is_in_it(size, tmp_path):
    recording = ran(int(np.random.default_rng(size).integers(6)), True, tmp_path).recording
    text = recording.path.read_text()
    recording.path.write_text(re.sub('"weights": [0-9]+}?', f'"weights": {size}', text, count=1))
    content = written(recording, ".pickle").read_bytes()
    assert {code.name for code, _, _ in pickletools.genops(content)} <= {*READ.split()}
    assert content[1] in (2, 3, 4)
    [events] = snapshot(recording)["device_traces"]
    assert "unknown" in {event["category"] for event in events}  # else the page stops


def test_pytorch_takes_it(tmp_path):
    viz = pytest.importorskip("torch.cuda._memory_viz", reason="PyTorch is not installed")
    run = ran(3, True, tmp_path)
    found = snapshot(run.recording)
    folded = viz.memory(found, format_flamegraph=lambda text: text)
    sizes = [int(line.rpartition(" ")[2]) for line in folded.splitlines()]
    assert sum(sizes) == sum(run.recording.end["live_bytes"].values())
    assert "total_free: 0.0B" in viz.segsum(found)
    assert "cudaMalloc" in viz.trace(found)
    page = viz.trace_plot(found)
    [local] = json.loads(re.search("const local_files = (.*)", page)[1])
    assert Plain(io.BytesIO(base64.b64decode(local["base64"]))).load() == found


def test_without_operations_it_is_refused(tmp_path):
    recording = ran(0, False, tmp_path).recording
    with pytest.raises(InputError, match="record it with --ops"):
        written(recording, ".pickle")
