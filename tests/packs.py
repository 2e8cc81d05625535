"""Tiny checkpoints whose packed weights are kept, and what must hold of these."""

import numpy as np
from checkpoints import checkpoint, tensors

from minigpt import generate
from minigpt.fast import store
from minigpt.fast.packed import DTYPES, quantised

NARROW = ["bfloat16", "float16", "int8"]
MATRICES = {key for key, x in tensors().items() if x.ndim == 2 and key != "wpe.weight"}


def prepared(tmp_path, monkeypatch):
    """A tiny checkpoint, an empty cache, and no weights that are too small for a file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "SMALL", 0)
    monkeypatch.setattr(store, "READ", 0)
    return checkpoint(tmp_path / "tiny")


def files(folder):
    """The packed files, in the order of their names, each with its record, and nothing else."""
    found = sorted((folder.parent / "cache" / "minigpt" / "packed").glob("*"))
    packs = [file for file in found if file.suffix == ".safetensors"]
    assert {file.with_suffix(".json") for file in packs} == {*found} - {*packs}
    return packs


def packed(lm):
    """The packed matrices of a tiny model by key."""
    block = lm.model.h[1]
    return {
        "wte.weight": lm.model.wte.weight.data,
        "h.1.attn.c_attn.weight": block.attn.c_attn.weight.data,
        "h.1.mlp.c_proj.weight": block.mlp.c_proj.weight.data,
    }


def assert_holds(lm, weights, dtype):
    """Each matrix is that of the checkpoint, in rows of `dtype`."""
    for key, matrix in packed(lm).items():
        expected = weights[key].T if key.startswith("h.") else weights[key]
        scale = None
        if dtype == "int8":
            expected, scale = quantised(np.ascontiguousarray(expected))
        assert matrix.stored.dtype == DTYPES[dtype]
        assert np.array_equal(matrix.stored, expected.astype(DTYPES[dtype]))
        assert (matrix.scale is None) == (scale is None)
        assert scale is None or np.array_equal(matrix.scale, scale)
        assert matrix.shape == weights[key].shape


def tokens(lm):
    return [s.token for s in generate(lm, "ab", max_new_tokens=8, temperature=0, ignore_eos=True)]


def no_packing(*args):
    raise AssertionError("packed again")
