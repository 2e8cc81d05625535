"""Keys of a config.json: whatever one says, it is read as transformers reads it, or refused."""

import copy
import math

import numpy as np
import pytest
from families import CASES, kind, read, small
from families_beside import THEIRS, saved, their_config, their_model
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.errors import InputError
from minigpt.models.architectures import FAMILIES, READERS, build
from minigpt.models.values import CHECKS
from minigpt.planning.forward import Pass, forward

FIRST = {kind(name): name for name in reversed(CASES)}  # a case of each family
OTHERS = {  # names that a family may have for a thing, and keys without a check
    *("rotary_pct", "rotary_emb_base", "layer_norm_epsilon", "norm_epsilon", "n_embd", "n_embed"),
    *("n_head", "n_layer", "n_positions", "num_local_experts", "_sliding_window_pattern"),
    *("layer_switch", "_remove_final_layer_norm", "position_embedding_type", "use_qk_norm"),
}
KEYS = sorted(CHECKS.keys() | OTHERS)
MISSING = object()
VALUES = [
    *(None, 0, 1, 3, -1, 0.5, 1e-9, "x", True, False, [], [1], [None], ["full_attention"] * 4),
    *(["sliding_attention"] * 4, {}, {"rope_type": "yarn"}, {"rope_type": "linear", "factor": 2}),
    *(10**9, 10**30, 1e30, math.nan, math.inf, MISSING),
]


def but(name, key, value):
    """The values of a case with another one in one place."""
    values = copy.deepcopy(small(name)) | {key: value}
    if value is MISSING:
        del values[key]
    return values


@pytest.mark.parametrize("model_type", READERS)
@settings(max_examples=6)
@given(data=st.data())
def test_each_key_is_a_value_or_one_line_whatever_it_says(model_type, data):
    """What is read can be counted too."""
    name, seen = FIRST[model_type], set()
    for key in KEYS:
        value, said = data.draw(st.sampled_from(VALUES), key), ""
        try:
            config = read(name, but(name, key, value))
        except InputError as error:
            said = str(error)
        assert said == "" or said.startswith("config.json: ")
        assert f"{key} and {key}" not in said
        assert "\n" not in said
        if said or config in seen or config.n_positions < 3:
            continue
        if config.layers < 9 and config.parameters < 10**7:
            seen.add(config)
            forward(config, Pass(T=2, N=1))


@pytest.mark.parametrize("name", ["llama", "gpt_oss", "gemma3_text", "deepseek_v3"])
def test_heads_too_wide_to_be_listed_are_refused_at_once(name):
    key = "qk_rope_head_dim" if name == "deepseek_v3" else "head_dim"
    with pytest.raises(InputError, match="4096 can at most"):
        read(name, small(name) | {key: 2 * 10**9})


# What changes nothing.


@pytest.mark.parametrize("name", FIRST.values())
@pytest.mark.parametrize("off", [None, False])
def test_a_switch_that_is_off_and_that_nobody_reads_changes_nothing(name, off):
    found = read(name, small(name) | {"use_something_new": off})
    assert found == read(name, small(name))
    assert found.uncomputed == ()
    assert read(name, small(name) | {"use_something_new": 0}).uncomputed


SWITCHED_OFF = [
    (family.model_type, key)
    for family in FAMILIES
    for key in (
        "attention_bias",
        "mlp_bias",
        "use_sliding_window",
        "use_qkv_bias",
        "norm_topk_prob",
    )
    if not family.defaults.get(key, False)
]


@pytest.mark.parametrize(("model_type", "key"), SWITCHED_OFF)
def test_null_and_false_are_as_missing_where_that_is_off(model_type, key):
    name = FIRST[model_type]
    values = {k: v for k, v in small(name).items() if k != key}
    missing = read(name, values)
    for off in (None, False):
        found = read(name, values | {key: off})
        assert (found, found.uncomputed) == (missing, ())


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "gpt_oss", "olmo3", "cohere2", "qwen2"])
def test_a_window_that_no_layer_looks_through_changes_nothing(name):
    values = small(name) | {"layer_types": ["full_attention"] * 4}
    wide, narrow = (read(name, values | {"sliding_window": width}) for width in (3, 5))
    assert wide == narrow
    assert wide.uncomputed == narrow.uncomputed == ()
    assert set(wide.windows) == {None}


def test_rope_that_no_layer_turns_by_changes_nothing():
    values = small("smollm3") | {"no_rope_layers": [0] * 4}
    found = read("smollm3", values | {"rope_theta": 5e5})
    assert (found, found.uncomputed) == (read("smollm3", values), ())


# Beside transformers.


def test_what_a_family_takes_where_a_file_is_silent_is_what_transformers_takes(torch):
    unused = {("deepseek_v3", "num_key_value_heads")}
    unused |= {(moe, "sliding_window") for moe in ("qwen2_moe", "qwen3_moe")}
    for family in FAMILIES:
        model_type, c = THEIRS.get(family.model_type, family.model_type), family.values({}, "")
        theirs = type(their_config(model_type, {})).__dataclass_fields__
        for name in CHECKS.keys() - {"eos_token_id"}:
            key = c.spelled(name) if c.takes(name) and family.keys.get(name) != "" else None
            if key in theirs and (model_type, name) not in unused:
                ours = getattr(c, name)
                assert (ours or None) == (theirs[key].default or None), (model_type, key)


TOLD = {  # values that most families could take, of keys that some do not
    "layer_norm_eps layer_norm_epsilon norm_epsilon rms_norm_eps": (0.5,),
    "n_embd n_embed": (64,),
    "n_head num_key_value_heads n_layer": (2, None),
    "num_experts num_local_experts n_routed_experts": (8, 4),
    "rotary_emb_base rope_local_base_freq": (4.0,),
    "rotary_pct partial_rotary_factor": (0.5, 1.0),
    "attention_bias mlp_bias use_sliding_window": (True, False),
    "head_dim": (4, 12),
    "rope_interleave": (True, False, None),
    "sliding_window": (3, None),
    "_sliding_window_pattern": (2, 3),
}
READINGS = [
    (name, key, value)
    for name in FIRST.values()
    for keys, values in TOLD.items()
    for key in keys.split()
    for value in values
]


@settings(max_examples=60)
@given(told=st.sampled_from(READINGS))
def test_a_key_is_read_as_transformers_reads_it_or_not_computed(torch, tmp_path_factory, told):
    name, key, value = told
    values = but(name, key, value)
    try:
        config = read(name, values)
    except InputError:
        return
    if config.uncomputed:  # nothing is said without it
        return
    torch.set_num_threads(1)
    tokens = np.random.default_rng(0).integers(0, 97, (1, 9))
    try:
        theirs = their_model(their_config(name, copy.deepcopy(values)))
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens)).logits.numpy()
    except Exception:  # nothing to be held against
        return
    _, tensors = saved(theirs, tmp_path_factory.mktemp("saved"))
    assert config.shapes() == {key: tensor.shape for key, tensor in tensors.items()}
    ours = build(config, tensors)
    logits = ours(tokens, ours.new_cache(1, 9), "all")
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1, np.abs(expected).max()))
