"""Stepping: where it stops, that nothing is counted otherwise, and that it can go back."""

import gc
import io
import os
import subprocess
import sys
import threading
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from checkpoints import ROOT, SHIPPED, checkpoint, environment, tensors
from helpers import DRAWN, SMALL, cases, numbers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import counting
import minigpt
from counting import Counted, Ledger, ShapeArray, category, observing, scope, trace
from counting.stepping.debugger import below
from counting.stepping.operation import condition, uncounted
from counting.stepping.stepper import Stepper, stop_at
from minigpt import InputError, generate, load, run_with_cache, steps
from minigpt.inference.load import LanguageModel
from minigpt.inference.sample import Sampling
from minigpt.models.architectures import build
from minigpt.stepping.debugger import Debugger
from minigpt.stepping.inspection import attention_pattern, expected, kv_cache, logit_lens
from minigpt.stepping.stepper import ModelStepper, is_model, paths

PROMPT = "To be, or not to be"
SHORT = {"max_new_tokens": 3, "seed": 1}
SAMPLING = Sampling(**SHORT)
MODELS = Path(minigpt.__file__).parent / "models"  # the clone, or where it was installed to
ROOMS = {
    str(MODELS / f"{room}.py") for room in ("gpt2", "llama", "deepseek", "ops", "cache", "routing")
}


OPS = MODELS / "ops.py"
LINEAR, VARIANCE, NORM = (
    1 + OPS.read_text().splitlines().index(line)
    for line in (
        "        return x @ self.weight + self.bias",
        "    variance = (centred * centred).mean(axis=-1, keepdims=True)  # (..., 1)",
        "    return centred / np.sqrt(variance + epsilon) * weight + bias",
    )
)
CACHE = MODELS / "cache.py"
CATEGORY = 1 + CACHE.read_text().splitlines().index('        with category("kv_cache"):')
FINAL = "ln_f.weight", "ln_f.bias", "wte.weight"


class Scripted(ModelStepper):
    """A stepper that does what `script(self, frame)` says at each stop, and remembers where."""

    def __init__(self, script, **options):
        super().__init__(**options)
        self.script, self.seen = script, []

    def stopped(self, frame, event, value):
        self.seen.append(self.state(frame, event))
        if event != "end":
            self.script(self, frame)


def each_line(stepper, frame):
    stepper.set_step()


def each_operation(stepper, frame):
    stepper.run_to_operation()


def columns(counts):
    return {name: counts.total(name) for name in counts.columns}


def added(operations):
    total = {}
    for op in operations:
        for name, n in op.counts.items():
            total[name] = total.get(name, 0) + n
    return total


def small(case, seed=0):
    """A language model without a tokenizer, of a case."""
    ledger, make = Ledger(), numbers(seed, case.config.vocab_size)
    with category("weights"):
        shapes = case.config.shapes().items()
        weights = {key: Counted(make(s, np.float32), ledger) for key, s in shapes}
    model = build(case.config, weights)
    return LanguageModel("small", model, model, None, ledger, None, "float32")


def tokens_of(case, seed=0):
    return numbers(seed, case.config.vocab_size)((case.batch, case.chunks[0]), int)


@pytest.fixture(scope="module")
def plain():
    """A run of the shipped model without stepping: its steps, and its ledger."""
    lm = load()
    return list(generate(lm, PROMPT, **SHORT)), lm.ledger


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


# What is counted.


@settings(max_examples=40)
@given(cases(), st.integers(0, 2**32 - 1))
def test_the_steps_add_up_to_the_ledger(case, seed):
    DRAWN["the steps of a pass add up to its ledger"] += 1
    lm, closed = small(case, seed), small(case, seed)
    tokens = tokens_of(case, seed)
    before = lm.ledger.snapshot()
    total = added(steps(lm, tokens, logits=case.logits))
    assert total == columns(lm.ledger.snapshot() - before)
    before = closed.ledger.snapshot()
    closed.model(tokens, closed.model.new_cache(*tokens.shape), case.logits)
    assert total == columns(closed.ledger.snapshot() - before)


@pytest.mark.parametrize("name", SMALL)
def test_the_steps_of_every_architecture_add_up(name):
    case = SMALL[name]
    lm, closed = small(case), small(case)
    before = lm.ledger.snapshot()
    number = 0
    total = {}
    for number, op in enumerate(steps(lm, tokens_of(case)), 1):
        assert op.number == number
        assert sum(op.cost.values()) == sum(op.counts[kind] for kind in op.cost)
        total = {name: total.get(name, 0) + n for name, n in op.counts.items()}
    assert number == (lm.ledger.snapshot() - before).total("calls")
    before = closed.ledger.snapshot()
    closed.model(tokens_of(case), closed.model.new_cache(case.batch, case.chunks[0]))
    assert total == columns(closed.ledger.snapshot() - before)


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


def test_what_is_computed_aside_is_not_charged():
    ledger = Ledger()
    x = Counted(np.ones((4, 4), np.float32), ledger)
    y = x @ x
    before, live, peak = ledger.snapshot(), ledger.live_bytes, ledger.peak_bytes
    with uncounted(ledger):
        kept = np.exp(y @ y + x)
        kept[0] = 1.0
        assert ledger.live_bytes["activations"] == live["activations"] + kept.nbytes
    assert columns(ledger.snapshot()) == columns(before)
    assert ledger.observer is None
    assert ledger.peak_bytes == ledger.live_bytes  # what is kept is really there
    del kept
    assert ledger.live_bytes == live
    with uncounted(ledger):
        np.exp(y @ y + x)
    assert (ledger.live_bytes, ledger.peak_bytes["kv_cache"]) == (live, peak["kv_cache"])
    assert np.exp(y).charge.cost == {"exp": 16}
    assert (ledger.snapshot() - before).total("calls") == 1


def test_what_is_read_at_a_stop_is_not_charged_and_right(plain):
    """Lens, cache, attention and formula, at every layer; the numbers are those of the model."""
    found = []

    def script(stepper, frame):
        lens, held = logit_lens(frame, top=1024), kv_cache(frame)
        x = frame.f_locals["x"]
        found.append((stepper.path, lens, held, expected(frame, stepper.path), x.data.copy()))
        stepper.run_to_layer()

    stepper, lm = Scripted(script), load()
    stepper.generate(lm, PROMPT, SAMPLING, token=2, at="h.*")
    assert columns(lm.ledger.snapshot()) == columns(plain[1].snapshot())
    assert lm.ledger.peak_bytes == plain[1].peak_bytes
    found = [one for one in found if one[0].count(".") == 1][:6]
    assert [path for path, *_ in found] == [f"h.{layer}" for layer in range(6)]
    weights = load_file(SHIPPED / "model.safetensors")
    scale, shift, table = (weights[name].astype(float) for name in FINAL)
    for layer, (_, lens, held, _, x) in enumerate(found):
        row = x[0, -1].astype(float)
        row = (row - row.mean()) / np.sqrt(row.var() + lm.config.layer_norm_epsilon)
        logits = table @ (row * scale + shift)
        share = np.exp(logits - logits.max())
        share /= share.sum()
        assert lens.path == f"h.{layer}"
        assert sum(p for _, p in lens.tokens) == pytest.approx(1)
        assert lens.tokens[0][0] == share.argmax()
        assert lens.tokens[0][1] == pytest.approx(share.max(), rel=1e-3)
        assert [row.filled for row in held] == [8] * layer + [7] * (6 - layer)
        assert {row.reserved for row in held} == {9}
        assert held[0].filled_bytes == held[0].filled * 2 * 256 * 4
    second = plain[0][1].counts
    for path, _, _, whole, _ in found:
        assert whole.flops == counting.views.flops(below(second, path))
        assert "D" in whole.formula


@pytest.mark.parametrize("name", ["llama", "deepseek"])
def test_what_a_layer_should_cost_is_known_for_every_architecture(name):
    case = SMALL[name]
    lm = small(case)
    whole = {}

    def script(stepper, frame):
        whole.setdefault(stepper.path, expected(frame, stepper.path))
        stepper.run_to_line(lambda frame, path, before: path != before)

    stepper = Scripted(script)
    stepper.observe(lm.ledger)
    with stepper.stepping():
        lm.model(tokens_of(case), lm.model.new_cache(case.batch, case.capacity))
    layer = "model.layers.1"
    done = counting.views.flops(below(stepper.counts, layer))
    if name == "llama":  # which experts are met is not known without the data
        assert whole[layer].flops == done
    assert whole[f"{layer}.self_attn"].flops == counting.views.flops(
        below(stepper.counts, f"{layer}.self_attn")
    )
    assert whole[layer].formula == ""


def test_where_attention_looks():
    patterns = []

    def script(stepper, frame):
        patterns.append((stepper.path, attention_pattern(frame)))
        stepper.set_next(frame) if len(patterns) < 3 else stepper.set_quit()

    stepper = Scripted(script)
    stepper.generate(load(), PROMPT, SAMPLING, at="h.3.attn.softmax")
    assert [pattern is None for _, pattern in patterns] == [True, False, False]
    pattern = patterns[1][1]
    assert pattern.shape == (8, 7, 7)
    assert np.allclose(pattern.sum(axis=-1), 1)
    assert not np.triu(pattern[0], 1).any()
    _, kept = run_with_cache(load(), PROMPT, "h.3.attn.softmax")
    assert np.array_equal(kept["h.3.attn.softmax"].data[0], pattern.astype(np.float32))


# Back.


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
LOOKING += ["global keep; keep = x", "!keep = x", f"b {OPS}:{LINEAR}", "p {'y': x + 1}", "retval"]
BACK = ["back", "back 2", "back 9", "back 50", "run"]


@settings(max_examples=60)
@given(lines=st.lists(st.sampled_from(GOING * 2 + LOOKING + BACK * 2), min_size=2, max_size=25))
@example(lines=["op 6", "back", "op"])
@example(lines=["n", "back", "op"])
@example(lines=["s"] * 20 + ["up", "display x", "op 9", "back 9", "op 9"])
@example(
    lines=[f"b {CACHE}:{CATEGORY}", "back", "c", "cl 1", "back", "op 9"]
)  # at a category's end
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
    breaks = [f"b {OPS}:{LINEAR}", f"tbreak {OPS}:{NORM}", f"b {OPS}:{VARIANCE}, x.std() > -1"]
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


# Conditions, and what cannot be.


def test_conditions():
    def after(text, **options):
        return next((op.number for op in steps(lm, PROMPT) if condition(text)(op)), None)

    lm = load()
    ops = [(op.number, op.flops, op.allocation) for op in steps(lm, PROMPT)]
    assert after("flops>1e6") == next(n for n, flops, _ in ops if flops > 1e6)
    assert after("alloc >= 7168") == next(n for n, _, alloc in ops if alloc >= 7168)
    assert after("flops>1e12") is None
    assert after("nan") is None
    masked = next(op for op in steps(lm, PROMPT) if condition("inf")(op))
    assert (masked.path, masked.name) == ("h.0.attn.softmax", "where")
    lm.model.h[2].mlp.c_fc.bias.data = np.full(1024, np.nan, np.float32)
    broken = next(op for op in steps(lm, PROMPT) if condition("nan")(op))
    assert (broken.path, broken.name) == ("h.2.mlp.c_fc", "add")


@pytest.mark.parametrize("text", ["", "flops", "flops>", "flops>1.2.3", "flops<1", "when nan", "1"])
def test_a_condition_that_is_none(text):
    with pytest.raises(ValueError, match="is no condition: flops>1e6, alloc>1e4, nan or inf"):
        condition(text)


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


# The library.


def test_an_operation_is_a_thing():
    [op] = (op for op in steps(load(), PROMPT) if op.path == "h.3.attn.av" and op.name == "matmul")
    assert op.output.shape == (1, 8, 7, 32)
    assert [x.shape for x in op.inputs] == [(1, 8, 7, 7), (1, 8, 7, 32)]
    assert op.cost == trace(np.matmul, *(x.shape for x in op.inputs)).cost
    assert (op.flops, op.allocation) == (2 * 8 * 7 * 7 * 32, 8 * 7 * 32 * 4)
    assert op.counts["written", "activations"] == op.output.nbytes
    assert repr(op).startswith(f"<operation {op.number}, matmul at h.3.attn.av -> Counted((1, 8")


def test_steps_that_are_left_end_their_thread():
    lm = load()
    before = threading.active_count()
    some = steps(lm, PROMPT)
    assert [next(some).path for _ in range(3)] == ["", "", ""]  # the cache is made
    assert threading.active_count() == before + 1
    some.close()
    del some
    assert threading.active_count() == before
    assert lm.ledger.observer is None
    assert lm.ledger.live_bytes["kv_cache"] == lm.ledger.live_bytes["activations"] == 0


def test_steps_raise_what_the_pass_raises():
    lm = small(SMALL["gpt2"])
    with pytest.raises(IndexError):
        list(steps(lm, np.array([[10_000]])))
    with pytest.raises(InputError, match="the prompt is empty"):
        list(steps(load(), ""))


def test_activations_by_name():
    lm = load()
    logits, kept = run_with_cache(lm, PROMPT, "h.*", logits="all")
    bare = load()
    rows = np.array([bare.tokenizer.encode(PROMPT).ids])
    with observing(bare.ledger, lambda *_: None):
        said = bare.model(rows, bare.model.new_cache(1, 7), "all")
    assert np.array_equal(logits.data, said.data)
    assert kept["h.5"].shape == (1, 7, 256)
    assert kept["h.2.mlp.gelu"].shape == (1, 7, 1024)
    with observing(lm.ledger, lambda *_: None):
        head = lm.model.lm_head(lm.model.ln_f(kept["h.5"]))
    assert np.array_equal(head.data, logits.data)  # h.5 is the stream that the head sees
    held = sum(array.nbytes for array in kept.values())
    del head, said
    assert lm.ledger.live_bytes["activations"] >= held
    del kept, logits
    assert lm.ledger.live_bytes["activations"] == 0


def test_activations_keep_to_their_budget():
    lm = load()
    kept = run_with_cache(lm, PROMPT, "h.*.attn.softmax", budget=6 * 8 * 7 * 7 * 4)[1]
    assert len(kept) == 6
    del kept
    with pytest.raises(
        InputError, match=r"exceed the budget of 9,407 bytes at h\.5\.attn\.softmax"
    ):
        run_with_cache(lm, PROMPT, "h.*.attn.softmax", budget=6 * 8 * 7 * 7 * 4 - 1)
    gc.collect()  # the error held the frames it came through
    assert lm.ledger.live_bytes["activations"] == 0
    with pytest.raises(InputError, match="no path of shakespeare matches 'attn'"):
        run_with_cache(lm, PROMPT, "attn")


def talk(monkeypatch, capsys, *lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return lambda: capsys.readouterr().out


def test_stop_at(monkeypatch, capsys):
    """It stops at each path that matches, on the line before; `continue` goes to the next."""
    lm = small(SMALL["gpt2"])
    said = talk(monkeypatch, capsys, "p q.shape", "c", "n", "p scores.shape", "cost", "c", "c")
    cache = lm.model.new_cache(2, 3)
    with stop_at("h.*.attn.qk"):
        lm.model(tokens_of(SMALL["gpt2"]), cache)
    out = said()
    assert out.count("-> scores = ") == 2
    assert "(2, 3, 3, 2)" in out
    assert "(2, 3, 3, 3)" in out
    assert "h.1.attn.qk                   2 operations             270 FLOP" in out
    assert sys.gettrace() is None or "stepping" not in repr(sys.gettrace())
    assert lm.ledger.observer is None


def test_stop_at_is_for_any_program(monkeypatch, capsys):
    said = talk(monkeypatch, capsys, "op", "p __operation__.output.shape", "s", "q")
    x = Counted(np.ones((3, 4), np.float32), Ledger())

    def program():
        with stop_at("layer.*"), scope("layer"):
            with scope("product"):
                y = x @ x.T
            np.exp(y)

    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code is None
    assert sys.gettrace() is None or "stepping" not in repr(sys.gettrace())
    out = said()
    assert "-> y = x @ x.T" in out
    assert "operation 1: matmul, 72 FLOP, 36 B allocated" in out
    assert "(3, 3)\n" in out
    assert "#1 72 FLOP 84 B (step) " in out


def test_shapes_are_stepped_through_too():
    seen = []

    class Shapes(Stepper):
        def stopped(self, frame, event, value):
            seen.append(repr(value.output))
            self.run_to_operation()

    stepper, ledger = Shapes(), Ledger()
    x = Counted(ShapeArray((3, 4)), ledger)
    stepper.observe(ledger)
    stepper.run_to_operation()
    with stepper.stepping():
        np.exp(x @ x.T)
    assert seen == [
        "Counted((3, 3) float32, 36 B of activations by matmul: 72 FLOP {'fma': 36})",
        "Counted((3, 3) float32, 36 B of activations by exp: 9 FLOP {'exp': 9})",
    ]


def test_a_breakpoint_in_a_model_opens_it(tmp_path):
    """PYTHONBREAKPOINT=minigpt.step, and a `breakpoint()` in somebody's own attention."""
    program = tmp_path / "program.py"
    program.write_text(
        "import minigpt\n"
        "from minigpt.models import gpt2\n"
        "class Attention(gpt2.Attention):\n"
        "    def forward(self, x, mask, cache):\n"
        "        breakpoint()\n"
        "        y = super().forward(x, mask, cache)\n"
        "        return y\n"
        "gpt2.Attention = Attention\n"
        "lm = minigpt.load()\n"
        "steps = minigpt.generate(lm, 'To be', max_new_tokens=1, seed=1)\n"
        "print([step.token for step in steps])\n"
    )
    commands = b"s\ns\nw\nat h.0.attn.softmax\nn\nattn\nlens 1\nkv 0\nback\ncost\nq\n"
    env = environment(PYTHONBREAKPOINT="minigpt.step", PYTHONPATH=str(ROOT))
    result = subprocess.run(
        [sys.executable, program], env=env, cwd=tmp_path, input=commands, capture_output=True
    )
    out = result.stdout.decode()
    assert f"> {program}(6)forward()" in out
    assert "> " + str(ROOT / "minigpt" / "models" / "gpt2.py") in out
    assert f"{os.sep}counting{os.sep}" not in out
    assert f"models{os.sep}module.py" not in out
    assert "head 7 |" in out
    assert "layer   0      2 of 2 positions" in out
    assert "going back needs minigpt step" in out
    assert "if the model ended with x of h.0:" in out
    assert (result.returncode, result.stderr) == (0, b"")


def test_paths_keep_no_model_alive():
    lm = small(SMALL["gpt2"])
    assert "h.1.attn.qk" in paths(lm.model)
    dropped = weakref.ref(lm.model)
    del lm
    gc.collect()
    assert dropped() is None


def test_files_of_a_model():
    assert all(map(is_model, ROOMS))
    for file in (counting.__file__, np.__file__, os.__file__, str(MODELS / "module.py")):
        assert not is_model(file)


def test_steps_of_a_checkpoint_of_ones_own(tmp_path):
    lm = load(checkpoint(tmp_path / "model", tensors()))
    assert added(steps(lm, np.array([[1, 2]])))["calls"] > 30
