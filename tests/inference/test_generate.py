"""Prefill, then decoding: the tokens, and the record of the pass that made each."""

import json
import random
import re
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from checkpoints import CONFIG, SHIPPED, SINGLE, assert_contract, checkpoint, ends_at_once
from helpers import numbers
from safetensors.numpy import save_file

from counting.views import flops, matmul
from minigpt import InputError, generate, load
from minigpt.checkpoint.tokenizer import TextStream
from minigpt.inference.generate import LONG, encode
from minigpt.models.architectures import build, read

GREEDY = {"temperature": 0, "ignore_eos": True}


@pytest.fixture
def lm(tmp_path):
    return load(checkpoint(tmp_path / "m"))


@pytest.fixture(scope="module")
def shipped():
    return load("shakespeare")


# Records.


def test_each_token_has_the_record_of_its_pass(lm):
    steps = list(generate(lm, "abcd", max_new_tokens=5, ignore_eos=True, seed=0))
    records = [json.loads(json.dumps(step.record())) for step in steps]
    for i, record in enumerate(records):
        assert_contract(record, CONFIG, first=i == 0)
    assert [r["position"] for r in records] == [4, 5, 6, 7, 8]
    assert [r["new_tokens"] for r in records] == [4, 1, 1, 1, 1]
    L, C, V = CONFIG.n_layer, CONFIG.n_embd, CONFIG.vocab_size
    for r in records:
        T, S = r["new_tokens"], r["keys"]
        assert r["matmul_flops"] == 24 * L * T * C * C + 4 * L * T * S * C + 2 * C * V
        assert r["bytes_written"]["kv_cache"] == T * r["kv_bytes_per_token"]
        assert r["live_bytes"]["kv_cache"] == 8 * r["kv_bytes_per_token"]


def test_the_records_add_up_to_the_ledger(lm):
    steps = list(generate(lm, ["ab", "cd"], max_new_tokens=4, ignore_eos=True))
    passes = [step.counts for step in steps if step.sequence == 0]
    total = lm.ledger.snapshot()
    for column in set(total.columns) - {"calls"}:  # the cache is reserved by calls of no cost
        assert sum(counts.total(column) for counts in passes) == total.total(column)
    assert sum(step.flops for step in steps) == 2 * flops(total)
    assert sum(step.matmul_flops for step in steps) == 2 * matmul(total)


def test_a_model_and_a_step_show_what_one_wants_to_know(shipped):
    assert repr(shipped) == (
        "LanguageModel('shakespeare': GPT2, 5,066,752 parameters in float32 on cpu, 6 layers, "
        "context 256, vocabulary 1,024)"
    )
    _, step = generate(shipped, "To be", max_new_tokens=2, seed=1)
    assert repr(step) == (
        f"Step({step.text!r} at 3: decode, 3 keys, {step.flops:,} FLOP, "
        f"{1000 * step.seconds:.3g} ms)"
    )


@pytest.mark.parametrize("prompts", [["ab"], ["ab", "cd", "xy"]], ids=len)
def test_drawing_tokens_is_counted_beside_the_passes(lm, prompts):
    B, V, n = len(prompts), CONFIG.vocab_size, 4
    cold, warm = (
        list(generate(lm, prompts, max_new_tokens=n, temperature=t, ignore_eos=True))
        for t in (0, 0.8)
    )
    assert {step.record()["sample"]["flops"] for step in cold} == {B * (V - 1)}
    for step in warm:
        found = step.record()["sample"]
        assert found["flops"] == B * (6 * V - 1)
        assert found["flops"] == sum(found["kinds"].values())
        assert {path for path, _ in step.sampling} == {"sample"}
        assert "sample" not in {path for path, _ in step.counts}
    total = flops(lm.sampling.snapshot())
    assert total == n * B * (V - 1 + 6 * V - 1)
    assert sum(lm.sampling.live_bytes.values()) == 0


def test_a_second_generation_starts_anew(lm):
    first, second = (
        [(s.token, s.flops) for s in generate(lm, "ab", max_new_tokens=4, seed=3)] for _ in range(2)
    )
    assert first == second


# Batches.


def test_a_batch_of_one_prompt_twice_says_twice_what_it_says_alone(lm):
    alone = [step.token for step in generate(lm, "abc", max_new_tokens=9, **GREEDY)]
    steps = list(generate(lm, ["abc", "abc"], max_new_tokens=9, **GREEDY))
    assert [step.sequence for step in steps] == [0, 1] * 9
    assert [step.token for step in steps[::2]] == [step.token for step in steps[1::2]] == alone


def test_the_sequences_of_a_batch_do_not_meet(lm):
    alone = [
        [step.token for step in generate(lm, prompt, max_new_tokens=6, **GREEDY)]
        for prompt in ("abc", "xyz")
    ]
    steps = list(generate(lm, ["abc", "xyz"], max_new_tokens=6, **GREEDY))
    assert [[s.token for s in steps if s.sequence == i] for i in (0, 1)] == alone


def test_unequal_prompts_are_refused(lm):
    with pytest.raises(InputError, match=r"equally many tokens; these have \[2, 3\]"):
        generate(lm, ["ab", "abc"])


# The end.


def test_generation_stops_at_the_end_of_text(tmp_path):
    lm = load(checkpoint(tmp_path / "m", ends_at_once()))
    (step,) = generate(lm, "ab", max_new_tokens=5, temperature=0)
    assert (step.token, step.text) == (CONFIG.eos_token_id, "")
    on = list(generate(lm, "ab", max_new_tokens=5, **GREEDY))
    assert [step.token for step in on] == 5 * [CONFIG.eos_token_id]
    assert on[0].text == "<|endoftext|>"


def test_a_sequence_that_has_ended_leaves_the_others_running(tmp_path):
    weights = ends_at_once()
    weights["wte.weight"][65] = weights["wte.weight"][CONFIG.eos_token_id]  # as likely
    lm = load(checkpoint(tmp_path / "m", weights))
    ends = set()
    for seed in range(8):
        steps = list(generate(lm, ["ab", "cd"], max_new_tokens=8, seed=seed))
        lengths = []
        for sequence in (0, 1):
            tokens = [step.token for step in steps if step.sequence == sequence]
            lengths.append(len(tokens))
            assert CONFIG.eos_token_id not in tokens[:-1]
        assert {step.batch for step in steps} == {2}
        ends.add(tuple(lengths))
    assert any(a != b for a, b in ends)


def test_a_model_without_an_end_of_text_goes_on(tmp_path):
    lm = load(checkpoint(tmp_path / "m", ends_at_once(), eos_token_id=None))
    assert len(list(generate(lm, "ab", max_new_tokens=5, temperature=0))) == 5


# What cannot be done is refused before anything runs.

REFUSED = {
    "no prompt": ([], {}, "the prompt is empty"),
    "an empty prompt": ("", {}, "the prompt is empty"),
    "one of two is empty": (["a", ""], {}, "the prompt is empty"),
    "no text": ("\ud800", {}, "it must be UTF-8 text"),
    "a prompt too long": ("a" * 17, {}, "17 tokens, but the context of .* is 16"),
    "more than the context": ("a" * 6, {"max_new_tokens": 12}, "at most 11 new ones"),
    "a full context": ("a" * 16, {"max_new_tokens": 2}, "at most 1 new ones"),
    "nothing new": ("a", {"max_new_tokens": 0}, "max_new_tokens is 0"),
    "less than nothing": ("a", {"max_new_tokens": -1}, "max_new_tokens is -1"),
    "cold": ("a", {"temperature": -0.1}, "temperature is -0.1"),
    "no number": ("a", {"temperature": float("nan")}, "temperature is nan"),
    "hot": ("a", {"temperature": float("inf")}, "temperature is inf"),
    "top-k of none": ("a", {"top_k": 0}, "top_k is 0"),
    "negative top-k": ("a", {"top_k": -1}, "top_k is -1"),
    "top-k beyond": ("a", {"top_k": 261}, "from 1 to 260"),
    "top-p of none": ("a", {"top_p": 0.0}, "top_p is 0.0"),
    "top-p beyond": ("a", {"top_p": 1.01}, "top_p is 1.01"),
    "top-p no number": ("a", {"top_p": float("nan")}, "top_p is nan"),
    "negative seed": ("a", {"seed": -1}, "seed is -1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_runs(lm, case):
    prompt, options, line = REFUSED[case]
    with pytest.raises(InputError, match=line):
        generate(lm, prompt, **{"max_new_tokens": 2} | options)
    assert not lm.ledger.snapshot()


@pytest.mark.parametrize("seed", range(3))
def test_of_a_long_prompt_the_beginning_is_enough_to_refuse_it(lm, seed):
    rng = random.Random(seed)
    prompt = "".join(rng.choice("ab \nあ") for _ in range(LONG + 1)) * rng.randint(1, 20)
    made, encode_batch = [], lm.tokenizer.encode_batch

    def watched(texts, **options):
        made.extend(map(len, texts))
        return encode_batch(texts, **options)

    watching = replace(lm, tokenizer=mock.Mock(encode_batch=watched))
    with pytest.raises(InputError, match=f"first 100,000 of {len(prompt):,} characters") as error:
        generate(watching, prompt, max_new_tokens=2)
    assert made == [LONG]
    said = int(re.search("are ([0-9,]+) tokens", str(error.value))[1].replace(",", ""))
    assert said == len(lm.tokenizer.encode(prompt[:LONG]).ids)


def test_a_long_prompt_of_few_tokens_is_not_refused_for_its_characters(lm):
    """Of a tokenizer that leaves characters out, only tokens tell."""
    encode_batch = lm.tokenizer.encode_batch
    drops = mock.Mock(
        encode_batch=lambda texts, **_: encode_batch([t.replace("b", "") for t in texts])
    )
    few = replace(lm, tokenizer=drops)
    assert encode(few, ["a" * 9 + "b" * 3 * LONG + "a"]).shape == (1, 10)


@pytest.mark.parametrize("length", [1, 6, 15, 16])
def test_the_whole_context_can_be_used(lm, length):
    *_, last = generate(lm, "a" * length, max_new_tokens=17 - length, ignore_eos=True)
    assert (last.position, last.keys) == (16, CONFIG.n_positions)


WIDE = {
    "gpt2": {"n_embd": 32, "n_positions": 64},
    "llama": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 260,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    },
}


@pytest.mark.parametrize("fast", ["0", "1"])
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("length", [3, 40, 63, 64])
def test_the_token_behind_a_full_context_is_that_of_the_bare_model(
    tmp_path, monkeypatch, name, fast, length
):
    monkeypatch.setenv("MINIGPT_FAST", fast)
    replayed = []
    if fast == "1":
        pytest.importorskip("llvmlite")
        from minigpt.fast import replay

        run = replay.Pass.run
        monkeypatch.setattr(replay, "watched", lambda: False)
        monkeypatch.setattr(
            replay.Pass, "run", lambda *args: replayed.append(args[1].shape) or run(*args)
        )
    folder = checkpoint(tmp_path / "m", {}, **WIDE[name])
    config = read(folder / "config.json")
    make = numbers(0, config.vocab_size)
    bare = {key: make(shape, "f4") for key, shape in config.shapes().items()}
    save_file(bare, folder / SINGLE)
    prompt = "".join(map(chr, np.random.default_rng(length).integers(97, 123, length)))
    lm = load(folder)
    steps = list(generate(lm, prompt, max_new_tokens=65 - length, **GREEDY))
    tokens = lm.tokenizer.encode(prompt).ids + [step.token for step in steps]
    assert (len(tokens), steps[-1].position, steps[-1].keys) == (65, 64, 64)
    model = build(config, bare)
    logits = model(np.array([tokens[:64]]), model.new_cache(1, 64), "all")[0, length - 1 :]
    assert tokens[length:] == logits.argmax(-1).tolist()
    prompts, decoded = (sum((n == 1) == one for _, n in replayed) for one in (False, True))
    if fast == "1":
        assert prompts == (length >= replay.MANY)
        assert decoded == (64 - length if length < 64 - replay.FEW else 0)


# Text.


@pytest.mark.parametrize("text", ["Ünïcödé €", "naïve 🙂!", "a\n\tb", " "])
def test_a_character_of_many_tokens_comes_whole(lm, text):
    ids = lm.tokenizer.encode(text).ids
    stream = TextStream(lm.tokenizer, lm.tokenizer.encode("ab").ids)
    parts = [stream.add(token) for token in ids]
    assert "".join(parts) == text
    assert set(map(len, parts)) <= {0, 1}


def test_the_same_seed_says_the_same(shipped):
    def text(seed):
        return "".join(s.text for s in generate(shipped, "To be", max_new_tokens=12, seed=seed))

    assert text(1) == text(1) != text(2)


# The cache changes what is computed, not what comes out.


def passes(lm, tokens, chunks):
    """The logits of every position, the tokens (B, T) given in chunks of these lengths."""
    cache = lm.model.new_cache(*tokens.shape)
    ends = np.cumsum(chunks)
    parts = np.split(tokens, ends[:-1], axis=1)
    return np.concatenate([lm.model(part, cache, "all").data for part in parts], axis=1)


@pytest.mark.parametrize("chunks", [[1] * 12, [5, 1, 1, 5], [11, 1]], ids=str)
def test_decoding_with_the_cache_gives_the_logits_of_a_prefill(lm, shipped, chunks):
    for model in (lm, shipped):
        tokens = np.random.default_rng(0).integers(model.config.vocab_size, size=(2, 12))
        found, expected = passes(model, tokens, chunks), passes(model, tokens, [12])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "width", "away"), [("float16", 2, 0.01), ("bfloat16", 2, 0.1), ("int8", 4, 0.3)]
)
def test_weights_of_fewer_bits_say_nearly_the_same(shipped, dtype, width, away):
    small = load("shakespeare", dtype=dtype)
    tokens = np.array([shipped.tokenizer.encode("To be, or not to be").ids])
    found, expected = (passes(model, tokens, tokens.shape[1:]) for model in (small, shipped))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=away)
    assert not np.array_equal(found, expected)
    (step,) = generate(small, "To be", max_new_tokens=1)
    assert step.kv_bytes_per_token == 2 * 6 * 256 * width


# Against transformers.


@pytest.fixture(scope="module")
def peer():
    torch = pytest.importorskip("torch", reason="the peers are not installed: .[peers]")
    reason = "the peers are not installed: .[peers]"
    transformers = pytest.importorskip("transformers", reason=reason)
    torch.set_num_threads(1)
    model = transformers.GPT2LMHeadModel.from_pretrained(SHIPPED, dtype=torch.float32)
    return model.eval().requires_grad_(False)


PROMPTS = ("To be, or not to be", "ROMEO:\n", "O", "Now is the winter of our discontent\n")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_64_greedy_tokens_are_those_of_transformers(shipped, peer, prompt):
    import torch

    ids = torch.tensor([shipped.tokenizer.encode(prompt).ids])
    theirs = peer.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=64,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[0, ids.shape[1] :].tolist()
    ours = [step.token for step in generate(shipped, prompt, max_new_tokens=64, **GREEDY)]
    assert len(theirs) == 64
    assert ours == theirs


@pytest.mark.parametrize("chunks", [[256], [100, *[1] * 10]], ids=["prefill", "decode"])
def test_logits_are_those_of_transformers(shipped, peer, chunks):
    import torch

    tokens = np.random.default_rng(1).integers(1024, size=(1, sum(chunks)))
    theirs = peer(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(passes(shipped, tokens, chunks), theirs, rtol=0, atol=1e-4)
