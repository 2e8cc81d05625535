"""The full screen of `generate --live`: the text as it comes, over panels of what it costs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.filesize import decimal
from rich.live import Live
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from counting.table import si
from minigpt.commands.terminal import harmless
from minigpt.inference.generate import Step
from minigpt.models.cache import LayerCache
from minigpt.models.config import Config
from minigpt.planning.forward import cache_layers

BESIDE = 100  # columns from which the panels stand side by side
FRAMED = 60, 20  # columns and rows from which panels have a frame
PAUSE = 0.1  # seconds from a picture to the next, at least
SHARE = 0.04  # of the time that drawing may take: a picture is some 10 ms
SPARKS = "▁▂▃▄▅▆▇█"
PASSES = 20  # that the sparkline goes back


@contextmanager
def live(texts: Sequence[str], most: int, config: Config) -> Iterator[Callable[[Step], None]]:
    """What shows a step on the whole screen; the screen as it was, and the texts, at the end.

    Args:
        texts: to which the caller adds what comes.
        most: tokens that may come to each.
    """
    picture = Picture(texts, most, config)
    due = 0.0

    def show(step: Step) -> None:
        nonlocal due
        picture.add(step)
        began = perf_counter()
        if began >= due:
            screen.update(picture, refresh=True)
            ended = perf_counter()
            due = ended + max(PAUSE, (ended - began) / SHARE)

    try:
        with Live(
            picture,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as screen:
            yield show
    finally:
        print(harmless("\n\n".join(texts)))


@dataclass
class Picture:
    """What is to be seen after the steps so far, in whatever width and height there is.

    Args:
        texts: of the sequences, as they are.
        most: tokens that may come to each.
        config: of the model.
    """

    texts: Sequence[str]
    most: int
    config: Config
    last: Step | None = None
    flops: int = 0
    read: int = 0
    written: int = 0
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=PASSES))

    def add(self, step: Step) -> None:
        """A token has come; those of other sequences tell of the same pass."""
        if self.last is None:
            capacity = step.position + self.most - 1  # the last token is never fed back
            kept = cache_layers(self.config, capacity)
            self._kept = [(layer, n) for layer, n in kept if isinstance(layer, LayerCache)]
            self._began = step.position
        if self.last is None or step.position != self.last.position:
            read, written = _moved(step)
            self.flops, self.read = self.flops + step.flops, self.read + read
            self.written += written
            if step.phase == "decode":
                self.rates.append(_rate(step))
        self.last = step

    def filled(self, step: Step) -> int:
        """Bytes of the KV cache that hold something: of layers with a window, no more than that."""
        filled = sum(n * int(layer.bytes_of(step.keys)) for layer, n in self._kept)
        reserved = sum(n * int(layer.nbytes) for layer, n in self._kept)
        return step.live_bytes["kv_cache"] * filled // reserved if reserved else 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, rows = options.max_width, options.height or console.height
        below = console.render_lines(self._panels(columns, rows), options.update(height=None))
        for line in (*self._tails(console, columns, rows - len(below)), *below):
            yield from line
            yield Segment.line()

    def _tails(self, console: Console, columns: int, rows: int) -> Iterator[list[Segment]]:
        """The last lines of each text, in so many rows; of many texts, the first that have room."""
        shown = max(1, min(len(self.texts), rows // 2))
        for number, text in enumerate(self.texts[:shown]):
            height = rows * (number + 1) // shown - rows * number // shown
            if len(self.texts) > 1:
                yield [*Text(f"{number + 1} of {len(self.texts)}", "dim").render(console)]
                height -= 1
            block = max(1, columns * height)  # what is wrapped begins at the same place for long
            tail = harmless(text[max(0, len(text) // block - 1) * block :])
            lines = Text(tail).wrap(console, columns)[-height:] if height > 0 else []
            yield from ([*line.render(console)] for line in lines)
            yield from [[]] * (height - len(lines))

    def _panels(self, columns: int, rows: int) -> RenderableType:
        if self.last is None:
            return Text("the pass over the prompt runs", "dim")
        cost, memory = self._cost(self.last), self._memory(self.last, columns >= FRAMED[0])
        title = f"token {self.last.position - self._began + 1}/{self.most}"
        if columns >= BESIDE:
            both = Table.grid(expand=True)
            both.add_column(ratio=1)
            both.add_column(ratio=1)
            height = max(cost.row_count, memory.row_count) + 2
            both.add_row(
                Panel(cost, title=title, height=height),
                Panel(memory, title="memory", height=height),
            )
            return both
        one = Table.grid(expand=True)
        framed = columns >= FRAMED[0] and rows >= FRAMED[1]
        one.add_row(Panel(cost, title=title) if framed else Text(title, "dim"))
        for part in (memory,) if framed else (cost, memory):
            one.add_row(Panel(part, title="memory") if framed else part)
        return one

    def _cost(self, step: Step) -> Table:
        made = Table.grid(expand=True, padding=(0, 1, 0, 0))
        made.add_column()
        made.add_column(justify="right", no_wrap=True)
        made.add_column(justify="right", no_wrap=True)
        read, written = _moved(step)
        made.add_row("FLOP", f"{si(step.flops)}FLOP", f"{si(self.flops)}FLOP in all")
        made.add_row("read", decimal(read), f"{decimal(self.read)} in all")
        made.add_row("written", decimal(written), f"{decimal(self.written)} in all")
        made.add_row("tokens/s", f"{_rate(step):.0f}", sparkline(self.rates))
        return made

    def _memory(self, step: Step, said: bool) -> Table:
        """A bar for each category: alive of its peak; of the KV cache, filled of reserved.

        Args:
            said: so, in words.
        """
        made = Table.grid(expand=True, padding=(0, 1, 0, 0))
        made.add_column(no_wrap=True)
        made.add_column(ratio=1)
        made.add_column(justify="right", no_wrap=True)
        for name, alive in step.live_bytes.items():
            of, word = step.peak_bytes[name], "peak"
            if name == "kv_cache":
                alive, of, word = self.filled(step), alive, "reserved"
            if of:
                told = f"{decimal(alive)} of {decimal(of)}" + f" {word}" * said
                made.add_row(name, Bar(of, 0, alive), told)
        return made


def _rate(step: Step) -> float:
    """Tokens a second, of all sequences together."""
    return step.batch * step.new_tokens / step.seconds


def _moved(step: Step) -> tuple[int, int]:
    """Bytes read and written in a pass."""
    return sum(step.counts.bytes_read.values()), sum(step.counts.bytes_written.values())


def sparkline(numbers: Sequence[float]) -> str:
    """Numbers as small bars, the largest full."""
    top = max(numbers, default=0) or 1
    return "".join(SPARKS[round((len(SPARKS) - 1) * n / top)] for n in numbers)
