"""Small configurations of every family: config.json's values, by what they switch on.

A name is a model type and, after a comma, what is switched: `CASES["qwen2, window"]`.
"""

from itertools import islice
from typing import Any

from minigpt.models.architectures import READERS

WINDOW = 4
SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 7,
}
# Sizes at which each operation can be executed on a number that counts.
TINY: dict[str, Any] = {
    "vocab_size": 7,
    "hidden_size": 16,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_kv_heads": 1,
    "moe_intermediate_size": 3,
    "shared_expert_intermediate_size": 4,
    "ffn_dim": 6,
    "sliding_window": 3,
    "max_window_layers": 1,
    "max_position_embeddings": 12,
    "n_positions": 12,
    "n_embd": 16,
    "n_head": 2,
    "n_layer": 2,
}
UNKNOWN = {  # keys of SMALL that a family has by another name, or has not
    "gpt_neox": {"num_key_value_heads"},
    "opt": {"num_key_value_heads", "intermediate_size"},
    "falcon": {"num_key_value_heads", "intermediate_size"},
    "gpt2": {key for key in SMALL if not key.endswith("_id")} - {"vocab_size"},
}

ALL_BIASES = {"attention_bias": True, "mlp_bias": True}
SLIDING = {"sliding_window": WINDOW}
KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2}
LLAMA3: dict[str, Any] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
SCALED = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0}
SCALED |= {"original_max_position_embeddings": 64}
YARN: dict[str, Any] = SCALED | {"rope_theta": 1e4}
HALF = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
GEMMA = SLIDING | {"head_dim": 12, "query_pre_attn_scalar": 20}
INTERVAL = {"full_attention_interval": 2}
DELTA = {"linear_conv_kernel_dim": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
DELTA |= {"linear_key_head_dim": 6, "linear_value_head_dim": 10}
DELTA |= {"rms_norm_eps": 1e-3}  # or a norm makes much of rounding, where a query meets no key
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
SHARED = {"shared_expert_intermediate_size": 40}
GPT_OSS = SLIDING | {"head_dim": 12, "num_local_experts": 8, "num_experts_per_tok": 3}
GPT_OSS |= {"swiglu_limit": 0.7}
NEOX = {"num_attention_heads": 2}
GPT2 = {"n_positions": 64, "n_embd": 32, "n_layer": 4, "n_head": 4}
LATENT = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6}
LATENT |= {"n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
LATENT |= {"first_k_dense_replace": 1, "num_key_value_heads": 4}
V2 = LATENT | {"q_lora_rank": None, "n_shared_experts": 2}
V3 = LATENT | {"q_lora_rank": 12, "n_group": 4, "topk_group": 2}
GROWING = {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}}

CASES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}, "head_dim": 12},
    "llama, biases": ALL_BIASES | {"hidden_act": "gelu"},
    "llama, linear, tied": {"rope_parameters": LINEAR, "tie_word_embeddings": True},
    "llama, old style": {"rope_theta": 4e4, "rope_scaling": LLAMA3},
    "mistral": SLIDING,
    "mistral, no window": {"sliding_window": None, "head_dim": 12},
    "qwen2": {},
    "qwen2, window": SLIDING | {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3": {"head_dim": 12},
    "qwen3, window, biases": {
        **SLIDING,
        "use_sliding_window": True,
        "max_window_layers": 1,
        "attention_bias": True,
        "head_dim": 8,
    },
    "smollm3": {},
    "smollm3, biases": ALL_BIASES | {"no_rope_layers": [0, 1, 1, 0], "tie_word_embeddings": False},
    "granite": {
        "embedding_multiplier": 12.0,
        "logits_scaling": 8.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.3,
    },
    "mixtral": {"num_local_experts": 4},
    "mixtral, window": SLIDING | {"num_local_experts": 4, "num_experts_per_tok": 1},
    "qwen2_moe": EXPERTS | SHARED,
    "qwen2_moe, mixed": {
        **EXPERTS,
        **SHARED,
        "decoder_sparse_step": 2,
        "norm_topk_prob": True,
        "qkv_bias": False,
    },
    "qwen3_moe": EXPERTS | {"norm_topk_prob": True, "head_dim": 12},
    "qwen3_moe, mixed": {
        **EXPERTS,
        "mlp_only_layers": [1],
        "decoder_sparse_step": 2,
        "head_dim": 8,
        "attention_bias": True,
    },
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 3},
    "olmoe, shares": {"num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": True},
    "gemma2": GEMMA | CAPS,
    "gemma2, no caps": GEMMA | dict.fromkeys(CAPS) | KINDS | {"attention_bias": True},
    "gemma3_text": {
        **GEMMA,
        **KINDS,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "gemma3_text, old style": {
        **GEMMA,
        "sliding_window_pattern": 2,
        "rope_theta": 2e6,
        "rope_local_base_freq": 2e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gpt_oss": GPT_OSS | {"rope_parameters": YARN | {"truncate": False}},
    "gpt_oss, no biases": GPT_OSS | {"attention_bias": False, **KINDS},
    "olmo2": {},
    "olmo3": SLIDING | KINDS,
    "olmo3, old style": SLIDING | {"rope_theta": 5e5, "rope_scaling": SCALED},
    "phi3": {},
    "phi3, part, window": SLIDING | {"rope_parameters": HALF},
    "glm4": {"head_dim": 8},
    "glm4, old style": {"head_dim": 12, "partial_rotary_factor": 0.34, "rope_theta": 5e4},
    "gpt_neox": NEOX,
    "gpt_neox, sequential": NEOX | {"use_parallel_residual": False, "tie_word_embeddings": True},
    "gpt_neox, old style": NEOX | {"rotary_pct": 0.5, "rotary_emb_base": 5000},
    "falcon, one key": {"multi_query": True},
    "falcon, biases": {"multi_query": False, "bias": True, "ffn_hidden_size": 48},
    "falcon, groups": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon, one norm": {
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "num_ln_in_parallel_attn": 1,
    },
    "stablelm": NEOX | {"use_qkv_bias": True},
    "stablelm, parallel": NEOX | {"use_parallel_residual": True},
    "starcoder2": SLIDING,
    "starcoder2, no biases": {"use_bias": False, "sliding_window": None},
    "cohere2": SLIDING | KINDS,
    "cohere2, pattern": SLIDING | {"sliding_window_pattern": 2, "attention_bias": True},
    "opt": {"ffn_dim": 48},
    "opt, no biases": {"ffn_dim": 48, "enable_bias": False, "activation_function": "gelu"},
    "gpt2": GPT2,
    "gpt2, inverse": GPT2
    | {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"},
    "deepseek_v2": V2,
    "deepseek_v2, narrow queries": V2
    | {"q_lora_rank": 12, "attention_bias": True, "routed_scaling_factor": 1.5},
    "deepseek_v3": V3 | GROWING,
    "deepseek_v3, wide queries": V3 | {"q_lora_rank": None, "norm_topk_prob": False},
    "kimi_k2": V3,
    "qwen3_next": EXPERTS | SHARED | DELTA | INTERVAL | {"head_dim": 16},
    "qwen3_next, mixed": {
        **EXPERTS,
        **SHARED,
        **DELTA,
        "attention_bias": True,
        "head_dim": 8,
        "layer_types": ["full_attention", "linear_attention"] * 2,
        "linear_conv_kernel_dim": 2,
        "linear_num_key_heads": 4,
        "mlp_only_layers": [1],
        "norm_topk_prob": False,
        "partial_rotary_factor": 0.5,
    },
}


def kind(name: str) -> str:
    """The model type of a case."""
    return name.partition(",")[0]


def small(name: str, switched: dict[str, Any] | None = None) -> dict[str, Any]:
    """The values of its config.json, of another switch if one is given."""
    given = CASES[name] if switched is None else switched
    unknown = UNKNOWN.get(kind(name), set()) - given.keys()
    return {key: value for key, value in (SMALL | given).items() if key not in unknown}


def tiny(name: str) -> dict[str, Any]:
    """The same at sizes at which each operation is executed."""
    values = {k: TINY.get(k, v) if v else v for k, v in small(name).items()}
    for key in ("layer_types", "no_rope_layers"):
        if key in values:
            values[key] = [*islice(values[key], TINY["num_hidden_layers"])]
    return values


def read(name: str, values: dict[str, Any]) -> Any:
    """The configuration in a config.json."""
    return READERS[kind(name)](values, "config.json")
