"""`minigpt generate --live`: the text as it comes, over panels of what it costs."""

import io
import re
import time

import numpy as np
import pexpect
import pyte
import pytest
from checkpoints import CONFIG, MINIGPT, PROMPT, SHORT, checkpoint, environment
from families import small
from helpers import numbers
from rich.console import Console
from rich.filesize import decimal
from rich.screen import Screen

from counting.table import si
from minigpt import generate, load
from minigpt.commands.live import SPARKS, Picture, sparkline
from minigpt.models.architectures import READERS

SIZES = [(80, 24), (40, 12), (200, 60), (100, 20), (60, 20), (59, 12)]
FAMILIES = ("gpt2", "gemma2", "deepseek_v3", "mixtral", "qwen3_next", "cohere2")
NEEDED = "a terminal that is not dumb, of 40 columns and 12 rows"
UNSEEN = f"--live needs {NEEDED}: the text comes without it"
IN, OUT = "\x1b[?1049h", "\x1b[?1049l"  # to the other screen, and back


def drawn(picture, columns, rows):
    """The rows of a terminal that shows a picture."""
    made = Console(file=io.StringIO(), width=columns, height=rows, color_system=None)
    made.print(Screen(picture), end="")
    return made.file.getvalue().splitlines()


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_the_figures_are_those_of_the_records(seed, tmp_path):
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed]
    values = {"model_type": family} | small(family) | {"vocab_size": CONFIG.vocab_size}
    make = numbers(seed, CONFIG.vocab_size)
    shapes = READERS[family](values, "drawn").shapes()
    weights = {key: make(shape, np.float32) for key, shape in shapes.items()}
    lm = load(checkpoint(tmp_path / "model", weights, **values))
    batch, length, new = (int(rng.integers(1, most)) for most in (4, 8, 9))
    texts = ["".join(rng.choice([*"abcdef"], length)) for _ in range(batch)]
    picture = Picture(texts, new, lm.config)
    steps = generate(lm, [*texts], max_new_tokens=new, seed=seed, ignore_eos=True)
    flops = read = written = passes = 0
    for step in steps:
        record = step.record()
        cache = steps.gi_frame.f_locals["cache"]
        picture.add(step)
        if step.sequence == 0:
            moved = [sum(record[way].values()) for way in ("bytes_read", "bytes_written")]
            flops, read, written = flops + record["flops"], read + moved[0], written + moved[1]
            passes += 1
        kept = [layer for layer in cache.layers if layer.CATEGORY == "kv_cache"]
        filled, reserved = (sum(getattr(x, n) for x in kept) for n in ("filled_bytes", "nbytes"))
        assert picture.filled(step) == filled
        assert record["live_bytes"]["kv_cache"] == reserved
        columns, rows = SIZES[rng.integers(len(SIZES))]
        shown = "\n".join(drawn(picture, columns, rows))
        figures = {line.split()[0]: line for line in re.split(r"[│\n]+", shown) if line.strip()}
        assert f"token {passes}/{new}" in shown
        assert f"{si(record['flops'])}FLOP " in figures["FLOP"]
        assert f"{si(flops)}FLOP in all" in figures["FLOP"]
        assert f" {decimal(moved[0])} " in figures["read"]
        assert f" {decimal(read)} in all" in figures["read"]
        assert f" {decimal(moved[1])} " in figures["written"]
        assert f" {decimal(written)} in all" in figures["written"]
        rate = batch * record["new_tokens"] / record["seconds"]
        assert figures["tokens/s"].split()[1] == f"{rate:.0f}"
        assert len(set(figures["tokens/s"]) & {*SPARKS}) > 0 or passes == 1
        alive = {name: (n, record["peak_bytes"][name]) for name, n in record["live_bytes"].items()}
        alive["kv_cache"] = filled, reserved
        for name, (held, of) in alive.items():
            assert not of or f" {decimal(held)} of {decimal(of)}" in figures[name]
            assert of or name not in figures


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_a_picture_fills_the_screen_and_shows_the_end_of_each_text(columns, rows, batch):
    lm = load()
    texts = [f"{'word ' * 900}\n\x1b[2J\x07あ{i}" for i in range(batch)]
    picture = Picture(texts, 4, lm.config)
    before = drawn(picture, columns, rows)
    assert len(before) == rows
    picture.add(next(generate(lm, PROMPT, max_new_tokens=4, seed=1)))
    after = drawn(picture, columns, rows)
    assert len(after) == rows
    for said in (before, after):
        shown = sum("[2J" in line for line in said)
        assert 1 <= shown <= batch
        assert shown == batch or batch == 40 or rows == 12  # each has two rows at least
        assert not set("\x1b\x07") & set("".join(said))
    figures = " ".join(after)
    assert all(name in figures for name in ("FLOP", "written", "tokens/s", "kv_cache", "weights"))


def test_a_picture_of_a_terminal_made_tiny_is_drawn_without_an_error():
    lm = load()
    picture = Picture([PROMPT], 4, lm.config)
    picture.add(next(generate(lm, PROMPT, max_new_tokens=4, seed=1)))
    for columns in (1, 3, 20):
        for rows in (1, 2, 5):
            assert len(drawn(picture, columns, rows)) == rows


def test_a_sparkline_is_as_high_as_its_numbers():
    assert sparkline([0, 7, 3.5, 1]) == "▁█▅▂"
    assert sparkline([]) == ""


def spawned(here, *words, columns=80, rows=24, term="xterm"):
    return pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", *words, "--live"], cwd=str(here),
        env=environment(TERM=term), dimensions=(rows, columns), encoding="utf-8", timeout=300,
        codec_errors="replace",  # a terminal drops what waits on Ctrl-C, half a character too
    )  # fmt: skip


def on_terminal(sent, columns, rows):
    """A terminal, after what was sent to it."""
    screen = pyte.Screen(columns, rows)
    pyte.Stream(screen).feed(sent)
    return screen


def seen(sent):
    """What was sent to the other screen, and after it."""
    assert sent.count(IN) == sent.count(OUT) == 1
    before, after = sent.split(OUT)
    return before.partition(IN)[2].partition("\x1b[?25h")[0], after.replace("\r\n", "\n")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 12), (200, 60)])
def test_a_terminal_shows_panels_and_then_the_text_whole(here, said, columns, rows):
    child = spawned(here, PROMPT, *SHORT, columns=columns, rows=rows)
    sent = child.read()
    child.close()
    assert child.exitstatus == 0
    pictures, after = seen(sent)
    shown = on_terminal(pictures, columns, rows)
    assert shown.cursor.hidden
    assert shown.display[0].startswith(PROMPT)
    below = " ".join(shown.display)
    first = next(generate(load(), PROMPT, max_new_tokens=6, seed=1))
    assert "token 1/6" in below
    assert f"{si(first.flops)}FLOP" in below
    assert all(name in below for name in ("weights", "kv_cache", "activations", "tokens/s"))
    rest = on_terminal(sent, columns, 200)
    assert not rest.cursor.hidden
    assert after.startswith(f"{said}\n\n")  # the terminal itself wraps it
    assert "component" in after


def test_texts_of_a_batch_come_side_by_side(here):
    other = "To be, or not to me"
    child = spawned(here, PROMPT, "--prompt", other, "--max-new-tokens", "3", "--seed", "1")
    sent = child.read()
    child.close()
    assert child.exitstatus == 0
    pictures, after = seen(sent)
    display = on_terminal(pictures, 80, 24).display
    for number, prompt in ((1, PROMPT), (2, other)):
        at = display.index(f"{number} of 2".ljust(80))
        assert display[at + 1].startswith(prompt)
    texts = ["", ""]
    for step in generate(load(), [PROMPT, other], max_new_tokens=3, seed=1):
        texts[step.sequence] += step.text
    assert (
        after.replace("\r", "")
        .lstrip("\x1b[?25h")
        .startswith(f"{PROMPT}{texts[0]}\n\n{other}{texts[1]}\n")
    )


def test_no_more_than_ten_pictures_are_drawn_in_a_second(here):
    began = time.perf_counter()
    child = spawned(here, PROMPT, "--max-new-tokens", "240", "--seed", "1", "--ignore-eos")
    sent = child.read()
    child.close()
    assert child.exitstatus == 0
    assert 2 <= sent.count("\x1b[H") <= 3 + 10 * (time.perf_counter() - began)


def test_ctrl_c_leaves_the_screen_as_it_was_and_ends_with_the_table(here):
    child = spawned(here, PROMPT, "--max-new-tokens", "240", "--ignore-eos")
    child.expect("token 1/240")
    child.sendintr()
    rest = child.read()
    child.close()
    assert child.exitstatus == 130
    assert rest.rindex("\x1b[?25h") > rest.rfind("\x1b[?25l")
    after = rest.split(OUT)[1]
    assert PROMPT in after
    assert "component" in after
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("columns", "rows", "term"), [(39, 24, "xterm"), (80, 11, "xterm"), (80, 24, "dumb")]
)
def test_where_it_cannot_be_shown_is_the_status_line_or_the_text(here, said, columns, rows, term):
    child = spawned(here, PROMPT, *SHORT, columns=columns, rows=rows, term=term)
    sent = child.read()
    child.close()
    assert child.exitstatus == 0
    assert IN not in sent
    assert ("token\xa06/6" in sent) == (term == "xterm")
    shown = on_terminal(sent, columns, 200).display
    assert UNSEEN in "".join(shown)
    left = [line.rstrip() for line in shown]
    assert said in left
    assert any(line.startswith("component ") for line in left)


def test_where_there_is_no_terminal_the_text_is_printed(command, said):
    result = command("generate", PROMPT, *SHORT, "--live")
    assert (result.returncode, result.stdout) == (0, f"{said}\n")
    assert result.stderr.startswith(f"{UNSEEN}\n")
    assert UNSEEN not in command("generate", PROMPT, *SHORT).stderr


@pytest.mark.parametrize("beside", ["--json", "--quiet", "--log -", "--record -"])
def test_beside_what_shows_no_text_or_nothing_else_it_is_refused(command, here, beside):
    result = command("generate", PROMPT, "--live", *beside.split())
    assert (result.returncode, result.stdout) == (2, "")
    said = f"minigpt: --live would do nothing beside {beside}: leave one of them out\n"
    assert result.stderr == said
    assert not list(here.iterdir())
