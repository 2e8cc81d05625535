"""Tokenizers as folders have them: what lies beside them, and the ids that come of a prompt."""

import base64
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

import pytest
from checkpoints import ROOT, checkpoint, complaint, make_tokenizer, minigpt
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from minigpt import generate, load
from minigpt.checkpoint.hub import find
from minigpt.checkpoint.tokenizer import TextStream, decoded, read_tokenizer
from minigpt.checkpoint.tokenizer_config import TokenizerConfig
from minigpt.checkpoint.unsaid import unsaid
from minigpt.errors import InputError
from minigpt.inference.generate import encode

END = "<|endoftext|>"
TEXTS = (
    "To be, or not",
    " a  b",
    f"x{END}y",
    "<s>To the</s> t [PAD]q",
    "naïve 🙂 don't 12",
    "<n> a",
)


def ids(folder, text):
    return load_tokenizer(folder).encode(text).ids


def write(folder, name, values):
    (folder / name).write_text(json.dumps(values), encoding="utf-8")


def split_up(folder):
    """The tokenizer of a folder as vocab.json and merges.txt, with some merges."""
    letters = sorted(make_tokenizer(257, None).get_vocab(), key=len)[:256]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a"), ("n", "o")]
    vocabulary = [*letters, *map("".join, merges), END]
    (folder / "tokenizer.json").unlink()
    write(folder, "vocab.json", {token: i for i, token in enumerate(vocabulary)})
    lines = ["#version: 0.2", *map(" ".join, merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def spelling(folder):
    """A tokenizer of words and, where it has none, bytes, as Llama 2's; a space comes in front."""
    vocabulary = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "▁",
        "▁t",
        *"abeht",
    ]
    merges = [("▁", "t")]
    made = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(vocabulary)},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Strip(" ", 1, 0)]
    )
    special = ("<unk>", "<s>", "</s>")
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture
def folder(tmp_path):
    return checkpoint(tmp_path / "m")


# A space in front.


@pytest.mark.parametrize("space", [True, False, None])
@pytest.mark.parametrize(
    "kind", ["GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizerFast", None]
)
def test_a_space_comes_in_front_where_the_configuration_says_so(folder, kind, space):
    bare = ids(folder, "ab")
    said = {"tokenizer_class": kind, "add_prefix_space": space}
    write(folder, "tokenizer_config.json", {k: v for k, v in said.items() if v is not None})
    front = make_tokenizer(260, None).encode(" ").ids if space else []
    assert ids(folder, "ab") == front + bare
    assert ids(folder, " ab") == make_tokenizer(260, None).encode(" ab").ids  # there already


def test_a_class_that_takes_a_tokenizer_as_it_stands_has_no_other_space(folder):
    bare = ids(folder, "ab")
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True}
    write(folder, "tokenizer_config.json", said)
    assert ids(folder, "ab") == bare


def test_a_space_in_front_may_be_taken_away(folder):
    spelling(folder)
    said = {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}
    t, a = (find_id(folder, token) for token in ("▁t", "a"))
    assert ids(folder, "ta")[1:] == [t, a]
    write(folder, "tokenizer_config.json", said)
    assert ids(folder, "ta")[1:] == [find_id(folder, "t"), a]


def find_id(folder, token):
    return json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"][token]


@pytest.mark.parametrize("seed", range(4))
def test_a_table_of_characters_that_says_it_is_longer_than_it_is_is_not_handed_on(folder, seed):
    rng = random.Random(seed)
    table = rng.randrange(2**30, 2**32).to_bytes(4, "little") + rng.randbytes(rng.randrange(99))
    written = json.loads((folder / "tokenizer.json").read_text())
    one = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    several = {"type": "Sequence", "normalizers": [{"type": "NFC"}, one]}
    write(folder, "tokenizer.json", written | {"normalizer": rng.choice((one, several))})
    said = f"{int.from_bytes(table[:4], 'little'):,} bytes, of {len(table)}"
    with pytest.raises(InputError, match=f"json is not a tokenizer: its precompiled_.* {said}$"):
        ids(folder, "a")


@pytest.mark.parametrize("seed", range(6))
def test_rules_that_make_a_book_of_a_letter_are_refused(folder, seed):
    rng = random.Random(seed)
    lengths = [rng.randint(0, 40) for _ in range(rng.randint(1, 4))]
    rules = [
        {"type": "Replace", "pattern": {"String": rng.choice("aq")}, "content": "x" * n}
        for n in lengths
    ]
    written, what = json.loads((folder / "tokenizer.json").read_text()), "normalizer"
    made = {"type": "Sequence", "normalizers": rules}
    if seed % 2:
        what, made = "decoder", {"type": "Sequence", "decoders": rules}
    write(folder, "tokenizer.json", written | {what: made})
    times = math.prod(max(1, n) for n in lengths)
    if times <= 100:
        ids(folder, "a")
    else:
        with pytest.raises(InputError, match=f"a tokenizer: its {what} may make {times:,} char"):
            ids(folder, "a")


# Vocabulary and merges.


def test_a_vocabulary_and_its_merges_make_a_tokenizer(folder):
    split_up(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    found = ids(folder, f"the note{END} a")
    assert found == [
        *(vocabulary[token] for token in ("the", "Ġ", "no", "t", "e", END, "Ġa")),
    ]


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_without_a_tokenizer_json_the_configuration_says_what_is_around_a_prompt(
    folder, begin, end
):
    split_up(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    said = {"add_bos_token": begin, "add_eos_token": end, "bos_token": "a", "eos_token": "<e>"}
    write(folder, "tokenizer_config.json", said)
    new = len(vocabulary)
    assert ids(folder, "b") == begin * [vocabulary["a"]] + [vocabulary["b"]] + end * [new]


def test_a_class_that_cannot_be_built_is_named(folder):
    split_up(folder)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})
    with pytest.raises(InputError, match=r"vocab\.json is not a tokenizer: its class is Roberta"):
        ids(folder, "a")


@pytest.mark.parametrize("kept", ["vocab.json", "merges.txt", "tokenizer.model"])
def test_half_a_tokenizer_is_refused(folder, kept):
    split_up(folder)
    for name in {"vocab.json", "merges.txt"} - {kept}:
        (folder / name).unlink()
    (folder / kept).touch()
    lines = {
        "vocab.json": "and no merges.txt",
        "merges.txt": "m has no tokenizer.json",
        "tokenizer.model": "only a tokenizer.model of SentencePiece",
    }
    with pytest.raises(InputError, match=r"m has no tokenizer\.json") as error:
        find(str(folder))
    assert lines[kept] in str(error.value)


WRONG = {
    "tokenizer_config.json": [
        "[]",
        "{",
        '{"add_prefix_space": "yes"}',
        '{"added_tokens_decoder": []}',
        '{"added_tokens_decoder": {"a": {"content": "x"}}}',
        '{"added_tokens_decoder": {"1": {"content": 7}}}',
        '{"added_tokens_decoder": {"1": "x"}}',
        '{"chat_template": 7}',
        '{"chat_template": [7]}',
    ],
    "added_tokens.json": ["[]", '{"x": "y"}', '{"x": null}'],
    "special_tokens_map.json": ["7"],
    "chat_template.jinja": ["\udcff"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts]
)
def test_a_malformed_file_beside_a_tokenizer_is_named(folder, name, text):
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=f"{folder / name}"):
        ids(folder, "a")


# Against transformers.

TOKENS = ("[PAD]", "<n>", "<s>", END)


@st.composite
def beside(draw, kind):
    """A tokenizer_config.json, and the older files that say the same."""
    flag = st.booleans()
    said = {"tokenizer_class": kind, "bos_token": END, "eos_token": END, "unk_token": END}
    files = {"tokenizer_config.json": said}
    if draw(flag):
        said["add_prefix_space"] = draw(flag)
    if draw(flag):
        said["add_bos_token"] = draw(flag)
    if draw(flag):
        said["pad_token"] = "[PAD]"
    if draw(flag):
        said["additional_special_tokens"] = draw(st.lists(st.sampled_from(TOKENS), unique=True))
    new = draw(st.lists(st.sampled_from(TOKENS[:3]), unique=True))
    if draw(flag):
        plain = kind == "Qwen2Tokenizer"  # which takes the flags of special tokens from none
        names = ("lstrip", "rstrip", "normalized", "single_word", "special")
        flags = st.fixed_dictionaries(dict.fromkeys(names, st.just(False) if plain else flag))
        said["added_tokens_decoder"] = {
            str(400 + i): {"content": token, **draw(flags)} for i, token in enumerate(new)
        }
    elif draw(flag):
        files["added_tokens.json"] = {token: 400 + i for i, token in enumerate(new)}
    elif draw(flag):
        files["special_tokens_map.json"] = {"pad_token": {"content": "[PAD]", "lstrip": draw(flag)}}
    return files


@pytest.fixture(scope="module")
def theirs():
    reason = "transformers, a witness, is not installed"
    transformers = pytest.importorskip("transformers", minversion="5", reason=reason)
    transformers.logging.set_verbosity_error()

    def encoded(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        return [tokenizer(text)["input_ids"] for text in TEXTS]

    return encoded


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        ("GPT2Tokenizer", True),
        ("PreTrainedTokenizerFast", True),
        ("GPT2Tokenizer", False),
        ("Qwen2Tokenizer", False),
    ],
)
@settings(max_examples=15)
@given(data=st.data())
def test_ids_are_those_of_transformers(tmp_path_factory, theirs, kind, whole, data):
    folder = checkpoint(tmp_path_factory.mktemp("m") / "m")
    if not whole:
        split_up(folder)
    for name, values in data.draw(beside(kind)).items():
        if whole and "added_tokens_decoder" in values:  # as every such file names its own
            there = {"content": END, "special": True, "normalized": False}
            values["added_tokens_decoder"]["259"] = there
        write(folder, name, values)
    assert [ids(folder, text) for text in TEXTS] == theirs(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("space", [True, False])
@pytest.mark.parametrize("legacy", [True, False, None])
@pytest.mark.parametrize("kind", ["LlamaTokenizer", "LlamaTokenizerFast"])
def test_ids_of_a_llama_tokenizer_are_those_of_transformers(folder, theirs, kind, legacy, space):
    spelling(folder)
    said = {"tokenizer_class": kind, "add_prefix_space": space, "legacy": legacy}
    said |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    write(folder, "tokenizer_config.json", {k: v for k, v in said.items() if v is not None})
    assert [ids(folder, text) for text in TEXTS] == theirs(folder)


# What a tokenizer may fail at.


def broken(folder, **parts):
    """Writes the tokenizer of a folder with other parts."""
    made = json.loads((folder / "tokenizer.json").read_text())
    write(folder, "tokenizer.json", made | parts)


PATTERNS = ["(a+)+$", "(a|aa)+$", "(a*)*$"]  # each takes longer by a power with each letter


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer"])
def test_a_pattern_that_takes_too_long_is_one_line(folder, tmp_path, part, pattern):
    replaced = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    broken(folder, **{part: cut if part == "pre_tokenizer" else replaced})
    prompt = "a" * 60 + "!"
    line = complaint(minigpt("generate", prompt, "--model", str(folder), cwd=tmp_path))
    assert "the prompt cannot be made into tokens: " in line
    assert "retry-limit-in-match over" in line


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_decoders_pattern_that_takes_too_long_is_an_error_that_says_so_alone(
    folder, pattern, capfd
):
    replaced = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    fused = {"type": "Sequence", "decoders": [{"type": "Fuse"}, replaced]}
    broken(folder, model=WORDS, decoder=fused)
    tokenizer = load_tokenizer(folder)
    stream = TextStream(tokenizer, [])
    with pytest.raises(InputError, match=r"the tokens cannot be made into text: .*retry-limit"):
        decoded(tokenizer, [0] * 60 + [1])
    with pytest.raises(InputError, match="cannot be made into text"):
        [stream.add(token) for token in [0] * 60 + [1] * 60]
    assert capfd.readouterr() == ("", "")


def load_tokenizer(folder):
    made = find(str(folder))
    return read_tokenizer(made, TokenizerConfig.read(made))


WORDS = {"type": "WordLevel", "vocab": {"a": 0, "!": 1, "[UNK]": 2}, "unk_token": "[UNK]"}


ENDLESS = """
import sys, time
from minigpt.checkpoint import tokenizer as t
from tokenizers import Tokenizer
t.PATIENCE, began = 1, time.monotonic()
tokenizer = Tokenizer.from_file(sys.argv[1])
try:
    if sys.argv[2] == "encoded":
        t.encoded(tokenizer, "a" * 40)
    else:
        t.decoded(tokenizer, ([0] * 28 + [1]) * 100)
except ValueError as error:
    print(error, time.monotonic() - began < 10)
"""


def test_a_tokenizer_that_does_not_end_is_not_waited_for(folder):
    longer = {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 70_000}
    cut = {"type": "Split", "pattern": {"Regex": r"[^\s]*?(a|aa)+$"}, "behavior": "Isolated"}
    broken(folder, normalizer=longer, pre_tokenizer=cut | {"invert": False})
    _is_not_waited_for(folder, "encoded", "the prompt cannot be made into tokens")


def test_a_decoder_that_does_not_end_is_not_waited_for(folder):
    slow = {"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": "x"}
    together = {"type": "Sequence", "decoders": [{"type": "Fuse"}, slow]}
    broken(folder, model=WORDS, added_tokens=[], decoder=together)
    _is_not_waited_for(folder, "decoded", "the tokens cannot be made into text")


def _is_not_waited_for(folder, what, error):
    words = [sys.executable, "-c", ENDLESS, folder / "tokenizer.json", what]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert said.stdout == f"{error}: its tokenizer is at it for more than 1 s True\n"
    assert said.returncode == 0


@pytest.mark.parametrize("beyond", [260, 2**31, 2**32 - 1])
def test_a_token_beyond_the_models_vocabulary_is_named(folder, beyond):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    token = {"id": beyond, "content": "<x>", "special": True, **flags}
    broken(folder, model={**WORDS, "vocab": {"a": 0, "[UNK]": 2, "<x>": beyond}})
    broken(folder, added_tokens=[token], pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(InputError, match=f"which is token {beyond}, but .* knows 260 tokens"):
        encode(load(folder), ["a <x>"])


def test_a_token_of_the_model_that_the_tokenizer_has_not_is_no_text(folder):
    broken(folder, model=WORDS, decoder=None, pre_tokenizer=None, added_tokens=[])
    steps = [*generate(load(folder), "a", max_new_tokens=8, seed=1, ignore_eos=True)]
    known = {0: "a", 1: "!", 2: "[UNK]"}
    assert all(step.text == "" or step.token in known for step in steps)
    assert any(step.token not in known for step in steps)


def test_what_a_library_writes_past_python_is_dropped_with_its_error_alone(capfd):
    with unsaid():
        os.write(2, b"first\n")
    with suppress(KeyError), unsaid():
        os.write(2, b"dropped\n")
        raise KeyError
    os.write(2, b"last\n")
    assert capfd.readouterr().err == "first\nlast\n"


def test_standard_error_is_itself_again_after_blocks_of_many_threads(capfd):
    def inside(number):
        for _ in range(50):
            with unsaid():
                os.write(2, b"x")

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(inside, range(8))]
    assert capfd.readouterr().err == "x" * 400


ODD = {  # values of a tokenizer_config.json that are no tokens, and what is said of them
    "bos_token": [3, {}, {"content": 3}, ["a"], True],
    "eos_token": [3, {"content": None}],
    "additional_special_tokens": [3, "x", [3], [None], {"a": 1}],
    "extra_special_tokens": [3, "x", [3], {"a": 3}],
    "tokenizer_class": [3, ["GPT2Tokenizer"], {"a": 1}],
    "added_tokens_decoder": [{"-1": {"content": "x"}}, {str(10**20): {"content": "x"}}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in ODD for value in ODD[key]])
def test_special_tokens_that_are_none_are_not_passed_over(tmp_path, key, value):
    folder = checkpoint(tmp_path / "m")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({key: value}))
    with pytest.raises(InputError, match=rf"^{path}: [^\n]*{key}[^\n]*$"):
        load(folder)


@pytest.mark.parametrize(
    "extra", [["<a>"], {"image_token": "<a>"}, {"image_token": {"content": "<a>"}}]
)
def test_extra_special_tokens_are_a_list_or_have_roles(tmp_path, extra):
    folder = checkpoint(tmp_path / "m")
    given = {"extra_special_tokens": extra, "pad_token": None, "model_input_names": ["a"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    assert load(folder).tokenizer.token_to_id("<a>") is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_standard_error_is_itself_in_a_child_made_while_a_thread_is_in_a_block(capfd):
    there, go_on = Event(), Event()

    def inside():
        with unsaid():
            os.write(2, b"parent\n")
            there.set()
            go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(inside)
        there.wait(60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running
            child = os.fork()
        if not child:
            signal.alarm(60)
            with unsaid():
                os.write(2, b"child\n")
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        go_on.set()
        waiting.result(60)
    assert (ended, capfd.readouterr().err) == (0, "child\nparent\n")
