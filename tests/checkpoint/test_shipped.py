"""The model that comes along: how large it is, how well it writes; and GPT-2's own tokens."""

import numpy as np
import pytest
from checkpoints import DATA, SHIPPED, make_tokenizer

from minigpt import load

NO_TEXT = "the texts of shared/data are not beside this checkout"


def text_of(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{NO_TEXT}: {name}")
    return path


def test_it_is_at_most_12_megabytes():
    files = {file.name: file.stat().st_size for file in SHIPPED.iterdir()}
    assert files.keys() == {"config.json", "model.safetensors", "tokenizer.json"}
    assert sum(files.values()) <= 12_000_000


def test_it_predicts_text_that_it_has_not_seen():
    """At most 1.65 nats a character, on windows of its whole context that do not overlap."""
    text = text_of("tiny-shakespeare.txt").read_text(encoding="utf-8")
    lm = load()
    context = lm.config.n_positions
    held_out = lm.tokenizer.encode(text[len(text) * 9 // 10 :]).ids
    windows = np.array(held_out[: 20 * context]).reshape(20, context)
    nats = characters = 0
    for window in windows:  # its first token is given, the others are predicted
        logits = lm.model(window[None, :-1], lm.model.new_cache(1, context), "all").data[0]
        logits = logits.astype(np.float64)
        of_all = np.log(np.exp(logits).sum(axis=1))
        nats += (of_all - logits[np.arange(context - 1), window[1:]]).sum()
        characters += len(lm.tokenizer.decode(window[1:].tolist()))
    assert characters > 2 * windows.size
    assert 1 < nats / characters <= 1.65


@pytest.mark.parametrize(
    "text", ["First Citizen:\nBefore we", "naïve — 東京 🙂\r\n\t", " ", "''" * 20]
)
def test_its_tokens_are_any_text(text):
    tokenizer = load().tokenizer
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_gpt2s_merges_give_gpt2s_tokens():
    tokenizer = make_tokenizer(50257, text_of("gpt2-vocab.bpe"))
    assert tokenizer.get_vocab_size() == 50257
    assert tokenizer.token_to_id("<|endoftext|>") == 50256
    tokens = {
        "Hello, I'm a language model,": [15496, 11, 314, 1101, 257, 3303, 2746, 11],
        "a<|endoftext|>": [64, 50256],
    }
    for text, ids in tokens.items():
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
