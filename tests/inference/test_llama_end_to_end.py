"""A Llama from files to text: bfloat16 safetensors in Hugging Face layout."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from minigpt import generate, load
from minigpt.checkpoint.hub import find
from minigpt.models.families.llama import llama

VALUES = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "eos_token_id": [0, 1],
}


@pytest.mark.parametrize("tied", [True, False])
def test_a_tiny_llama_in_bfloat16_generates_and_counts(tmp_path, tied):
    values = VALUES | {"tie_word_embeddings": tied}
    config = llama.read(values, "config.json")
    rng = np.random.default_rng(0)
    stored = {
        k: rng.standard_normal(s).astype(ml_dtypes.bfloat16) for k, s in config.shapes().items()
    }
    save_file(stored, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(values))
    shutil.copy(find("shakespeare").tokenizer, tmp_path)

    lm = load(tmp_path)
    weight = lm.model.model.layers[1].self_attn.q_proj.weight
    key = "model.layers.1.self_attn.q_proj.weight"
    assert weight.dtype == np.float32
    assert np.array_equal(weight.data.stored, stored[key].astype(np.float32))
    steps = list(generate(lm, "O", max_new_tokens=4, seed=1, ignore_eos=True))
    assert [step.phase for step in steps] == ["prefill", "decode", "decode", "decode"]
    # 2 layers, keys and values, 2 heads of 4 numbers of 4 bytes
    assert {step.kv_bytes_per_token for step in steps} == {2 * 2 * 2 * 4 * 4}
    assert lm.ledger.live_bytes["weights"] == 4 * config.parameters
