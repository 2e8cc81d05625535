"""Text that comes a token at a time is what all tokens make at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from minigpt.checkpoint.synthetic import make_tokenizer
from minigpt.checkpoint.tokenizer import BAD, TextStream, refusing
from minigpt.errors import InputError

LETTERS = [*"abcdeé", "▁", "▁a", "▁the", "##b", "b</w>", "</w>", ".", "'", "x", " ", BAD, "\n"]
BYTES = [f"<0x{i:02X}>" for i in (0x0A, 0x20, 0x41, 0x80, 0xA9, 0xC3, 0xE2, 0x82, 0xAC, 0xF0, 0xFF)]

DECODERS = {
    "bytes spelt": lambda: decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    ),
    "bytes spelt, unstripped": lambda: decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    ),
    "pieces": lambda: decoders.Metaspace("▁", "first"),
    "word pieces": lambda: decoders.WordPiece("##", cleanup=False),
    "ends of words": lambda: decoders.BPEDecoder("</w>"),
}


def small(name):
    if name == "bytes":
        return make_tokenizer(260, None)
    vocabulary = {token: i for i, token in enumerate(["<unk>", *LETTERS, *BYTES])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = DECODERS[name]()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizer


TOKENIZERS = {name: small(name) for name in ("bytes", *DECODERS)}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150)
@given(data=st.data())
def test_what_streams_is_what_decoding_all_adds_to_the_prompt(name, data):
    tokenizer = TOKENIZERS[name]
    size = tokenizer.get_vocab_size()
    ids = st.integers(0, size + 2)  # some that no tokenizer knows, as models have them
    if name.startswith("bytes spelt"):
        ids |= st.integers(1 + len(LETTERS), size - 1)  # bytes, often
    prompt, new = data.draw(st.lists(ids, max_size=6)), data.draw(st.lists(ids, max_size=20))
    stream = TextStream(tokenizer, prompt)
    parts = [*map(stream.add, new), stream.end()]

    def text(tokens):
        return tokenizer.decode(tokens, skip_special_tokens=False)

    assert "".join(parts) == text(prompt + new)[len(text(prompt)) :]
    assert stream.end() == ""


def test_a_byte_that_makes_others_bad_is_no_traceback():
    tokenizer = TOKENIZERS["bytes spelt"]
    ids = [tokenizer.token_to_id(t) for t in ("a", "<0xC3>", "<0xA9>", "<0xFF>", "b", "<0xE2>")]
    stream = TextStream(tokenizer, ids[:1])
    assert [*map(stream.add, ids[1:]), stream.end()] == ["", "", "", 3 * BAD + "b", "", BAD]


def test_a_prompt_that_ends_within_a_character_has_shown_as_much_as_it_did():
    tokenizer = TOKENIZERS["bytes spelt, unstripped"]
    prompt = [tokenizer.token_to_id(t) for t in ("<0xF0>", "<0xA9>", "<0x80>")]
    assert tokenizer.decode(prompt) == 3 * BAD  # one character, with the byte that comes
    stream = TextStream(tokenizer, prompt)
    ids = [tokenizer.token_to_id(t) for t in ("<0x80>", "a", "b</w>")]
    assert [*map(stream.add, ids)] == ["", "", "</w>"]


def test_a_character_that_the_end_cuts_shows_what_there_is():
    tokenizer = TOKENIZERS["bytes"]
    euro = tokenizer.encode("€").ids
    stream = TextStream(tokenizer, [])
    assert [stream.add(euro[0]), stream.add(euro[1]), stream.end()] == ["", "", BAD]


class PanicException(BaseException):
    """As the Rust side of the library raises it: no Exception."""


class Broken:
    """A tokenizer whose every use fails."""

    decoder = None

    def __init__(self, error):
        self.error = error

    def decode(self, ids, skip_special_tokens):
        raise self.error


@pytest.mark.parametrize("error", [Exception("no"), PanicException("no"), OverflowError("no")])
def test_whatever_fails_in_the_library_is_one_line(error):
    with pytest.raises(InputError, match=r"^the tokens cannot be made into text: no$"):
        TextStream(Broken(error), [1])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_fault_of_the_library_goes_through(error):
    with pytest.raises(error), refusing("nothing"):
        raise error
