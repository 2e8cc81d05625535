"""DeepSeek's config.json: the published one, those of transformers, and wrong ones."""

import json

import pytest
from deepseeks import SOME, hugging_face

from minigpt.errors import InputError
from minigpt.models.architectures import PRESETS, read


def written(tmp_path, **changes):
    values = {
        "model_type": "deepseek_v3",
        "attention_bias": False,
        "eos_token_id": 1,
        "ep_size": 1,
        "first_k_dense_replace": 3,
        "hidden_act": "silu",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "kv_lora_rank": 512,
        "max_position_embeddings": 163840,
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_group": 8,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "quantization_config": {"fmt": "e4m3", "quant_method": "fp8"},
        "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 40,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
            "type": "yarn",
        },
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "v_head_dim": 128,
        "vocab_size": 129280,
        **changes,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))
    return path


def test_the_published_config_json_is_the_preset(tmp_path):
    assert read(written(tmp_path)) == PRESETS["deepseek-r1"]


@pytest.mark.parametrize("config", SOME)
def test_a_config_json_of_transformers_is_read(torch, tmp_path, config):
    hugging_face(config).config.save_pretrained(tmp_path)
    assert read(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_lora_rank": "absent"}, "kv_lora_rank is missing"),
        ({"num_hidden_layers": 2**30}, "it must be a positive whole number up to 10000"),
        ({"n_routed_experts": 2**30}, "it must be a positive whole number up to 1024"),
        ({"q_lora_rank": 0}, "q_lora_rank is 0; it must be a positive whole number"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace is -1; it must be a whole number"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax'; only 'sigmoid' is computed"),
        ({"n_group": 7}, "n_routed_experts 256 is not a multiple of n_group 7"),
        ({"n_group": 256}, "a group of experts has 1"),
        ({"topk_group": 9}, "topk_group 9 of n_group 8"),
        ({"num_experts_per_tok": 129}, "a token may choose from 128 experts"),
        ({"qk_rope_head_dim": 63}, "63 of a head's 63 numbers would turn"),
        ({"routed_scaling_factor": "2.5"}, "routed_scaling_factor is '2.5'"),
        ({"norm_topk_prob": 1}, "norm_topk_prob is 1; it must be true or false"),
    ],
)
def test_a_config_json_that_cannot_be_is_one_line(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
