"""Configurations of the hub, as published: parameters, bytes of cache and FLOP, by witnesses."""

import json
import re
from functools import cache
from pathlib import Path

import deltas
import pytest
from hub import COUNTED, FILES, REFUSED, TOKENS, WITHOUT_EMBEDDING, file, values
from hypothesis import given, settings
from hypothesis import strategies as st

from counting.views import matmul
from minigpt.formulas.other_counters import cache_name
from minigpt.models.architectures import PRESETS, READERS, read
from minigpt.models.gpt2_config import GPT2_SIZES
from minigpt.planning.count import count
from minigpt.planning.forward import Pass, kv_bytes, on_shapes, state_bytes

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
    L //= v.get("full_attention_interval", 1)  # between these, layers keep a state
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


@cache
def counted(name):
    """One token after 1000, as `count` counts it."""
    return count(str(FILES[name]), Pass(N=1000))


def transformers_model(v):
    """A model without data, of transformers, as it reads a config.json's values."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        config = transformers_config(v)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def transformers_config(v):
    from transformers import AutoConfig

    given = {k: x for k, x in v.items() if k not in ("model_type", "quantization_config")}
    kind = "deepseek_v3" if v["model_type"] == "kimi_k2" else v["model_type"]  # its own code's
    return AutoConfig.for_model(kind, **given)


def test_every_file_has_its_figures():
    assert FILES.keys() == COUNTED.keys() | REFUSED.keys()
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


@pytest.mark.parametrize("name", sorted(COUNTED.keys() - {"kimi-k2"}))
def test_a_file_that_transformers_writes_again_is_the_same_model(torch, name):
    written = json.loads(transformers_config(values(name)).to_json_string())
    ours, again = counted(name).config, READERS[written["model_type"]](written, name)
    assert ours.but(eos_token_id=None) == again.but(eos_token_id=None)  # it may drop one of these
    assert again.uncomputed == ()


@pytest.mark.parametrize("name", COUNTED)
def test_count_takes_it_with_these_parameters_and_bytes_of_cache(name):
    config, said = counted(name).config, COUNTED[name]
    assert config.parameters == said.parameters
    assert kv_bytes(config, min(TOKENS, context(values(name)))) == said.held


def test_a_state_takes_what_follows_from_the_file_of_however_many_tokens():
    name, config = "qwen3-next-80b-a3b", counted("qwen3-next-80b-a3b").config
    assert deltas.held(values(name), 2) == state_bytes(config) == 77_266_944
    assert deltas.held(values(name), 4) == state_bytes(config, "float32")
    for N in (0, 1000, 200_000):
        found = count(name, Pass(N=N, B=2))
        assert found.state_bytes == found.peak_bytes["state"] == 2 * 77_266_944
    assert {state_bytes(counted(other).config) for other in COUNTED if other != name} == {0}


@pytest.mark.parametrize("name", COUNTED)
def test_all_that_its_file_asks_for_is_computed_but_vision_towers(name):
    """A model that generates must compute all of it."""
    left = counted(name).config.uncomputed
    assert len(left) == ("vision_config" in file(name)), left


def test_what_a_text_part_asks_for_is_said_beside_the_vision_tower(tmp_path):
    v = file("gemma-3-4b")
    v["text_config"]["rope_scaling"] = {"rope_type": "dynamic", "factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(v))
    scaling, tower = read(tmp_path / "config.json").uncomputed
    assert "dynamic" in scaling
    assert "gemma3" in tower


@pytest.mark.parametrize("name", [name for name, said in COUNTED.items() if said.active])
def test_a_token_meets_as_many_parameters_as_their_makers_say(name):
    config, said = counted(name).config, COUNTED[name].active
    experts = config.experts
    idle = experts.n_routed_experts - experts.num_experts_per_tok
    active = config.parameters - experts.expert_layers * idle * experts.expert_parameters
    if values(name)["model_type"] in WITHOUT_EMBEDDING:
        active -= config.vocab_size * config.width
    figure = said.rstrip("B")
    last = 10 ** -len(figure.partition(".")[2])  # makers cut off, or round
    assert abs(active / 1e9 - float(figure)) < last


@pytest.mark.parametrize(("name", "what"), REFUSED.items())
def test_what_is_not_computed_is_refused_by_name(command, name, what):
    refused = command("count", FILES[name])
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1
    assert what in refused.stderr


def few_layers(v):
    """What a file says of the model's first layers alone, of each kind some."""
    L = 6
    count = "n_layer" if "n_layer" in v else "num_hidden_layers"
    return {count: L} | {key: v[key][:L] for key in ("layer_types", "no_rope_layers") if key in v}


def made_anew(v, T, N):
    """FLOP of theirs beyond ours: keys and values of all N + T, made of latents again in each pass.

    Both cache latents; ours multiplies the matrices that would make them into queries and outputs.
    """
    if "kv_lora_rank" not in v:
        return 0
    L, H, R = (v[key] for key in ("num_hidden_layers", "num_attention_heads", "kv_lora_rank"))
    P, D, S = v["qk_nope_head_dim"], v["v_head_dim"], N + T
    return 2 * L * H * (R * (P + D) * (S - T) + T * S * (P + D - 2 * R))


@settings(max_examples=8)
@given(name=st.sampled_from(sorted(COUNTED)))
def test_its_matrix_products_are_those_that_pytorch_counts(torch, name):
    """100 tokens at once, more after them, and one after 5000, past every window but Qwen2.5's."""
    from torch.utils.flop_counter import FlopCounterMode

    few = few_layers(values(name))
    v, config = values(name) | few, counted(name).config.but(**few)
    theirs, past = transformers_model(v), None
    theirs.set_experts_implementation("batched_mm")  # is counted, and takes no data
    held, longest = cache_name(theirs), min(5000, context(v) - 1)
    for T, N in ((100, 0), (longest - 100, 100), (1, longest)):
        tokens = torch.zeros((1, T), dtype=torch.long, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            past = theirs(tokens, use_cache=True, **{held: past})[held]
        ours = matmul(on_shapes(config, Pass(T, N)).counts)
        ours += made_anew(v, T, N) + deltas.beyond(v, T, N)
        assert counter.get_total_flops() == ours, (T, N)


def test_the_documents_table_is_what_count_says():
    document = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = [line.strip("| ").split("|") for line in document.splitlines() if "," in line]
    rows = [[cell.strip("` ") for cell in row] for row in rows if len(row) == 6]
    assert [name for name, *_ in rows] == [name for name in PRESETS if name not in GPT2_SIZES]
    for name, parameters, met, tokens, held, factor in rows:
        config, experts = PRESETS[name], PRESETS[name].experts
        n = min(TOKENS, config.n_positions)
        kept = n * kv_bytes(config, 1)
        assert (tokens, held) == (f"{n:,}", f"{kv_bytes(config, n):,}")
        assert factor == f"{kept / kv_bytes(config, n):.2f}"
        assert parameters == f"{config.parameters:,}"
        unmet = experts and experts.n_routed_experts - experts.num_experts_per_tok
        active = experts and config.parameters - experts.expert_layers * unmet * (
            experts.expert_parameters
        )
        assert met == (f"{active:,}" if experts else "")


def test_documents_say_how_many_families_and_models_there_are():
    root = Path(__file__).parents[2]
    said = {name: (root / name).read_text() for name in ("README.md", "docs/models.md")}
    families, models = len(READERS), len(PRESETS) - len(GPT2_SIZES)
    assert (
        f"[{families} families](docs/models.md#which-models), {models} models by name"
        in said["README.md"]
    )
    assert f"GPT-2, Llama and {families - 2} more families" in (root / "pyproject.toml").read_text()
    listed = [row for row in said["docs/models.md"].splitlines() if row.startswith("| `")]
    assert READERS.keys() <= {kind for row in listed for kind in re.findall(r"`(\w+)`", row)}


def test_the_document_says_how_much_more_heads_would_hold_than_latents():
    config, document = PRESETS["deepseek-v3"], Path(__file__).parents[2] / "docs" / "models.md"
    as_heads = 2 * 2 * config.hidden_size * config.num_hidden_layers  # of hidden / heads numbers
    assert f"gets {as_heads / kv_bytes(config, 1):.1f} times as much" in document.read_text()
