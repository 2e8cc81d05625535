"""A model that is read in parts: each device reads its own, and all of them say what one says."""

import random

import ml_dtypes
import numpy as np
import pytest
from rings import on_each
from safetensors.numpy import save_file

from minigpt import generate, load
from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.inference.rank import read_part
from minigpt.models.shard import Shard
from minigpt.parallel.communicators import Alone, OnPaper
from minigpt.parallel.divide import cut


@pytest.mark.parametrize("seed", range(6))
def test_a_part_is_read_as_it_would_be_cut_of_the_whole(tmp_path, seed, monkeypatch):
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    monkeypatch.setattr("minigpt.checkpoint.tensors.BLOCK", draw.choice((1, 100, 1 << 20)))
    shape = tuple(draw.randint(1, 9) for _ in range(draw.randint(1, 3)))
    dtype = draw.choice((np.float32, ml_dtypes.bfloat16))
    whole = rng.normal(size=tuple(3 * n for n in shape)).astype(dtype)
    save_file({"w": whole}, tmp_path / "w.safetensors")
    [(_, tensor)] = tensors(tmp_path / "w.safetensors")
    size = draw.randint(1, 4)
    for rank in range(size):
        part = Shard.of(3, rank, size)
        asked = tuple(draw.choice((part * n, n * part, 3 * n)) for n in shape)
        found = read_part(tensor, asked)
        assert (found.dtype, found.shape) == (np.float32, asked)
        assert np.array_equal(found, cut(whole.astype(np.float32), asked))


def test_the_shipped_model_in_parts_says_what_it_says():
    lm = load()
    steps = [*generate(lm, "To be", max_new_tokens=6, seed=1)]

    whole, held = lm.config, lm.ledger.live_bytes["weights"]

    def run(ring):
        lm = load(ring=ring)
        assert lm.config == whole
        found = [*generate(lm, "To be", max_new_tokens=6, seed=1)]
        return found, lm.ledger.live_bytes

    ranks = on_each(3, run)
    for found, _ in ranks:
        assert [step.token for step in found] == [step.token for step in steps]
    assert 0 < max(live["weights"] for _, live in ranks) < held / 2
    for each in zip(steps, *(found for found, _ in ranks), strict=True):
        assert each[0].matmul_flops == sum(step.matmul_flops for step in each[1:])


@pytest.mark.parametrize("asked", [{"dtype": "int8"}, {"device": "cuda"}, {"engine": "fast"}])
def test_parts_are_of_float32_on_the_cpu(asked):
    with pytest.raises(InputError, match=r"parts of a model run on cpu in float32, or .*, not on"):
        load(ring=Alone(), **asked)


def test_a_model_that_cannot_be_divided_is_refused_before_it_is_read():
    said = []
    with pytest.raises(InputError, match="1025 devices cannot share a vocabulary of 1024 tokens"):
        load(ring=OnPaper(0, 1025), progress=lambda *done: said.append(done))
    assert not said
