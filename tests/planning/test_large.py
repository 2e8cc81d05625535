"""Sizes that no model has, and batches that no machine holds: as little work as for small ones."""

import random
import tracemalloc
from unittest import mock

import pytest
from families import CASES, kind, read, small
from hypothesis import given, settings
from hypothesis import strategies as st

import counting.array
from minigpt.commands.count import document as counted
from minigpt.errors import InputError
from minigpt.models.description import Part
from minigpt.models.values import CHECKS, MANY
from minigpt.planning.accelerators import GPUS
from minigpt.planning.activations import as_written
from minigpt.planning.count import count
from minigpt.planning.forward import MOST, Pass, counts_by_kind
from minigpt.planning.options import Options
from minigpt.planning.plan import plan
from minigpt.planning.search import most_with_room

SWITCHED = {"layer_types", "mlp_only_layers", "no_rope_layers"}  # said of each layer: left out
FAMILIES = {kind(name): name for name in CASES}


def values(name):
    return {key: value for key, value in small(name).items() if key not in SWITCHED}


def answer(config, batch=1):
    """The bytes that `count` and a plan of a model took at most, and the operations that ran."""
    ran = mock.Mock(side_effect=counting.array.entered)
    tracemalloc.start()
    with mock.patch.object(counting.array, "entered", ran):
        with mock.patch("minigpt.planning.count.resolve", return_value=config):
            counted(count("it", Pass(B=batch)), "component")
        made = plan("it", config, GPUS["h100"])
        assert made.memory.needed > 0
        assert made.last.seconds > 0
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most, ran.call_count


@st.composite
def large(draw):
    """A small model with one of its sizes large."""
    name = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))]
    given = values(name)
    keys = [key for key, value in given.items() if type(value) is int and not key.endswith("_id")]
    key = draw(st.sampled_from(keys))
    known = CHECKS.get(key)
    size = draw(st.sampled_from((10**6, 10**9, 2**31 - 1)))
    return name, given | {key: MANY if known and known(size) else size}


@given(large())
@settings(max_examples=8)
def test_one_large_size_is_refused_in_a_line_or_answered_like_a_small_one(drawn):
    name, given = drawn
    try:
        config = read(name, given)
    except InputError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    if said:
        return
    most, ran = answer(config)
    assert most < 60e6
    assert ran < 12_000


def test_the_longest_context_and_the_largest_batch_are_found_in_few_steps():
    config = read("llama", values("llama") | {"max_position_embeddings": 2**31 - 1})
    asked = []

    def memory(config, sizes, place):
        asked.append(sizes)
        return as_written(config, sizes, place)

    with mock.patch("minigpt.planning.plan.fused", memory):
        made = plan("it", config, GPUS["h100"])
        assert (made.largest_context, made.largest_batch) > (10**6, 0)
    assert len(asked) < 2 * 2 * 12  # a prompt and a token, of each guess


@given(limit=st.integers(1, 2**40), at=st.integers(0, 2**40), power=st.sampled_from((1, 1, 2, 3)))
def test_the_most_that_leaves_room_is_found(limit, at, power):
    def room(n):
        return (at - n) ** power if n <= at else -((n - at) ** power)

    assert most_with_room(room, limit) == min(at, limit)


def test_a_batch_of_experts_takes_no_array_of_its_pairs():
    config = read("mixtral", values("mixtral"))
    alone, many = (answer(config, batch) for batch in (1, MOST // 64))
    assert many[0] < alone[0] + 1e6
    assert many[1] < 3 * alone[1]


def parts_made(name, layers, gpus):
    """How many parts of descriptions come to be for a plan of a model of so many layers."""
    with mock.patch.object(Part, "__init__", autospec=True, side_effect=Part.__init__) as made:
        config = read(name, values(name) | {"num_hidden_layers": layers})
        found = plan("it", config, GPUS["h100"], Options(gpus=gpus))
        assert found.memory.needed > 0
        assert found.last.seconds > 0
        found.remedies()
    return made.call_count


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gpt2"}))
def test_thousands_of_layers_are_as_many_parts_as_a_few_are(family):
    name, gpus = FAMILIES[family], random.Random(family).choice((1, 2))
    assert parts_made(name, MANY // 2, gpus) < 4000 * gpus


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "deepseek_v3"])
def test_layers_that_are_alike_are_run_once(name):
    few, many = (read(name, values(name) | {"num_hidden_layers": n}) for n in (7, MANY))
    assert few.short()[0] == many.short()[0]
    assert counts_by_kind(few).keys() == counts_by_kind(many).keys()
    assert answer(many)[1] < 4000
