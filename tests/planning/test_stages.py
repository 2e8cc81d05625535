"""Stages of a model on several devices: what each holds at most is what its own part takes."""

import random

import pytest
from families import CASES, kind, read, small

from counting import Counted, ShapeArray
from minigpt.models.architectures import PRESETS
from minigpt.planning.devices import Split, on_devices
from minigpt.planning.forward import DTYPES, Pass, ready


def peak_alone(config, sizes, layers):
    """The most bytes of activations in a run of these layers, and of what is before and after all.

    The model is built whole, and the layers of other stages are taken out of it.
    """
    ledger, run = ready(config, sizes)
    model, (_, cache, _) = run.func, run.args
    if layers.start:
        shape = sizes.B, sizes.T, config.width
        model.embedding = lambda _: Counted(ShapeArray(shape, DTYPES[sizes.dtype]), ledger)
        model.positions, model.after_embedding = lambda x, _: x, lambda x: x
    if layers.stop < config.layers:
        model.unembed = lambda x: x
    model.layers = [model.layers[i] for i in layers]
    cache.layers = [cache.layers[i] for i in layers]
    run()
    return ledger.peak_bytes["activations"]


@pytest.mark.parametrize("name", [name for name in CASES if kind(name) != "gpt2"])
def test_a_stage_holds_what_a_run_of_its_layers_alone_holds(name):
    config, rng = read(name, small(name)), random.Random(f"stages of {name}")
    T, N, B = rng.randint(1, 9), rng.randint(0, 5), rng.randint(1, 3)
    sizes = Pass(T, N, B, rng.choice(("last", "all")), rng.choice(("float16", "float32")))
    for device in on_devices(config, sizes, Split(pipeline=rng.randint(2, config.layers))):
        assert device.held["activations"] == peak_alone(config, sizes, device.layers)


@pytest.mark.parametrize("name", ["gpt2-xl", "llama-3.1-8b", "deepseek-v2-lite", "gpt-oss-20b"])
def test_only_the_last_stage_holds_logits(name):
    config, rng = PRESETS[name], random.Random(f"logits of {name}")
    split = Split(rng.randint(1, 2), rng.randint(2, 5))
    T, N = rng.randint(200, 900), rng.randint(0, 99)
    every, last = (on_devices(config, Pass(T, N, logits=way), split) for way in ("all", "last"))
    for one, other in zip(every, last, strict=True):
        if one.stage < split.pipeline - 1:
            assert one.held == other.held
        else:
            assert one.held["activations"] > T * config.vocab_size * 2 // split.tensor
    most = max(device.held["activations"] for device in every)
    whole = on_devices(config, Pass(T, N), Split(split.tensor))
    assert most == max(device.held["activations"] for device in whole)
