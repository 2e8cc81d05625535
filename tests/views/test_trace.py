"""Traces for Perfetto, read back by its protobuf."""

import json
import sys
from collections import defaultdict

import pytest
from recordings import FAMILIES
from viewed import cut, ran, written

from counting.views import flops
from minigpt import InputError
from minigpt.recording.memory import moments
from minigpt.recording.read import read


def packets(path):
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    return trace.packet


def tracks(packets):
    """Descriptors of tracks by their number, all of the one process."""
    found = {p.track_descriptor.uuid: p.track_descriptor for p in packets if not p.timestamp}
    return {uuid: track for uuid, track in found.items() if uuid}


def slices(packets):
    """What begins and ends: the names around it and its own, arguments, two times; in order."""
    open_, done, before = [], [], 0
    for packet in packets:
        assert packet.timestamp >= before or packet.HasField("track_descriptor")
        before = max(before, packet.timestamp)
        event = packet.track_event
        if packet.HasField("track_event") and event.type == event.TYPE_SLICE_BEGIN:
            open_.append(event.name)
            done.append([(*open_,), arguments(event), packet.timestamp, None])
        elif packet.HasField("track_event") and event.type == event.TYPE_SLICE_END:
            [last] = [s for s in done if s[3] is None and s[0] == (*open_,)]
            last[3] = packet.timestamp
            open_.pop()
    assert not open_
    return done


def arguments(event):
    return {a.name: getattr(a, a.WhichOneof("value")) for a in event.debug_annotations}


def counters(packets):
    """Values of each counter, by its name, with their times."""
    named, found = tracks(packets), defaultdict(list)
    for packet in packets:
        event = packet.track_event
        if packet.HasField("track_event") and event.type == event.TYPE_COUNTER:
            track = named[event.track_uuid]
            found[track.name].append((packet.timestamp, event.counter_value))
    return found


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_slices_are_the_operations_nested_as_the_model_is(seed, tmp_path):
    run = ran(seed, True, tmp_path)
    found = slices(packets(written(run.recording, ".pftrace")))
    operations = [one for one in found if "number" in one[1]]
    assert len(operations) == len(run.recording.operations)
    for (names, said, began, ended), line in zip(operations, run.recording.operations, strict=True):
        outermost, *parts, operation = names
        assert (".".join(parts), operation) == (line["path"], line["operation"])
        number = "cache" if line["pass"] is None else f"pass {line['pass']}: "
        assert outermost.startswith(number)
        for name in ("number", "flops", "bytes", "category", "dtype"):
            assert said[name] == line[name]
        assert said["shape"] == str(line["shape"])
        moved = {k: n for k, n in said.items() if k.startswith("bytes_read.")}
        assert moved == {f"bytes_read.{k}": n for k, n in line["bytes_read"].items()}
        assert began == pytest.approx(1e9 * line["start"], abs=2)
        assert ended - began == pytest.approx(1e9 * line["seconds"], abs=2)
    assert sum(said["flops"] for _, said, _, _ in operations) == flops(run.counts)
    passes = [one for one in found if len(one[0]) == 1 and one[0] != ("cache",)]
    assert [said["flops"] for _, said, _, _ in passes] == [
        one["flops"] for one in run.recording.passes
    ]
    for names, _, began, ended in found:  # what is within another lies within its times
        around = [o for o in found if o[0] == names[:-1] and o[2] <= began and ended <= o[3]]
        assert around or len(names) == 1


@pytest.mark.parametrize("ops", [False, True])
@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_counters_are_the_memory_and_the_sums(seed, ops, tmp_path):
    run = ran(seed, ops, tmp_path)
    recording = run.recording
    every = packets(written(recording, ".pftrace"))
    found = counters(every)
    if ops:
        moved = [moment.live.copy() for moment in moments(recording)]
    else:
        moved = [one["live_bytes"] for one in recording.passes]
    for name, before in recording.header["live_bytes"].items():
        values = [before, *(live[name] for live in moved)]
        changes = [b for a, b in zip([None, *values], values, strict=False) if a != b]
        assert [value for _, value in found[f"live {name}"]] == changes
    peaks = {name: max(n for _, n in found[f"live {name}"]) for name in run.peak}
    if ops:
        assert peaks == run.peak
    assert found["FLOP so far"][-1][1] == flops(run.counts)
    assert found["bytes read so far"][-1][1] == sum(run.counts.bytes_read.values())
    assert found["bytes written so far"][-1][1] == sum(run.counts.bytes_written.values())
    for values in found.values():
        assert [at for at, _ in values] == sorted(at for at, _ in values)
    for track in tracks(every).values():
        if track.HasField("counter"):
            size = track.counter.unit == track.counter.UNIT_SIZE_BYTES
            assert (size, track.counter.unit_name) in [(True, ""), (False, "FLOP")]
            assert size == (track.name != "FLOP so far")


@pytest.mark.parametrize("ops", [False, True])
def test_tokens_are_instants_of_their_prompt(ops, tmp_path):
    recording = ran(0, ops, tmp_path).recording
    every = packets(written(recording, ".pftrace"))
    named, said = tracks(every), defaultdict(list)
    for packet in every:
        event = packet.track_event
        if packet.HasField("track_event") and event.type == event.TYPE_INSTANT:
            said[named[event.track_uuid].name].append(arguments(event)["token"])
    for number in range(len(recording.header["prompts"])):
        tokens = [one["token"] for one in recording.tokens if one["sequence"] == number]
        assert said[f"tokens of prompt {number}"] == tokens


def test_passes_alone_have_their_times(tmp_path):
    recording = ran(1, False, tmp_path).recording
    found = slices(packets(written(recording, ".pftrace")))
    for (names, said, began, ended), one in zip(found, recording.passes, strict=True):
        assert names == (f"pass {one['pass']}: {one['phase']}",)
        assert said["flops"] == one["flops"]
        assert ended == pytest.approx(1e9 * one["at"], abs=2)
        assert ended - began == pytest.approx(1e9 * one["seconds"], abs=2)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_a_cut_recording_has_begun_is_ended(share, tmp_path):
    whole = ran(2, True, tmp_path).recording
    part = read(cut(whole, 1 + int(share * len(whole.operations))))
    found = slices(packets(written(part, ".pftrace")))
    assert sum("number" in said for _, said, _, _ in found) == len(part.operations)
    assert all(ended is not None for _, _, _, ended in found)


def test_a_number_that_no_trace_holds_is_refused(tmp_path):
    recording = ran(0, False, tmp_path).recording
    text = recording.path.read_text().replace('"flops": ', f'"flops": {10**20}', 1)
    recording.path.write_text(text)
    with pytest.raises(InputError, match="numbers above 2\\^63"):
        written(recording, ".pftrace")
    assert not recording.path.with_name("view.pftrace").exists()


@pytest.mark.parametrize("ending", [".csv", ".folded", ".pftrace", ".png", ".speedscope.json"])
def test_a_name_that_is_no_text_is_no_hindrance(ending, tmp_path):
    recording = ran(0, False, tmp_path).recording
    first, rest = recording.path.read_text().split("\n", 1)
    header = json.loads(first) | {"model": "odd\udcff_$1_\u6a21"}
    recording.path.write_text(f"{json.dumps(header)}\n{rest}")
    options = {"gpu": "h100"} if ending == ".png" else {}  # or it would measure this machine
    assert written(recording, ending, **options).stat().st_size


def test_without_the_package_a_line_says_how_to_have_it(tmp_path, monkeypatch):
    recording = ran(0, False, tmp_path).recording
    monkeypatch.setitem(sys.modules, "perfetto.protos.perfetto.trace", None)
    with pytest.raises(InputError, match=r"pip install -e '.\[views\]'"):
        written(recording, ".pftrace")
