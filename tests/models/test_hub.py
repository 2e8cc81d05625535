"""Configurations of the hub, as published: parameters, bytes of cache and FLOP, by witnesses."""

import pytest
from hub import COUNTED, FOLDER, REFUSED, TOKENS, values

DEFAULTS = {  # what a file leaves out because its family has it so
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "falcon": {"max_position_embeddings": 2048},
    "llama": {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096},
}
FULL_EACH = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}  # layers, of which one sees everything
GPT2 = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embd": "hidden_size"}


def held(v, tokens):
    """Bytes of keys and values, or of latents, of `tokens` tokens, in 16 bits: arithmetic alone."""
    v = DEFAULTS.get(v["model_type"], {}) | {GPT2.get(key, key): v[key] for key in v}
    L, H = v["num_hidden_layers"], v["num_attention_heads"]
    if "kv_lora_rank" in v:
        return 2 * L * tokens * (v["kv_lora_rank"] + v["qk_rope_head_dim"])
    K = 1 if v.get("multi_query") else v.get("num_key_value_heads") or v.get("num_kv_heads") or H
    D = v.get("head_dim") or v["hidden_size"] // H
    window = v.get("sliding_window") if v.get("use_sliding_window", True) else None
    each = FULL_EACH.get(v["model_type"], L + 1)
    usual = ["full_attention" if window is None or i % each == 0 else "" for i in range(1, L + 1)]
    kinds = v.get("layer_types") or usual
    seen = [tokens if kind == "full_attention" else min(tokens, window) for kind in kinds]
    return 2 * 2 * K * D * sum(seen)


def context(v):
    """The longest of a model."""
    v = DEFAULTS.get(v["model_type"], {}) | v
    return v.get("n_positions") or v.get("max_position_embeddings") or TOKENS


def transformers_model(v):
    """A model without data, of transformers, as it reads a config.json's values."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    given = {k: x for k, x in v.items() if k not in ("model_type", "quantization_config")}
    kind = "deepseek_v3" if v["model_type"] == "kimi_k2" else v["model_type"]  # its own code's
    with torch.device("meta"):
        config = AutoConfig.for_model(kind, **given)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def test_every_file_has_its_figures():
    assert {path.stem for path in FOLDER.iterdir()} == COUNTED.keys() | REFUSED.keys()
    assert len(COUNTED) >= 27


def test_the_figures_are_those_that_are_published():
    for name, said in COUNTED.items():
        total = said.parameters + said.beside
        if isinstance(said.total, str):
            digits = len(said.total.partition(".")[2].rstrip("BM"))
            unit = {"B": 1e9, "M": 1e6}[said.total[-1]]
            assert f"{total / unit:.{digits}f}{said.total[-1]}" == said.total, name
        else:
            assert total == (said.total or said.parameters), name


@pytest.mark.parametrize("name", COUNTED)
def test_the_bytes_held_follow_from_the_file(name):
    v = values(name)
    assert held(v, min(TOKENS, context(v))) == COUNTED[name].held


@pytest.mark.parametrize("name", COUNTED)
def test_transformers_makes_as_many_parameters_of_the_file(torch, name):
    model = transformers_model(values(name))
    choice = sum(b.numel() for key, b in model.named_buffers() if "e_score_correction" in key)
    assert sum(p.numel() for p in model.parameters()) + choice == COUNTED[name].parameters
