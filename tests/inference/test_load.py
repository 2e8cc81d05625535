"""Checkpoints as disks have them: what loads, and the line that says why another does not."""

import json
import shutil
import struct
from contextlib import suppress

import numpy as np
import pytest
from checkpoints import CONFIG, INDEX, SINGLE, checkpoint, make_tokenizer, sharded, tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from counting import Counted
from minigpt import InputError, generate, load
from minigpt.fast import store
from minigpt.models.gpt2 import GPT2

TOKENS = np.array([[3, 1, 4, 1, 5]])


def logits(model):
    cache = model.new_cache(*TOKENS.shape)
    result = model(TOKENS, cache, "all")
    return result.data if isinstance(result, Counted) else result


def spoken(folder, **options):
    return logits(load(folder, **options).model)


def bare(weights, config=CONFIG):
    return logits(GPT2(config, weights))


# What loads.


@pytest.fixture
def without_kernels(monkeypatch):
    """Loaded weights and bare ones are then multiplied alike, to the last bit."""
    monkeypatch.setenv("MINIGPT_FAST", "0")


def prefixed(folder):
    names = {key: key if key == "lm_head.weight" else f"transformer.{key}" for key in tensors()}
    checkpoint(folder, {names[key]: tensor for key, tensor in tensors().items()})


def reordered(folder):
    """Written by hand: the library sorts."""
    checkpoint(folder)
    header, data = {}, b""
    for key, tensor in reversed(tensors().items()):
        offsets = [len(data), len(data) + tensor.nbytes]
        header[key] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": offsets}
        data += tensor.tobytes()
    encoded = json.dumps(header).encode() + b" "  # of any length: tensors need not be aligned
    (folder / SINGLE).write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def with_masks(folder):
    masks = {
        f"h.{i}.attn.{name}": np.ones(shape, "f4")
        for i in range(CONFIG.n_layer)
        for name, shape in {"bias": (1, 1, 16, 16), "masked_bias": ()}.items()
    }
    checkpoint(folder, tensors() | masks)


def with_a_copied_head(folder):
    weights = tensors()
    checkpoint(folder, weights | {"lm_head.weight": weights["wte.weight"].copy()})


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize(
    "write", [checkpoint, sharded, prefixed, reordered, with_masks, with_a_copied_head]
)
def test_the_same_weights_give_the_same_logits_however_they_are_stored(tmp_path, write):
    write(tmp_path / "m")
    lm = load(tmp_path / "m")
    assert lm.config == CONFIG
    np.testing.assert_array_equal(logits(lm.model), bare(tensors()))


@pytest.mark.usefixtures("without_kernels")
def test_a_model_is_a_folder_or_its_file(tmp_path):
    checkpoint(tmp_path / "m", name="other.safetensors")
    np.testing.assert_array_equal(spoken(tmp_path / "m" / "other.safetensors"), bare(tensors()))


def test_a_head_of_its_own_is_used(tmp_path):
    weights = tensors() | {"lm_head.weight": tensors()["wte.weight"][::-1].copy()}
    lm = load(checkpoint(tmp_path / "m", weights))
    assert not lm.config.tie_word_embeddings
    expected = bare(tensors())[..., ::-1]  # in another place, a sum may go another way
    np.testing.assert_allclose(logits(lm.model), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("stored", ["f2", "f4", "f8"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_are_converted_to_the_dtype_asked_for(tmp_path, stored, dtype):
    checkpoint(tmp_path / "m", tensors(dtype=stored))
    given = {key: tensor.astype(stored) for key, tensor in tensors().items()}
    kept = {
        key: tensor.astype(dtype if tensor.ndim == 2 and key != "wpe.weight" else "f4")
        for key, tensor in given.items()
    }
    model = load(tmp_path / "m", dtype=dtype).model
    assert model.h[0].attn.c_attn.weight.dtype == dtype
    assert logits(model).dtype == np.float32
    widened = {key: tensor.astype("f4") for key, tensor in kept.items()}
    np.testing.assert_allclose(logits(model), bare(widened), atol=1e-3 if dtype == "float16" else 0)


def test_weights_stored_as_asked_for_are_mapped_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "READ", 0)
    model = load(checkpoint(tmp_path / "m")).model
    matrices = model.wte.weight, model.h[1].attn.c_attn.weight
    arrays = [*(matrix.data.stored for matrix in matrices), model.ln_f.bias.data]
    assert not any(array.flags.writeable for array in arrays)
    assert len({id(origin(array)) for array in arrays}) == 1
    assert type(origin(arrays[0])).__name__ == "mmap"


def origin(array):
    while isinstance(array, np.ndarray | memoryview):
        array = array.obj if isinstance(array, memoryview) else array.base
    return array


def test_progress_ends_with_every_byte(tmp_path):
    said = []
    load(checkpoint(tmp_path / "m"), progress=lambda *bytes_: said.append(bytes_))
    total = sum(tensor.nbytes for tensor in tensors().values())
    assert said[-1] == (total, total)
    assert said == sorted(said)


def test_an_end_of_text_outside_of_the_vocabulary_never_comes(tmp_path):
    lm = load(checkpoint(tmp_path / "m", eos_token_id=50256))
    assert len(list(generate(lm, "ab", max_new_tokens=5))) == 5


# What does not.


def refused(model, **options):
    with pytest.raises(InputError) as error:
        load(model, **options)
    return str(error.value)


def without(key):
    return {k: v for k, v in tensors().items() if k != key}


WRONG_TENSORS = {
    "missing": (without("h.1.mlp.c_fc.bias"), "no tensor h.1.mlp.c_fc.bias"),
    "none": ({}, "no tensor wte.weight"),
    "unexpected": (tensors() | {"h.2.x": np.ones(1, "f4")}, "unexpected tensor h.2.x"),
    "another mask": (tensors() | {"h.0.attn.mask": np.ones(1, "f4")}, "tensor h.0.attn.mask"),
    "misshapen": (
        tensors() | {"wpe.weight": np.ones((8, 16), "f4")},
        "wpe.weight has shape (8, 16), but",
    ),
    "transposed": (
        tensors() | {"h.0.mlp.c_fc.weight": np.ones((32, 8), "f4")},
        "h.0.mlp.c_fc.weight has shape (32, 8), but",
    ),
    "a misshapen head": (
        tensors() | {"lm_head.weight": np.ones((8, 260), "f4")},
        "lm_head.weight has shape (8, 260)",
    ),
    "integers": (tensors() | {"ln_f.bias": np.ones(8, "i4")}, "ln_f.bias is stored as I32"),
    "twice": (
        tensors() | {"transformer.ln_f.bias": np.ones(8, "f4")},
        "ln_f.bias is stored twice",
    ),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_a_wrong_tensor_is_named(tmp_path, case):
    weights, line = WRONG_TENSORS[case]
    assert line in refused(checkpoint(tmp_path / "m", weights))


def test_an_unknown_dtype_is_named(tmp_path):
    header = {"wte.weight": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}
    encoded = json.dumps(header).encode()
    file = checkpoint(tmp_path / "m") / SINGLE
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"\0")
    assert "wte.weight is stored as F8_E4M3" in refused(tmp_path / "m")


NOT_SAFETENSORS = {
    "empty": lambda good: b"",
    "short": lambda good: good[:7],
    "truncated": lambda good: good[:-1],
    "longer": lambda good: good + b"\0",
    "a header cut": lambda good: good[:100],
    "a header too long": lambda good: b"\xff" * 8 + good[8:],
    "a header that is no JSON": lambda good: good.replace(b"{", b"[", 1),
    "a pickle": lambda good: b"\x80\x04\x95" + good,
    "a page": lambda good: b"<!doctype html><title>404</title>",
    "a pointer": lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.mark.parametrize("case", NOT_SAFETENSORS)
def test_a_file_that_is_not_whole_is_named(tmp_path, case):
    file = checkpoint(tmp_path / "m") / SINGLE
    file.write_bytes(NOT_SAFETENSORS[case](file.read_bytes()))
    assert refused(tmp_path / "m").startswith(f"{file} is not a whole safetensors file (")


@pytest.mark.parametrize(
    "path", ["model.bin", "model.pt", "m/pytorch_model.bin", "m/pytorch_model.BIN", "m"]
)
@pytest.mark.parametrize("there", [[], ["config.json"], ["config.json", "tokenizer.json"]])
def test_a_pickle_is_refused_and_why(tmp_path, path, there):
    folder = checkpoint(tmp_path / "m")
    for file in list(folder.iterdir()):
        if file.name not in there:
            file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "refused: loading a pickle can run any code" in refused(tmp_path / path)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", SINGLE])
def test_a_missing_file_is_named(tmp_path, missing):
    (checkpoint(tmp_path / "m") / missing).unlink()
    assert f"{tmp_path / 'm'} has no {missing}" in refused(tmp_path / "m")


@pytest.mark.parametrize(
    "index",
    [
        *("", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": {}}}', "[" * 100_000),
        *('{"weight_map": {}}', '{"weight_map": {"a": "b", "c": 1}}', "\ud800"),
        *(
            json.dumps({"weight_map": {"wte.weight": name}})
            for name in (
                "../a.safetensors",
                "/a.safetensors",
                "pytorch_model.bin",
                7,
                "none.safetensors",
            )
        ),
    ],
    ids=lambda index: index[:40].encode("ascii", "replace").decode(),
)
def test_an_index_that_leads_nowhere_is_named(tmp_path, index):
    sharded(tmp_path / "m")
    (tmp_path / "m" / INDEX).write_bytes(index.encode("utf-8", "surrogatepass"))
    assert INDEX in refused(tmp_path / "m")


@pytest.mark.parametrize(
    "model",
    [
        "",
        "nobody/knows/this",
        "./none",
        "~nobody/m",
        "./" + "a" * 5000,
        "-m",
        "no such",
        "m\0",
        "https://a",
    ],
    ids=lambda model: model[:20],
)
def test_a_name_that_is_no_model_is_refused_without_a_network(monkeypatch, tmp_path, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minigpt.checkpoint.hub.on_hub", lambda *_: pytest.fail("asked the hub"))
    refused(model)


def test_what_is_on_this_machine_has_no_revisions(tmp_path):
    for model in ("shakespeare", checkpoint(tmp_path / "m")):
        assert "only a hub name has revisions" in refused(model, revision="main")


WRONG_CONFIGS = [
    *({"model_type": kind} for kind in ("bert", None, 7, ["gpt2"])),
    *({name: value} for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
      for value in (0, -1, 2.0, "8", True, None, [], 2**40, float("nan"), float("inf"))),
    *({"n_inner": value} for value in (0, -1, 1.5, "32", False)),
    *({"layer_norm_epsilon": value} for value in (-1e-5, 1, "x", None, float("nan"), True)),
    *({"eos_token_id": value} for value in (-1, 1.0, "0", [-1], [0, "1"], [[0]], True)),
    *({"tie_word_embeddings": value} for value in (1, "yes", None)),
    *({"n_head": value} for value in (3, 16)),
    {"activation_function": "swish"},
    {"scale_attn_weights": False},
    {"add_cross_attention": True},
]  # fmt: skip


@pytest.mark.parametrize("changes", WRONG_CONFIGS, ids=str)
def test_an_absurd_configuration_is_named(tmp_path, changes):
    line = refused(checkpoint(tmp_path / "m", **changes))
    assert line.startswith(f"{tmp_path / 'm' / 'config.json'}")
    assert any(key in line for key in changes)


@pytest.mark.parametrize("sizes", [{"n_layer": 10_000}, {"vocab_size": 2**31 - 1}, {"n_head": 8}])
def test_a_configuration_that_is_not_that_of_the_tensors_is_refused_at_once(tmp_path, sizes):
    checkpoint(tmp_path / "m", **sizes)
    if sizes == {"n_head": 8}:  # as many tensors: only the heads are cut otherwise
        load(tmp_path / "m")
    else:
        refused(tmp_path / "m")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"a": 1' + 5000 * "0", "\ud800"]
)
def test_a_configuration_that_is_no_json_object_is_named(tmp_path, text):
    file = checkpoint(tmp_path / "m") / "config.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert str(file) in refused(tmp_path / "m")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": {"type": "BPE"}}', "[" * 100_000])
def test_a_malformed_tokenizer_is_named(tmp_path, text):
    file = checkpoint(tmp_path / "m") / "tokenizer.json"
    file.write_text(text)
    assert f"{file} is not a tokenizer" in refused(tmp_path / "m")


def test_a_token_beyond_the_vocabulary_is_refused_where_a_prompt_has_it(tmp_path):
    file = checkpoint(tmp_path / "m") / "tokenizer.json"
    tokenizer = make_tokenizer(260, None)
    tokenizer.add_special_tokens(["[PAD]"])
    tokenizer.save(str(file))
    lm = load(tmp_path / "m")
    assert len(list(generate(lm, "ab", max_new_tokens=2, ignore_eos=True))) == 2
    line = r"'\[PAD\]', which is token 260, but .* knows 260 tokens"
    for prompts in ("ab[PAD]", ["ab", "a[PAD]"]):
        with pytest.raises(InputError, match=line):
            generate(lm, prompts)


def test_a_tokenizer_that_cuts_and_pads_does_neither_here(tmp_path):
    file = checkpoint(tmp_path / "m") / "tokenizer.json"
    tokenizer = make_tokenizer(260, None)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(file))
    assert len(load(tmp_path / "m").tokenizer.encode("abcd").ids) == 4


@pytest.mark.parametrize(
    "options", [{"dtype": "float8"}, {"dtype": ""}, {"device": "tpu"}], ids=str
)
def test_an_unknown_place_is_refused(tmp_path, options):
    assert f"unknown {next(iter(options))}" in refused(checkpoint(tmp_path / "m"), **options)


def test_weights_that_overflow_are_refused_when_they_speak(tmp_path):
    huge = {key: 1e30 * tensor for key, tensor in tensors().items()}
    for dtype in ("float32", "float16"):
        lm = load(checkpoint(tmp_path / "m", huge), dtype=dtype)
        with pytest.raises(InputError, match=f"not finite: .* for {dtype}"):
            list(generate(lm, "a", max_new_tokens=2))


# Whatever the bytes.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("fuzz") / "m")


@st.composite
def damages(draw, name):
    """A change of the bytes of a file: some flipped, the end cut off, bytes put in."""

    def damage(data):
        places = st.integers(0, len(data) - 1)
        if name == SINGLE:  # in the header, mostly
            places = st.integers(0, int.from_bytes(data[:8], "little") + 16)
        data = bytearray(data)
        for place in draw(st.lists(places, max_size=4)):
            data[place] = draw(st.integers(0, 255) | st.sampled_from(b'{}[]",:-0123456789e.'))
        if draw(st.booleans()):
            cut = draw(places)
            data[cut:] = draw(st.binary(max_size=8) | st.just(data[cut + 1 :]))
        return bytes(data)

    return damage


@pytest.mark.parametrize("name", [SINGLE, "config.json", "tokenizer.json"])
@settings(max_examples=300)
@given(data=st.data())
def test_damage_is_refused_or_does_not_matter(folder, name, data):
    damaged = folder.parent / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(folder, damaged)
    change = data.draw(damages(name))
    (damaged / name).unlink()
    (damaged / name).write_bytes(change((folder / name).read_bytes()))
    with suppress(InputError):
        list(generate(load(damaged), "ab", max_new_tokens=2, seed=0))
