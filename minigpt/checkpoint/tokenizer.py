"""Text to tokens and back: Hugging Face tokenizers, and text that comes a token at a time."""

import base64
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

from tokenizers import (
    Encoding,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from minigpt.checkpoint.files import Checkpoint
from minigpt.checkpoint.tokenizer_config import TokenizerConfig
from minigpt.checkpoint.unsaid import unsaid
from minigpt.errors import InputError
from minigpt.storage.reading import instead, regular, text

_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")  # a byte, where a vocabulary spells what it has not
GROWTH = 100  # characters that one may become: far more than any model's rules make of it
BAD = "\N{REPLACEMENT CHARACTER}"  # what stands for bytes that are no UTF-8

# Classes of transformers that take the rules of a tokenizer.json as they stand; others make them
# anew of a few options, of which add_prefix_space changes what comes of a text.
_AS_IT_STANDS = ("PreTrainedTokenizer", "TokenizersBackend")
_BYTE_LEVEL = (
    *("GPT2Tokenizer", "Qwen2Tokenizer", "GPTNeoXTokenizer", "CodeGenTokenizer"),
    "CohereTokenizer",
)
# How Qwen2 cuts a text (transformers, tokenization_qwen2.py), each part then in bytes.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


Found = TypeVar("Found")
PATIENCE, SLOWEST = 10, 20_000  # seconds, and characters a second: a twentieth of the usual

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or a process that forks is warned


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """A `with` block in which whatever goes wrong in the tokenizers library is an InputError.

    The library raises bare Exceptions; a panic of its Rust code is not even one of these, and would
    say so, with its stack, on standard error before it is raised.
    """
    try:
        with unsaid():
            yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {error}") from None


def encoded(tokenizer: Tokenizer, text: str, special: bool = True) -> Encoding:
    """The tokens of a text, their numbers as `ids`.

    Args:
        special: with those that the tokenizer puts around a text.

    Raises:
        InputError: the tokenizer fails at it.
    """

    def encode() -> Encoding:
        return tokenizer.encode_batch([text], add_special_tokens=special)[0]

    with refusing("the prompt cannot be made into tokens"):
        return _watched(encode, PATIENCE + len(text) / SLOWEST)


def decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of tokens, special ones too.

    Raises:
        InputError: the tokenizer fails at them.
    """

    def decode() -> str:
        return tokenizer.decode_batch([ids], skip_special_tokens=False)[0]

    with refusing("the tokens cannot be made into text"):
        if "Regex" in repr(tokenizer.decoder):  # nothing else of a decoder takes long
            return _watched(decode, PATIENCE)
        return tokenizer.decode(ids, skip_special_tokens=False)


def _watched(run: Callable[[], Found], seconds: float) -> Found:
    """What `run` gives or raises; raises TimeoutError if that takes too long.

    It lets go of the interpreter, as the library does where it is given a batch.
    """
    found: Future[Found] = Future()

    def watched() -> None:
        try:
            found.set_result(run())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=watched, daemon=True).start()
    try:
        return found.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"its tokenizer is at it for more than {seconds:.0f} s") from None


def read_tokenizer(checkpoint: Checkpoint, config: TokenizerConfig) -> Tokenizer:
    """The tokenizer of a model, which makes of a text what transformers makes of it.

    Raises:
        InputError: its file is malformed, or of a kind that is not known.
    """
    path = checkpoint.tokenizer
    with refusing(f"{path} is not a tokenizer"):
        if checkpoint.merges is None:
            read = text(path)
            try:
                _check_charsmap(read)
                tokenizer = Tokenizer.from_str(read)
            except Exception:
                if what := instead(read):
                    raise ValueError(what) from None
                raise
            _check_growth(tokenizer)
            _prefix(tokenizer, config)
        else:
            for file in (path, checkpoint.merges):
                with regular(file):
                    pass
            tokenizer = _built(checkpoint, config)
        tokenizer.no_truncation()  # a prompt is used whole or refused
        tokenizer.no_padding()
        _add(tokenizer, config)
        if checkpoint.merges is not None and (config.begin or config.end):
            tokenizer.post_processor = _ends(tokenizer, config)
    return tokenizer


def _check_charsmap(read: str) -> None:
    """Raises ValueError for a table of characters that says it is longer than it is.

    It begins with the bytes that follow as a tree. The library takes memory for that many before it
    looks, gigabytes of a few bytes, and where there are none it ends the process.
    """

    def check(values: dict[str, Any]) -> dict[str, Any]:
        if isinstance(written := values.get("precompiled_charsmap"), str):
            table = base64.b64decode(written)
            if (said := int.from_bytes(table[:4], "little")) > len(table):
                raise ValueError(f"its precompiled_charsmap says {said:,} bytes, of {len(table):,}")
        return values

    if "charsmap" in read:
        json.loads(read, object_hook=check)


def _check_growth(tokenizer: Tokenizer) -> None:
    """Raises ValueError where a character may become so many that a prompt takes gigabytes.

    What replaces it is in the file once, and in a text as often as that has what it is for; of
    several, one after another, the growths multiply.
    """
    for what in ("normalizer", "decoder"):
        part, lengths = getattr(tokenizer, what), list[int]()

        def note(values: dict[str, Any], lengths: list[int] = lengths) -> None:
            if values.get("type") == "Replace":
                lengths.append(max(1, len(values["content"])))

        json.loads(part.__getstate__() if part else "{}", object_hook=note)
        if (times := math.prod(lengths)) > GROWTH:
            told = f"{times:,}" if times < 10**9 else "more than a billion"
            raise ValueError(f"its {what} may make {told} characters of one")


def _prefix(tokenizer: Tokenizer, config: TokenizerConfig) -> None:
    """Sets whether a space comes before a text, where the configuration has the last word."""
    space = config.prefix_space
    if config.kind in _AS_IT_STANDS:
        return
    before: Any = tokenizer.pre_tokenizer
    several = isinstance(before, pre_tokenizers.Sequence)
    parts = list(before) if several else [before]
    levels = [part for part in parts if isinstance(part, pre_tokenizers.ByteLevel)]
    if config.kind in _BYTE_LEVEL or (space is not None and not config.kind):
        for level in levels:
            level.add_prefix_space = bool(space)
    elif space is not None and config.kind == "LlamaTokenizer" and not levels:
        scheme = "never" if not space else "always" if config.legacy else "first"
        rest = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
        strip = [decoders.Strip(" ", 1, 0)] if space else []
        tokenizer.decoder = decoders.Sequence([*rest, *strip])


def _add(tokenizer: Tokenizer, config: TokenizerConfig) -> None:
    """Adds what the configuration names and the tokenizer has not; ids go on from its last."""
    there = tokenizer.get_added_tokens_decoder().values()
    same, known = set(map(repr, there)), {token.content for token in there}
    added = [token for token in config.added if repr(token) not in same]
    known |= {token.content for token in added}
    special = [token for token in config.named if token.content not in known]
    tokenizer.add_tokens([*added, *special])


def _built(checkpoint: Checkpoint, config: TokenizerConfig) -> Tokenizer:
    """That of a vocab.json and a merges.txt: a byte-level BPE."""
    tokenizer = Tokenizer(models.BPE.from_file(str(checkpoint.tokenizer), str(checkpoint.merges)))
    space = bool(config.prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    if config.kind == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        cut = pre_tokenizers.Split(Regex(_QWEN2), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    elif config.kind not in ("", "GPT2Tokenizer"):
        raise ValueError(
            f"its class is {config.kind}, and without a tokenizer.json only GPT2Tokenizer and "
            "Qwen2Tokenizer are known: let transformers save it as that"
        )
    return tokenizer


def _ends(tokenizer: Tokenizer, config: TokenizerConfig) -> processors.TemplateProcessing:
    """What puts the tokens of beginning and end around a prompt."""
    begin = config.special.get("bos_token") if config.begin else None
    end = config.special.get("eos_token") if config.end else None
    used = [token for token in (begin, end) if token is not None]
    single = [*([begin] if begin else []), "$A", *([end] if end else [])]
    ids = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(used)]
    return processors.TemplateProcessing(single=single, special_tokens=ids)


class TextStream:
    """Tokens to text as they come: together what `decode` of all adds to that of the prompt.

    Text comes when no later token can change it: a character of many tokens with its last one; of
    a tokenizer that spells what it does not know in bytes, these with the token after them, for one
    byte that is bad makes all of them so.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._spells = "ByteFallback" in repr(tokenizer.decoder)
        self._ids = list(prompt)  # some whose text was given, then those whose was not yet
        self._given = len(self._ids)  # of the former
        self._shown = len(self._decode(self._ids))  # their characters

    def add(self, token: int) -> str:
        """The text that is certain with one more token."""
        name = self._tokenizer.id_to_token(token)
        if name is None:  # models may know more tokens; such a one is no text and ends none
            return ""
        self._ids.append(token)
        if self._spells and _BYTE.fullmatch(name):
            return ""
        text = self._decode(self._ids)
        return "" if text.endswith(BAD) else self._give(text)

    def end(self) -> str:
        """The rest: no more tokens come."""
        return self._give(self._decode(self._ids))

    def _give(self, text: str) -> str:
        new, latest = text[self._shown :], self._ids[self._given :]
        owed = max(0, self._shown - len(text))  # where a prompt ended within a character
        if shown := self._decode(latest):  # else what follows would be taken for a beginning
            self._ids, text = latest, shown
        self._given, self._shown = len(self._ids), len(text) + owed
        return new

    def _decode(self, ids: list[int]) -> str:
        return decoded(self._tokenizer, ids)
