"""Families that the kernels were not made for: the same where they run, and the code where not.

No GPU code runs here.
"""

import pytest
from emulator import Emulator
from families import CASES, read, small
from gpu import stand_in  # noqa: F401
from steps import Subject, assert_as_the_code, assert_waits

FAST = {  # what of each is not in GPT-2 and Llama
    "mistral": "a ring of keys",
    "qwen3, window, biases": "queries and keys are normed",
    "granite": "scales",
    "gemma3_text": "norms after, norms of heads, two kinds of angles",
    "olmo3": "no norm before",
    "phi3, part, window": "joined matrices, part of a head turned",
    "glm4": "pairs side by side",
    "stablelm, parallel": "two sums at once",
    "gpt_neox": "another GELU",
    "falcon, groups": "keys between queries",
    "opt": "positions learnt, ReLU",
}
BY_CODE = {
    "mixtral": "no kernel for max",
    "deepseek_v3": "no kernel does rms_norm of these",
    "gemma2": "no job does this attention",
}
WINDOW = 14


def subject(name, library):
    values = small(name, {k: v for k, v in CASES[name].items() if k != "layer_types"})
    values |= {key: 8 for key in ("head_dim",) if values.get(key)}
    values |= {key: WINDOW for key in ("sliding_window",) if values.get(key)}
    return Subject(read(name, values | {"num_hidden_layers": 2}), Emulator(library, 2))


@pytest.mark.parametrize("name", FAST)
def test_as_the_code(cupy, library, name):
    fast = subject(name, library)
    lengths = [5] + [1] * (WINDOW - 3 if name == "mistral" else 2)  # the ring begins anew
    assert_as_the_code(fast, lengths)
    assert_waits(fast.fast.step(fast.model.new_cache(1, 24)).jobs)


@pytest.mark.parametrize("name", BY_CODE)
def test_by_its_code(cupy, library, caplog, name):
    from minigpt.notes import note

    note.cache_clear()
    fast = subject(name, library)
    assert_as_the_code(fast, [5, 1])
    assert caplog.messages == [
        f"minigpt: decode steps run by the model's own code: {BY_CODE[name]}"
    ]
