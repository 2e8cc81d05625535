"""`minigpt generate` at a terminal: the text, and a line on each pass below it."""

import io
import re
import time
from unittest import mock

import pexpect
from checkpoints import MINIGPT, PROMPT, SHORT, environment
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt.commands.terminal import LiveText, console


class Screen:
    """What a terminal of so many columns shows: the sequences that minigpt sends, no more."""

    def __init__(self, columns):
        self.columns, self.rows, self.row, self.column = columns, [[]], 0, 0

    def feed(self, sent):
        for params, code, char in re.findall(r"\x1b\[([?\d;]*)(\w)|([^\x1b])", sent, re.S):
            n = int(params) if params.isdigit() else 1
            if code == "A":
                self.row -= n
                assert self.row >= 0
            elif code == "C":
                self.column = min(self.column + n, self.columns - 1)
            elif code == "J":
                del self.rows[self.row + 1 :], self.rows[self.row][self.column :]
            elif code == "K":
                self.rows[self.row].clear()
            elif char == "\r":
                self.column = 0
            elif char == "\n":  # with the carriage return that the tty adds
                self.column = 0
                self._down()
            elif char:
                self._put(char)
        return self

    def _down(self):
        self.row += 1
        self.rows += [[]] * (self.row == len(self.rows))

    def _put(self, char):
        wide = cell_len(char)
        if self.column + wide > self.columns:
            self.column = 0
            self._down()
        row = self.rows[self.row]
        row += " " * (self.column - len(row))
        row[self.column : self.column + wide] = [char] + [""] * (wide - 1)
        self.column += wide

    @property
    def lines(self):
        return ["".join(row).rstrip() for row in self.rows]


@given(
    st.lists(st.text("ab \nあ", max_size=9), min_size=1, max_size=9),
    st.lists(st.text("xyz", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(4, 12),
)
def test_the_status_leaves_the_text_as_it_is(parts, status, columns):
    with (
        mock.patch("minigpt.commands.terminal.get_terminal_size", return_value=(columns, 24)),
        mock.patch("sys.stdout", io.StringIO()) as stdout,
    ):
        live = LiveText()
        for i, part in enumerate(parts):
            live.write(part, *status)
            text = Screen(columns).feed("".join(parts[: i + 1]))
            shown = Screen(columns).feed(stdout.getvalue())
            assert (shown.row, shown.column) == (text.row, text.column)
            assert shown.lines[: len(text.lines)] == text.lines
            below = "".join(shown.lines[len(text.lines) :])
            assert below.startswith(status[0]) if text.column < columns else not below
        live.write("\n")
    assert (
        Screen(columns).feed(stdout.getvalue()).lines
        == Screen(columns).feed("".join(parts) + "\n").lines
    )


def test_a_terminal_shows_a_line_on_each_pass_and_is_left_clean(here, said):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", PROMPT, *SHORT], cwd=str(here),
        env=environment(TERM="xterm"), dimensions=(24, 80), encoding="utf-8", timeout=300,
    )  # fmt: skip
    sent = child.read()
    child.close()
    assert child.exitstatus == 0
    for token in range(1, 7):
        assert f"token\xa0{token}/6" in sent
    for unit in ("FLOP", "KV", "peak", "tokens/s", "FLOP/s", "B/s"):
        assert unit in sent
    lines = Screen(80).feed(sent).lines
    assert "\n".join(lines).startswith(f"{said}\n\ncomponent ")
    table = lines[lines.index("") + 1 :]
    ends = {len(line) for line in table[: table.index("")]}
    assert len(ends) == 1  # the last column is flush
    assert max(ends) <= 80


def test_ctrl_c_on_a_terminal_ends_with_the_table(here):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", PROMPT, "--max-new-tokens", "240"], cwd=str(here),
        env=environment(TERM="xterm"), dimensions=(24, 80), encoding="utf-8", timeout=300,
    )  # fmt: skip
    child.expect("token\xa03/240")
    child.sendintr()
    rest = child.read()
    child.close()
    assert child.exitstatus == 130
    assert "component" in rest
    assert "Traceback" not in rest


def test_a_terminal_that_cannot_move_its_cursor_gets_the_bare_text(here, said):
    child = pexpect.spawn(
        MINIGPT[0], [*MINIGPT[1:], "generate", PROMPT, *SHORT, "--quiet"], cwd=str(here),
        env=environment(TERM="dumb"), dimensions=(24, 80), encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert child.read() == f"{said}\n".replace("\n", "\r\n")


def test_a_long_text_is_printed_at_once(capsys):
    began = time.process_time()
    console().print("x" * 70_000)  # rich's own colours of it would take a minute
    assert time.process_time() - began < 5
    assert "x" * 1000 in capsys.readouterr().out
