"""Tensors as files have them, and what a model takes of them: drawn names, masks, heads, layers."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from configs import TINY
from helpers import numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from minigpt.checkpoint.fit import fit
from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.models.gpt2_config import GPT2Config

CONFIG = Path("config.json")
OWN = {"gpt2": "", "llama": "model.", "deepseek": "model."}
EMBEDDING = {"gpt2": "wte", "llama": "embed_tokens", "deepseek": "embed_tokens"}
PREFIXES = ("", "model.", "transformer.")

# Keys of files that are no weights, for a layer of the model, with their dtypes.
BESIDE = {
    "h.{i}.attn.bias": "?",
    "h.{i}.attn.masked_bias": "f4",
    "layers.{i}.self_attn.rotary_emb.inv_freq": "f4",
    "layers.{i}.attention.rotary_emb.inv_freq": "f2",
    "layers.{i}.attention.bias": "u1",
    "layers.{i}.attention.masked_bias": "f4",
    "layers.{i}.self_attn.rotary_emb.cos_cached": "f4",
    "rotary_emb.inv_freq": "f4",
    "rotary_emb.original_inv_freq": "f4",
    "rotary_emb_local.inv_freq": "f4",
    "embeddings.position_ids": "i8",
    "position_ids": "i8",
    "mtp.layers.0.mlp.up_proj.weight": "f4",
    "mtp.fc.weight": "f4",
    "mtp_layers.0.input_proj.weight": "f4",
}
HEADS = ("v_head.summary.weight", "v_head.summary.bias", "score.weight", "value_head.weight")
HEADS += ("summary.bias", "multiple_choice_head.summary.weight")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fit") / "m.safetensors"


def stored(config):
    make = numbers(0, config.vocab_size)
    return {key: make(shape, "f4") for key, shape in config.shapes().items()}


def fitted(config, weights, file, **options):
    file.unlink(missing_ok=True)
    save_file(weights, file)
    return fit(config, tensors(file), CONFIG, **options)


def same(found, weights):
    assert found.keys() == weights.keys()
    for key, tensor in found.items():
        np.testing.assert_array_equal(tensor.map(), weights[key])
    return True


def renamed(weights, own, prefix):
    """Keys with another prefix in place of the model's own; the head has none."""
    return {
        key if key == "lm_head.weight" else prefix + key.removeprefix(own): array
        for key, array in weights.items()
    }


@settings(max_examples=150)
@given(data=st.data())
def test_a_model_takes_exactly_its_weights_whatever_their_prefix_and_whatever_is_beside(file, data):
    name = data.draw(st.sampled_from(sorted(TINY)))
    config = TINY[name].tied(data.draw(st.booleans()))
    weights = stored(config)
    prefix = data.draw(st.sampled_from(PREFIXES))
    given = renamed(weights, OWN[name], prefix)
    if config.tie_word_embeddings and data.draw(st.booleans()):  # under the name of the head
        table = next(key for key in given if EMBEDDING[name] in key)
        given["lm_head.weight"] = given.pop(table)
    for key in data.draw(st.lists(st.sampled_from(sorted(BESIDE)), max_size=4)):
        layer = data.draw(st.integers(0, config.layers - 1))
        given[prefix + key.format(i=layer)] = np.ones(3, BESIDE[key])
    for key in data.draw(st.lists(st.sampled_from(HEADS), max_size=2)):
        given[key] = np.ones(3, "f4")
    found, kept = fitted(config, given, file)
    assert found == config
    assert same(kept, weights)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("same_values", [True, False])
def test_a_head_beside_its_table_is_tied_if_it_is_the_same(file, name, tied, same_values):
    config = TINY[name].tied(tied)
    weights = stored(config.tied(False))
    [table] = (key for key in weights if EMBEDDING[name] in key)
    if same_values:
        weights["lm_head.weight"] = weights[table].copy()
    found, kept = fitted(config, weights, file)
    assert found.tie_word_embeddings == same_values
    assert same(kept, {key: weights[key] for key in found.shapes()})


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("lost", ["the head", "the table"])
def test_a_pair_that_is_not_tied_needs_both(file, name, lost):
    weights = stored(TINY[name].tied(False))
    [table] = (key for key in weights if EMBEDDING[name] in key)
    key = "lm_head.weight" if lost == "the head" else table
    del weights[key]
    with pytest.raises(InputError, match=f"has no tensor {key}, which config.json asks for"):
        fitted(TINY[name].tied(False), weights, file)


@pytest.mark.parametrize("said", ["in config.json", "by its names"])
@pytest.mark.parametrize("name", ["llama", "deepseek"])
@pytest.mark.parametrize("layers", [1, 2])
def test_layers_that_guess_ahead_are_left_out(file, name, said, layers):
    config, weights = TINY[name], stored(TINY[name])
    given = dict(weights)
    for layer in range(config.layers, config.layers + layers):
        last = f"model.layers.{config.layers - 1}."
        for key in [key for key in weights if key.startswith(last)]:
            given[key.replace(last, f"model.layers.{layer}.")] = weights[key] + 1
        if said == "by its names":
            for key in ("enorm", "hnorm", "eh_proj", "embed_tokens", "shared_head.norm"):
                given[f"model.layers.{layer}.{key}.weight"] = np.ones(2, "f4")
    told = {"num_nextn_predict_layers": layers if said == "in config.json" else 0}
    _, kept = fitted(config, given, file, given=told)
    assert same(kept, weights)
    given[f"model.layers.{config.layers + 7}.mlp.up_proj.weight"] = np.ones(2, "f4")
    with pytest.raises(InputError, match=f"unexpected tensor model.layers.{config.layers + 7}."):
        fitted(config, given, file, given=told)


def test_one_more_layer_that_nothing_tells_of_is_refused(file):
    given = stored(TINY["llama"])
    given["model.layers.2.mlp.up_proj.weight"] = np.ones((10, 12), "f4")
    with pytest.raises(InputError, match=r"unexpected tensor model\.layers\.2\.mlp"):
        fitted(TINY["llama"], given, file)


@dataclass(frozen=True)
class Biased(GPT2Config):
    """A model whose attention has a bias that others use as the name of a mask."""

    def shapes(self):
        return super().shapes() | {"h.0.attn.bias": (3,)}


def test_a_weight_that_is_called_as_a_mask_is_one(file):
    config = Biased(vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    weights = stored(config)
    assert same(fitted(config, weights | {"h.1.attn.bias": np.ones(3, "f4")}, file)[1], weights)
    del weights["h.0.attn.bias"]
    with pytest.raises(InputError, match=r"has no tensor h\.0\.attn\.bias"):
        fitted(config, weights, file)


WRAPPED = {
    "module.": "save model.module in place of model",
    "_orig_mod.": "save model._orig_mod in place of model",
    "module._orig_mod.": "in place of model",
    "base_model.model.": "an adapter (LoRA) that was not merged: merge it first",
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("prefix", WRAPPED)
def test_a_wrapped_model_is_named_with_the_way_out(file, name, prefix):
    given = {prefix + key: array for key, array in stored(TINY[name]).items()}
    with pytest.raises(InputError, match=re.escape(WRAPPED[prefix])) as error:
        fitted(TINY[name], given, file)
    assert f"{file}: {prefix}" in str(error.value)


@pytest.mark.parametrize("part", ["lora_A.weight", "lora_B.default.weight", "base_layer.weight"])
def test_an_adapter_inside_a_model_is_named(file, part):
    given = stored(TINY["llama"])
    given[f"model.layers.0.self_attn.q_proj.{part}"] = np.ones(2, "f4")
    with pytest.raises(InputError, match=r"an adapter .* merge it first"):
        fitted(TINY["llama"], given, file)
