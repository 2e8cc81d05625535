"""Witnesses of decoders agree; a wrong one is caught."""

import json

import numpy as np
import pytest

from counting import COSTS, Cost
from minigpt.commands.verify import document, tables
from minigpt.errors import InputError
from minigpt.formulas import verify as room
from minigpt.formulas.claims import hold
from minigpt.formulas.verify import Witness, verify
from minigpt.models.architectures import FAMILIES, PRESETS

SIZES = {
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
}
BY_NAME = {family.model_type: family for family in FAMILIES}
LLAMA = BY_NAME["llama"](**SIZES)
QWEN = BY_NAME["qwen3_moe"](**SIZES, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=6)


@pytest.mark.peers
@pytest.mark.parametrize("config", [LLAMA, QWEN], ids=["llama", "qwen3-moe"])
def test_every_witness_agrees(config):
    found = verify(config, "small", seed=1)
    assert found.agrees
    assert len(found.witnesses) == 5
    assert {claim.n for claim in found.claims} == {1, 64}
    assert json.loads(json.dumps(document(found)))["agrees"] is True
    tables(found)


def test_a_wrong_row_of_costs_is_caught_and_told(monkeypatch, forgotten):
    monkeypatch.setattr(room, "_torch", lambda *work: Witness("torch", skipped="not here"))
    monkeypatch.setitem(COSTS, np.exp, lambda out, a: Cost(exp=2 * out[-1]))
    found = verify(LLAMA, "small", prompt=1, seed=1)
    assert not found.agrees
    told = json.loads(json.dumps(document(found)))["witnesses"][0]
    assert (told["smallest_case"]["T"], told["smallest_case"]["N"]) == (1, 0)


def test_peers_are_of_gpt2_alone():
    with pytest.raises(InputError, match="--peers are run on GPT-2 alone, and small is none"):
        verify(LLAMA, "small", peers=True)


def test_what_is_published_of_llama_is_held():
    claims = hold(PRESETS["llama-3.1-8b"], "llama-3.1-8b", [(1, 999)])
    held = {(claim.published.source, claim.published.where): claim for claim in claims}
    grouped = held["DeepSeek-V2", "table 1: GQA, 2 n_g d_h l elements"]
    assert grouped.value == grouped.executed == 2 * 2 * 32 * 8 * 128
    table = held["article", "table: FLOP of Llama 3.1 8B, 4.307T"]
    token = 32 * (4 * 4096**2 + 4 * 4096 * 1024 + 6 * 4096 * 14336)
    assert table.executed == token + 32 * 4 * 4096 * 1000 + 2 * 4096 * 128256
    assert table.deviation == pytest.approx(100 * (4307 * 10**9 / table.executed - 1))
