"""Quantised checkpoints, as they are published: made whole, or refused with the way out."""

import json
import math

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint
from checkpoints import tensors as gpt2
from families import small
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16, float8_e4m3fn
from safetensors.numpy import save_file

from minigpt import load
from minigpt.checkpoint.headers import Stored, stored
from minigpt.checkpoint.quantised import made_whole, method
from minigpt.checkpoint.resolve import resolve
from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.models.architectures import READERS

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 5)


def fp4(bits):
    """E2M1: a sign, two bits of exponent, one of mantissa."""
    sign, exponent, mantissa = bits >> 3, bits >> 1 & 3, bits & 1
    size = 2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2
    return -size if sign else size


def fp8(bits):
    """E4M3: a sign, four bits of exponent, three of mantissa; no infinities, one NaN."""
    sign, exponent, mantissa = bits >> 7, bits >> 3 & 15, bits & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    size = 2.0 ** (exponent - 7) * (1 + mantissa / 8) if exponent else mantissa / 8 * 2**-6
    return -size if sign else size


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("quantised") / "m.safetensors"


def whole(file, weights, **config):
    """The tensors of a file of these, each read."""
    file.unlink(missing_ok=True)
    save_file(weights, file)
    found = made_whole(tensors(file), {"quantization_config": config} if config else {})
    return {key: tensor.read(np.dtype(np.float32)) for key, tensor in found}


@settings(max_examples=40)
@given(seed=SEEDS, experts=SIZES, out=SIZES, blocks=SIZES)
def test_mxfp4_is_each_number_times_the_power_of_its_block(file, seed, experts, out, blocks):
    rng = np.random.default_rng(seed)
    packed = rng.integers(256, size=(experts, out, blocks, 16), dtype=np.uint8)
    powers = rng.integers(100, 150, size=(experts, out, blocks), dtype=np.uint8)
    weights = {"a.down_proj_blocks": packed, "a.down_proj_scales": powers}
    found = whole(file, weights | {"b": np.ones(3, "f4")})
    assert found.keys() == {"a.down_proj", "b"}
    expected = np.zeros((experts, 32 * blocks, out))
    for e, o, g, byte in np.ndindex(packed.shape):
        for half in (0, 1):
            bits = int(packed[e, o, g, byte]) >> 4 * half & 15
            number = fp4(bits) * 2.0 ** (int(powers[e, o, g]) - 127)
            expected[e, 32 * g + 2 * byte + half, o] = number
    np.testing.assert_array_equal(found["a.down_proj"], expected)


@settings(max_examples=40)
@given(data=st.data(), seed=SEEDS)
def test_fp8_is_each_number_times_the_scale_of_its_block_cut_off_at_the_end(file, data, seed):
    rows, columns = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    block = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    rng = np.random.default_rng(seed)
    bits = rng.integers(256, size=(rows, columns), dtype=np.uint8)
    scales = rng.random((-(-rows // block[0]), -(-columns // block[1])), np.float32)
    code = data.draw(st.sampled_from([np.float32, bfloat16]))
    weights = {"w.weight": bits.view(float8_e4m3fn), "w.weight_scale_inv": scales.astype(code)}
    found = whole(file, weights, quant_method="fp8", weight_block_size=list(block))
    assert found.keys() == {"w.weight"}
    for i, j in np.ndindex(bits.shape):
        scale = np.float32(scales.astype(code)[i // block[0], j // block[1]])
        product = np.float32(fp8(int(bits[i, j]))) * scale
        assert np.array_equal(found["w.weight"][i, j], product, equal_nan=True)


def test_blocks_are_of_128_unless_the_file_says_otherwise(file):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((576, 130)).astype(float8_e4m3fn)  # as kv_a_proj's rows
    scales = rng.random((5, 2), np.float32)
    [found] = whole(file, {"w": weight, "w_scale_inv": scales}).values()
    expected = weight.astype("f4") * scales.repeat(128, 0)[:576].repeat(128, 1)[:, :130]
    np.testing.assert_array_equal(found, expected)


def mxfp4_model(folder, seed=0):
    """A gpt-oss as it is published, of random numbers."""
    values = small("gpt_oss") | {"hidden_size": 64, "intermediate_size": 32}
    values["model_type"] = "gpt_oss"
    values["quantization_config"] = {"quant_method": "mxfp4"}
    rng, weights = np.random.default_rng(seed), {}
    for key, shape in READERS["gpt_oss"](values, "config.json").shapes().items():
        if key.endswith(("gate_up_proj", "down_proj")):
            E, wide, out = shape
            weights[f"{key}_blocks"] = rng.integers(0, 256, (E, out, wide // 32, 16), np.uint8)
            weights[f"{key}_scales"] = rng.integers(118, 124, (E, out, wide // 32), np.uint8)
        else:
            weights[key] = (rng.standard_normal(shape) / 4).astype(bfloat16)
    return checkpoint(folder, weights, **values)


def fp8_model(folder, seed=0):
    """A DeepSeek V3 as it is published, of random numbers and blocks of 8 x 8."""
    values = small("deepseek_v3") | {"model_type": "deepseek_v3"}
    values["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [8, 8]}
    rng, weights = np.random.default_rng(seed), {}
    for key, shape in READERS["deepseek_v3"](values, "config.json").shapes().items():
        weights[key] = (rng.standard_normal(shape) / 4).astype(np.float32)
        if len(shape) == 2 and "_proj" in key:
            weights[key] = weights[key].astype(float8_e4m3fn)
            blocks = tuple(-(-n // 8) for n in shape)
            weights[f"{key}_scale_inv"] = rng.random(blocks, np.float32)
    return checkpoint(folder, weights, **values)


def logits(model):
    with np.errstate(all="ignore"):
        tokens = np.arange(1, 12)[None]
        return np.asarray(model(tokens, model.new_cache(1, 11), "all").data)


def test_a_gpt_oss_of_mxfp4_says_what_transformers_makes_of_it(torch, tmp_path):
    from transformers import AutoModelForCausalLM, Mxfp4Config

    folder = mxfp4_model(tmp_path / "m")
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=Mxfp4Config(dequantize=True), dtype=torch.float32
    )
    with torch.no_grad():
        expected = theirs(torch.arange(1, 12)[None]).logits.numpy()
    found = logits(load(folder).model)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_fp8_blocks_are_those_of_transformers_where_it_takes_them(torch, file):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    rng = np.random.default_rng(1)
    weight = rng.standard_normal((256, 384)).astype(float8_e4m3fn)
    scales = rng.random((2, 3), np.float32)
    [found] = whole(file, {"w": weight, "w_scale_inv": scales}).values()
    given = torch.from_numpy(weight.view(np.uint8)).view(torch.float8_e4m3fn)
    theirs = Fp8Dequantize(None)._dequantize_one(given, torch.from_numpy(scales))
    np.testing.assert_array_equal(found, theirs.numpy())


@pytest.mark.parametrize("make", [mxfp4_model, fp8_model])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_model_of_blocks_is_the_same_as_one_of_whole_matrices(tmp_path, make, dtype):
    folder = make(tmp_path / "m")
    given = json.loads((folder / "config.json").read_text())
    found = made_whole(tensors(folder / "model.safetensors"), given)
    wide = {key: tensor.read(np.dtype(np.float32)) for key, tensor in found}
    kept = checkpoint(tmp_path / "wide", wide, **given)  # it may still tell of the method
    np.testing.assert_array_equal(
        logits(load(folder, dtype=dtype).model), logits(load(kept, dtype=dtype).model)
    )


@pytest.mark.parametrize(("make", "how"), [(mxfp4_model, "mxfp4"), (fp8_model, "fp8")])
def test_headers_tell_what_is_stored_of_blocks(tmp_path, make, how):
    folder = make(tmp_path / "m")
    found = stored(str(folder), resolve(str(folder)))
    assert isinstance(found, Stored)
    data = (folder / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    scales = {
        key: math.prod(entry["shape"]) * (4 if how == "fp8" else 1)
        for key, entry in json.loads(data[8:begin]).items()
        if key.endswith(("_scales", "_scale_inv"))
    }
    assert (found.method, found.contradiction) == (how, None)
    assert found.nbytes == len(data) - begin
    assert found.scales == sum(scales.values()) > 0


# What is not made whole.


def weight(*ends, dtype="i4", bare=True):
    """Tensors of one quantised matrix of GPT-2, by the ends of their keys."""
    made = {f"h.0.attn.c_attn{end}": np.ones(4, dtype) for end in ends}
    return gpt2() | made


def quantised():
    """Checkpoints by what their config.json calls the method, and what must be in the line."""
    original = "take the model that they were made from"
    parts = (".qweight", ".qzeros", ".scales", ".g_idx")
    yield "gptq", weight(*parts), original
    yield "awq", weight(*parts[:3]), original
    states = (".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4")
    four = weight(*(f".weight{state}" for state in states), dtype="u1")
    dequantize = "AutoModelForCausalLM.from_pretrained(...).dequantize().save_pretrained(...)"
    yield "bitsandbytes", four, dequantize
    yield "bitsandbytes", weight(".SCB", ".weight_format", dtype="u1"), dequantize
    packed = weight(".weight_packed", ".weight_scale", ".weight_shape")
    config = "quantization_config=CompressedTensorsConfig(dequantize=True)).save_pretrained"
    yield "compressed-tensors", packed, config
    narrow = gpt2() | {"h.0.attn.c_attn.weight": np.ones((8, 24), "i1")}
    yield "torchao", narrow, original


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("how", "weights", "line"), list(quantised()))
def test_others_are_one_line_with_the_way_out(tmp_path, told, how, weights, line):
    config = {"quantization_config": {"quant_method": how}} if told else {}
    folder = checkpoint(tmp_path / "m", weights, **config)
    if not told and how == "torchao":
        pytest.skip("an integer that nothing tells of: see test_load")
    with pytest.raises(InputError) as error:
        load(folder)
    said = str(error.value)
    assert said.startswith(f"{folder / 'config.json'}: the weights are quantised (")
    assert "\n" not in said
    if told:
        assert f"({how})" in said
        assert line in said
    else:
        assert how in said
    found = stored(str(folder), resolve(str(folder)))
    assert isinstance(found, Stored)
    assert (found.method is not None, found.contradiction) == (True, None)
    assert found.nbytes == sum(x.nbytes for x in weights.values())


def test_weights_that_were_made_whole_load_though_the_config_json_tells_of_a_method(tmp_path):
    config = {"quantization_config": {"quant_method": "gptq"}}
    folder = checkpoint(tmp_path / "m", **config)
    assert load(folder).config == CONFIG
    assert method(config, tensors(folder / "model.safetensors")) is None


@pytest.mark.parametrize(
    "weights",
    [
        {"a_blocks": np.ones((2, 3, 1, 16), "u1"), "a_scales": np.ones((2, 3, 2), "u1")},
        {"a_blocks": np.ones((2, 3, 1, 8), "u1"), "a_scales": np.ones((2, 3, 1), "u1")},
        {"a_blocks": np.ones((3, 1, 16), "u1"), "a_scales": np.ones((3, 1), "u1")},
        {"a": np.ones((3, 130), float8_e4m3fn), "a_scale_inv": np.ones((1, 1), "f4")},
        {"a": np.ones(3, float8_e4m3fn), "a_scale_inv": np.ones(1, "f4")},
    ],
)
def test_scales_that_do_not_fit_are_one_line(file, weights):
    with pytest.raises(InputError, match=r"m\.safetensors: a.* and its scales .* do not fit$"):
        whole(file, weights)


def test_scales_alone_stay(file):
    weights = {"a_scales": np.ones((2, 3), "f4"), "b": np.ones((2, 2), "f4")}
    assert whole(file, weights).keys() == weights.keys()
