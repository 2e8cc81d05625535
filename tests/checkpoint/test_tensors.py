"""Tensors of a file, read in parts of any size."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16, float8_e4m3fn
from safetensors.numpy import save_file

from counting.process_memory import resident, resident_of
from minigpt.checkpoint import tensors as room
from minigpt.checkpoint.quantised import made_whole
from minigpt.checkpoint.tensors import tensors
from minigpt.fast.packed import DTYPES, narrowed, packed_rows

SIZES, SEEDS = st.integers(1, 40), st.integers(0, 2**32 - 1)
BLOCKS = st.integers(1, 2000)  # bytes


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("tensors") / "m.safetensors"


def written(file, array, before=0, **beside):
    """`array` as a tensor of a file, behind so many bytes."""
    file.unlink(missing_ok=True)
    save_file({"a": np.zeros(before, np.uint8), "w": array} | beside, file)
    return dict(made_whole(tensors(file), {}))["w"]


def same_bits(a, b):
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@st.composite
def matrices(draw):
    """Numbers of some size, a few of them none, in a type that files have."""
    rng = np.random.default_rng(draw(SEEDS))
    array = rng.standard_normal((draw(SIZES), draw(SIZES)))
    array *= 10.0 ** rng.integers(-46, 39, (len(array), 1))
    for odd in draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 0, -0.0]), max_size=3)):
        array[rng.integers(len(array)), rng.integers(array.shape[1])] = odd
    with np.errstate(over="ignore"):
        return array.astype(draw(st.sampled_from(["f8", "f4", "f2", bfloat16])))


@settings(max_examples=150)
@given(matrices(), st.sampled_from([*DTYPES]), st.booleans(), BLOCKS, st.integers(0, 3))
def test_rows_packed_in_parts_are_to_the_bit_those_packed_at_once(
    file, array, dtype, turned, block, before
):
    tensor = written(file, array, before)
    with np.errstate(all="ignore"):
        whole = (array.T if turned else array).astype("f4", order="C")
        expected, scale = narrowed(whole, dtype)
        with mock.patch.object(room, "BLOCK", block):
            rows, scales = packed_rows(tensor, turned, dtype)
    assert same_bits(rows, expected)
    assert (scales is None) == (scale is None)
    assert scale is None or same_bits(scales, scale)


@settings(max_examples=60)
@given(matrices(), st.sampled_from(["f8", "f4", "f2", bfloat16]), BLOCKS, st.integers(0, 3))
def test_what_is_read_in_parts_is_what_is_stored(file, array, dtype, block, before):
    tensor = written(file, array, before)
    with mock.patch.object(room, "BLOCK", block), np.errstate(all="ignore"):
        found = tensor.read(np.dtype(dtype))
        assert same_bits(found, array.astype(dtype))
    assert found.flags.owndata
    assert same_bits(tensor.map(), array)
    assert tensor.mappable(array.dtype) == tensor.map().flags.aligned


@settings(max_examples=60)
@given(SIZES, SIZES, SEEDS, BLOCKS, st.booleans())
def test_blocks_of_eight_bits_are_unpacked_in_parts(file, rows, columns, seed, block, turned):
    rng = np.random.default_rng(seed)
    narrow = rng.standard_normal((8 * rows, columns)).astype(float8_e4m3fn)
    scales = rng.random((-(-8 * rows // 128), 1), np.float32)
    tensor = written(file, narrow, w_scale_inv=scales)
    wide = narrow.astype("f4") * scales.repeat(128, 0)[: 8 * rows]
    with mock.patch.object(room, "BLOCK", block):
        assert same_bits(tensor.read(np.dtype("f4")), wide)
        found, scale = packed_rows(tensor, turned, "int8")
    expected = narrowed(np.ascontiguousarray(wide.T if turned else wide), "int8")
    assert same_bits(found, expected[0])
    assert same_bits(scale, expected[1])
    assert not tensor.mappable(np.dtype("f4"))


@settings(max_examples=60)
@given(matrices(), BLOCKS, st.booleans(), st.data())
def test_two_are_the_same_if_all_of_their_numbers_are(file, array, block, changed, data):
    other = array.copy()
    if changed:
        at = data.draw(st.integers(0, array.size - 1))
        other.reshape(-1)[at] = 1 if other.reshape(-1)[at] == 0 else 0
    tensor = written(file, array, other=other)
    beside = dict(tensors(file))["other"]
    with mock.patch.object(room, "BLOCK", block):
        assert tensor.same(beside) == np.array_equal(array, other)


@pytest.mark.skipif(resident() is None, reason="the system does not say what is in memory")
@pytest.mark.parametrize("turned", [False, True])
def test_what_was_read_is_given_back(file, turned):
    """Of 64 MiB, read to the end, hardly a page stays."""
    tensor = written(file, np.ones((4096, 4096), np.float32))
    for _, block in tensor.blocks(turned):
        assert block.all()
        assert resident_of(file.__eq__) >= 2**20
    assert resident_of(file.__eq__) < 2**20
