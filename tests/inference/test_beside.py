"""What lies beside the weights and rules a generation; small folders as people have them."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from checkpoints import CONFIG, ROOT, SINGLE, checkpoint, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from minigpt import InputError, generate, load
from minigpt.inference.generate import encode

GREEDY = {"temperature": 0, "max_new_tokens": 12}


def ends(folder, **options):
    return [step.token for step in generate(load(folder), "ab", **GREEDY, **options)]


# The ends of a text.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("ends") / "m", eos_token_id=None)


@pytest.fixture(scope="module")
def endless(folder):
    return ends(folder)


ENDS = st.none() | st.integers(0, 300) | st.lists(st.integers(0, 300), max_size=4)
MISSING = object()


@settings(max_examples=25)
@given(data=st.data())
def test_a_text_ends_at_the_first_of_its_ends(folder, endless, data):
    likely = st.sampled_from(endless)
    some = ENDS | likely | st.lists(likely, min_size=1, max_size=3)
    said, generation = data.draw(some), data.draw(some | st.just(MISSING))
    values = CONFIG.values() | {"eos_token_id": said}
    (folder / "config.json").write_text(json.dumps(values))
    beside = {} if generation is MISSING else {"eos_token_id": generation}
    (folder / "generation_config.json").write_text(
        json.dumps(beside | {"temperature": 0.1, "top_k": 1, "max_length": 3, "do_sample": True})
    )
    rule = said if generation is MISSING else generation
    rule = rule if isinstance(rule, list) else [rule]
    at = next((i + 1 for i, token in enumerate(endless) if token in rule), len(endless))
    assert ends(folder) == endless[:at]


def test_no_end_is_one_where_it_is_to_be_ignored(folder, endless):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": endless}))
    assert ends(folder) == endless[:1]
    assert ends(folder, ignore_eos=True) == endless


@pytest.mark.parametrize("text", ["[]", "{", '{"eos_token_id": "x"}', '{"eos_token_id": [-1]}'])
def test_a_malformed_generation_config_is_named(tmp_path, text):
    file = checkpoint(tmp_path / "m") / "generation_config.json"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(str(file))):
        load(tmp_path / "m")


def test_the_text_of_all_steps_is_what_all_tokens_make(folder):
    lm = load(folder)
    for seed in range(20):
        steps = list(generate(lm, "é", max_new_tokens=12, temperature=3.0, seed=seed))
        tokens = [step.token for step in steps if step.token not in lm.ends]
        prompt = lm.tokenizer.encode("é").ids
        whole = lm.tokenizer.decode(prompt + tokens, skip_special_tokens=False)
        assert "é" + "".join(step.text for step in steps) == whole


# Folders that stand for a kind each, with the tokens that transformers 5.24 gives.

CASES = ROOT.parent / "shared" / "cases"
TOKENS = {
    "byte-fallback-stream": "21 248 24 284 292 24 284 191 26 128 243 198",
    "generation-config-eos": "194 42 42 162 162 162 162 162 97",
    "gpt2-value-head": "1 1 1 1 285 285 285 213 1 1 1 1",
    "gpt2-vocab-merges": "1 1 1 1 285 285 285 213 1 1 1 1",
    "llama-inv-freq": "63 238 242 136 206 277 15 92 88 104 88 104",
    "pad-beyond-vocabulary": "1 1 1 1 285 285 285 213 1 1 1 1",
}


@pytest.fixture
def case(tmp_path):
    def made(name):
        if not (CASES / name).is_dir():
            pytest.skip("the cases of shared/cases are not beside this checkout")
        shutil.copyfile(CASES / "common.py", tmp_path / "common.py")
        folder = tmp_path / name
        folder.mkdir()
        for file in (CASES / name).iterdir():
            shutil.copyfile(file, folder / file.name)
        subprocess.run([sys.executable, "make.py"], cwd=folder, check=True)
        return folder

    return made


@pytest.mark.parametrize("name", TOKENS)
def test_a_case_has_its_tokens_and_their_text(case, name):
    lm = load(case(name))
    steps = list(generate(lm, "To be, or not", **GREEDY))
    assert " ".join(str(step.token) for step in steps) == TOKENS[name]
    prompt = lm.tokenizer.encode("To be, or not").ids
    shown = [step.token for step in steps if step.token not in lm.ends]
    before, whole = (lm.tokenizer.decode(ids) for ids in (prompt, prompt + shown))
    assert before + "".join(step.text for step in steps) == whole


def test_the_case_of_a_space_in_front_has_its_tokens(case):
    ids = encode(load(case("add-prefix-space")), ["To be, or not"]).tolist()
    assert ids == [[220, 51, 78, 220, 65, 68, 11, 260, 81, 262, 78, 83]]


def test_the_case_of_an_adapter_is_named(case):
    with pytest.raises(InputError, match=r"an adapter \(LoRA\) of gpt2: merge it first"):
        load(case("lora-folder"))


# As transformers saves them.


@pytest.fixture(scope="module")
def transformers():
    reason = "the peers are not installed: .[peers]"
    pytest.importorskip("torch", reason=reason)
    return pytest.importorskip("transformers", reason=reason)


@pytest.fixture(scope="module")
def drawn(transformers):
    """Small models with random weights, large enough for their tokens to differ."""
    import torch

    torch.manual_seed(0)
    sizes = {"vocab_size": 260, "initializer_range": 0.5, "eos_token_id": [17, 18]}
    gpt2 = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    llama = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    llama |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    return {
        "gpt2": transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **gpt2)).eval(),
        "llama": transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **llama)).eval(),
    }


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("saved", ["whole", "without its head"])
def test_a_model_speaks_however_transformers_saved_it(tmp_path, drawn, name, saved):
    import torch

    model = drawn[name]
    (model if saved == "whole" else model.base_model).save_pretrained(tmp_path)
    keys = set(load_file(tmp_path / SINGLE))
    prefix = {"gpt2": "transformer.", "llama": "model."}[name]
    assert {key.startswith(prefix) for key in keys} == {saved == "whole"}
    make_tokenizer(260, None).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    lm = load(tmp_path)
    assert lm.ends == (17, 18)
    given = torch.tensor(encode(lm, ["To be"]))
    mask = torch.ones_like(given)
    theirs = model.generate(
        given, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=[17, 18]
    )
    assert [step.token for step in generate(lm, "To be", **GREEDY)] == theirs[0, 5:].tolist()
