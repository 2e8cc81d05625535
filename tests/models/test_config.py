"""What every configuration says, held against the tensors and the cache of its model."""

import math
import re

import pytest
from configs import TINY

from counting import ShapeArray
from minigpt.models.architectures import PRESETS, build

CONFIGS = TINY | dict(PRESETS)
LAYER = re.compile(r".*?\.(\d+)\.")


def on_shapes(config):
    return build(config, {key: ShapeArray(shape, "f4") for key, shape in config.shapes().items()})


def layer(key):
    found = LAYER.match(key)
    return found and int(found[1])


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_and_width_are_those_of_the_tensors(name):
    config = CONFIGS[name]
    shapes = config.shapes()
    assert {layer(key) for key in shapes} - {None} == {*range(config.layers)}
    assert next(iter(shapes.values())) == (config.vocab_size, config.width)


@pytest.mark.parametrize("name", TINY)
def test_heads_are_those_of_the_cache(name):
    config = TINY[name]
    cache = on_shapes(config).new_cache(2, config.n_positions)
    assert len(cache.layers) == config.layers
    assert cache[0].k.shape[:3] == (2, config.kv_heads, config.n_positions)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_short_model_has_every_kind_of_layer(name):
    config = CONFIGS[name]

    def blocks(config):
        found = {}
        for key, shape in config.shapes().items():
            if (i := layer(key)) is not None:
                found.setdefault(i, []).append((key.split(f".{i}.", 1)[1], shape))
        return [found[i] for i in range(config.layers)]

    few, alike = config.short()
    all_of, few_of = blocks(config), blocks(few)
    assert [few_of[i] for i in alike] == all_of
    assert {*alike} == {*range(few.layers)}
    assert few.short() == (few, tuple(range(few.layers)))


@pytest.mark.parametrize("name", CONFIGS)
def test_experts_are_those_of_the_tensors(name):
    config = CONFIGS[name]
    found = {}
    for key, shape in config.shapes().items():
        if ".experts." in key:  # one by one, or all of a layer in one tensor
            found[layer(key)] = found.get(layer(key), 0) + math.prod(shape)
    experts = config.experts
    assert (experts is not None) == bool(found)
    if experts is not None:
        assert len(found) == experts.expert_layers
        each = experts.n_routed_experts * experts.expert_parameters
        assert {*found.values()} == {each}
