"""Every family of decoders in kernels and recorded steps: the logits and the counts of plain NumPy.

What is not recorded runs as its code says, and which families these are is said here.
"""

from itertools import cycle

import numpy as np
import pytest
from helpers import DRAWN

pytest.importorskip("llvmlite")

from replays import plain, subject, taken

from minigpt.fast.kernels.machine import here
from minigpt.fast.replay import FEW, MANY
from minigpt.models.architectures import FAMILIES


@pytest.fixture(autouse=True)
def _not_followed(monkeypatch):
    """Coverage follows as a debugger does."""
    monkeypatch.setattr("minigpt.fast.replay.watched", lambda: False)


D = here().lanes  # widths that fill vectors
WINDOW, ROOM = FEW + 4, MANY + 40
SIZES = {
    "vocab_size": 97,
    "hidden_size": 4 * D,
    "intermediate_size": 3 * D,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": D,
    "max_position_embeddings": ROOM,
}
KINDS = ["sliding_attention", "full_attention"] * 2
SLIDING = {"sliding_window": WINDOW}
LOCAL = SLIDING | {"layer_types": KINDS}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": D}
SHARED = {"shared_expert_intermediate_size": D}
DELTA = {"linear_conv_kernel_dim": 4, "linear_num_key_heads": 1, "linear_num_value_heads": 2}
DELTA |= {"linear_key_head_dim": D, "linear_value_head_dim": D, "full_attention_interval": 2}
LATENT = {"kv_lora_rank": D, "qk_nope_head_dim": D, "qk_rope_head_dim": D, "v_head_dim": D}
LATENT |= {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": D}
LATENT |= {"first_k_dense_replace": 1, "num_key_value_heads": 4, "head_dim": None}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 64}
GEMMA = {"query_pre_attn_scalar": 20, "hidden_activation": "gelu_pytorch_tanh"}
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
SCALES = {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22}

# By family and a word on it: what is not in SIZES.
CASES = {
    "llama": {"rope_parameters": YARN, "attention_bias": True, "mlp_bias": True},
    "llama gelu": {"hidden_act": "gelu", "tie_word_embeddings": True},
    "mistral": SLIDING,
    "qwen2": SLIDING | {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3": {},
    "smollm3": {},
    "granite": SCALES | {"attention_multiplier": 0.3},
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": MOE | SHARED,
    "qwen3_moe": MOE | {"norm_topk_prob": True},
    "olmoe": {"num_experts": 6, "num_experts_per_tok": 2},
    "gemma2": SLIDING | GEMMA | CAPS,
    "gemma2 uncapped": LOCAL | GEMMA | dict.fromkeys(CAPS),
    "gemma3_text": LOCAL | GEMMA,
    "gpt_oss": SLIDING
    | {
        "num_local_experts": 6,
        "num_experts_per_tok": 2,
        "rope_parameters": YARN | {"truncate": False},
    },
    "olmo2": {},
    "olmo3": LOCAL,
    "cohere2": LOCAL,
    "phi3": SLIDING | {"partial_rotary_factor": 0.5},
    "glm4": {"partial_rotary_factor": 0.5},
    "gpt_neox": {},
    "gpt_neox sequential": {"use_parallel_residual": False, "hidden_act": "relu"},
    "falcon": {"multi_query": True},
    "falcon groups": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "stablelm": {"use_qkv_bias": True},
    "stablelm parallel": {"use_parallel_residual": True},
    "starcoder2": SLIDING,
    "opt": {"ffn_dim": 3 * D},
    "deepseek_v2": LATENT | {"q_lora_rank": None},
    "deepseek_v3": LATENT | {"q_lora_rank": D, "n_group": 4, "topk_group": 2},
    "kimi_k2": LATENT | {"q_lora_rank": D, "n_group": 1, "topk_group": 1},
    "qwen3_next": MOE | SHARED | DELTA,
    "qwen3_next dense": MOE | SHARED | DELTA | {"mlp_only_layers": [0, 1, 2, 3]},
}
# Which experts a token meets depends on the numbers, so no step of theirs can be recorded.
EXPERTS = {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"}
EXPERTS |= {"deepseek_v2", "deepseek_v3", "kimi_k2", "qwen3_next"}
AS_WRITTEN = EXPERTS | {"qwen3_next dense"}  # linear attention has no kernels


def config(case):
    name, _, _ = case.partition(" ")
    [family] = [each for each in FAMILIES if each.model_type == name]
    return family(**SIZES | CASES[case])


def test_every_family_is_here():
    assert {case.partition(" ")[0] for case in CASES} == {f.model_type for f in FAMILIES}


def both():
    """Each family in float32, counted, and in one of fewer bits, bare."""
    for case, dtype in zip(CASES, cycle(("bfloat16", "int8", "float16")), strict=False):
        yield case, "float32", True
        # Who is rounded apart may choose other experts; int8 keeps keys and values in float32.
        yield case, "int8" if case in EXPERTS else dtype, False


@pytest.mark.parametrize(("case", "dtype", "counts"), list(both()))
def test_a_family_in_kernels_says_and_costs_what_it_does_in_numpy(case, dtype, counts):
    """A prompt, and steps through two rounds of a window; a long prompt, which may be recorded."""
    of = config(case)
    fast, slow = subject(of, dtype, counts), plain(of, dtype, counts)
    rng, recorded = np.random.default_rng(1), False
    for prompt, steps in ((3, 2 * WINDOW + 3), (MANY + 1, FEW + 2)):
        caches = [each.new_cache(2, prompt + steps) for each in (fast.code, slow.code)]
        for n in (prompt, *[1] * steps):
            tokens = rng.integers(of.vocab_size, size=(2, n))
            a, replayed = taken(fast.replayed, (tokens, caches[0]), fast.ledger)
            b, written = taken(slow.code, (tokens, caches[1]), slow.ledger)
            # What float32 rounds; keys and values in 16 bits, and long prompts, round at 2**-9;
            # what int8 multiplies at 2**-16 of its row's largest, which linear attention magnifies.
            near = {"float32": 1e-4, "int8": 1e-2}.get(dtype, 0.05)
            np.testing.assert_allclose(a, b, rtol=0, atol=near * np.abs(b).max())
            assert replayed == written
            recorded |= caches[0] in fast.replayed._steps
    assert recorded == (case not in AS_WRITTEN)
    assert recorded == ((2, 1) not in {shape for shape, _ in fast.replayed._refused})
    DRAWN["a family in kernels says and costs what NumPy does"] += 1
