"""Configurations of tiny models, fixed and drawn."""

from hypothesis import strategies as st

from minigpt.models.families.deepseek import deepseek_v3
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

TINY = {
    "gpt2": GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2),
    "llama": llama(
        vocab_size=11,
        hidden_size=12,
        intermediate_size=10,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        max_position_embeddings=16,
    ),
    "deepseek": deepseek_v3(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=6,
        moe_intermediate_size=4,
        num_hidden_layers=3,
        num_attention_heads=2,
        q_lora_rank=5,
        kv_lora_rank=6,
        qk_nope_head_dim=4,
        qk_rope_head_dim=2,
        v_head_dim=3,
        n_routed_experts=8,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        max_position_embeddings=16,
    ),
}


def small_or_medium(least, tiny, medium):
    return st.integers(least, tiny) | st.integers(least, medium)


@st.composite
def configs(draw):
    heads = draw(small_or_medium(1, 3, 8))
    return GPT2Config(
        vocab_size=draw(small_or_medium(1, 9, 3000)),
        n_positions=draw(small_or_medium(4, 9, 300)),
        n_embd=heads * draw(small_or_medium(1, 3, 32)),
        n_layer=draw(st.integers(1, 3)),
        n_head=heads,
        n_inner=draw(st.none() | small_or_medium(1, 7, 500)),
        tie_word_embeddings=draw(st.booleans()),
    )
