"""Whole decode steps: recorded, fused, and run on this CPU from the GPU's own source.

Beside them runs the model's own code on the stand-in for CuPy. No GPU code runs here.
"""

import importlib

import numpy as np
import pytest
from emulator import NUMBERS, Emulator
from gpu import stand_in  # noqa: F401
from helpers import numbers
from steps import CAPACITY, GPT2, LLAMA, MODELS, Subject, assert_as_the_code, assert_waits

from minigpt.fast.kernels.machine import here
from minigpt.fast.packed import PackedMatrix
from minigpt.fast.replay import Replayed
from minigpt.models.architectures import build
from minigpt.models.gpt2_config import GPT2Config
from minigpt.notes import note


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("blocks", "threads"), [(1, 64), (3, 96), (5, 128)])
def test_a_step_is_what_the_code_says(cupy, library, model, blocks, threads):
    subject = Subject(MODELS[model], Emulator(library, blocks, threads))
    assert_as_the_code(subject, [5, 1, 1, 1])


@pytest.mark.parametrize("model", MODELS)
def test_from_the_first_token_to_the_last(cupy, library, model):
    assert_as_the_code(Subject(MODELS[model], Emulator(library)), [1] * CAPACITY)


@pytest.mark.parametrize(("C", "H"), [(768, 12), (1024, 16), (1280, 20), (1600, 25)])
def test_the_widths_of_all_sizes_of_gpt2(cupy, library, C, H):
    config = GPT2Config(101, CAPACITY, C, 1, H)
    assert_as_the_code(Subject(config, Emulator(library, 2, 256)), [20, 1])


def test_blocks_meet_wherever_one_needs_what_another_wrote(cupy, library):
    for config in MODELS.values():
        subject = Subject(config, Emulator(library))
        assert_waits(subject.fast.step(subject.model.new_cache(1, CAPACITY)).jobs)


def kinds(step):
    return [(job.structure, job["made_of"], job["meets"]) for job in step.jobs]


def test_five_phases_a_layer(cupy, library):
    plain, normed, squared, gated, parts = (
        NUMBERS[name] for name in ("PLAIN", "LAYER_NORM", "RMS_NORM", "GATED", "PARTS")
    )
    attention = ("Attention", 0, 1)
    layer = [("Product", normed, 1), attention, ("Product", parts, 1)]
    layer += [("Product", normed, 1), ("Product", plain, 1)]
    subject = Subject(GPT2, Emulator(library))
    step = subject.fast.step(subject.model.new_cache(1, CAPACITY))
    assert kinds(step) == [("Gathered", 0, 0), *layer, *layer, ("Product", normed, 1)]
    three = [("Product", squared, 0)] * 2
    layer = [("Product", squared, 1), *three, attention, ("Product", parts, 1)]
    layer += [("Product", squared, 1), ("Product", squared, 0), ("Product", gated, 1)]
    subject = Subject(LLAMA, Emulator(library))
    step = subject.fast.step(subject.model.new_cache(1, CAPACITY))
    begin = 1 + next(i for i, job in enumerate(step.jobs) if job.structure == "Product")
    assert kinds(step)[begin:] == [*layer[1:], *layer, ("Product", squared, 1)]
    assert {job.structure for job in step.jobs[: begin - 1]} == {"Gathered", "Position", "Rows"}


def test_phases_one_by_one_are_the_whole(cupy, library):
    for config in MODELS.values():
        subject = Subject(config, Emulator(library))
        _, cache = subject.passes(subject.fast, [5, 1])
        step, tokens = subject.fast.step(cache), np.array([[7]])
        whole = step.run(tokens, cache).data.get()
        step.launch(cache.length - 1, 0, 1)  # of the same position again
        step._result.fill(np.nan)
        step.graph().launch()
        assert (step._result.get() == whole).all()


def test_what_is_not_known_runs_by_the_code(cupy, library, caplog):
    subject = Subject(GPT2, Emulator(library))
    make, cache = numbers(1, 311), subject.model.new_cache(2, CAPACITY)
    note.cache_clear()
    for _ in range(2):
        logits = subject.fast(make((2, 1), int), cache).data.get()
        assert np.isfinite(logits).all()
    assert subject.fast.step(cache) is None
    [said] = caplog.messages
    assert said == "minigpt: decode steps run by the model's own code: no job gathers several rows"


def test_an_address_that_is_nobodys_is_refused(cupy, library, monkeypatch):
    """Not replayed: whatever would be read there is not the model's."""
    step = importlib.import_module("minigpt.fast.cuda.step")
    own = step.fused

    def wrong(*given):
        jobs = own(*given)
        jobs[1].fields["gain"] += 2**40
        return jobs

    monkeypatch.setattr(step, "fused", wrong)
    subject = Subject(GPT2, Emulator(library))
    assert subject.fast.step(subject.model.new_cache(1, CAPACITY)) is None


def test_the_pool_of_this_cpu_replays_the_same(cupy, library):
    """The tape that the jobs come from, run by the kernels of this CPU, which round no operand."""
    for config in MODELS.values():
        subject = Subject(config, Emulator(library))
        replayed = on_cpu(subject)
        found, _ = subject.passes(subject.fast, [5, 1, 1, 1])
        make, cache = numbers(1, config.vocab_size), replayed.model.new_cache(1, CAPACITY)
        for T, (logits, _) in zip([5, 1, 1, 1], found, strict=True):
            same = replayed(make((1, T), int), cache)[:, 0]
            assert np.linalg.norm(logits - same) < 3e-3 * np.linalg.norm(same)


def on_cpu(subject):
    weights = {}
    for key, counted in subject.weights.items():
        array = counted.data.get()
        if array.dtype == np.float16:
            turned = not array.flags.c_contiguous
            rows = np.ascontiguousarray(array.T if turned else array)
            array = PackedMatrix(rows, turned=turned, machine=here())
        weights[key] = array
    return Replayed(build(subject.model.config, weights), weights, here())
