"""Going back: everything is again what it was."""

import io
from pathlib import Path

import numpy as np
import pytest
from checkpoints import PROMPT, checkpoint, tensors
from helpers import DRAWN
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stepped import LINEAR, MODELS, NORM, OPS, PARTS, SAMPLING, SHORT, VARIANCE, Scripted

import minigpt
from minigpt import generate, load
from minigpt.inference.sample import Sampling
from minigpt.stepping.debugger import Debugger

CACHE = MODELS / "cache.py"
CATEGORY = 1 + CACHE.read_text().splitlines().index('        with category("kv_cache"):')


def each_operation(stepper, frame):
    stepper.run_to_operation()


def test_back_is_where_it_was():
    """Each position that was seen on the way is the same when it is gone back to."""
    rng = np.random.default_rng(0)
    first, again = {}, []

    def script(stepper, frame):
        state = stepper.seen[-1]
        if state.number in first:
            again.append(state)
            assert state == first[state.number]
        if len(first) < 700 and not again:
            first[state.number] = state
            return stepper.run_to_operation()
        if len(again) == 12:
            return stepper.set_continue()
        if state.number < 300:
            ahead = int(rng.integers(300, max(first)))
            return stepper.run_to_operation(lambda op: op.number >= ahead)
        return stepper.run_back(int(rng.integers(1, state.number - min(first))))

    stepper, lm = Scripted(script), load()
    text = stepper.generate(lm, PROMPT, SAMPLING)
    assert len(again) == 12
    assert text == PROMPT + "".join(step.text for step in generate(load(), PROMPT, **SHORT))
    assert {state.token for state in again} >= {1, 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("tiny") / "model", tensors())


TINY = Sampling(max_new_tokens=3, seed=1, ignore_eos=True)


@pytest.fixture(scope="module")
def each(tiny):
    """Where a tiny model is after each operation, by its number: of one run, with no other stop."""
    stepper = Scripted(each_operation)
    stepper._first = lambda at, token: stepper.run_to_operation()
    stepper.generate(load(tiny), "abc", TINY)
    states = {state.number: state for state in stepper.seen if state.event == "operation"}
    assert list(states) == list(range(1, stepper.number + 1))
    return lambda number: states[number]


class Typist(Debugger):
    """The prompt, at which some lines are typed, then q; it remembers what it came to."""

    def __init__(self, lines):
        text = "".join(f"{line}\n" for line in lines)
        super().__init__(stdin=io.StringIO(f"{text}q\n"), stdout=io.StringIO(), readrc=False)
        self.seen, self.kept = [], False

    def stopped(self, frame, event, value):
        self.seen.append((self.kept, self.state(frame, event)))
        super().stopped(frame, event, value)

    def onecmd(self, line):
        self.kept |= "keep" in line
        return super().onecmd(line)

    def observe(self, ledger, from_now=True):
        super().observe(ledger, from_now)
        self.kept = False  # by this run

    @property
    def said(self):
        return self.stdout.getvalue()


GOING = ["op", "op 3", "op 17", "op 60", "n", "s", "r", "until", "layer", "token", "at *.qk", "c"]
LOOKING = ["p x", "up", "down", "w", "display x", "a", "cost", "lens", "p x.std()", "!y = 1", "kv"]
LOOKING += ["global keep; keep = x", "!keep = x", f"b {PARTS}:{LINEAR}", "p {'y': x + 1}", "retval"]
BACK = ["back", "back 2", "back 9", "back 50", "run"]


@settings(max_examples=60)
@given(lines=st.lists(st.sampled_from(GOING * 2 + LOOKING + BACK * 2), min_size=2, max_size=25))
@example(lines=["op 6", "back", "op"])
@example(lines=["n", "back", "op"])
@example(lines=["s"] * 20 + ["up", "display x", "op 9", "back 9", "op 9"])
@example(
    lines=[f"b {CACHE}:{CATEGORY}", "back", "c", "cl 1", "back", "op 9"]
)  # at a category's end
@example(lines=["op", "n", f"b {PARTS}:{LINEAR}", "r", "op"])  # where a frame returns
@example(lines=["op 40", "!keep = x", "global keep; keep = x", "back 3", "op"])
def test_whatever_is_typed_memory_at_an_operation_is_what_it_was(lines, tiny, each):
    """However it came there: live and peak bytes of every category, its number, its FLOP."""
    DRAWN["memory after going back is what it was"] += 1
    debugger = Typist(lines)
    debugger.generate(load(tiny), "abc", TINY)
    debugger.clear_all_breaks()
    vars(minigpt.models.ops).pop("keep", None), vars(minigpt.models.gpt2).pop("keep", None)
    for kept, state in debugger.seen:
        if state.event == "operation" and not kept:
            assert state == each(state.number)


@settings(max_examples=25)
@given(
    lines=st.lists(st.sampled_from(["op", "op 3", "op 17", "n", "s"]), min_size=1, max_size=9),
    back=st.integers(1, 16),
)
def test_back_arrives_whatever_breakpoints_lie_between(lines, back, tiny, each):
    """Those of a line, temporary ones, one with a condition; after that they count again."""
    breaks = [f"b {PARTS}:{LINEAR}", f"tbreak {OPS}:{NORM}", f"b {OPS}:{VARIANCE}, x.std() > -1"]
    debugger = Typist([*breaks, *lines, "op 60", "op 60", "op 60", f"back {back}", "c"])
    debugger.generate(load(tiny), "abc", TINY)
    debugger.clear_all_breaks()
    numbers = [state.number for _, state in debugger.seen]
    last = len(lines) + 3  # the stop at which `back` was typed
    assert numbers[last + 1] == numbers[last] - back
    arrived, then = debugger.seen[last + 1][1], debugger.seen[last + 2][1]
    assert arrived == each(arrived.number)
    assert (then.event, Path(then.file).name) == ("line", "ops.py")
    assert then.line in (LINEAR, VARIANCE, NORM)


def test_back_to_the_start_and_no_further():
    def script(stepper, frame):
        match len(stepper.seen):
            case 1:
                stepper.run_to_operation(lambda op: op.number == 40)
            case 2:
                with pytest.raises(ValueError, match="there are 40 operations to go back by"):
                    stepper.run_back(41)
                stepper.run_back(40)
            case _:
                stepper.set_quit()

    stepper = Scripted(script)
    assert stepper.generate(load(), PROMPT, SAMPLING) is None
    assert stepper.seen[0] == stepper.seen[2]


def test_without_a_seed_it_goes_back_to_the_same_text():
    texts = []

    def script(stepper, frame):
        texts.append(stepper.state(frame, "").text)
        stepper.run_back(stepper.number - 1) if len(texts) == 1 else stepper.run_to_token(4)

    stepper = Scripted(script)
    stepper.generate(load(), PROMPT, Sampling(max_new_tokens=4, temperature=5.0), token=4)
    assert texts[0] == texts[-1] != ""
