"""Stepping: where it stops, and that nothing is counted otherwise."""

import gc
import os
import weakref
from itertools import pairwise

import numpy as np
import pytest
from checkpoints import PROMPT
from helpers import DRAWN, SMALL, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from stepped import MODELS, ROOMS, SAMPLING, Scripted, columns, small, tokens_of

import counting
from counting import Counted, Ledger
from counting.stepping.stepper import Stepper
from minigpt import InputError, load
from minigpt.models.architectures import build
from minigpt.stepping.stepper import ModelStepper, is_model, paths


def each_line(stepper, frame):
    stepper.set_step()


# Where it stops.


@pytest.mark.parametrize("name", SMALL)
def test_line_by_line_it_stays_in_the_model_and_changes_nothing(name):
    case = SMALL[name]
    bare, stepped = small(case), small(case)
    stepper = Scripted(each_line)
    before = stepped.ledger.snapshot()
    stepper.observe(stepped.ledger)
    said = []
    for lm, block in ((bare, None), (stepped, stepper.stepping())):
        cache = lm.model.new_cache(case.batch, case.capacity)
        if block:
            with block:
                said.append(lm.model(tokens_of(case), cache).data)
        else:
            said.append(lm.model(tokens_of(case), cache).data)
    assert np.array_equal(*said)
    assert {state.file for state in stepper.seen} <= ROOMS
    assert {state.function for state in stepper.seen} >= {"forward", "append", "softmax"}
    assert len(stepper.seen) > 100
    assert columns(stepper.counts) == columns(stepped.ledger.snapshot() - before)
    assert columns(stepped.ledger.snapshot()) == columns(bare.ledger.snapshot())
    assert stepped.ledger.peak_bytes == bare.ledger.peak_bytes


WAYS = (
    lambda stepper, frame: stepper.set_step(),
    lambda stepper, frame: stepper.set_next(frame),
    lambda stepper, frame: stepper.set_return(frame),
    lambda stepper, frame: stepper.run_to_operation(),
    lambda stepper, frame: stepper.run_to_operation(lambda op: op.name == "sum"),
    lambda stepper, frame: stepper.run_to_path("*.softmax"),
    lambda stepper, frame: stepper.run_to_layer(),
)


@settings(max_examples=40)
@given(st.sampled_from(sorted(SMALL)), st.lists(st.sampled_from(WAYS), min_size=1, max_size=60))
def test_whichever_way_it_goes_on_it_changes_nothing(name, ways):
    """And what a user looks at is not counted either."""
    DRAWN["stepping changes nothing that is counted"] += 1
    case = SMALL[name]
    bare, stepped = small(case), small(case)
    way = iter(ways)

    def script(stepper, frame):
        for value in frame.f_locals.values():
            if type(value) is Counted and value.dtype.kind == "f":
                value + 1.0
        next(way, WAYS[-1])(stepper, frame)

    stepper = Scripted(script)
    before = stepped.ledger.snapshot()
    stepper.observe(stepped.ledger)
    cache = stepped.model.new_cache(case.batch, case.capacity)
    WAYS[0](stepper, None)
    with stepper.stepping():
        said = stepped.model(tokens_of(case), cache)
    assert stepper.seen[0].function == "forward"
    assert {state.file for state in stepper.seen} <= ROOMS
    assert columns(stepper.counts) == columns(stepped.ledger.snapshot() - before)
    other = bare.model.new_cache(case.batch, case.capacity)
    assert np.array_equal(said.data, bare.model(tokens_of(case), other).data)
    del said
    assert columns(stepped.ledger.snapshot()) == columns(bare.ledger.snapshot())
    assert stepped.ledger.live_bytes == bare.ledger.live_bytes


def test_a_whole_token_line_by_line(plain):
    """With `s`, from the first line of the second token's pass to its end."""

    def script(stepper, frame):
        if stepper.token == 2:
            stepper.set_step()
        else:
            stepper.run_to_token(2) if stepper.token < 2 else stepper.set_continue()

    stepper, lm = Scripted(script), load()
    text = stepper.generate(lm, PROMPT, SAMPLING)
    walked = [state for state in stepper.seen if state.token == 2]
    assert {state.file for state in walked} <= ROOMS
    assert {state.path for state in walked} >= set(paths(lm.model)) - {"mask"}
    assert {state.function for state in walked} >= {"forward", "append", "attention", "softmax"}
    numbers_ = [state.number for state in walked]
    assert numbers_ == sorted(numbers_)
    assert max(b - a for a, b in pairwise(numbers_)) < 10  # no line that does more is passed over
    steps_, ledger = plain
    assert text == PROMPT + "".join(step.text for step in steps_)
    assert columns(lm.ledger.snapshot()) == columns(ledger.snapshot())
    assert lm.ledger.peak_bytes == ledger.peak_bytes
    assert stepper.came[-1].live_bytes == steps_[-1].live_bytes


def test_it_steps_from_the_call_into_forward():
    """`s` on the line that calls Attention, past ln_1, is in its `forward`."""

    def script(stepper, frame):
        if stepper.path == "h.2.attn":
            stepper.set_quit()
        else:
            inside = stepper.path == "h.2.ln_1" and stepper.seen[-1].event == "line"
            stepper.set_return(frame) if inside else stepper.set_step()

    stepper = Scripted(script)
    assert stepper.generate(load(), PROMPT, SAMPLING, at="h.2") is None
    first, last = stepper.seen[0], stepper.seen[-1]
    assert (first.path, first.function) == ("h.2", "forward")
    assert (last.path, last.function, last.event) == ("h.2.attn", "forward", "line")
    assert [state.path for state in stepper.seen[1:-1]] == ["h.2.ln_1", "h.2.ln_1"]


@pytest.mark.parametrize(
    ("go", "path"),
    [
        (lambda stepper: stepper.run_to_path("*.softmax"), "h.4.attn.softmax"),
        (lambda stepper: stepper.run_to_path("h.3.attn.softmax"), "h.3.attn.softmax"),
        (lambda stepper: stepper.run_to_path("*.c_proj"), "h.3.attn.c_proj"),
        (ModelStepper.run_to_layer, "h.4"),
        (ModelStepper.run_to_token, ""),
        (Stepper.run_to_operation, "h.3.attn.softmax"),
        (lambda stepper: stepper.run_to_operation(lambda op: op.flops > 1e5), "h.3.attn.c_proj"),
    ],
)
def test_it_runs_to_what_is_asked_for(go, path):
    def script(stepper, frame):
        go(stepper) if len(stepper.seen) == 1 else stepper.set_quit()

    stepper = Scripted(script)
    stepper.generate(load(), PROMPT, SAMPLING, at="h.3.attn.softmax", token=2)
    first, then = stepper.seen
    assert (first.path, first.token) == ("h.3.attn.softmax", 2)
    assert then.path == path
    assert then.token == (3 if path in ("", "h.3.attn.softmax") and then.number > 600 else 2)


def test_a_breakpoint_of_the_user_is_kept_on_the_way():
    def script(stepper, frame):
        if len(stepper.seen) == 1:
            code = type(stepper.lm.model.ln_f).forward.__code__
            assert stepper.set_break(code.co_filename, code.co_firstlineno + 1) is None
            stepper.run_to_path("h.5.mlp")
        else:
            stepper.clear_all_breaks()
            stepper.set_quit()

    stepper = Scripted(script)
    stepper.generate(load(), PROMPT, SAMPLING, at="h.1.attn")
    assert stepper.seen[1].path == "h.1.ln_2"


def test_one_that_runs_to_what_never_comes_says_so():
    stepper = Scripted(lambda stepper, frame: stepper.run_to_path("h.0.ln_1"))
    stepper.generate(load(), PROMPT, SAMPLING, at="h.0.ln_1", token=3)
    assert [state.event for state in stepper.seen] == ["line", "end"]
    assert stepper.seen[-1].text == "".join(step.text for step in stepper.came)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at": "h.3.attn.sofmax"}, "matches 'h.3.attn.sofmax': perhaps h.3.attn.softmax"),
        ({"at": "zzz"}, "no path of shakespeare matches 'zzz'"),
        ({"token": 4}, "--token is 4; it must be from 1 to 3"),
        ({"token": 0}, "--token is 0; it must be from 1 to 3"),
    ],
)
def test_what_cannot_be_stopped_at(options, said):
    with pytest.raises(InputError, match=said):
        Scripted(each_line).generate(load(), PROMPT, SAMPLING, **options)


def test_files_of_a_model():
    assert all(map(is_model, ROOMS))
    for file in (counting.__file__, np.__file__, os.__file__, str(MODELS / "module.py")):
        assert not is_model(file)


# What is counted.


def test_the_lines_and_the_stretches_add_up_to_the_ledger(plain):
    """Each operation is at one line, and between one pair of stops."""
    by_line, stretches = [], []

    def script(stepper, frame):
        stretches.append(columns(stepper.stretch))
        if stepper.token == 3:
            stepper.run_to_token(4)
        else:
            stepper.run_to_layer() if stepper.token == 1 else stepper.set_step()
        total = columns(stepper.since_mark)
        lines = {(file, line) for _, file, line in stepper.lines}
        each = [columns(stepper.at_line(file, line)) for file, line in lines]
        assert {name: sum(one[name] for one in each) for name in total} == total
        by_line.append(len(lines))

    stepper, lm = Scripted(script), load()
    stepper.generate(lm, PROMPT, SAMPLING)
    rest = columns(stepper.stretch)  # up to the end, for token 4 does not come
    summed = {name: sum(one[name] for one in stretches) + rest[name] for name in rest}
    assert summed == columns(plain[1].snapshot()) == columns(lm.ledger.snapshot())
    assert max(by_line) > 20


@pytest.mark.parametrize("cache", ["compressed", "expanded"])
def test_paths_are_all_that_a_pass_can_enter(cache):
    config = SMALL["deepseek"].config
    make = numbers(0, config.vocab_size)
    ledger = Ledger()
    weights = {key: Counted(make(shape, "f4"), ledger) for key, shape in config.shapes().items()}
    model = build(config, weights, cache=cache)
    tokens = np.arange(9).reshape(1, 9) % config.vocab_size
    model(tokens, model.new_cache(1, 9), "all")
    assert {path for path, _ in ledger.snapshot()} <= {*paths(model)}
    assert {f"model.layers.1.mlp.experts.{i}.act" for i in range(8)} <= {*paths(model)}


def test_paths_keep_no_model_alive():
    lm = small(SMALL["gpt2"])
    assert "h.1.attn.qk" in paths(lm.model)
    dropped = weakref.ref(lm.model)
    del lm
    gc.collect()
    assert dropped() is None
