"""Whole models with weights that are packed: only the bytes are others."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from checkpoints import SHIPPED
from safetensors.numpy import save_file

from minigpt import generate, load
from minigpt.fast.packed import DTYPES
from minigpt.models.architectures import read

LLAMA = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 80,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 1024,
    "n_positions": 80,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 3,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The model that comes along, and random ones of other architectures."""
    made = {"shipped": SHIPPED}
    for values, stored in ((GPT2, np.float32), (LLAMA, ml_dtypes.bfloat16)):
        folder = tmp_path_factory.mktemp(values["model_type"])
        (folder / "config.json").write_text(json.dumps(values))
        shutil.copy(SHIPPED / "tokenizer.json", folder)
        rng = np.random.default_rng(0)
        shapes = read(folder / "config.json").shapes()
        tensors = {k: (0.3 * rng.standard_normal(s)).astype(stored) for k, s in shapes.items()}
        save_file(tensors, folder / "model.safetensors")
        made[values["model_type"]] = folder
    return made


def sixty_four_steps(folder, dtype="float32"):
    """What they took outside of `dequantise`, there, and the bytes of weights read."""
    lm = load(folder, dtype=dtype)
    before = lm.ledger.snapshot()
    steps = list(generate(lm, "First", max_new_tokens=64, temperature=0, ignore_eos=True))
    assert len(steps) == 64
    counts = lm.ledger.snapshot() - before
    quantising = counts.where("*.dequantise")
    rest = {key: row for key, row in counts.items() if key not in quantising}
    kinds = [counts.columns[kind] for kind in ("calls", "dots", *counts.cost.by_kind())]
    flop = {}
    for key, row in rest.items():
        flop[key] = [row[column] for column in kinds]
    return flop, quantising.cost, counts.bytes_read["weights"], [step.token for step in steps]


@pytest.fixture(scope="module")
def references(folders):
    """The steps of each model in plain NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_FAST", "0")
        return {name: sixty_four_steps(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("fast", ["0", "1"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["shipped", "gpt2", "llama"])
def test_sixty_four_steps_take_what_plain_numpy_takes(
    folders, references, monkeypatch, name, dtype, fast
):
    monkeypatch.setenv("MINIGPT_FAST", fast)
    flop, quantising, read, tokens = sixty_four_steps(folders[name], dtype)
    expected, none, plain_read, plain_tokens = references[name]
    assert none == {}
    assert flop == expected  # row by row, in every kind
    if dtype == "float32":
        assert (quantising, read, tokens) == ({}, plain_read, plain_tokens)
    elif dtype == "int8":
        assert quantising.keys() == {"mul"}
        assert 0 < quantising["mul"] < sum(row[1] for row in expected.values()) * 1.2
        assert read < 0.35 * plain_read
    else:
        assert quantising == {}
        assert 0.5 < read / plain_read < 0.55  # norms, biases and positions stay float32
