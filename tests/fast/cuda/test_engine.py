"""`--engine fast`: the same text at the same price. No GPU code runs here."""

import importlib

import pytest
from checkpoints import complaint, minigpt
from emulator import Emulator
from gpu import stand_in  # noqa: F401

from minigpt import InputError, generate, load


@pytest.fixture
def emulated(cupy, library, monkeypatch):
    """Kernels are run by this CPU, not by a GPU; gives what was launched."""
    launch = importlib.import_module("minigpt.fast.cuda.launch")
    kernels, launched = Emulator(library, 2, 128), []
    own = kernels.launch

    def noted(*given):
        launched.append(given[1])
        own(*given)

    kernels.launch = noted
    monkeypatch.setattr(launch, "Compiled", lambda: kernels)
    return launched


def said(engine):
    lm = load(device="cuda", dtype="float16", engine=engine)
    steps = list(generate(lm, "To be, or not to be", max_new_tokens=12, temperature=0))
    return "".join(step.text for step in steps), [step.counts.cost for step in steps], lm.config


def test_the_same_text_at_the_same_price(emulated):
    text, costs, config = said("reference")
    assert said("fast")[:2] == (text, costs)
    assert emulated == [(0, 5 * config.n_layer + 2)] * 11  # the first token is the prompt's


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"engine": "fast"}, "--engine is for --device cuda"),
        ({"device": "cuda", "engine": "quick"}, "unknown engine 'quick': reference or fast"),
        ({"device": "cuda", "engine": "fast"}, "--engine fast multiplies float16, not float32"),
    ],
)
def test_an_engine_that_cannot_be_had(cupy, given, why):
    with pytest.raises(InputError, match=why):
        load(**given)


def test_the_command_says_so_in_one_line(tmp_path):
    line = complaint(minigpt("generate", "a", "--engine", "fast", cwd=tmp_path))
    assert line.startswith("minigpt: --engine is for --device cuda")
