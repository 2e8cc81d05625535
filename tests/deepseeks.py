"""A tiny DeepSeek, what it ran, and the same model of transformers."""

from types import SimpleNamespace

import numpy as np

from counting import Counted, Ledger, category
from minigpt.models.architectures import build
from minigpt.models.experts import Experts
from minigpt.models.families.deepseek import deepseek_v3

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
TINY = deepseek_v3(
    vocab_size=11,
    hidden_size=12,
    intermediate_size=10,
    moe_intermediate_size=5,
    num_hidden_layers=3,
    num_attention_heads=3,
    q_lora_rank=7,
    kv_lora_rank=6,
    qk_nope_head_dim=3,
    qk_rope_head_dim=4,
    v_head_dim=5,
    n_routed_experts=8,
    n_shared_experts=2,
    num_experts_per_tok=3,
    n_group=4,
    topk_group=2,
    first_k_dense_replace=1,
    max_position_embeddings=64,
    rope_theta=100.0,
    rope_scaling=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
)


def started(config, make, capacity, batch=1, dtype=np.float32, **options):
    """A model on the arrays that `make(shape, dtype)` gives, its empty cache, and its ledger."""
    ledger = Ledger()
    with category("weights"):
        weights = {key: Counted(make(s, dtype), ledger) for key, s in config.shapes().items()}
    model = build(config, weights, **options)
    cache = model.new_cache(batch, capacity)
    return SimpleNamespace(model=model, cache=cache, ledger=ledger, weights=weights)


def routed(model):
    return [part for part in model.modules() if isinstance(part, Experts)]


def chosen(dispatch):
    """The experts of each token, in the order in which it chose them."""
    runs = [np.full(stop - start, expert) for expert, start, stop in dispatch.segments]
    k = len(dispatch.back) // (dispatch.tokens.max() + 1)
    return np.concatenate(runs)[dispatch.back].reshape(-1, k)


def hugging_face(config):
    import torch
    import transformers

    theirs = transformers.DeepseekV3Config(
        **{"num_key_value_heads": config.num_attention_heads, "eos_token_id": None, **config.given},
        attn_implementation="eager",
        experts_implementation="eager",
        bos_token_id=None,
        num_nextn_predict_layers=0,
    )
    torch.manual_seed(0)
    return transformers.DeepseekV3ForCausalLM(theirs).eval()


SOME = [
    TINY,
    TINY.but(q_lora_rank=None, rope_scaling=None, norm_topk_prob=False),
    TINY.but(attention_bias=True, rope_scaling=YARN, topk_group=4),
    TINY.but(first_k_dense_replace=0, tie_word_embeddings=True, n_group=1, topk_group=1),
]
