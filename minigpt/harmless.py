"""Text that others wrote, where a terminal or a line shows it.

A terminal obeys control characters, and turns text around at bidirectional ones: a name or a token
could clear the screen, or look like another. There they are shown instead of sent. What goes into
a file or a pipe stays exact.
"""

import io
import re
from typing import Any, TextIO

MOST = 1000  # characters of a line that says what is wrong

# Controls but for tab and line feed, what breaks lines beside these, bidirectional and invisible
# characters, halves of surrogate pairs. Joiners (U+200C, U+200D) stay: words and emoji need them.
_HARMFUL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\\ud800-\\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def harmless(text: str) -> str:
    """A text with pictures of control characters (␛), and escapes of others (\\u202e).

    Line feeds and tabs stay, and a carriage return before a line feed goes.
    """
    return _HARMFUL.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x20:
        return chr(0x2400 + number)
    return "␡" if number == 0x7F else found[0].encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """A text as a line of at most `MOST` characters; of a longer one both ends."""
    line = " ".join(harmless(text).split())
    if len(line) > MOST:
        line = f"{line[: MOST // 2]} … {line[3 - MOST // 2 :]}"
    return line


class Guarded(io.TextIOWrapper):
    """A stream to a terminal that shows what is written to it harmless.

    Args:
        bare: the stream that it stands for.

    Attributes:
        bare: for sequences that the program itself makes.
    """

    def __init__(self, bare: io.TextIOWrapper) -> None:
        super().__init__(
            bare.buffer,
            bare.encoding,
            bare.errors,
            line_buffering=bare.line_buffering,
            write_through=bare.write_through,
        )
        self.bare = bare

    def write(self, text: str) -> int:
        super().write(harmless(text))
        return len(text)


def guarded(stream: Any) -> Any:
    """A stream, guarded if it is one to a terminal."""
    if type(stream) is io.TextIOWrapper and stream.isatty():
        return Guarded(stream)
    return stream


def bare(stream: TextIO) -> TextIO:
    """The stream that a guarded one stands for, with all before it written; any other itself."""
    if not isinstance(stream, Guarded):
        return stream
    stream.flush()
    return stream.bare
