"""What the full-screen view consists of: each panel draws a part of a `View` in the room it has."""

from functools import lru_cache
from math import isnan, prod
from pathlib import Path
from typing import Any

import numpy as np
from rich.style import Style
from rich.text import Text
from textual.content import Content
from textual.highlight import highlight
from textual.message import Message
from textual.widget import Widget

from counting.table import si
from minigpt.harmless import harmless
from minigpt.stepping.screen.messages import Made, View
from minigpt.stepping.screen.picture import text as drawn

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_EVENTS = {
    "line": "before the line",
    "return": "as it returns",
    "exception": "as it raises",
    "operation": "an operation has run",
    "end": "the text has ended",
}


class Panel(Widget):
    """A part of the screen, drawn anew when there is a view, or another size."""

    view: View | None = None

    def show(self, view: View) -> None:
        self.view = view
        # Not while it is drawn: a border is drawn before what is in it.
        self.border_title, self.border_subtitle = self.titles(view)
        self.refresh()

    def titles(self, view: View) -> tuple[str, str]:
        """What stands in the border, above and below."""
        raise NotImplementedError

    def render(self) -> Content | Text:
        if self.view is None or not self.content_size:
            return Text()
        return self.draw(self.view, *self.content_size)

    def draw(self, view: View, width: int, height: int) -> Content | Text:
        """The content, of `width` columns and `height` lines."""
        raise NotImplementedError


@lru_cache(maxsize=16)
def _source(file: str) -> list[Content]:
    try:
        code = Path(file).read_text(encoding="utf-8")
    except OSError:
        return []
    return highlight(code, language="python").split("\n")


class Source(Panel):
    """The lines about the one where it stands, each with what it cost in this pass."""

    def titles(self, view: View) -> tuple[str, str]:
        state = view.state
        where = f"{Path(state.file).name}:{state.line} {state.function}"
        costs = "left of the code: FLOP of this pass" if view.lines else ""
        return f"{where} · {_EVENTS[state.event]}", costs

    def draw(self, view: View, width: int, height: int) -> Content:
        state, lines = view.state, _source(view.state.file)
        first = max(0, min(state.line - 1 - height // 2, len(lines) - height))
        shown = []
        for number, code in enumerate(lines[first : first + height], first + 1):
            cost = view.lines.get(number, 0)
            here = number == state.line
            gutter = f"{'▶' if here else ' '}{number:4} "
            line = Content.assemble(
                (gutter, "bold $accent" if here else "dim"),
                (f"{_short(cost) if cost else '':>6} ", "$secondary"),
                code,
            )
            if here:
                line = line.pad_right(max(0, width - line.cell_length)).stylize_before("on $panel")
            shown.append(line)
        return Content("\n").join(shown)


class Tensor(Panel):
    """What the operation before made: its facts, and a heat map."""

    FACTS = 4  # lines of facts, at most

    def titles(self, view: View) -> tuple[str, str]:
        made = view.made
        return f"{made.operation} at {made.path or 'top'}" if made else "tensor", ""

    def draw(self, view: View, width: int, height: int) -> Text:
        made = view.made
        if made is None:
            return Text("no operation has run yet", style="dim")
        lines = [Text()]
        for fact in filter(None, _facts(made)):
            if lines[-1] and lines[-1].cell_len + 2 + fact.cell_len > width:
                lines.append(Text())
            lines[-1].append("  " if lines[-1] else "").append_text(fact)
        lines = lines[: self.FACTS]
        if made.cells is not None:
            lines.append(drawn(made.cells))
        return Text("\n").join(lines)

    class Resized(Message):
        """The room is another."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns that there is room for in the heat map, two rows to a line."""
        width, height = self.content_size
        return 2 * (height - self.FACTS), width


def _facts(made: Made) -> list[Text]:
    """What is to be known of a tensor, the most important first."""
    broken = [f"{n:,} {name}" for n, name in ((made.nans, "NaN"), (made.infs, "inf")) if n]
    range_ = f"min {made.least:.4g}  mean {made.mean:.4g}  max {made.most:.4g}"
    if made.looked < prod(made.shape):
        range_ += f" of {made.looked:,}"
    return [
        Text(f"{made.shape} {made.dtype}", "bold"),
        Text(f"{made.nbytes:,} B of {made.category}", "dim"),
        Text(f"WARNING {', '.join(broken)}" if broken else "", "bold red"),
        Text("" if isnan(made.mean) else range_),
        Text(f"{made.flops:,} FLOP"),
        Text(made.legend, "dim"),
    ]


class Memory(Panel):
    """Bytes of activations alive after each operation so far, and those of all categories."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.live: list[int] = []

    def show(self, view: View) -> None:
        self.live[view.since :] = view.live
        super().show(view)

    def titles(self, view: View) -> tuple[str, str]:
        largest = max(self.live, default=0)
        below = f"after each of {len(self.live):,} operations"
        return f"memory · activations to {si(largest)}B", below

    def draw(self, view: View, width: int, height: int) -> Text:
        state = view.state
        rows = [
            (name, _short(live), si(state.peak[name])) for name, live in state.live.items() if live
        ]
        if height < 5:
            figures = [Text(" ".join(f"{_BRIEF.get(n, n)} {live}B" for n, live, _ in rows))]
        else:
            figures = [
                Text.assemble(f"{name:12} {live + 'B':>8}", (f"  at most {most}B", "dim"))
                for name, live, most in rows
            ]
        chart = bars(self.live, width, height - len(figures))
        colour = self.styles.border_title_color.rich_color if chart else None
        return Text("\n", no_wrap=True).join(
            [Text(line, Style(color=colour)) for line in chart] + figures
        )


class Writing(Panel):
    """The prompt and what was generated so far, its end if it is long."""

    def __init__(self, prompt: str, **options: Any) -> None:
        super().__init__(**options)
        self.prompt, self.text = prompt, ""
        self.border_title = "text"

    def show(self, view: View) -> None:
        self.told(view.state.text)

    def told(self, text: str) -> None:
        """Takes what was generated."""
        self.text = text
        self.refresh()

    def render(self) -> Text:
        width, height = self.content_size
        shown = Text(_one_line(self.prompt), "dim").append(_one_line(self.text), "not dim bold")
        shown.append("▏", "not dim blink")
        over = shown.cell_len - max(width * height - height, 1)
        if over > 0:
            shown = Text("…", "dim") + shown[over + 1 :]
        return shown


def _one_line(text: str) -> str:
    """A text in which line ends are seen, and nothing moves a cursor."""
    return harmless(text).replace("\n", "↵").replace("\t", "␉")


_BRIEF = {"weights": "wts", "kv_cache": "kv", "activations": "act"}


class Totals(Panel):
    """The ledger so far: the parts of the model by their FLOP, in as many columns as fit."""

    WIDTH = 23

    def titles(self, view: View) -> tuple[str, str]:
        whole, read, written = (sum(part[i] for part in view.components.values()) for i in range(3))
        moved = f"{si(read)}B read, {si(written)}B written"
        return f"ledger · {si(whole)}FLOP · {si(read + written)}B moved", moved

    def draw(self, view: View, width: int, height: int) -> Text:
        parts = sorted(view.components.items(), key=lambda part: -part[1][0])
        whole = sum(flops for _, (flops, *_) in parts)
        across = max(1, width // self.WIDTH)
        each = width // across
        rows = [(name, flops) for name, (flops, *_) in parts]
        if len(rows) > across * height:
            kept = across * height - 1
            rest = sum(flops for _, flops in rows[kept:])
            rows = [*rows[:kept], (f"{len(rows) - kept} more", rest)]
        cells = [self._cell(name, flops, whole, each - 1) for name, flops in rows]
        lines = [Text(" ").join(cells[row::height]) for row in range(min(height, len(cells)))]
        return Text("\n", no_wrap=True).join(lines)

    def _cell(self, name: str, flops: int, whole: int, width: int) -> Text:
        cell = Text(name)
        cell.truncate(max(1, width - 11), overflow="ellipsis", pad=True)
        share = f"{flops / whole:4.0%}" if whole else ""
        return cell.append(f"{_short(flops):>6}", "bold").append(f"{share:>5}", "dim")


def _short(n: int) -> str:
    """`1.23M`."""
    return si(n).replace(" ", "")


def bars(values: list[int], width: int, height: int) -> list[str]:
    """Numbers from 0 up as columns of a chart, where there are more than columns the largest."""
    if not values or height < 1:
        return []
    edges = np.linspace(0, len(values), min(width, len(values)) + 1).astype(int)
    tops = np.maximum.reduceat(np.array(values, float), edges[:-1])
    levels = np.ceil(tops / (tops.max() or 1.0) * 8 * height).astype(int)
    return [
        "".join(_EIGHTHS[min(max(level - 8 * row, 0), 8)] for level in levels)
        for row in reversed(range(height))
    ]
