"""Values of a config.json that no model has: said before anything is built of them."""

import json
import random
import time
from contextlib import suppress

import pytest
from families import CASES, kind, small

from minigpt.errors import InputError
from minigpt.models.architectures import READERS, read
from minigpt.planning.forward import Pass, on_shapes

LARGE = (2**31 - 1, 2**31 - 2, 2**20, 10**30, 1e29, -1, 0, True, "1", [1], {"a": 1}, 1.5)


@pytest.mark.parametrize("seed", range(24))
def test_a_large_value_of_any_key_takes_no_longer_than_others(tmp_path, seed):
    rng = random.Random(seed)
    case = sorted(CASES)[(seed * len(CASES)) // 24]
    given = {"model_type": kind(case), **small(case)}
    config = READERS[kind(case)](given, "drawn")
    known = {*given, *getattr(config, "keys", ())} - {"model_type"}
    for key in rng.sample(sorted(known), 6):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**given, key: rng.choice(LARGE)}))
        began = time.process_time()
        with suppress(InputError):
            on_shapes(read(path), Pass(2, 1))
        assert time.process_time() - began < 5, f"{case}: {path.read_text()}"


WRONG = {
    "num_hidden_layers": 2**31 - 1,
    "n_routed_experts": 2**31 - 1,
    "qk_rope_head_dim": 2**20,
}


@pytest.mark.parametrize("key", WRONG)
def test_what_is_listed_one_by_one_is_bounded(key):
    given = small("deepseek_v3") | {key: WRONG[key]}
    with pytest.raises(InputError, match=r"up to \d+|can at most"):
        READERS["deepseek_v3"](given, "drawn")


def test_a_convolution_has_as_many_taps_as_one_can():
    given = small("qwen3_next") | {"linear_conv_kernel_dim": 2**20}
    with pytest.raises(InputError, match="linear_conv_kernel_dim is 1048576; it must be"):
        READERS["qwen3_next"](given, "drawn")


def test_experts_of_all_layers_are_bounded_too():
    given = small("deepseek_v3") | {"num_hidden_layers": 98, "n_routed_experts": 1024}
    given |= {"n_group": 1, "topk_group": 1}
    with pytest.raises(InputError, match="1024 experts in each of 98 layers are more than"):
        READERS["deepseek_v3"](given, "drawn")


@pytest.mark.parametrize("wrong", [["llama3"], {"a": 1}, 3, True])
@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_a_kind_of_rotary_scaling_is_a_name(key, wrong):
    given = small("llama") | {"rope_parameters": {key: wrong, "rope_theta": 1e4}}
    with pytest.raises(InputError, match=r"rope_type is .*; it must be a name"):
        READERS["llama"](given, "drawn")
