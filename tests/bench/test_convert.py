"""What llama.cpp is given: the tensors of the checkpoint, told back by another reader."""

import runpy

import numpy as np
import pytest
from checkpoints import ROOT
from safetensors.numpy import load_file

from minigpt.bench.convert import gguf_file
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.models.families.llama import llama

gguf = pytest.importorskip("gguf")
back = runpy.run_path(str(ROOT / "scripts" / "smollm2.py"))["converted"]  # of files made elsewhere

SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA = llama(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=32,
    rope_scaling=SCALED | {"original_max_position_embeddings": 16},
    tie_word_embeddings=True,
)


def test_the_gguf_of_a_llama_holds_its_tensors(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_checkpoint(LLAMA, tmp_path / "m")
    reader = gguf.GGUFReader(gguf_file(tmp_path / "m", "float32"))
    values = {name: field.contents() for name, field in reader.fields.items()}
    stored = {tensor.name: tensor for tensor in reader.tensors}
    slowed = stored.pop("rope_freqs.weight").data
    found = dict(back(tensor, values) for tensor in stored.values())
    expected = load_file(tmp_path / "m" / "model.safetensors")
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert np.array_equal(found[key], array)
    # The fastest pair turns 16 / 2 pi times in the old context, between 1 and 4: kept in part.
    turns = 16 / (2 * np.pi)
    kept = (turns - 1) / 3
    np.testing.assert_allclose(slowed[0], 1 / (kept + (1 - kept) / 8), rtol=1e-6)
    assert slowed[2:].tolist() == [8] * 14  # they turn less than once
