"""Text to tokens and back: Hugging Face tokenizers, and text that comes a token at a time."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from minigpt.errors import InputError


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer in a tokenizer.json.

    Raises:
        InputError: it is malformed, or has tokens that a model of `vocab_size` has not.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(f"{path} is not a tokenizer: {error}") from None
    tokenizer.no_truncation()  # a prompt is used whole or refused
    tokenizer.no_padding()
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= vocab_size:
        raise InputError(f"{path} has token {largest}, but the model knows {vocab_size} tokens")
    return tokenizer


class TextStream:
    """Tokens to text as they come; a character of many tokens appears with its last one."""

    def __init__(self, tokenizer: Tokenizer, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=prompt, skip_special_tokens=False)

    def add(self, token: int) -> str:
        return self._stream.step(self._tokenizer, token) or ""
