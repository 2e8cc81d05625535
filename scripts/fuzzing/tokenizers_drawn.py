"""Tokenizer files of every kind that the library knows, with parts exchanged."""

from random import Random
from typing import Any

from fuzzing.mutators import TEXTS, encoded, tree

LETTERS = [chr(c) for c in range(97, 123)]
WORDS = ["<unk>", "<s>", "</s>", "▁", "Ġ", "##a", "th", "the", *LETTERS]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
VOCABULARY = {word: i for i, word in enumerate(WORDS)}
PATTERNS = (
    {"Regex": r"(a+)+$"},
    {"Regex": r"\p{L}+|\s+"},
    {"Regex": r"(?=a)"},
    {"Regex": ""},
    {"String": " "},
    {"Regex": r"[^\s]*?(a|aa)+$"},
    {"String": ""},
)
MODELS: tuple[dict[str, Any], ...] = (
    {"type": "BPE", "vocab": VOCABULARY, "merges": [["t", "h"], ["th", "e"]], "unk_token": "<unk>"},
    {
        "type": "BPE",
        "vocab": {w: i for i, w in enumerate([*WORDS[:3], *BYTES, *LETTERS])},
        "merges": ["t h"],
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": "<unk>",
        "dropout": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "ignore_merges": False,
    },
    {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "<unk>"},
    {
        "type": "WordPiece",
        "vocab": VOCABULARY,
        "unk_token": "<unk>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
    {"type": "Unigram", "vocab": [[word, -i / 3] for i, word in enumerate(WORDS)], "unk_id": 0},
)
NORMALIZERS: tuple[Any, ...] = (
    None,
    {"type": "NFC"},
    {"type": "Lowercase"},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "ByteLevel"},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    | {"strip_accents": None, "lowercase": True},
    {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="},
)
PRE: tuple[Any, ...] = (
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Whitespace"},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Digits", "individual_digits": True},
    {"type": "Punctuation", "behavior": "Isolated"},
    {"type": "FixedLength", "length": 3},
)
DECODERS: tuple[Any, ...] = (
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "WordPiece", "prefix": "##", "cleanup": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": True},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
)
POST: tuple[Any, ...] = (
    None,
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
    {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    },
)


def tokenizer(rng: Random) -> bytes:
    """A tokenizer.json, of which a part may be wrong."""
    made: Any = {
        "version": "1.0",
        "truncation": rng.choice((None, None, TRUNCATION)),
        "padding": rng.choice((None, None, PADDING)),
        "added_tokens": [added(i, w) for i, w in enumerate(WORDS[:3])] * rng.choice((0, 1, 1)),
        "normalizer": part(rng, NORMALIZERS, "normalizers"),
        "pre_tokenizer": part(rng, PRE, "pretokenizers"),
        "post_processor": rng.choice(POST),
        "decoder": part(rng, DECODERS, "decoders"),
        "model": rng.choice(MODELS),
    }
    return encoded(rng, tree(rng, made) if rng.random() < 0.85 else made)


TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
PADDING = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}


def added(number: int, word: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": word, **flags, "special": True}


def part(rng: Random, parts: tuple[Any, ...], several: str) -> Any:
    """One of several parts, or a sequence of some."""
    if several == "pretokenizers" and rng.random() < 0.2:
        behavior = rng.choice(("Isolated", "Removed", "MergedWithNext", "Contiguous"))
        pattern = rng.choice(PATTERNS)
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}
    if several != "pretokenizers" and rng.random() < 0.2:
        content = rng.choice(TEXTS[:12])
        return {"type": "Replace", "pattern": rng.choice(PATTERNS), "content": content}
    if rng.random() < 0.3:
        some = [one for one in rng.sample(parts, 2) if one]
        return {"type": "Sequence", several: some}
    return rng.choice(parts)
