"""Text that others wrote, where a terminal or a line shows it.

A terminal obeys control characters, and turns text around at bidirectional ones: a name or a token
could clear the screen, or look like another. There they are shown instead of sent. What goes into
a file or a pipe stays exact.
"""

import io
import re
from typing import Any, TextIO

MOST = 1000  # characters of a line that says what is wrong

# Of what changes a text without being seen, Unicode's Default_Ignorable_Code_Point (16.0,
# DerivedCoreProperties.txt), these four stay: words and emoji need the joiners U+200C and U+200D,
# and U+FE0E and U+FE0F say how the character before them is drawn.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# And controls but for tab and line feed, what breaks lines beside these, annotations that a
# terminal does not draw, halves of surrogate pairs.
_HARMFUL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufff9-\ufffb\ud800-\udfff" + f"{_INVISIBLE}]"
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
