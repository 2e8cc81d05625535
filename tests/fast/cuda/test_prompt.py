"""The kernels of a prompt, run on this CPU from the GPU's own source. No GPU code runs here."""

import numpy as np
import pytest
from emulator import NUMBERS, Emulator, poisoned
from gpu import stand_in  # noqa: F401
from steps import CAPACITY, Subject, assert_as_the_code

from minigpt.models import ops
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def halved(x):
    return x.astype(np.float16).astype(np.float32)


def assert_close(y, expected, within=2e-6):
    assert np.isfinite(y).all()
    assert np.linalg.norm(y - expected) <= within * np.linalg.norm(expected)


ATTENTIONS = [  # B, H, G, T, S, D
    (1, 1, 1, 1, 1, 64),
    (1, 25, 1, 9, 9, 64),
    (2, 3, 1, 70, 70, 64),  # more than a tile, and no whole one
    (1, 4, 2, 64, 130, 64),  # after 66 others
    (2, 4, 4, 33, 65, 128),
]


@pytest.mark.parametrize("case", ATTENTIONS)
def test_attention_of_a_prompt(library, case):
    B, H, G, T, S, D = case
    K, capacity = H // G, S + 3
    qkv = normal(B, T, 3, H, D)
    q = qkv[:, :, 0].transpose(0, 2, 1, 3)  # as GPT-2 gives it: (B, H, T, D) of (B, T, 3, H, D)
    k, v = (normal(B, K, capacity, D, seed=s).astype(np.float16) for s in (1, 2))
    k[:, :, S:], v[:, :, S:] = np.nan, np.nan
    mask, y = np.tril(np.ones((T, S), bool), S - T), poisoned(B, H, T, D)
    if T > 20:
        mask[20:, :7] = False  # a window
    sizes = [H, G, T, S, *(step // 4 for step in q.strides[:3]), capacity * D]
    blocks = B * H * -(-T // NUMBERS["TILE"])
    Emulator(library).call(f"attention_{D}", blocks, 128, q, k, v, mask, y, *sizes, D**-0.5)
    wide = [np.repeat(x[:, :, :S].astype(np.float32), G, 1) for x in (k, v)]
    assert_close(y, ops.attention(halved(q), *wide, mask, D**-0.5), 4e-4)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_norms(library, kind):
    x, gain, y = normal(11, 1600) + 1, normal(1600), poisoned(11, 1600)
    shift = [normal(1600, seed=1)] if kind == "layer_norm" else []
    Emulator(library).call("norms", 2, 256, x, gain, *(shift or [None]), y, 11, 1600, 1e-5)
    assert_close(y, getattr(ops, kind)(x, gain, *shift, 1e-5))


@pytest.mark.parametrize("name", ["gelu", "gelu_exact", "silu", "relu"])
def test_activations(library, name):
    x, y = 4 * normal(3, 333), poisoned(3, 333)
    Emulator(library).call("activations", 3, 256, x, y, x.size, NUMBERS[name.upper()])
    assert_close(y, getattr(ops, name)(x))


# Whole prompts, by the model's code with these kernels in the place of composites.

GPT2 = GPT2Config(53, CAPACITY, 192, 1, 3)
LLAMA = llama(
    hidden_size=256,
    intermediate_size=96,
    num_hidden_layers=1,
    vocab_size=53,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=CAPACITY,
)


@pytest.mark.parametrize(
    ("config", "kernels"),
    [
        (GPT2, ["norms", "attention_64", "norms", "activations", "norms"]),
        (LLAMA, ["norms", "attention_64", "norms", "activations", "norms"]),
    ],
)
def test_a_prompt_is_what_the_code_says(cupy, library, config, kernels):
    emulator = Emulator(library)
    own, called = emulator.call, []
    emulator.call = lambda name, *given: (called.append(name), own(name, *given))
    assert_as_the_code(Subject(config, emulator), [17, 16])
    assert called == 2 * kernels


def test_several_prompts_at_once(cupy, library):
    assert_as_the_code(Subject(GPT2, Emulator(library), batch=2), [17, 16])


def test_what_no_kernel_fits_runs_by_its_code(cupy, library):
    """Too few queries, a GPU without tensor cores, heads of another width."""
    emulator = Emulator(library)
    emulator.capability = 75
    emulator.call = lambda name, *given: pytest.fail(name) if "attention" in name else None
    assert_as_the_code(Subject(GPT2, Emulator(library)), [15])
    narrow = GPT2Config(53, CAPACITY, 192, 1, 6)
    assert_as_the_code(Subject(narrow, Emulator(library)), [17])
    subject = Subject(GPT2, emulator)
    subject.passes(subject.fast, [17])
