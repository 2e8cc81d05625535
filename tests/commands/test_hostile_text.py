"""What others wrote, at a terminal: it is shown, and nothing of it is obeyed."""

import json
import random
import re
import unicodedata

import pexpect
import pytest
from checkpoints import CONFIG, MINIGPT, PROMPT, checkpoint, environment, home, minigpt, tensors
from sessions import session

from minigpt.harmless import MOST, harmless, one_line

MARK = "7;777"  # in each sequence that is not the program's own
SEQUENCES = [
    *(f"\x1b[{MARK}{end}" for end in "mJHAr"),
    *(f"\x1b]{MARK};title{end}" for end in ("\x07", "\x1b\\")),
    *(f"\x9b{MARK}m", f"\x9d{MARK};title\x9c", f"\x1bP{MARK}q", f"\x1b[?{MARK}h"),
]
TURNING = [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
CONTROLS = [*map(chr, (*range(1, 9), *range(11, 32), *range(127, 160)))]
OTHERS = [*"\u2028\u2029\ufeff\u200b\u00ad\u180e\u3164\ufe00", "\U000e0041", "\U000e0101"]
WORDS = ["ab", "é", "あ", "👩\u200d🚀", "[/x]", "[red]", ":warning:", " "]
# ECMA-48: control sequences, strings up to their end, and what is a character beside ESC.
SENT = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


def hostile(seed, length=9):
    """A text that would do something to a terminal, and has words too."""
    rng = random.Random(seed)
    pools = [SEQUENCES, SEQUENCES, TURNING, CONTROLS, OTHERS, WORDS, WORDS]
    parts = [rng.choice(rng.choice(pools)) for _ in range(length)]
    return "x" + "".join([*parts, rng.choice(SEQUENCES), rng.choice(TURNING)])


def at_terminal(folder, *args, term="xterm", status=0, keys=()):
    """All that a command sends to a terminal."""
    env = environment(HOME=home(folder), TERM=term, MINIGPT_FAST="0")
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], *args], cwd=str(folder), env=env, dimensions=(24, 80),
        encoding="utf-8", timeout=300,
    )  # fmt: skip
    sent = ""
    for expected, key in keys:
        child.expect(expected)
        sent += child.before + child.after
        child.send(key)
    sent += child.read()
    child.close()
    assert child.exitstatus == status
    return sent


def assert_harmless(sent, own=None):
    """Nothing of what was sent is hostile; sequences are those of `own`, sent for another text."""
    assert MARK not in "".join(SENT.findall(sent))
    rest = SENT.sub("", sent)
    assert not {c for c in rest if unicodedata.category(c) in ("Cc", "Zl", "Zp")} - {*"\r\n\t"}
    assert not {*rest} & {*TURNING, *OTHERS}
    if own is not None:
        kinds = {re.sub(r"[\d;]+", "", sequence) for sequence in SENT.findall(own)}
        assert {re.sub(r"[\d;]+", "", sequence) for sequence in SENT.findall(sent)} <= kinds


@pytest.mark.parametrize("seed", range(20))
def test_no_text_has_anything_hostile_left(seed):
    assert_harmless(harmless(hostile(seed, 40)))


def test_of_all_characters_those_that_act_are_told_apart():
    """What acts is asked of Unicode itself."""
    shown = {}
    for number in range(0x110000):
        char = chr(number)
        acts = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        turns = unicodedata.bidirectional(char) in (*BIDI, "B", "S")
        if (acts or turns) and char not in "\n\t":
            shown[char] = harmless(char)
    assert len(shown) > 2048 + 64
    assert all(seen.isprintable() for seen in shown.values())
    assert len({*shown.values()}) == len(shown)


INVISIBLE = re.compile(
    "HANGUL.* FILLER|VARIATION SELECTOR|GRAPHEME JOINER|VOWEL INHERENT|MONGOLIAN V"
)
STAYING = {*"\u200c\u200d\ufe0e\ufe0f"}


def test_what_is_not_seen_is_shown():
    """By names and categories: the program has Unicode's ranges of another property."""
    drawn = re.compile("NUMBER|SIGN|ABBREVI|AYAH|FOOTNOTE|MARK ABOVE|HIEROGLYPH")  # some of format
    unseen = set[str]()
    for char in map(chr, range(0x110000)):
        name = unicodedata.name(char, "")
        formats = unicodedata.category(char) == "Cf" and not drawn.search(name)
        if (formats or INVISIBLE.search(name)) and char not in STAYING:
            unseen.add(char)
    assert len(unseen) > 350
    assert not [char for char in unseen if not harmless(char).isprintable()]
    assert not unseen & {*harmless("".join(unseen))}
    assert harmless("".join(STAYING)) == "".join(STAYING)


def test_ordinary_text_stays_as_it_is():
    for text in ("❤\ufe0f ☎\ufe0e", "two\nlines\tand a tab", "naïve あ ½ 👩‍🚀 שלום", "نمی‌خواهم"):
        assert harmless(text) == text
    assert harmless("a\r\nb\rc") == "a\nb␍c"


@pytest.fixture
def here(tmp_path):
    checkpoint(tmp_path / "m")
    return tmp_path


WAYS = {
    "live": ((), "xterm"),
    "quiet": (("--quiet",), "xterm"),
    "without a cursor": ((), "dumb"),
    "on the whole screen": (("--live",), "xterm"),
    "a batch": (("--prompt", "{}"), "xterm"),
    "a log": (("--log", "-"), "xterm"),
    "a recording": (("--record", "-"), "xterm"),
    "one document": (("--json",), "xterm"),
}


@pytest.mark.once
@pytest.mark.parametrize("way", WAYS)
def test_a_prompt_moves_no_cursor(here, way):
    options, term = WAYS[way]

    def sent(prompt):
        given = [option.format(prompt) for option in options]
        wide = ("--max-new-tokens", "2", "--model", "m", "--temperature", "0")
        return at_terminal(here, "generate", prompt, *wide, *given, term=term)

    checkpoint(here / "m", weights=longer(), n_positions=400)
    for seed in range(2):
        assert_harmless(sent(hostile(seed)), sent("x" * 40))


def longer():
    """Weights of a tiny model with a longer context."""
    weights = tensors()
    weights["wpe.weight"] = weights["wpe.weight"].repeat(25, 0)
    return weights


@pytest.mark.once
@pytest.mark.parametrize("way", ["live", "quiet", "without a cursor", "a batch"])
@pytest.mark.parametrize("byte", [0x1B, 0x07, 0x0D, 0x08])
def test_a_token_moves_no_cursor(here, way, byte):
    """The model says one byte, over and over."""
    options, term = WAYS[way]
    weights = tensors()
    weights["ln_f.weight"][:], weights["ln_f.bias"][:] = 0, 1
    weights["wte.weight"][token(here, bytes([byte]))] = 1
    checkpoint(here / "m", weights)
    given = [option.format("ab") for option in options]
    args = ("generate", "ab", "--max-new-tokens", "3", "--model", "m", "--temperature", "0", *given)
    sent = at_terminal(here, *args, term=term)
    assert "".join(SENT.sub("", sent).split()).count(chr(0x2400 + byte)) >= 3
    assert_harmless(sent)


def token(here, byte):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(here / "m" / "tokenizer.json"))
    [found] = tokenizer.encode(byte.decode()).ids
    return found


def test_in_a_pipe_text_is_exact(here):
    checkpoint(here / "m", weights=longer(), n_positions=400)
    for seed in range(3):
        prompt = hostile(seed).replace("\r", "")
        options = ("--model", "m", "--max-new-tokens", "1", "--quiet")
        said = minigpt("generate", prompt, *options, cwd=here, env=environment(MINIGPT_FAST="0"))
        assert said.stdout.startswith(prompt.encode())


# Names, in tables and in lines that say what is wrong.


def gpu(folder, name):
    """A file of one; a name that does not print would be refused, its source may be any text."""
    about = {"flops": {"float32/float32": 1e12}, "bandwidth": 1e9, "memory": 2**34}
    about["name"] = name if name.isprintable() else "own"
    about["source"] = f"told by {name}"
    (folder / "gpu.json").write_text(json.dumps(about))


COMMANDS = {
    "no such model": (("count", "no{}"), 2),
    "no such model to run": (("generate", "a", "--model", "no{}"), 2),
    "no such model to plan": (("plan", "no{}", "--gpu", "t4"), 2),
    "a folder": (("count", "./{}"), 0),
    "its formulas": (("formulas", "./{}"), 0),
    "a folder to plan": (("plan", "./{}", "--gpu", "t4"), 0),
    "a folder to run": (("generate", "a", "--model", "./{}", "--max-new-tokens", "1"), 0),
    "no such command": (("{}",), 2),
    "no such option": (("count", "gpt2", "--{}"), 2),
    "a GPU": (("gpus", "--gpu-file", "gpu.json"), 0),
    "a plan for a GPU": (("plan", "gpt2", "--gpu", "gpu.json"), 0),
    "a model of a kind": (("count", "./kind"), 2),
    "a recording": (("report", "run.jsonl"), 0),
    "a recording that is none": (("report", "no{}"), 2),
    "a download": (("download", "./{}"), 0),
}


@pytest.mark.once
@pytest.mark.parametrize(("seed", "command"), [*enumerate(COMMANDS)])
def test_a_name_moves_no_cursor(here, seed, command):
    args, status = COMMANDS[command]
    sent = []
    for name in (hostile(seed).replace("/", "|"), "x" * 40):
        checkpoint(here / name)
        gpu(here, name)
        checkpoint(here / "kind").joinpath("config.json").write_text(
            json.dumps(CONFIG.values() | {"model_type": name})
        )
        if "run.jsonl" in args:
            options = ("--model", f"./{name}", "--max-new-tokens", "1", "--record", "run.jsonl")
            minigpt("generate", "a", *options, cwd=here, env=environment(MINIGPT_FAST="0"))
        given = [word.format(name) for word in args]
        sent.append(at_terminal(here, *given, status=status))
    assert_harmless(*sent)


@pytest.mark.parametrize("name", ["[/x]", "[red]x", "[bold]", ":warning:", "[x](y)", "[@click=a]b"])
def test_brackets_in_a_name_are_no_style(command, here, monkeypatch, name):
    monkeypatch.chdir(here)
    (here / name).parent.mkdir(exist_ok=True)
    checkpoint(here / name)
    gpu(here, name)
    options = ("--model", name, "--max-new-tokens", "1", "--record", "run.jsonl")
    commands = {
        ("count", name): 0,
        ("formulas", name): 0,
        ("plan", name, "--gpu", "t4"): 0,
        ("plan", "gpt2", "--gpu", "gpu.json"): 0,
        ("gpus", "--gpu-file", "gpu.json"): 0,
        ("generate", "a", *options): 0,
        ("report", "run.jsonl"): 0,
        ("count", f"no{name}"): 2,
        ("generate", "a", "--model", f"no{name}"): 2,
    }
    for args, status in commands.items():
        said = command(*args)
        assert said.returncode == status
        if args[0] != "generate" or status:
            assert name in said.stdout + said.stderr, args


# The debugger.


@pytest.mark.once
def test_at_the_prompt_of_the_debugger_nothing_is_obeyed(here):
    prompt = hostile(3).replace("\r", "")
    with session(here, "--max-new-tokens", "2", prompt=prompt) as step:
        said = "\n".join(answer for line in ("lens", "attn", "ledger", "mem", "kv")
                         for answer in step(line))  # fmt: skip
        step.sendline("c")
        step.expect(pexpect.EOF)
    assert_harmless(said)
    assert_harmless(step.before)
    assert "x" in step.before


@pytest.mark.once
@pytest.mark.parametrize("seed", [0, 1])
def test_on_the_full_screen_nothing_is_obeyed(here, seed):
    pytest.importorskip("textual", reason="textual is not installed: .[tui]")
    sent = []
    for prompt in (hostile(seed), PROMPT):
        args = ("step", prompt, "--tui", "--max-new-tokens", "2", "--seed", "1")
        keys = [("token 1/", "c"), ("finished", "q")]
        sent.append(at_terminal(here, *args, term="xterm-256color", keys=keys))
    assert_harmless(*sent)


@pytest.mark.once
def test_on_the_full_screen_an_error_is_not_obeyed(here):
    pytest.importorskip("textual", reason="textual is not installed: .[tui]")
    name = hostile(5).replace("/", "|")
    args = ("step", "a", "--tui", "--model")
    sent = [at_terminal(here, *args, each, term="xterm-256color", status=2)
            for each in (name, "x" * 40)]  # fmt: skip
    assert_harmless(*sent)


# One line.


@pytest.mark.parametrize("seed", range(5))
def test_a_line_is_one_and_bounded(seed):
    rng = random.Random(seed)
    text = "begin " + hostile(seed, rng.randrange(10, 5000)) + "\n\nthe way out"
    line = one_line(text)
    assert len(line) <= MOST
    assert line.startswith("begin x")
    assert line.endswith("the way out")
    assert "\n" not in line
    assert_harmless(line)


@pytest.mark.parametrize(
    "args",
    [
        ("count", "{}"),
        ("generate", "a", "--model", "{}"),
        ("{}",),
        ("report", "{}"),
        ("plan", "gpt2", "--gpu", "{}"),
        ("count", "./kind"),
    ],
    ids=" ".join,
)
def test_an_error_is_a_short_line(here, args):
    long = "y" * 100_000
    checkpoint(here / "kind").joinpath("config.json").write_text(
        json.dumps(CONFIG.values() | {"model_type": long})
    )
    said = minigpt(*(word.format(long) for word in args), cwd=here)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1)
    assert len(said.stderr.decode()) < MOST + 20
    assert "…" in said.stderr.decode()
