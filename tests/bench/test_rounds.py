"""Runs take turns, at one speed of the memory; never how long anything takes."""

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.bench.engines import Entry
from minigpt.bench.rounds import bandwidth, interleaved, start
from minigpt.bench.worker import Case, Job, Outcome
from minigpt.errors import InputError

A, B = Entry("minigpt", "float32"), Entry("transformers", "float32")


def turns(speeds, count, number=2):
    """`interleaved` on made-up speeds of the memory; what was run, and what came of it."""
    order, speeds = [], iter(speeds)

    def run(entry):
        order.append(entry)
        return Outcome([], None), float(len(order))

    return order, interleaved([A, B][:number], count, run, lambda: next(speeds))


def test_runs_take_turns():
    order, measured = turns(cycle([30.0]), 3)
    assert order == [A, B, A, B, A, B]
    assert (len(measured.runs), measured.repeated, measured.outside) == (6, 0, 0)


@pytest.mark.parametrize("speed", [20, 50])
def test_a_run_in_a_slow_or_a_fast_spell_is_repeated(speed):
    # the third probe is the one between the first run of B and the second of A: both are repeated
    order, measured = turns([30, 30, speed, 30, 30, 30, 30], 2)
    assert order == [A, B, A, B, A, B]
    assert (len(measured.runs), measured.repeated, measured.outside) == (4, 2, 0)
    assert all(run.bandwidths == (30, 30) for run in measured.runs)
    assert [run.answer_s for run in measured.runs if run.entry == A] == [1.0, 5.0]
    assert measured.bandwidth == 30


def test_repeating_ends_and_what_is_always_outside_is_kept_and_said():
    order, measured = turns(cycle([60, 30]), 2, number=1)  # it changes during every run
    assert order == [A] * 4  # as many again, and no more
    assert (len(measured.runs), measured.repeated, measured.outside) == (4, 2, 4)
    assert measured.bandwidth == 45


@given(st.lists(st.floats(1, 2), min_size=13, max_size=13), st.integers(1, 3))
def test_whatever_the_speeds_every_entry_has_runs(speeds, count):
    order, measured = turns(speeds, count)
    assert len(order) == 2 * count + measured.repeated <= 4 * count
    assert {run.entry for run in measured.runs} == {A, B}


def test_bandwidth_is_bytes_over_seconds(monkeypatch):
    monkeypatch.setattr("minigpt.bench.rounds.reading", lambda *_: [0.1, 0.5, 9.0])
    assert bandwidth(2, nbytes=8000) == 16000


def test_a_worker_that_fails_says_why_in_one_line(tmp_path):
    job = Job("minigpt", "float32", str(tmp_path), 1, 260, (Case(3),))
    with pytest.raises(InputError, match=r"^minigpt float32 failed \(1\): .* has no config.json$"):
        start(job)
