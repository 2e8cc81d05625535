"""Experts in groups, of which a token may choose from a few, as in the large DeepSeek V2."""

import pytest
from safetensors.numpy import load_file
from transformers_beside import passes

from minigpt.errors import InputError
from minigpt.models.architectures import build, read
from minigpt.models.families.deepseek import deepseek_v2

V2 = {
    "vocab_size": 11,
    "hidden_size": 12,
    "intermediate_size": 10,
    "moe_intermediate_size": 6,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "kv_lora_rank": 6,
    "q_lora_rank": 5,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
    "n_routed_experts": 8,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 64,
    "routed_scaling_factor": 3.0,
    "topk_method": "group_limited_greedy",
}


@pytest.mark.parametrize(
    ("groups", "best", "met"), [(4, 2, 3), (8, 5, 3), (8, 3, 3), (2, 1, 4), (1, 1, 2), (4, 4, 3)]
)
def test_it_says_and_multiplies_what_transformers_does(torch, tmp_path, groups, best, met):
    from transformers import AutoModelForCausalLM, DeepseekV2Config

    torch.manual_seed(groups)
    own = {"n_group": groups, "topk_group": best, "num_experts_per_tok": met}
    config = DeepseekV2Config(**V2 | own)
    theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    theirs.set_experts_implementation("eager")
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    theirs.save_pretrained(tmp_path)
    weights, ours = load_file(tmp_path / "model.safetensors"), read(tmp_path / "config.json")
    assert {key: weight.shape for key, weight in weights.items()} == ours.shapes()
    assert ours.uncomputed == ()
    for start, mine, counted in passes(theirs, lambda w: build(ours, w, "expanded"), weights):
        if start == 0:  # later, theirs expands all latents again
            assert mine == counted


def test_a_token_cannot_choose_more_than_its_groups_have():
    with pytest.raises(InputError, match=r"may choose from 2 experts"):
        deepseek_v2(**V2, num_experts_per_tok=3, n_group=4, topk_group=1)
    with pytest.raises(InputError, match=r"8 is not a multiple of n_group 3"):
        deepseek_v2(**V2, num_experts_per_tok=3, n_group=3, topk_group=1)
